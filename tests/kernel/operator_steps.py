# SPDX-License-Identifier: GPL-2.0-only
"""What test_memmergectl.py has done inside a User-Mode Linux machine: a program, not a test.

Usage: operator_steps.py FOLDER. The payload is FOLDER/payload; FOLDER/said.json gets what the commands said,
and is judged outside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mergelab.ctl.files import FILES
from mergelab.hosttool import COMMANDS, build

RUN = Path("/run/mergelab")
SYSFS = Path("/sys/kernel/mm/memmerge")
WATCH = ("watch", "--interval", "0.2", "--count", "1", "--json")

Said = dict[str, object]


def main() -> None:
    """Does all steps; what was said by then is kept if one fails."""
    folder, said = Path(sys.argv[1]), Said()
    prepare(folder / "payload")
    agent = subprocess.Popen([RUN / "mergelab-host", "serve"])
    try:
        wait((RUN / "agent.sock").is_socket)
        tune(said)
        merge(said)
        look(said)
        unmerge(said)
    finally:
        agent.terminate()
        agent.wait()
        (folder / "said.json").write_text(json.dumps(said))
    reload_module(said)
    (folder / "said.json").write_text(json.dumps(said))


def prepare(payload: Path) -> None:
    """Puts the commands and the payload where a host has them."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["MERGELAB_STATE_DIR"] = str(RUN / "state")
    os.environ["MERGELAB_AGENT_SOCKET"] = str(RUN / "agent.sock")
    (RUN / "state" / "guests").mkdir(parents=True)
    for path, data in {
        RUN / "state" / "payload": payload.read_bytes(),
        **{RUN / name: build(name) for name in COMMANDS},
    }.items():
        path.write_bytes(data)
        path.chmod(0o755)


def tune(said: Said) -> None:
    """Looks at a fresh module, and writes the ends of every tunable's range to it."""
    said["fresh"] = ctl("status", "--json")
    said["ranges"] = {
        file.name: [taken(file.name, value) for value in (file.low - 1, file.low, file.high, file.high + 1)]
        + [taken(file.name, file.default)]
        for file in FILES.values()
        if isinstance(file.default, int) and file.name != "run" and (SYSFS / file.name).exists()
    }
    said["set"] = ctl("set", "--json", "pages_to_scan=4096", "sleep_millisecs=1")
    said["bad set"] = ctl("set", "pages_to_scan=1", "max_page_sharing=1")


def merge(said: Said) -> None:
    """Fills two processes, and lets the scanner merge them."""
    said["no domains"] = ctl("domains")
    for name, own in (("a", "seed:1"), ("b", "seed:2")):
        host("plain", "start", name, "--pages", "2048")
        host("guest", "call", name, "fill 0 1024 seed:7", "fill 1024 512 zero", f"fill 1536 512 {own}")
    host("domain", "create", "bench")
    host("domain", "add", "bench", "--guest", "a", "--guest", "b")
    said["start"] = ctl("start")
    wait(lambda: counter("full_scans") >= 2)
    said["running"] = ctl("status", "--json")
    wait(lambda: json.loads(ctl(*WATCH)[1])["scanned_per_s"] > 0)
    said["stop"] = ctl("stop", "--json")
    wait(resting)


def look(said: Said) -> None:
    """Asks everything there is to know of what was merged."""
    said["merged"] = ctl("status", "--json")
    said["merged table"] = ctl("status")
    said["show"] = ctl("show", "--json")
    said["at rest"] = ctl("watch", "--interval", "0.05", "--count", "2", "--json")
    said["watch table"] = ctl("watch", "--interval", "0.05", "--count", "2")
    said["domains"] = ctl("domains", "--json")
    said["domains table"] = ctl("domains")
    said["process"] = ctl("process", "--guest", "a", "--guest", "b", "--json")
    said["process table"] = ctl("process", "--guest", "a")
    said["engine"] = ctl("engine")


def unmerge(said: Said) -> None:
    """Writes four pages, unshares the others, and lets one process go."""
    host("guest", "call", "a", "poke 0 4 1 0 255")
    said["written"] = ctl("status", "--json")
    said["unmerge"] = ctl("unmerge", "--json")
    said["unmerged"] = ctl("status", "--json")
    said["content"] = host("guest", "call", "b", "verify 0 1024 seed:7", "verify 1024 512 zero")
    said["start again"] = ctl("start")
    said["stop again"] = ctl("stop")
    host("plain", "stop", "a")
    wait(lambda: counter("regions") == 1)
    said["gone"] = ctl("domains", "--json")
    host("plain", "stop", "b")


def reload_module(said: Said) -> None:
    """Asks for the status without the module, and of one that was loaded anew."""
    wait(
        lambda: subprocess.run(["rmmod", "memmerge"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    )
    said["unloaded"] = ctl("status", "--json")
    subprocess.run(["insmod", f"{os.environ['MODULES']}/memmerge.ko"], check=True)
    said["loaded"] = ctl("status", "--json")


def ctl(*words: str) -> tuple[int, str, str]:
    """Runs memmergectl; returns exit status, standard output, standard error."""
    done = subprocess.run([RUN / "memmergectl", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def host(*words: str) -> str:
    """Runs mergelab-host, which must do well; returns what it printed."""
    return subprocess.run(
        [RUN / "mergelab-host", *words], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def counter(name: str) -> int:
    """Reads a file of the engine."""
    return int((SYSFS / name).read_text())


def taken(name: str, value: int) -> str | bool:
    """Writes a file of the engine; returns whether it holds the value then, or why it was refused."""
    try:
        (SYSFS / name).write_text(str(value))
    except OSError as error:
        return os.strerror(error.errno or 0)
    return counter(name) == value


def resting() -> bool:
    """Whether the scanner has ended the round that it was in when it was stopped."""
    before = counter("pages_scanned")
    time.sleep(0.2)
    return counter("pages_scanned") == before


def wait(done: Callable[[], bool]) -> None:
    """Waits until something is so; an error after two minutes."""
    end = time.monotonic() + 120
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("not within two minutes")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
