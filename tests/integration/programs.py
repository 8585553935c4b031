# SPDX-License-Identifier: GPL-2.0-only
"""Programs that are run on a host of the lab one after the other, with the module as it is after a start."""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mergelab import uml
from tests.integration.lab import Lab

FOLDER = "/opt/selftests"
SWAP = f"{FOLDER}/swap"
SYSFS = "/sys/kernel/mm/memmerge"
SHELL = f"""
unload() {{
    [ -e {SYSFS} ] || return 0
    echo ksm >{SYSFS}/engine
    # A domain that was closed last second may still be on its way out.
    for _ in $(seq 60); do
        modprobe --remove memmerge && return
        sleep 1
    done
    return 1
}}

# As it is after a start, whatever a test that failed has left behind.
reload() {{
    unload && modprobe memmerge
}}

step() {{
    echo "=== begin $1"
    began=$(date +%s)
    eval "$2"
    status=$?
    echo "# $(($(date +%s) - began)) s"
    echo "=== end $1 $status"
}}
"""


@contextmanager
def on_host(lab: Lab, folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Have programs of a folder of this machine, and a swap device, on the host."""
    archive = folder.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        for name in names:
            tar.add(folder / name, name)
    lab.on_host(f"mkdir {FOLDER}")
    unpacked = lab.module("unarchive", f"src={archive} dest={FOLDER}")
    assert unpacked.get("changed"), unpacked
    lab.on_host(f"fallocate --length 256MiB {SWAP} && chmod 600 {SWAP} && mkswap {SWAP} && swapon {SWAP}")
    lab.on_host("dmesg --clear")
    yield
    lab.on_host(f"swapoff {SWAP} && rm -r {FOLDER}")


def within(program: str) -> str:
    """Return the command that runs a program of the folder, for a limited time."""
    return f"timeout 900 ./{program}"


def run(lab: Lab, name: str, commands: Mapping[str, str], folder: Path) -> dict[str, uml.Step]:
    """Run commands one after the other on the host, in a name space that they may mount in.

    Args:
        lab: whose host it is.
        name: under which the output is kept where the lab's logs are.
        commands: of a shell, by name; they may use what SHELL defines.
        folder: for the script.
    """
    script = folder / "script"
    steps = [f"step {step} {shlex.quote(command)}" for step, command in commands.items()]
    script.write_text("\n".join(["exec 2>&1", SHELL, f"cd {FOLDER}", *steps, "echo '=== done'", ""]))
    output: str = lab.module("script", f"{script} executable='unshare --mount sh'").get("stdout", "")
    Path(lab.logs / f"{name.replace(' ', '-')}.log").write_text(output)
    boot = uml.parse(output)
    assert boot.finished, output
    return boot.steps
