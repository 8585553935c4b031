# SPDX-License-Identifier: GPL-2.0-only
"""The torture's command line, and that nothing a console says is overlooked."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from mergelab import uml
from mergelab.errors import MergelabError
from mergelab.torture import plan, run

GOOD = """=== begin load
=== end load 0
=== begin plain
# seed=1 ops=1000 rounds=2 workers=2x2 limit=0 failslab=0% fail_page=0%
TAP version 14
1..2
# progress 1000 of 1000
ok 1 every byte is what its writer put there
# operations=1000 control=30
ok 2 nothing is left behind
=== end plain 0
=== begin leaks
=== end leaks 0
=== begin unload
=== end unload 0
=== begin reload
=== end reload 0
=== begin unload-again
=== end unload-again 0
=== done
"""


def findings(console: str) -> list[str]:
    """What is found in a console."""
    return run.judge("plain", uml.parse(console)).findings


def test_good_run() -> None:
    """Nothing is found where nothing is wrong, and the figures are read."""
    outcome = run.judge("plain", uml.parse(GOOD))
    assert outcome.findings == []
    assert outcome.figures["operations"] == 1000
    assert outcome.figures["control"] == 30


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("ok 1 every", "not ok 1 every", "every byte is what its writer put there"),
        ("ok 2 nothing is left behind\n", "", "did not run all of its plan"),
        ("=== end plain 0", "=== end plain 1", "ended with status 1"),
        ("# operations", "[ 1.0] BUG: KASAN: use-after-free\n# operations", "KASAN: use-after-free"),
        ("=== begin leaks\n", "=== begin leaks\nunreferenced object 0x60\n", "unreferenced object"),
        ("=== end unload 0", "=== end unload 1", "step unload of the machine failed"),
        ("=== done\n", "", "the machine did not come to its end"),
    ],
)
def test_bad_run(old: str, new: str, finding: str) -> None:
    """Each way to go wrong is a finding of its own."""
    assert old in GOOD
    assert any(finding in each for each in findings(GOOD.replace(old, new, 1)))


def test_program_that_hangs() -> None:
    """A console that ends in the middle of the program is a finding."""
    cut = GOOD[: GOOD.index("ok 2")]
    assert "the program did not come to its end" in findings(cut)


def test_words() -> None:
    """The command line has seed, operations and the module's file, which only the machine knows."""
    each = plan.Configuration("x", "torture", ("--rounds 2",), share=0.5)
    words = " ".join(each.words("torture", 7, 3000))
    assert words == 'torture --seed 7 --ops 1500 --rounds 2 --module "$MODULES/memmerge.ko"'


def test_script_leaves_the_program_alone(tmp_path: Path) -> None:
    """A configuration may have its program's name: its script must not call itself for ever."""
    program = tmp_path / "fuzz"
    program.write_text("the program")
    written = run.script(tmp_path, "fuzz", [str(program), "--seed 1"])
    assert written.name == "fuzz"
    assert written.read_text() == f"#!/bin/sh\nexec {program} --seed 1\n"
    assert program.read_text() == "the program"


def test_seed() -> None:
    """A seed is taken as it was printed; none is made up anew each time."""
    assert plan.seed_of("0x10") == 16
    assert len({plan.seed_of("") for _ in range(8)}) > 1
    with pytest.raises(MergelabError, match="'one' is no seed"):
        plan.seed_of("one")


@pytest.mark.parametrize("text", ["999", "many", "-5"])
def test_too_few_operations(text: str) -> None:
    """A torture that could not do every kind of operation is refused before anything is built."""
    with pytest.raises(MergelabError, match="no number of operations"):
        plan.ops_of(text)


def test_unknown_configuration() -> None:
    """A misspelt configuration names those that there are."""
    assert [each.name for each in plan.choose(["faults"])] == ["faults"]
    assert len(plan.choose([])) == len(plan.CONFIGURATIONS)
    with pytest.raises(MergelabError, match="no configuration 'fault'"):
        plan.choose(["fault"])


def test_lines_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hears is told each line, whole, and a machine that speaks is not ended, if it takes hours."""
    (tmp_path / "modules/lib/modules/6/kernel/mm").mkdir(parents=True)
    (tmp_path / "modules/lib/modules/6/kernel/mm/memmerge.ko").touch()
    machine = tmp_path / "linux"
    machine.write_text(
        "#!/bin/sh\nfor i in 1 2 3 4; do sleep 0.2; printf '# progress '; echo \"$i of 4\"; done\n"
        "echo '=== done'\n"
    )
    machine.chmod(0o755)
    heard: list[str] = []
    hours = itertools.count(0, 3600)
    monkeypatch.setattr(uml, "time", SimpleNamespace(monotonic=lambda: next(hours)))
    boot = uml.boot(tmp_path, [], limit=4000, hear=heard.append)
    assert boot.finished
    assert heard == [*(f"# progress {i} of 4" for i in range(1, 5)), "=== done"]


def test_errnos_come_from_the_document(tmp_path: Path, root: Path) -> None:
    """The fuzzer knows each answer of the document's table, so it cannot lag behind."""
    subprocess.run(
        ["make", "-s", "-C", str(root / "kernel/selftests"), f"OUT={tmp_path}", f"{tmp_path}/abi_errnos.h"],
        check=True,
    )
    table = (root / "kernel/Documentation/abi.md").read_text().split("| errno | when |")[1].split("\n\n")[0]
    named = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert (tmp_path / "abi_errnos.h").read_text().splitlines() == [f'{{ {e}, "{e}" }},' for e in named]
