# SPDX-License-Identifier: GPL-2.0-only
"""What the embedded lab asks of the controller, and what a host is asked before it runs guests."""

from __future__ import annotations

import grp
import importlib.util
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from mergelab.errors import MergelabError
from mergelab.lab import accel, daemons, preflight, variables

ROOT = Path(__file__).parents[2]
BUILD_IMAGE = ROOT / "roles/virtual_host/files/build-image"


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    """The module that runs on a host, loaded from its file."""
    path = ROOT / "roles/kvm_host/library/kvm_host_probe.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright", 7),
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n", 10),
        ("", 0),
    ],
)
def test_emulator_says_its_version(text: str, version: int) -> None:
    """A QEMU that is too old must be refused before a host runs on it."""
    assert accel.emulator_version(text) == version


def test_old_emulator_is_refused_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guests of a host on it would hang now and then, which looks like the engine's fault."""
    old = tmp_path / "qemu"
    old.write_text("#!/bin/sh\necho QEMU emulator version 7.2.22\n")
    old.chmod(0o755)
    monkeypatch.setattr(accel, "EMULATOR", str(old))
    with pytest.raises(MergelabError, match="make setup"):
        accel.choose("tcg")


def test_probe_guest_sees_virtualization() -> None:
    """A CPU with SVM: the guest reaches 64-bit mode and says so."""
    assert accel.run_guest("tcg", "max") == (accel.RAN_NESTED, "")


def test_probe_guest_sees_that_there_is_none() -> None:
    """KVM on which the emulated host could not run guests must not look usable."""
    assert accel.run_guest("tcg", "qemu64,svm=off") == (accel.RAN, "")


def test_probe_guest_that_cannot_run() -> None:
    """An accelerator that fails has a message, and is none of the two codes of success."""
    code, message = accel.run_guest("tcg", "no-such-cpu")
    assert code not in {accel.RAN, accel.RAN_NESTED}
    assert "no-such-cpu" in message


def test_probe_guest_that_hangs() -> None:
    """A guest that never ends is bounded."""
    code, message = accel.run_guest("tcg", "max", timeout_s=0.01)
    assert code is None
    assert "did not end" in message


def test_demanded_accelerator_is_used_or_refused() -> None:
    """``kvm`` never silently becomes emulation; ``auto`` agrees with it."""
    if accel.choose("auto").name == "kvm":
        assert accel.choose("kvm").name == "kvm"
    else:
        with pytest.raises(MergelabError, match="virtual_host_accel"):
            accel.choose("kvm")


def test_nothing_in_the_way() -> None:
    """Tools, files, memory, disk and ports that are there are no problem."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert (
        preflight.problems(
            tools={"sh": "dash"},
            files={"/etc/passwd": "base-passwd"},
            memory_mib=1,
            disk_mib={"/": 1},
            ports={"h": port},
        )
        == []
    )


def test_everything_in_the_way_is_said_at_once(tmp_path: Path) -> None:
    """One run shows all there is to repair."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = preflight.problems(
            tools={"no-such-tool": "a-package"},
            files={"/no/such/file": "b-package"},
            memory_mib=1 << 40,
            disk_mib={str(tmp_path / "not" / "yet"): 1 << 40},
            ports={"vhost9": port},
        )
    assert len(found) == 4
    assert "apt-get install a-package b-package" in found[0]
    assert "virtual_host_memory_mib" in found[1]
    assert "XDG_STATE_HOME" in found[2]
    assert f"Port {port}" in found[3]
    assert "vhost9" in found[3]


def test_keys(tmp_path: Path) -> None:
    """A key is missing, refused by ssh, or fine."""
    key = tmp_path / "key"
    assert "cannot be read" in preflight.key_problems("h", key)[0]
    key.write_text("")
    key.chmod(0o644)
    assert f"chmod 600 {key}" in preflight.key_problems("h", key)[0]
    key.chmod(0o600)
    assert preflight.key_problems("h", key) == []


KNOWN = {"kernel_boot": {"kernel_boot_timeout"}, "guest_batch": {"guest_batch_count"}}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("kernel_boot_timout", "Unknown variable kernel_boot_timout. Did you mean kernel_boot_timeout?"),
        ("kernl_boot_timeout", "Unknown variable kernl_boot_timeout. Did you mean kernel_boot_timeout?"),
        ("guest_batch_zzzzzzzzzzzzzzzz", "Unknown variable guest_batch_zzzzzzzzzzzzzzzz."),
    ],
)
def test_misspelt_variables(name: str, sentence: str) -> None:
    """Misspelt behind the role's name, in it, and beyond recognition."""
    assert variables.unknown([name, "guest_batch_count"], KNOWN, set()) == [sentence]


def test_other_variables_are_nobodys_business() -> None:
    """A user's own names, and those that an inventory declares, are let through."""
    names = ["my_rack", "ansible_host", "guest_batch_note", "kernel_boot_timeout"]
    assert variables.unknown(names, KNOWN, {"guest_batch_note"}) == []


def test_inputs_of_the_roles() -> None:
    """The real specifications are read, and a place without any is an error."""
    assert "virtual_host_memory_mib" in variables.inputs(ROOT / "roles")["virtual_host"]
    with pytest.raises(MergelabError):
        variables.inputs(ROOT / "docs")


