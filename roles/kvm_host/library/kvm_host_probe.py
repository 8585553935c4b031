#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-only
"""Ansible module: what keeps this host from running KVM guests."""

# Runs on the host: standard library only, no package of this project is there.
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: kvm_host_probe
short_description: Ask a host, in one round trip, whether it can run KVM guests
description: Changes nothing. Returns missing packages, and other problems by kind with what was seen.
options:
  packages: {type: list, elements: str, default: []}
  service: {type: str, default: libvirtd.socket}
  min_memory_mib: {type: int, default: 0}
  min_disk_mib: {type: int, default: 0}
  proc: {type: path, default: /proc}
  sys: {type: path, default: /sys}
"""

KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_API = 12
# flag in /proc/cpuinfo: (module, its parameter of nested paging)
VENDORS = {"vmx": ("kvm_intel", "ept"), "svm": ("kvm_amd", "npt")}


def vendor(cpuinfo: str) -> tuple[str, str] | None:
    """Return the KVM module and its nested paging parameter for this /proc/cpuinfo, or None."""
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            flags = line.split()
            return next((VENDORS[flag] for flag in VENDORS if flag in flags), None)
    return None


def device_problem(device: str = "/dev/kvm") -> str | None:
    """Create a virtual machine and drop it; return what went wrong."""
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"cannot open {device}: {error.strerror}"
    try:
        version = fcntl.ioctl(kvm, KVM_GET_API_VERSION)
        if version != KVM_API:
            return f"{device} speaks API version {version}, not {KVM_API}"
        os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    except OSError as error:
        return f"{device} cannot create a machine: {error.strerror}"
    finally:
        os.close(kvm)
    return None


def missing(packages: list[str]) -> list[str]:
    """Return those of ``packages`` that dpkg does not know as installed."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *packages],
        check=False,
        capture_output=True,
        text=True,
    )
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def started(service: str) -> bool:
    """Tell whether a systemd unit runs, and will after a reboot."""
    return all(
        subprocess.run(["systemctl", verb, "--quiet", service], check=False, capture_output=True).returncode
        == 0
        for verb in ("is-active", "is-enabled")
    )


def problems(proc: Path, sys: Path, min_memory_mib: int, min_disk_mib: int) -> dict[str, str]:
    """Return kind of problem to what was seen; KVM's modules must have had their chance to load."""
    found = {}
    kvm = vendor((proc / "cpuinfo").read_text())
    if kvm is None:
        found["cpu"] = f"no vmx or svm in {proc}/cpuinfo"
    else:
        module, parameter = kvm
        paging = sys / "module" / module / "parameters" / parameter
        if not paging.exists():
            found["module"] = f"{module} is not loaded"
        elif paging.read_text().strip() not in {"Y", "1"}:
            found["paging"] = f"{paging} is {paging.read_text().strip()}"
        elif (problem := device_problem()) is not None:
            found["device"] = problem
    total_kib = next(
        line.split()[1]
        for line in (proc / "meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    # firmware and kernel keep some of what is built in, so a tenth less is still that much
    if int(total_kib) < min_memory_mib * 1024 * 9 // 10:
        found["memory"] = f"{int(total_kib) // 1024} MiB of {min_memory_mib} MiB"
    free_mib = shutil.disk_usage("/var/lib").free >> 20
    if free_mib < min_disk_mib:
        found["disk"] = f"{free_mib} MiB of {min_disk_mib} MiB are free"
    return found


def main() -> None:
    """Parse the arguments and look."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "service": {"type": "str", "default": "libvirtd.socket"},
            "min_memory_mib": {"type": "int", "default": 0},
            "min_disk_mib": {"type": "int", "default": 0},
            "proc": {"type": "path", "default": "/proc"},
            "sys": {"type": "path", "default": "/sys"},
        },
        supports_check_mode=True,
    )
    args = module.params
    proc, sys = Path(args["proc"]), Path(args["sys"])
    kvm = vendor((proc / "cpuinfo").read_text())
    module.exit_json(
        changed=False,
        missing=missing(args["packages"]),
        module=kvm[0] if kvm else "",
        loaded=bool(kvm) and (sys / "module" / kvm[0]).is_dir(),
        started=started(args["service"]),
        problems=problems(proc, sys, args["min_memory_mib"], args["min_disk_mib"]),
    )


if __name__ == "__main__":
    main()
