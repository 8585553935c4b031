# SPDX-License-Identifier: GPL-2.0-only
"""What GRUB's menu and a host's kernel show, and what follows from it."""

from __future__ import annotations

import base64
import struct

import pytest

from mergelab.errors import MergelabError
from mergelab.kernel import boot

OLD = "6.1.0-49-amd64"
NEW = "6.12.117-mergelab-0123abcd"
UUID = "11112222"


def entry(identity: str, release: str, indent: str, extra: str = "") -> str:
    """Write a menu entry as update-grub does."""
    lines = [
        f"menuentry 'Debian, with Linux {release}' --class gnu-linux $menuentry_id_option '{identity}' {{",
        "\tload_video",
        "\tif [ x$grub_platform = xxen ]; then insmod xzio; fi",
        "\tif [ x$feature = xy ]; then",
        "\t  search --set=root abcd",
        "\tfi",
        f"\techo\t'Loading Linux {release} ...'",
        f"\tlinux\t/boot/vmlinuz-{release} root=UUID={UUID} ro {extra} console=ttyS0",
        f"\tinitrd\t/boot/initrd.img-{release}",
        "}",
    ]
    return "\n".join(indent + line for line in lines) + "\n"


GRUB = (
    'if [ "${next_entry}" ] ; then\n   set default="${next_entry}"\nfi\n'
    + entry(f"gnulinux-simple-{UUID}", NEW, "")
    + f"submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-{UUID}' {{\n"
    + entry(f"gnulinux-{NEW}-advanced-{UUID}", NEW, "\t")
    + entry(f"gnulinux-{NEW}-recovery-{UUID}", NEW, "\t", "single")
    + entry(f"gnulinux-{OLD}-advanced-{UUID}", OLD, "\t")
    + entry(f"gnulinux-{OLD}-recovery-{UUID}", OLD, "\t", "single")
    + "}\n"
    + "menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {\n\tfwsetup\n}\n"
)


def test_entries_carry_their_submenu() -> None:
    """GRUB finds an entry of a submenu only by the whole path."""
    advanced = f"gnulinux-advanced-{UUID}>gnulinux"
    assert list(boot.entries(GRUB)) == [
        f"gnulinux-simple-{UUID}",
        f"{advanced}-{NEW}-advanced-{UUID}",
        f"{advanced}-{NEW}-recovery-{UUID}",
        f"{advanced}-{OLD}-advanced-{UUID}",
        f"{advanced}-{OLD}-recovery-{UUID}",
        "uefi-firmware",
    ]


@pytest.mark.parametrize("release", [OLD, NEW])
def test_entry_is_found_by_its_kernel(release: str) -> None:
    """The entry of the name, not the first one, and not the one for recovery."""
    assert boot.entry_id(GRUB, release) == (f"gnulinux-advanced-{UUID}>gnulinux-{release}-advanced-{UUID}")


def test_no_entry_for_a_kernel() -> None:
    """A release that begins like an installed one is not that one."""
    with pytest.raises(MergelabError, match="update-grub"):
        boot.entry_id(GRUB, NEW[:-1])


def test_trial_entry_is_the_ordinary_one_with_arguments() -> None:
    """Only the arguments differ; disk, root and initial RAM disk are those that GRUB chose."""
    text = boot.trial_entry(GRUB, NEW, "panic=10")
    assert list(boot.entries(text)) == [boot.TRIAL]
    assert f"\t\tlinux\t/boot/vmlinuz-{NEW} root=UUID={UUID} ro  console=ttyS0 panic=10\n" in text
    assert f"initrd\t/boot/initrd.img-{NEW}" in text
    assert "search --set=root abcd" in text
    assert text.count("{") == text.count("}")


def test_grub_environment() -> None:
    """The block is padded with #, and a value may hold an equals sign."""
    block = "# GRUB Environment Block\nsaved_entry=a>b\nnext_entry=\nx=1=2\n" + "#" * 900
    assert boot.grub_environment(block) == {"saved_entry": "a>b", "next_entry": "", "x": "1=2"}