def test_daemon_of_a_stale_pid_file(tmp_path: Path) -> None:
    """A pid that another program has by now is never ended."""
    (tmp_path / "libvirtd.pid").write_text(str(os.getpid()))
    assert daemons.end("qemu:///session", tmp_path) is False


def test_device_is_given_to_its_group_once(tmp_path: Path) -> None:
    """Its users are the group's members and no others; what is as it should be is left alone."""
    device = tmp_path / "kvm"
    device.touch(0o600)
    group = grp.getgrgid(os.getgid()).gr_name
    assert daemons.give_to_group(device, group) is True
    assert stat.S_IMODE(device.stat().st_mode) == 0o660
    assert device.stat().st_gid == os.getgid()
    assert daemons.give_to_group(device, group) is False
    assert daemons.give_to_group(device, "no-such-group") is False
    assert daemons.give_to_group(tmp_path / "nothing", group) is False


def test_daemons_stay_for_another_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is off just now belongs to a lab that needs them; other users' daemons are not ours."""
    shutil.copy("/bin/sleep", tmp_path / "libvirtd")
    machines = tmp_path / "machines"
    machines.write_text("another-lab\n")
    virsh = tmp_path / "virsh"
    virsh.write_text(f'#!/bin/sh\ncase "$*" in *--all*) cat {machines} ;; esac\n')
    virsh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    state = tmp_path / "state"
    state.mkdir()
    with subprocess.Popen([tmp_path / "libvirtd", "600"]) as daemon:
        (state / "libvirtd.pid").write_text(str(daemon.pid))
        assert daemons.end("qemu:///session", state) is False
        assert daemon.poll() is None
        machines.write_text("\n")
        with monkeypatch.context() as other:
            other.setattr(os, "geteuid", lambda: os.getuid() + 1)
            assert daemons.end("qemu:///session", state) is False
        assert daemon.poll() is None
        threading.Thread(target=daemon.wait).start()  # what has ended is a zombie until somebody waits
        assert daemons.end("qemu:///session", state) is True
        assert daemon.wait() == -signal.SIGTERM


def test_inventory_is_plain() -> None:
    """Tools without Ansible's templating read it; the places follow the environment."""
    done = subprocess.run(
        [sys.executable, ROOT / "inventory/virtual/10-hosts.py"],
        env={"HOME": "/home/u", "XDG_STATE_HOME": "/s", "MERGELAB_SSH_PORT_BASE": "4000"},
        check=True,
        capture_output=True,
        text=True,
    )
    second = json.loads(done.stdout)["_meta"]["hostvars"]["vhost2"]
    assert second["ansible_port"] == 4002
    assert second["ansible_ssh_private_key_file"] == "/s/mergelab/virtual/id_ed25519"
    assert "{{" not in done.stdout


def test_digest_of_the_image_covers_its_recipe() -> None:
    """The same recipe has one digest, another one has another."""

    def digest(**changed: str) -> str:
        recipe = {"SUITE": "bookworm", "MIRROR": "", "PACKAGES": "a b", "DISK_GIB": "8"} | changed
        done = subprocess.run(
            [BUILD_IMAGE, "--digest"],
            env={"PATH": os.environ["PATH"], **recipe},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    assert digest() == digest()
    changes = [{"SUITE": "trixie"}, {"MIRROR": "file:///m"}, {"PACKAGES": "a c"}, {"DISK_GIB": "9"}]
    assert len({digest(), *(digest(**change) for change in changes)}) == 5


INTEL = "processor : 0\nflags : fpu vmx ept\n"
AMD = "processor : 0\nflags : fpu svm npt\n"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (INTEL, ("kvm_intel", "ept")),
        (AMD, ("kvm_amd", "npt")),
        ("processor : 0\nflags : fpu\n", None),
        ("", None),
    ],
)
def test_vendor(probe: ModuleType, cpuinfo: str, expected: tuple[str, str] | None) -> None:
    """Each vendor's module and its parameter of nested paging."""
    assert probe.vendor(cpuinfo) == expected


@pytest.mark.parametrize(
    ("cpuinfo", "paging", "expected"),
    [("flags : fpu\n", None, "cpu"), (AMD, None, "module"), (AMD, "N", "paging"), (INTEL, "0", "module")],
)
def test_what_keeps_a_host_from_running_guests(
    probe: ModuleType, tmp_path: Path, cpuinfo: str, paging: str | None, expected: str
) -> None:
    """Each cause is told from the others."""
    proc, sys_ = tmp_path / "proc", tmp_path / "sys"
    proc.mkdir()
    (proc / "cpuinfo").write_text(cpuinfo)
    (proc / "meminfo").write_text("MemTotal: 1000000 kB\n")
    if paging is not None:
        parameters = sys_ / "module/kvm_amd/parameters"
        parameters.mkdir(parents=True)
        (parameters / "npt").write_text(paging)
    assert list(probe.problems(proc, sys_, 0, 0)) == [expected]
    assert set(probe.problems(proc, sys_, 2000, 1 << 40)) == {expected, "memory", "disk"}


def test_missing_packages(probe: ModuleType) -> None:
    """Only what dpkg does not have installed is named."""
    assert probe.missing(["dpkg", "no-such-package"]) == ["no-such-package"]
