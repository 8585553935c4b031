# SPDX-License-Identifier: GPL-2.0-only
"""How a host boots: GRUB's menu, the identity of the running kernel, and what its log says.

Pure functions over text that was read on a host; role ``kernel_boot`` brings the text and does what follows.
"""

import base64
import re
import struct
from collections.abc import Iterable

from mergelab.errors import MergelabError

TRIAL = "mergelab-trial"
"""Menu id of the entry that boots a new kernel once."""

_ENTRY = re.compile(
    r"^\s*(menuentry|submenu)\s.*?(?:--id|\$menuentry_id_option)\s+(['\"])(?P<id>.*?)\2.*\{\s*$"
)
_BOOTS = re.compile(r"Linux version |^BdsDxe: |^SeaBIOS |Welcome to GRUB!")
"""What firmware, boot loader and kernel say first."""

_GNU_BUILD_ID = 3
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>cDEHM78])")
_COMPLAINT = re.compile(
    r"Kernel panic|Oops:|\bBUG:|WARNING: .*(?:CPU|PID):|general protection fault|unable to handle|"
    r"rcu: INFO: .*detected stalls|blocked for more than|scheduling while atomic|KASAN:|UBSAN:"
)


def entries(grub_cfg: str) -> dict[str, str]:
    """Find the menu entries of a grub.cfg.

    Returns:
        id, with those of enclosing submenus before it and joined by ``>`` as grub-reboot wants it, to the
        entry's text.
    """
    found: dict[str, str] = {}
    submenus: list[str] = []
    entry: tuple[str, list[str]] | None = None
    for line in grub_cfg.splitlines():
        if entry is not None:
            entry[1].append(line)
            if line.strip() == "}" and _indent(line) == _indent(entry[1][0]):
                found[entry[0]] = "\n".join(entry[1])
                entry = None
        elif match := _ENTRY.match(line):
            path = ">".join([*submenus, match["id"]])
            if match[1] == "submenu":
                submenus.append(match["id"])
            else:
                entry = (path, [line])
        elif line.strip() == "}" and submenus and not _indent(line):
            submenus.pop()
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _boots(text: str, release: str) -> bool:
    return re.search(rf"^\s*linux\s+\S*/vmlinuz-{re.escape(release)}(\s|$)", text, re.MULTILINE) is not None


def entry_id(grub_cfg: str, release: str) -> str:
    """Give the menu id of the ordinary entry that boots a kernel.

    The entry of the submenu is taken, whose id names the release; the first of the menu changes its meaning
    with every kernel that is installed.

    Raises:
        MergelabError: no entry boots it.
    """
    menu = entries(grub_cfg)
    for identity, text in menu.items():
        if release in identity and "recovery" not in identity and _boots(text, release):
            return identity
    raise MergelabError(
        f"no GRUB menu entry boots {release}; the menu has: {', '.join(menu) or 'no entry'}",
        "run update-grub on the host and look at /boot/grub/grub.cfg",
    )


def trial_entry(grub_cfg: str, release: str, arguments: str) -> str:
    """Make the menu entry that boots a kernel on trial: its ordinary one with further arguments.

    Args:
        grub_cfg: the menu as update-grub wrote it.
        release: which kernel.
        arguments: added to its command line.

    Returns:
        a menu file that GRUB can source.
    """
    text = entries(grub_cfg)[entry_id(grub_cfg, release)]
    head, _, body = text.partition("\n")
    indent = " " * _indent(head)
    body = re.sub(r"(?m)^(\s*linux\s.*\S)\s*$", rf"\1 {arguments}", body)
    body = re.sub(r"(?m)^\s*echo\s.*\n", "", body)
    return f"{indent}menuentry 'Mergelab: {release}, on trial' --id '{TRIAL}' {{\n{body}\n"


def grub_environment(text: str) -> dict[str, str]:
    """Read GRUB's environment block (``grubenv``), like ``saved_entry`` and ``next_entry``."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key: value for key, mark, value in pairs if mark}


def build_id(notes: str) -> str:
    """Find the build-id in the kernel's ELF notes.

    Args:
        notes: ``/sys/kernel/notes`` in base64.

    Returns:
        hex digits; empty when there is none.
    """
    data = base64.b64decode(notes)
    offset = 0
    while offset + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, offset)
        name_start = offset + 12
        start = name_start + (name_size + 3) // 4 * 4
        if kind == _GNU_BUILD_ID and data[name_start : name_start + name_size] == b"GNU\0":
            return data[start : start + size].hex()
        offset = start + (size + 3) // 4 * 4
    return ""


def complaints(log: Iterable[str]) -> list[str]:
    """Give the lines of a kernel log that a healthy boot does not have."""
    return [line for line in log if _COMPLAINT.search(line)]


def objections(
    found: dict[str, str], wanted: dict[str, str], tainted: int, tainted_before: int, log: Iterable[str]
) -> list[str]:
    """Say what speaks against the kernel that a host runs; nothing, when it is the one that was built.

    Args:
        found: what the host showed, by name of the property.
        wanted: what the manifest says; a property that it does not have is not compared.
        tainted: the running kernel's taint mask.
        tainted_before: that of the kernel before it; its flags are the host's own matter.
        log: the running kernel's log.
    """
    against = [
        f"{name} is {found.get(name) or 'missing'}, the build has {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if fresh := tainted & ~tainted_before:
        against.append(f"the kernel is tainted: mask {fresh} is new")
    against.extend(f"kernel log: {line}" for line in complaints(log)[:5])
    return against


def older_kernels(installed: Iterable[str], keep: int, used: Iterable[str]) -> list[str]:
    """Choose which mergelab kernels to remove.

    Args:
        installed: releases in the order of their installation, oldest first.
        keep: how many that are not in use may stay.
        used: releases that must stay: running, default, just built.
    """
    ours = [release for release in installed if "-mergelab-" in release and release not in set(used)]
    return ours[: max(0, len(ours) - keep)]


def console_tail(console: str, release: str, lines: int = 40) -> list[str]:
    """Cut from a serial console's log what a kernel said last.

    Args:
        console: the log since the host was rebooted.
        release: the kernel that did not come up.
        lines: how many to give at most.

    Returns:
        the last lines of that kernel, without those of the next boot; of the whole log when it never spoke.
    """
    text = _ESCAPE.sub("", console).replace("\r", "")
    spoken = [line for line in text.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(spoken) if _BOOTS.search(line)]
    own = [number for number in starts if f"Linux version {release} " in spoken[number]]
    if own:
        end = next((number for number in starts if number > own[-1]), len(spoken))
        spoken = spoken[own[-1] : end]
    return [line.rstrip() for line in spoken[-lines:]]
