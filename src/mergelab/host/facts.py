# SPDX-License-Identifier: GPL-2.0-only
"""Fingerprint of a host: what its figures have to be filed under. What cannot be read is absent."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from mergelab.host import memory

_NT_GNU_BUILD_ID = 3
_DMI_MEMORY_DEVICE = 17


def gather() -> dict[str, object]:
    """Returns the fingerprint. Sizes are bytes."""
    cpu = cpuinfo(_text("/proc/cpuinfo") or "")
    dmi = _dmi()
    facts: dict[str, object] = {
        "hostname": os.uname().nodename,
        "dmi": dmi,
        "cpu": cpu,
        "numa": _numa(),
        "memory": _memory(),
        "emulated": emulated(cpu, dmi),
        "kernel": _kernel(),
        "modules": _modules(),
    }
    return {key: value for key, value in facts.items() if value not in (None, {}, [])}


def cpuinfo(text: str) -> dict[str, object]:
    """Condenses /proc/cpuinfo: identity of the first processor, how many there are, flags that matter."""
    blocks = [dict(_pairs(block)) for block in text.strip().split("\n\n") if block]
    if not blocks:
        return {}
    first = blocks[0]
    names = {
        "vendor_id": "vendor",
        "model name": "model",
        "cpu family": "family",
        "model": "number",
        "stepping": "stepping",
        "microcode": "microcode",
    }
    facts: dict[str, object] = {new: first[old] for old, new in names.items() if old in first}
    facts["threads"] = len(blocks)
    sockets = {block["physical id"] for block in blocks if "physical id" in block}
    if sockets:
        facts["sockets"] = len(sockets)
    wanted = ("svm", "vmx", "npt", "ept", "hypervisor")
    flags = (first.get("flags", "") + " " + first.get("vmx flags", "")).split()
    facts["flags"] = [flag for flag in wanted if flag in flags]
    return facts


def emulated(cpu: dict[str, object], dmi: dict[str, object]) -> bool:
    """Whether the host is itself a virtual machine, so that its figures are not those of hardware."""
    flags = cpu.get("flags")
    names = " ".join(str(value) for value in dmi.values()).lower()
    return (
        (isinstance(flags, list) and "hypervisor" in flags) or "qemu" in names or "virtual machine" in names
    )


def build_id(notes: bytes) -> str | None:
    """Finds the GNU build-id in ELF notes, such as /sys/kernel/notes."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("=III", notes, at)
        name_at = at + 12
        at = name_at + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[at : at + size].hex()
        at += size + 3 & ~3
    return None


def memory_devices(table: bytes) -> list[dict[str, object]]:
    """Reads the memory devices (type 17) of a DMI table: bytes, speed in MT/s, maker, part, place."""
    devices = []
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        if length < 4:
            break
        end = table.find(b"\0\0", at + length)
        if end < 0:
            break
        strings = [text.decode(errors="replace").strip() for text in table[at + length : end].split(b"\0")]
        if kind == _DMI_MEMORY_DEVICE and length >= 0x15:
            device = _memory_device(table[at : at + length], strings)
            if device is not None:
                devices.append(device)
        at = end + 2
    return devices


def _memory_device(body: bytes, strings: list[str]) -> dict[str, object] | None:
    def text(offset: int) -> str:
        number = body[offset] if offset < len(body) else 0
        return strings[number - 1] if 0 < number <= len(strings) else ""

    size: int = struct.unpack_from("<H", body, 0x0C)[0]
    if size in (0, 0xFFFF):
        return None
    if size == 0x7FFF and len(body) >= 0x20:
        extended: int = struct.unpack_from("<I", body, 0x1C)[0]
        size_bytes = extended << 20
    else:
        size_bytes = (size & 0x7FFF) << (10 if size & 0x8000 else 20)
    device: dict[str, object] = {"bytes": size_bytes}
    if len(body) >= 0x17 and 0 < (speed := struct.unpack_from("<H", body, 0x15)[0]) < 0xFFFF:
        device["speed_mts"] = speed
    named = {"place": text(0x10), "maker": text(0x17), "part": text(0x1A)}
    return device | {key: value for key, value in named.items() if value}


def _text(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def _pairs(block: str) -> list[tuple[str, str]]:
    pairs = []
    for line in block.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            pairs.append((key.strip(), value.strip()))
    return pairs


def _dmi() -> dict[str, object]:
    keys = ("sys_vendor", "product_name", "product_version", "board_vendor", "board_name", "bios_vendor",
            "bios_version", "bios_date")  # fmt: skip
    facts = {key: text for key in keys if (text := _text(f"/sys/class/dmi/id/{key}"))}
    return dict(facts)


def _numa() -> list[dict[str, object]]:
    nodes = []
    for directory in sorted(
        Path("/sys/devices/system/node").glob("node[0-9]*"), key=lambda path: int(path.name[4:])
    ):
        node: dict[str, object] = {"node": int(directory.name[4:])}
        cpus = _text(directory / "cpulist")
        if cpus is not None:
            node["cpus"] = cpus
        for line in (_text(directory / "meminfo") or "").splitlines():
            if "MemTotal:" in line:
                node["bytes"] = int(line.split()[-2]) * 1024
        nodes.append(node)
    return nodes


def _memory() -> dict[str, object]:
    info = memory.meminfo()
    facts: dict[str, object] = {
        "total": info["MemTotal"],
        "swap": info["SwapTotal"],
        "page": os.sysconf("SC_PAGE_SIZE"),
    }
    huge = _text("/sys/kernel/mm/transparent_hugepage/enabled")
    if huge is not None and "[" in huge:
        facts["transparent_hugepage"] = huge.partition("[")[2].partition("]")[0]
    try:
        devices = memory_devices(Path("/sys/firmware/dmi/tables/DMI").read_bytes())
    except OSError:
        devices = []
    if devices:
        facts["devices"] = devices
    return facts


def _kernel() -> dict[str, object]:
    facts: dict[str, object] = {"release": os.uname().release, "version": os.uname().version}
    try:
        identity = build_id(Path("/sys/kernel/notes").read_bytes())
    except OSError:
        identity = None
    if identity is not None:
        facts["build_id"] = identity
    for key, path in (("cmdline", "/proc/cmdline"), ("boot_id", "/proc/sys/kernel/random/boot_id")):
        text = _text(path)
        if text is not None:
            facts[key] = text
    taint = _text("/proc/sys/kernel/tainted")
    if taint is not None:
        facts["taint"] = int(taint)
    return facts


def _modules() -> dict[str, object]:
    modules: dict[str, object] = {}
    for name in ("memmerge", "kvm", "kvm_amd", "kvm_intel"):
        directory = Path("/sys/module") / name
        if directory.is_dir():
            facts = {}
            for key, path in (
                ("srcversion", "srcversion"),
                ("nested_paging", "parameters/npt"),
                ("nested_paging", "parameters/ept"),
            ):
                text = _text(directory / path)
                if text:
                    facts[key] = text
            modules[name] = facts
    return modules
