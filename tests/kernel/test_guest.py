# SPDX-License-Identifier: GPL-2.0-only
"""The guest image in a real guest: kernel, payload as init, virtio-serial port, guest-physical addresses."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergelab import guest_image
from mergelab.kernel import build as kernel_build
from mergelab.kernel import source
from mergelab.patterns import PAGE, Pattern
from tests.waiting import until

pytestmark = pytest.mark.kernel

MEMORY_MIB = 96
KERNEL_MIB = 24
BOOT_LIMIT = 120.0


@pytest.fixture(scope="session")
def image(root: Path) -> Path:
    """The image of profile guest, built or from the cache."""
    cache = kernel_build.default_cache()
    options = kernel_build.Options(
        kernel=root / "kernel",
        profile="guest",
        source=source.DEBIAN,
        cache=cache,
        jobs=kernel_build.default_jobs(),
    )
    kernel = kernel_build.build(options, kernel_build.say_on_stderr) / "bzImage"
    return guest_image.build(kernel, root / "kernel/guest", cache)


class Machine:
    """A guest of plain QEMU whose memory is a file that the test reads."""

    def __init__(
        self, image: Path, home: Path, arguments: str = f"mem={KERNEL_MIB}M", port: bool = True
    ) -> None:
        """Starts it; the console goes to a file."""
        qemu = shutil.which("qemu-system-x86_64")
        assert qemu, "qemu-system-x86_64 is not installed: make setup"
        self.memory = home / "memory"
        self.console = home / "console"
        self.port = home / "port"
        command = [qemu, "-machine", "pc,memory-backend=ram,accel=tcg", "-nodefaults", "-display", "none"]
        command += [
            "-object",
            f"memory-backend-file,id=ram,size={MEMORY_MIB}M,mem-path={self.memory},share=on",
        ]
        command += ["-m", f"{MEMORY_MIB}M", "-kernel", str(image / "bzImage")]
        command += ["-initrd", str(image / "payload.cpio"), "-serial", f"file:{self.console}", "-no-reboot"]
        command += ["-append", f"console=ttyS0 quiet panic=-1 {arguments}", "-device", "virtio-serial"]
        if port:
            command += ["-chardev", f"socket,id=port,path={self.port},server=on,wait=off"]
            command += ["-device", "virtserialport,chardev=port,name=org.mergelab.payload"]
        self.process = subprocess.Popen(command)

    def connect(self) -> socket.socket:
        """Connects to the payload's port."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(BOOT_LIMIT)
        assert until(lambda: client.connect_ex(str(self.port)) == 0), "QEMU does not open the port"
        return client

    def page(self, address: int) -> bytes:
        """Reads a page at a guest-physical address from outside."""
        with self.memory.open("rb") as memory:
            memory.seek(address)
            return memory.read(PAGE)

    def last_words(self) -> str:
        """Waits until the guest has ended by itself and returns its console."""
        self.process.wait(BOOT_LIMIT)
        return self.console.read_text(errors="replace")


def ask(client: socket.socket, request: str) -> str:
    """Sends a request and returns its answer."""
    client.sendall(request.encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = client.recv(4096)
        assert data, f"the guest ended before it answered '{request}'"
        answer += data
    return answer.decode().strip()


@pytest.fixture
def machines(image: Path, tmp_path: Path) -> Iterator[list[Machine]]:
    """Machines that are gone when the test ends."""
    running: list[Machine] = []
    yield running
    for machine in running:
        machine.process.kill()
        machine.process.wait()


def test_payload_in_a_guest(image: Path, tmp_path: Path, machines: list[Machine]) -> None:
    """What the payload says it wrote must lie at the guest-physical pages it names."""
    machine = Machine(image, tmp_path)
    machines.append(machine)
    client = machine.connect()
    answer = ask(client, "info")
    fields = dict(word.split("=") for word in answer.split()[1:])
    gpa, pages = int(fields["gpa"], 0), int(fields["pages"])
    assert gpa == KERNEL_MIB << 20
    assert (MEMORY_MIB - KERNEL_MIB - 1) << 8 < pages <= (MEMORY_MIB - KERNEL_MIB) << 8

    assert ask(client, f"fill 0 {pages} seed:7").startswith(f"ok pages={pages} ns=")
    assert ask(client, f"verify 0 {pages} seed:7") == "ok bad=0"
    for page in (0, 1, pages // 2, pages - 1):
        assert machine.page(gpa + page * PAGE) == Pattern.parse("seed:7").page(page)

    client.close()
    client = machine.connect()
    assert ask(client, f"@2 poke {pages - 100} 100 10 5 0xff").startswith("@2 ok written=10 ")
    assert ask(client, f"verify 0 {pages - 100} seed:7") == "ok bad=0"
    assert machine.page(gpa + (pages - 10) * PAGE)[5] == Pattern.parse("seed:7").page(pages - 10)[5] ^ 0xFF

    with machine.memory.open("rb+") as memory:
        memory.seek(gpa + 33 * PAGE + 44)
        byte = memory.read(1)[0]
        memory.seek(-1, 1)
        memory.write(bytes([byte ^ 1]))
    assert ask(client, f"verify 0 {pages - 100} seed:7") == "ok bad=1 first=33 offset=44"
    assert ask(client, f"fill 0 {pages + 1} zero").startswith("err ")

    assert ask(client, "poweroff") == "ok"
    assert f"payload: {pages} pages at {gpa:#x}" in machine.last_words()


def test_a_guest_without_the_limit_says_so_and_ends(
    image: Path, tmp_path: Path, machines: list[Machine]
) -> None:
    """A guest that hangs would cost the whole timeout and explain nothing."""
    machines.append(Machine(image, tmp_path, arguments=""))
    assert "has no mem=<MiB>M, so no memory is left for the payload" in machines[0].last_words()


def test_a_guest_without_ram_for_the_payload_says_so_and_ends(
    image: Path, tmp_path: Path, machines: list[Machine]
) -> None:
    """The same for a description that leaves the payload nothing."""
    machines.append(Machine(image, tmp_path, arguments=f"mem={MEMORY_MIB}M"))
    assert "give the guest more memory" in machines[0].last_words()


def test_a_guest_without_the_port_says_so_and_ends(
    image: Path, tmp_path: Path, machines: list[Machine]
) -> None:
    """The same for a guest that nobody could talk to."""
    machines.append(Machine(image, tmp_path, port=False))
    assert "there is no virtio-serial port org.mergelab.payload" in machines[0].last_words()
