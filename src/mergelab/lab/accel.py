# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator runs an emulated host.

``/dev/kvm`` is often there and of no use: forbidden, broken by the virtual
machine that the controller itself is, or without virtualization for the guest's
own guests. So a small guest is run, and it says what it sees.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mergelab.errors import MergelabError

SOURCE = Path(__file__).with_name("probe.S")
TIMEOUT_S = 20
EMULATOR = "qemu-system-x86_64"
LEAST_VERSION = 10
"""Of QEMU, to emulate a host that runs guests; docs/adr/0007."""

# isa-debug-exit turns a written value v into the exit code 2 * v + 1
RAN = 2 * 0x10 + 1
RAN_NESTED = 2 * 0x11 + 1


@dataclass(frozen=True)
class Accelerator:
    """An accelerator and why it was chosen.

    Attributes:
        name: ``kvm`` or ``tcg``.
        reason: one sentence for people.
    """

    name: str
    reason: str


def run_guest(accel: str, cpu: str, timeout_s: float = TIMEOUT_S) -> tuple[int | None, str]:
    """Run the probe guest.

    Args:
        accel: QEMU's accelerator, ``kvm`` or ``tcg``.
        cpu: QEMU's CPU model.
        timeout_s: bound, in seconds.

    Returns:
        QEMU's exit code (``RAN`` or ``RAN_NESTED`` when the guest ran; None when it did not end in
        time) and the first line of its messages.

    Raises:
        MergelabError: QEMU or the assembler is missing or fails.
    """
    with tempfile.TemporaryDirectory(prefix="mergelab-probe-") as name:
        work = Path(name)
        sector = work / "sector"
        object_file = work / "probe.o"
        link: list[str | Path] = ["ld", "-Ttext=0x7c00", "--oformat=binary", "-o", sector, object_file]
        # fmt: off  (option and value side by side)
        qemu = [
            EMULATOR,
            "-machine",
            "pc",
            "-accel",
            accel,
            "-cpu",
            cpu,
            "-m",
            "16",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-drive",
            f"file={sector},format=raw,if=ide,snapshot=on",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=1",
        ]
        # fmt: on
        try:
            subprocess.run(["as", "-o", object_file, SOURCE], check=True, capture_output=True)
            subprocess.run(link, check=True, capture_output=True)
            done = subprocess.run(
                qemu,
                check=False,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=timeout_s,
            )
        except FileNotFoundError as error:
            raise MergelabError(
                f"{error.filename} is not installed", "run tools/setup, which installs it"
            ) from error
        except subprocess.CalledProcessError as error:
            raise MergelabError(
                f"cannot assemble {SOURCE.name}: {error.stderr.decode(errors='replace').strip()}",
                "the controller must be an x86-64 machine with Debian's binutils",
            ) from error
        except subprocess.TimeoutExpired:
            return None, f"the probe guest did not end within {timeout_s:.0f} s"
    lines = done.stderr.strip().splitlines()
    return done.returncode, lines[0] if lines else ""


def choose(wanted: str = "auto") -> Accelerator:
    """Choose the accelerator of an emulated host.

    Args:
        wanted: ``auto``, ``kvm`` or ``tcg``.

    Returns:
        ``tcg`` when asked for; ``kvm`` when the probe ran under it and saw virtualization; for
        ``auto``, else ``tcg``.

    Raises:
        MergelabError: ``kvm`` is demanded and does not work, or QEMU is too old to emulate.
    """
    if wanted == "tcg":
        return _emulation("asked for")
    if not Path("/dev/kvm").exists():
        reason = "there is no /dev/kvm"
    else:
        code, message = run_guest("kvm", "host")
        if code == RAN_NESTED:
            return Accelerator("kvm", "a guest ran under KVM and saw virtualization of its own")
        if code == RAN:
            reason = (
                "KVM runs guests, but these cannot run their own (parameter nested of kvm_intel or kvm_amd)"
            )
        else:
            reason = f"no guest runs under KVM here: {message or f'QEMU exit code {code}'}"
    if wanted == "kvm":
        raise MergelabError(
            f"KVM is demanded, but {reason}",
            "repair that, or set virtual_host_accel (MERGELAB_ACCEL) to auto",
        )
    return _emulation(reason)


def emulator_version(text: str) -> int:
    """Returns the major version from the output of ``qemu-system-x86_64 --version``; 0 when it says none."""
    match = re.search(r"version (\d+)\.", text)
    return int(match[1]) if match else 0


def _emulation(reason: str) -> Accelerator:
    done = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, check=False)
    version = emulator_version(done.stdout)
    if version < LEAST_VERSION:
        raise MergelabError(
            f"the host must be emulated ({reason}), and QEMU {version} loses interrupts of its guests",
            f"run make setup, which installs QEMU {LEAST_VERSION} from bookworm-backports",
        )
    return Accelerator("tcg", reason)
