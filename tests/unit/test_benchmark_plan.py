# SPDX-License-Identifier: GPL-2.0-only
"""A benchmark is planned from what was asked for, and refused with a reason where it cannot be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mergelab.benchmark import plan
from mergelab.errors import MergelabError

MIB = 1 << 20


def make(
    cases: tuple[str, ...] = (),
    sizes: tuple[int, ...] = (),
    guest: Path = Path("none"),
    processors: int = 1,
    kvm: bool = False,
) -> plan.Plan:
    """A plan of two pairs."""
    return plan.make(
        cases=cases,
        sizes=sizes,
        pairs=2,
        guest_memory=guest,
        guest_help="ask for it",
        processors=processors,
        kvm=kvm,
    )


@pytest.mark.parametrize(
    ("text", "size"), [("64M", 64 * MIB), ("256MiB", 256 * MIB), ("4G", 4096 * MIB), (" 1G ", 1024 * MIB)]
)
def test_size(text: str, size: int) -> None:
    """Sizes are typed as people write them."""
    assert plan.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "cause", "fix"),
    [
        ("much", "'much' is no size", "256M"),
        ("-1G", "'-1G' is no size", "256M"),
        ("100M", "the size 100M is not a multiple of 64M", "take 64M or 128M"),
        ("0M", "the size 0M is not a multiple of 64M", "take 64M"),
        ("17G", "the size 17G is more than 16G", "64M to 16G"),
    ],
)
def test_bad_size(text: str, cause: str, fix: str) -> None:
    """What cannot be measured is refused at once, with what can."""
    with pytest.raises(MergelabError) as caught:
        plan.parse_size(text)
    assert cause in caught.value.cause
    assert fix in caught.value.fix


def test_every_case_at_every_size_and_fixed_ones_once() -> None:
    """A case with a size of its own is not measured once per size."""
    made = make(sizes=(128 * MIB, 64 * MIB))
    items = [(item.case, item.pages) for item in made.items]
    assert items.count(("random", 16384)) == items.count(("random", 32768)) == 1
    assert [item for item in items if item[0] == "sharers"] == [("sharers", 10_000)]
    assert {case for case, _ in items} == set(plan.CASES) - {"kvm", "guest", "scanners"}


def test_case_for_several_processors() -> None:
    """It is measured where they are, and elsewhere it is said that it was not."""
    assert dict(make(sizes=(64 * MIB,)).left_out)["scanners"].startswith("it takes 2 processors")
    there = make(cases=("scanners",), processors=2)
    assert [item.case for item in there.items] == ["scanners"]
    with pytest.raises(MergelabError, match="it takes 2 processors"):
        make(cases=("scanners",))


def test_case_for_kvm() -> None:
    """It is measured at every size where guests can run, and elsewhere it is said once that it was not."""
    sizes = (64 * MIB, 128 * MIB)
    assert [what for what, why in make(sizes=sizes).left_out if "takes KVM" in why] == ["kvm"]
    there = make(cases=("kvm",), sizes=sizes, kvm=True)
    assert [(item.case, item.pages) for item in there.items] == [("kvm", 16384), ("kvm", 32768)]
    assert there.left_out == ()
    with pytest.raises(MergelabError, match="it takes KVM"):
        make(cases=("kvm",))


def test_guest_is_left_out_with_the_reason() -> None:
    """A case without its input is not measured, and says how to get it."""
    made = make(sizes=(64 * MIB,), processors=2, kvm=True)
    assert made.left_out == (("guest at 64M", "no guest's memory is there: ask for it"),)
    assert made.guest_memory is None


def test_guest_is_measured_as_far_as_its_memory_goes(tmp_path: Path) -> None:
    """Memory is never repeated to fill a size: the copies would merge."""
    memory = tmp_path / "raw"
    with memory.open("wb") as file:
        file.truncate(100 * MIB)
    made = make(cases=("guest",), sizes=(64 * MIB, 128 * MIB), guest=memory)
    assert [(item.case, item.pages) for item in made.items] == [("guest", 16384)]
    assert made.left_out == (("guest at 128M", "there are 100M of a guest's memory: ask for it"),)
    assert made.guest_memory == memory


def test_nothing_to_measure() -> None:
    """A plan without any case would be a benchmark that proves nothing."""
    with pytest.raises(MergelabError, match="nothing can be measured"):
        make(cases=("guest",))


def test_unknown_case() -> None:
    """A misspelt case names those that there are."""
    with pytest.raises(MergelabError) as caught:
        make(cases=("randon", "zero"))
    assert caught.value.cause == "there is no case randon"
    assert "random, identical" in caught.value.fix


def test_no_pairs() -> None:
    """Less than one pair measures nothing."""
    with pytest.raises(MergelabError, match="0 pairs measure nothing"):
        plan.make(cases=(), sizes=(), pairs=0, guest_memory=Path("none"), guest_help="")


def test_memory_holds_the_largest_item() -> None:
    """The machine needs room for the case, for what the engines remember of it, and for its kernel."""
    made = make(cases=("random",), sizes=(1024 * MIB, 64 * MIB))
    assert 1024 * MIB * 1.1 < made.memory < 1024 * MIB * 1.5


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that would swap or kill is refused before anything is built."""
    monkeypatch.setattr(plan, "available_memory", lambda: 800 * MIB)
    plan.check_machine(make(cases=("sharers",)), None)
    with pytest.raises(MergelabError) as caught:
        plan.check_machine(make(cases=("random",), sizes=(4096 * MIB,)), None)
    assert "needs 5312 MiB of memory and 800 MiB are available" in caught.value.cause
    assert "--size" in caught.value.fix


def test_too_small_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Memory that is a file needs room in its file system, too."""
    monkeypatch.setattr(plan, "available_memory", lambda: 1 << 70)
    free = plan.Plan(items=(plan.Item(case="random", pages=1 << 40),), pairs=1)
    with pytest.raises(MergelabError, match="MiB free and the benchmark needs"):
        plan.check_machine(free, tmp_path)


def test_program_and_plan_know_the_same_cases(root: Path, tmp_path: Path) -> None:
    """A case that only one of them knows could not be measured, or not be asked for."""
    subprocess.run(["make", "-s", "-C", root / "kernel/bench", f"OUT={tmp_path}"], check=True)
    done = subprocess.run([tmp_path / "memmerge_bench", "--list"], check=True, capture_output=True, text=True)
    assert done.stdout.split() == list(plan.CASES)


@pytest.mark.parametrize(
    "arguments", [[], ["random"], ["random:1"], ["nothing:64"], ["--pairs", "0", "random:64"]]
)
def test_program_refuses_what_it_cannot_do(root: Path, tmp_path: Path, arguments: list[str]) -> None:
    """Called by hand with a mistake, the measuring program explains itself."""
    subprocess.run(["make", "-s", "-C", root / "kernel/bench", f"OUT={tmp_path}"], check=True)
    done = subprocess.run(
        [tmp_path / "memmerge_bench", *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Usage:" in done.stderr
