# SPDX-License-Identifier: GPL-2.0-only
"""Ansible module: what a host boots from and what it runs, read raw in one go."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: kernel_boot_facts
short_description: What a host boots from and what it runs
description:
  - Reads only; nothing is interpreted here, the controller does that.
options:
  release:
    description: Kernel whose modules are asked for their srcversion.
    type: str
    default: ""
  modules:
    description: Names of those modules.
    type: list
    elements: str
    default: []
  log:
    description: Also read the kernel log.
    type: bool
    default: false
author: [Mergelab]
"""


def text(path: str) -> str:
    """Give a file's content, empty when there is no such file."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def output(*command: str) -> str:
    """Give what a command prints, empty when it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def packages() -> dict[str, str]:
    """Give dpkg's state of every kernel package, by name; the oldest installation comes first."""
    lines = output("dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", "linux-image-*").splitlines()
    states = {name: state for name, _, state in (line.strip().partition(" ") for line in lines)}

    def installed(name: str) -> float:
        listing = Path(f"/var/lib/dpkg/info/{name}.list")
        return listing.stat().st_mtime if listing.exists() else 0.0

    return {name: states[name] for name in sorted(states, key=installed)}


def free_mib(path: str) -> int:
    """Give the free space of the file system that path is on, MiB."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize // 2**20


def secure_boot() -> bool:
    """Tell whether the firmware boots signed kernels only."""
    for variable in Path("/sys/firmware/efi/efivars").glob("SecureBoot-*"):
        return variable.read_bytes()[-1:] == b"\x01"
    return False


def main() -> None:
    """Read, and hand over."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "default": ""},
            "modules": {"type": "list", "elements": "str", "default": []},
            "log": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    release = module.params["release"]
    notes = Path("/sys/kernel/notes")
    module.exit_json(
        changed=False,
        release=os.uname().release,
        boot_id=text("/proc/sys/kernel/random/boot_id").strip(),
        notes=base64.b64encode(notes.read_bytes()).decode() if notes.exists() else "",
        tainted=int(text("/proc/sys/kernel/tainted") or 0),
        grub_cfg=text("/boot/grub/grub.cfg"),
        grub_environment=text("/boot/grub/grubenv"),
        grub_abstraction=output("grub-probe", "--target=abstraction", "/boot/grub").strip(),
        packages=packages(),
        free_mib={"/boot": free_mib("/boot"), "/": free_mib("/")},
        secure_boot=secure_boot(),
        srcversions={
            name: output("modinfo", "-k", release, "-F", "srcversion", name).strip()
            for name in module.params["modules"]
        },
        log=output("dmesg").splitlines() if module.params["log"] else [],
    )


if __name__ == "__main__":
    main()
