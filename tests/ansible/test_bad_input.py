# SPDX-License-Identifier: GPL-2.0-only
"""Bad input to the commands that a user types: a message that names cause and fix, and nothing half-done."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mergelab.kernel import build
from tests.processes import processes
from tests.waiting import until

ROOT = Path(__file__).parents[2]


def free_port_base() -> int:
    """A base whose first port nobody has: neither a user's lab nor that of the lab tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) - 1


PORT_BASE = free_port_base()


def run(
    state: Path, command: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a lab of its own, which does not exist; its output is one text."""
    inherited = {name: value for name, value in os.environ.items() if name != "MERGELAB_RUN_DIR"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={
            **inherited,
            "XDG_STATE_HOME": str(state),
            "MERGELAB_SSH_PORT_BASE": str(PORT_BASE),
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def lab(state: Path, *arguments: str) -> str:
    """Ask whether a lab that cannot be could be; return the output of the failed command."""
    settings = ["--extra-vars", "virtual_host_domain=mergelab-bad-input virtual_host_state=checked"]
    done = run(state, ["tools/play", "lab", *settings, *arguments])
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())


def left_behind(state: Path) -> set[str]:
    """Return the files in the lab's state but for the lock's."""
    files = (path.relative_to(state) for path in state.rglob("*") if path.is_file())
    return {str(path) for path in files if path.parts[:2] != ("mergelab", "locks")}


def inventory(folder: Path, **variables: str) -> Path:
    """Write an inventory of one host to deploy on, with the given connection."""
    path = folder / "bad"
    path.mkdir()
    settings = "".join(f"      {name}: {value}\n" for name, value in variables.items())
    (path / "hosts.yml").write_text(f"kvm_hosts:\n  hosts:\n    machine1:\n{settings}")
    return path


def test_misspelt_make_variable(tmp_path: Path) -> None:
    """A variable that make does not know would be ignored in silence."""
    done = run(tmp_path, ["make", "INVENTRY=inventory/example", "help"])
    assert done.returncode != 0
    assert "unknown variable INVENTRY" in done.stdout
    assert "INVENTORY=" in done.stdout


def test_benchmark_of_nothing(tmp_path: Path) -> None:
    """A benchmark that cannot be is refused before anything is built, whatever is wrong with it."""
    before = set((ROOT / "reports").glob("*/bench-*"))
    for variables, cause, fix in (
        (["ARGS=--case randon"], "there is no case randon", "cases are: random"),
        (["ARGS=--size 100M"], "the size 100M is not a multiple of 64M", "take 64M or 128M"),
        (["ARGS=--pairs 0"], "0 pairs measure nothing", "--pairs 1"),
        (["BASELINE=bench-20000101T000000Z"], "there is no benchmark 'bench-20000101T000000Z'", "fix: "),
    ):
        done = run(tmp_path, ["make", "bench", *variables])
        assert done.returncode != 0
        assert cause in done.stdout
        assert fix in done.stdout
    assert set((ROOT / "reports").glob("*/bench-*")) == before


def test_verb_that_does_not_exist(tmp_path: Path) -> None:
    """The message says where the verbs are."""
    done = run(tmp_path, ["tools/play", "qualfy"])
    assert done.returncode != 0
    assert "unknown verb 'qualfy'" in done.stdout
    assert "make help" in done.stdout


def test_inventory_that_does_not_exist(tmp_path: Path) -> None:
    """The message says what to copy."""
    done = run(tmp_path, ["tools/play", "validate"], {"INVENTORY": "inventory/nowhere"})
    assert done.returncode != 0
    assert "no inventory at inventory/nowhere" in done.stdout
    assert "inventory/example" in done.stdout


def test_run_that_does_not_exist(tmp_path: Path) -> None:
    """A report of a run that never was is refused by name."""
    done = run(tmp_path, ["tools/play", "report"], {"RUN": "20000101T000000Z-virtual"})
    assert done.returncode != 0
    assert "no run '20000101T000000Z-virtual'" in done.stdout


def test_second_run_beside_the_first(tmp_path: Path) -> None:
    """Two runs on the same hosts would reboot each other's; the second says who works there."""
    lock = tmp_path / "mergelab" / "locks" / "virtual"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        held.write("process group 4711, make qualify, since 20260101T000000Z\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run(tmp_path, ["tools/play", "lab"])
    assert done.returncode != 0
    assert "another run works on inventory 'virtual': process group 4711, make qualify" in done.stdout
    assert "kill -INT -- -4711\n" in done.stdout
    assert left_behind(tmp_path) == set()


def test_lock_of_a_dead_run_is_free(tmp_path: Path) -> None:
    """A run that was killed must not lock its successor out."""
    lock = tmp_path / "mergelab" / "locks" / "virtual"
    lock.parent.mkdir(parents=True)
    lock.write_text("process group 4711, make qualify, since 20260101T000000Z\n")
    done = run(tmp_path, ["tools/play", "lab-list"])
    assert "another run" not in done.stdout


def test_port_in_use(tmp_path: Path) -> None:
    """The message names the port and the variable that moves it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", PORT_BASE + 1))
        taken.listen()
        output = lab(tmp_path)
    assert f"Port {PORT_BASE + 1} of 127.0.0.1" in output
    assert "MERGELAB_SSH_PORT_BASE" in output
    assert left_behind(tmp_path) == set()


def test_too_little_memory(tmp_path: Path) -> None:
    """The message says how much is needed, how much is there, and what to lower."""
    output = lab(tmp_path, "--extra-vars", "virtual_host_memory_mib=99999999")
    assert "takes 99999999 MiB of memory" in output
    assert "virtual_host_memory_mib" in output
    assert left_behind(tmp_path) == set()


def test_too_little_disk(tmp_path: Path) -> None:
    """The message says how much is needed and where."""
    output = lab(tmp_path, "--extra-vars", "__virtual_host_disk_mib=99999999")
    assert "MiB of disk are needed" in output
    assert "XDG_STATE_HOME" in output
    assert left_behind(tmp_path) == set()


def test_variable_of_the_wrong_type(tmp_path: Path) -> None:
    """A value that is no number is refused by the role's contract."""
    assert "virtual_host_vcpus" in lab(tmp_path, "--extra-vars", "virtual_host_vcpus=many")


def test_unknown_variable(tmp_path: Path) -> None:
    """A misspelt variable would leave the default in force without a word."""
    bad = inventory(tmp_path, ansible_host="127.0.0.1", ansible_port="1")
    done = run(
        tmp_path,
        ["tools/play", "validate", "--extra-vars", "kernel_boot_timout=5"],
        {"INVENTORY": str(bad)},
    )
    assert done.returncode != 0
    assert "kernel_boot_timout" in done.stdout


def test_unreachable_host(tmp_path: Path) -> None:
    """The message names the host and its address."""
    bad = inventory(tmp_path, ansible_host="127.0.0.1", ansible_port="1")
    command = ["tools/play", "validate", "--extra-vars", "lab_validate_timeout=5"]
    done = run(tmp_path, command, {"INVENTORY": str(bad)})
    output = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "machine1 (127.0.0.1 port 1) does not answer within 5 s" in output


def test_missing_key(tmp_path: Path) -> None:
    """The message names the key file that is not there."""
    bad = inventory(
        tmp_path,
        ansible_host="127.0.0.1",
        ansible_port="1",
        ansible_ssh_private_key_file=str(tmp_path / "no-such-key"),
    )
    done = run(tmp_path, ["tools/play", "validate"], {"INVENTORY": str(bad)})
    assert done.returncode != 0
    assert "no-such-key" in done.stdout


def test_patch_that_does_not_apply(tmp_path: Path) -> None:
    """The message names the patch, the hunk and the file; no tree is left."""
    patch = tmp_path / "misfit.patch"
    patch.write_text(
        "--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -1,3 +1,3 @@\n-/* not the first line */\n+/* changed */\n a\n b\n"
    )
    tree = tmp_path / "tree"
    done = run(
        tmp_path,
        ["mergelab", "kernel", "tree", "--profile", "um", "--extra-patch", str(patch), "--to", str(tree)],
    )
    assert done.returncode != 0
    assert "misfit.patch does not apply" in done.stdout
    assert "hunk 1 of mm/ksm.c" in done.stdout
    assert not tree.exists()


def test_config_symbol_that_the_kernel_drops(tmp_path: Path) -> None:
    """The message names the fragment, the symbol, what was wanted and what came out."""
    kernel = tmp_path / "kernel"
    subprocess.run(["cp", "-r", ROOT / "kernel", kernel], check=True)
    with (kernel / "config" / "memmerge.config").open("a") as fragment:
        fragment.write("CONFIG_NO_SUCH_SYMBOL=y\n")
    tree = tmp_path / "tree"
    done = run(
        tmp_path,
        ["mergelab", "kernel", "tree", "--profile", "um", "--kernel", str(kernel), "--to", str(tree)],
    )
    assert done.returncode != 0
    assert "memmerge.config" in done.stdout
    assert "CONFIG_NO_SUCH_SYMBOL" in done.stdout
    assert not tree.exists()


def press(group: int) -> None:
    """Press Ctrl-C."""
    os.killpg(group, signal.SIGINT)


def interrupt(
    state: Path,
    command: list[str],
    at: str,
    environment: Mapping[str, str],
    how: Callable[[int], None] = press,
) -> tuple[int, str]:
    """Start a command as a terminal does, end it when it has printed a text; its status and output."""
    inherited = {name: value for name, value in os.environ.items() if name != "MERGELAB_RUN_DIR"}
    with subprocess.Popen(
        # As a shell starts what is in the foreground; pytest itself may run in the background.
        ["env", "--default-signal=INT", *command],
        cwd=ROOT,
        env={**inherited, "XDG_STATE_HOME": str(state), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        output = ""
        for line in child.stdout:
            output += line
            if at in line:
                how(child.pid)
                break
        output += child.stdout.read()
    return child.returncode, output


@pytest.mark.parametrize("from_elsewhere", [False, True])
def test_interrupted_run(tmp_path: Path, from_elsewhere: bool) -> None:
    """While a host is waited for, by Ctrl-C or as another run says: its own status, and the lock is free."""

    def as_told(_: int) -> None:
        refused = run(tmp_path, ["tools/play", "validate"], {"INVENTORY": str(bad)})
        command = refused.stdout.partition("stop it as its Ctrl-C would: ")[2]
        subprocess.run(["bash", "-c", command], check=True)

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bad = inventory(tmp_path, ansible_host="127.0.0.1", ansible_port=str(silent.getsockname()[1]))
        command = ["tools/play", "validate"]
        status, output = interrupt(
            tmp_path,
            command,
            "PLAY [Validate the hosts]",
            {"INVENTORY": str(bad)},
            as_told if from_elsewhere else press,
        )
    assert status == 130, output
    assert "interrupted after" in output
    again = run(tmp_path, ["tools/play", "validate", "--list-hosts"], {"INVENTORY": str(bad)})
    assert "another run" not in again.stdout
    assert again.returncode == 0, again.stdout


def test_interrupted_kernel_build(tmp_path: Path) -> None:
    """Ctrl-C while a kernel is built leaves nothing that looks like one, and no compiler at work."""
    cache = tmp_path / "cache"
    cache.mkdir()
    sources = build.default_cache() / "src"  # spares unpacking the source
    sources.mkdir(parents=True, exist_ok=True)
    (cache / "src").symlink_to(sources)
    kernels = cache / "kernels"
    command = ["mergelab", "kernel", "build", "--profile", "um", "--cache", str(cache)]
    status, output = interrupt(tmp_path, command, "build …", {})
    assert status == 130, output
    assert "interrupted" in output
    assert [path for path in kernels.iterdir() if path.is_dir()] == []
    assert until(lambda: not [line for line in processes(str(kernels)) if "make" in line])
