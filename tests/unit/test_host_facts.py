# SPDX-License-Identifier: GPL-2.0-only
"""Fingerprint, kernel log and memory readers, on bytes as real machines give them and on this machine."""

import os
import subprocess
from pathlib import Path

import pytest

from mergelab.host import guests, klog, memory, sample
from mergelab.host.facts import build_id, cpuinfo, emulated, gather, memory_devices


def test_build_id_is_the_one_of_the_file(tmp_path: Path) -> None:
    """A wrong offset in the notes would compare two kernels by garbage."""
    wanted = "0123456789abcdef0123456789abcdef01234567"
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", f"-Wl,--build-id=0x{wanted}", "-o", tmp_path / "a", tmp_path / "a.c"], check=True)
    notes = tmp_path / "notes"
    subprocess.run(["objcopy", "-O", "binary", "--only-section=.note.*", tmp_path / "a", notes], check=True)
    assert build_id(notes.read_bytes()) == wanted
    assert build_id(b"") is None
    assert build_id(notes.read_bytes()[:10]) is None


def test_cpu_of_an_emulated_host() -> None:
    """The flags that decide about guests, and whether the host is real, must be found."""
    block = (
        "vendor_id\t: AuthenticAMD\nmodel name\t: EPYC\nmicrocode\t: 0x1\nphysical id\t: 0\n"
        "flags\t\t: fpu svm npt hypervisor\n"
    )
    facts = cpuinfo(f"processor\t: 0\n{block}\nprocessor\t: 1\n{block}\n")
    assert facts["threads"] == 2
    assert facts["sockets"] == 1
    assert facts["flags"] == ["svm", "npt", "hypervisor"]
    assert facts["microcode"] == "0x1"
    assert cpuinfo("") == {}


@pytest.mark.parametrize(
    ("cpu", "dmi", "expected"),
    [
        ({"flags": ["hypervisor"]}, {}, True),
        ({"flags": ["svm"]}, {"sys_vendor": "QEMU"}, True),
        ({"flags": ["svm"]}, {"sys_vendor": "Dell Inc."}, False),
        ({}, {}, False),
    ],
)
def test_emulated_is_told_by_either_sign(
    cpu: dict[str, object], dmi: dict[str, object], expected: bool
) -> None:
    """A number measured on an emulated host must never pass for the hardware's."""
    assert emulated(cpu, dmi) is expected


def test_memory_devices_of_a_dmi_table() -> None:
    """One fitted slot, one empty slot, another structure between them."""
    body = bytearray(0x1B)
    body[0], body[1] = 17, len(body)
    body[0x0C:0x0E] = (16384).to_bytes(2, "little")
    body[0x15:0x17] = (3200).to_bytes(2, "little")
    body[0x10], body[0x17], body[0x1A] = 1, 2, 3
    fitted = bytes(body) + b"DIMM_A1\0Maker\0PART-1\0\0"
    empty = bytes(body[:0x0C]) + b"\0\0" + bytes(body[0x0E:]) + b"DIMM_A2\0\0"
    other = bytes([1, 4, 0, 0]) + b"\0\0"
    assert memory_devices(fitted + other + empty) == [
        {"bytes": 16 << 30, "speed_mts": 3200, "place": "DIMM_A1", "maker": "Maker", "part": "PART-1"}
    ]
    assert memory_devices(b"") == []
    assert memory_devices(fitted[:10]) == []


def test_facts_of_this_machine() -> None:
    """What is known on every Linux machine must be there."""
    facts = gather()
    kernel, total = facts["kernel"], facts["memory"]
    assert isinstance(kernel, dict)
    assert isinstance(total, dict)
    assert kernel["release"] == os.uname().release
    assert kernel["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert total["total"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_kernel_messages_are_told_apart() -> None:
    """A warning with a trace counts, a chatty driver does not."""
    warning = klog.parse("4,812,1234567,-;WARNING: CPU: 0 PID: 1 at mm/rmap.c:1 f+0x1/0x2\n SUBSYSTEM=x")
    assert (warning.sequence, warning.level, warning.microseconds) == (812, 4, 1234567)
    assert klog.serious(warning)
    assert klog.serious(klog.parse("3,1,1,-;Out of memory: Killed process 1"))
    assert klog.serious(klog.parse("6,1,1,c;INFO: task kworker blocked for more than 120 seconds."))
    assert not klog.serious(klog.parse("6,1,1,-;kvm: nested virtualization enabled"))
    assert not klog.serious(klog.parse("30,1,1,-;systemd[1]: Started"))


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="the kernel log is for root")
def test_window_of_the_kernel_log() -> None:
    """A message from before the window must not be held against what happened in it."""
    position = klog.window()["last"]
    assert isinstance(position, int)
    with Path("/dev/kmsg").open("w") as log:
        log.write("<3>mergelab test: an error that is none\n")
    inside = klog.window(position)
    errors = inside["errors"]
    assert isinstance(errors, list)
    assert "mergelab test: an error that is none" in [error["text"] for error in errors]
    assert klog.window()["errors"] == []
    last = klog.window()["last"]
    assert isinstance(last, int)
    after = klog.window(last)["errors"]
    assert isinstance(after, list)
    assert "mergelab test: an error that is none" not in [error["text"] for error in after]


def test_meminfo_is_in_bytes(tmp_path: Path) -> None:
    """Kilobytes taken for bytes would hide every saving."""
    (tmp_path / "m").write_text("MemTotal:  2 kB\nHugePages_Total:  3\n")
    assert memory.meminfo(str(tmp_path / "m")) == {"MemTotal": 2048, "HugePages_Total": 3}


def test_free_pages_of_every_cpu_count(tmp_path: Path) -> None:
    """Memory that merging freed waits on these lists; without them a saving looks smaller than it is."""
    (tmp_path / "z").write_text(
        "Node 0, zone DMA\n  pages free 3840\n  pagesets\n    cpu: 0\n              count:    2\n"
        "              high:     4\n    cpu: 1\n              count:    3\n"
    )
    assert memory.percpu_free(str(tmp_path / "z")) == 5 * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.percpu_free() < memory.meminfo()["MemTotal"]


def test_absent_counters_stay_absent(tmp_path: Path) -> None:
    """A kernel without KSM has no cow_ksm; a zero would be a lie."""
    (tmp_path / "v").write_text("pswpin 4\n")
    assert memory.vmstat(("pswpin", "cow_ksm"), str(tmp_path / "v")) == {"pswpin": 4}
    assert memory.pressure(str(tmp_path)) == {}
    assert sample.scanner_cpu(0) is None


@pytest.mark.parametrize(
    ("option", "size"),
    [("256", 256 << 20), ("size=262144k", 256 << 20), ("1G", 1 << 30), ("size=512M,slots=2", 512 << 20)],
)
def test_ram_size_of_a_qemu_command_line(option: str, size: int) -> None:
    """The RAM mapping is found by its size; a wrong unit would find another mapping."""
    assert guests.ram_size(["qemu", "-m", option, "-smp", "1"]) == size


def test_own_mapping_is_found_with_its_sizes() -> None:
    """Sizes belong to the mapping that holds the address, not to its neighbour."""
    stack = next(m for m in memory.mappings(os.getpid()) if m.name == "[stack]")
    sizes, flags = memory.sizes(os.getpid(), stack.start + 4096)
    assert sizes["size"] == stack.size
    assert "gd" in flags  # grows down, as only a stack does