def note(name: bytes, kind: int, content: bytes) -> bytes:
    """Write one ELF note."""

    def padded(data: bytes) -> bytes:
        return data + b"\0" * (-len(data) % 4)

    return struct.pack("<III", len(name), len(content), kind) + padded(name) + padded(content)


def test_build_id_among_other_notes() -> None:
    """A kernel has notes of Xen and Linux before its build-id."""
    notes = note(b"Linux\0", 0x101, b"12345") + note(b"Xen\0", 3, b"no") + note(b"GNU\0", 3, bytes(range(20)))
    assert boot.build_id(base64.b64encode(notes).decode()) == bytes(range(20)).hex()


def test_no_build_id() -> None:
    """Without notes there is nothing to compare, which is no build-id of zeros."""
    assert boot.build_id("") == ""


HEALTHY = ["[0.1] Linux version 6.12", "[1.0] EXT4-fs mounted", "[2.0] WARNING! device is slow"]


def test_a_kernel_as_built() -> None:
    """Nothing speaks against what is what it should be."""
    assert boot.objections({"release": NEW}, {"release": NEW}, 512, 512, HEALTHY) == []


@pytest.mark.parametrize(
    ("found", "tainted", "log", "expected"),
    [
        ({"release": OLD}, 0, [], f"release is {OLD}, the build has {NEW}"),
        ({}, 0, [], "release is missing"),
        ({"release": NEW}, 512 | 4096, [], "mask 4096 is new"),
        ({"release": NEW}, 512, ["[3.1] BUG: unable to handle page fault"], "page fault"),
        ({"release": NEW}, 512, ["[3.1] WARNING: CPU: 0 PID: 1 at mm/ksm.c:1"], "mm/ksm.c:1"),
    ],
)
def test_what_speaks_against_a_kernel(
    found: dict[str, str], tainted: int, log: list[str], expected: str
) -> None:
    """Each of the signs on its own keeps a kernel from being promoted."""
    against = boot.objections(found, {"release": NEW}, tainted, 512, HEALTHY + log)
    assert len(against) == 1
    assert expected in against[0]


def test_older_kernels_go_but_never_those_in_use() -> None:
    """Debian's own kernels are not ours to remove, however old they are."""
    ours = [f"6.12.117-mergelab-{number}" for number in range(4)]
    assert boot.older_kernels([OLD, *ours], keep=1, used=[ours[0]]) == ours[1:3]
    assert boot.older_kernels([OLD, *ours], keep=9, used=[]) == []
    assert boot.older_kernels([OLD], keep=0, used=[]) == []


CONSOLE = f"""BdsDxe: starting Boot0001
[    0.000000] Linux version {NEW} (mergelab@mergelab) #1
[    1.000000] Kernel panic - not syncing: on purpose
[    1.100000] Call Trace:
[    1.200000] Rebooting in 10 seconds..
\x1b[2J\x1b[01;01HBdsDxe: starting Boot0001
[    0.000000] Linux version {OLD} (debian@debian)
[    9.000000] systemd: login
"""


def test_console_tail_is_that_of_the_dead_kernel() -> None:
    """The host has booted again since: its good kernel's lines say nothing about the bad one."""
    tail = boot.console_tail(CONSOLE, NEW)
    assert tail[0].endswith("(mergelab@mergelab) #1")
    assert tail[3].endswith("Rebooting in 10 seconds..")
    assert len(tail) == 4
    assert not any(OLD in line for line in tail)
    assert boot.console_tail(CONSOLE, NEW, lines=2) == tail[-2:]


def test_console_of_a_kernel_that_never_spoke() -> None:
    """Then the firmware's and GRUB's lines are all there is."""
    assert boot.console_tail("error: out of memory.\n\n", NEW) == ["error: out of memory."]
