# SPDX-License-Identifier: GPL-2.0-only
"""The judge decides as the design says; every verdict can be reached and only one is green."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mergelab.evidence import Control, Evidence, Relation, Value, Verdict, Witness
from mergelab.judge import (
    BY_CHECK,
    GRAVEST_FIRST,
    QUALIFYING,
    Judgement,
    agrees,
    judge,
    judge_run,
    witnesses_needed,
)


def witness(name: str = "engine", expected: Value = 10, measured: Value | None = 10, **more: Any) -> Witness:
    """A witness that agrees unless told otherwise."""
    return Witness(name=name, claim="pages", expected=expected, measured=measured, **more)


def evidence(*witnesses: Witness, check: str = "merge.identical", **more: Any) -> Evidence:
    """Evidence with three agreeing witnesses unless told otherwise."""
    heard = witnesses or tuple(witness(name) for name in ("engine", "pages", "memory"))
    return Evidence(
        check=check,
        host="h1",
        started="2026-01-01T00:00:00Z",
        seconds=1,
        title="a claim",
        witnesses=heard,
        **more,
    )


@pytest.mark.parametrize(
    ("expected", "measured", "more", "answer"),
    [
        (10, 10, {}, True),
        (10, 11, {}, False),
        (10, 9, {}, False),
        (10, 11, {"tolerance": 1}, True),
        (10, 12, {"tolerance": 1}, False),
        (10, 9, {"relation": Relation.AT_LEAST}, False),
        (10, 9, {"relation": Relation.AT_LEAST, "tolerance": 1}, True),
        (10, 99, {"relation": Relation.AT_LEAST}, True),
        (10, 99, {"relation": Relation.AT_MOST}, False),
        (10, 11, {"relation": Relation.AT_MOST, "tolerance": 1}, True),
        (10, 0, {"relation": Relation.AT_MOST}, True),
        (10, None, {}, None),
        (0, None, {}, None),
        (10, float("nan"), {"tolerance": 99}, False),
        (1, True, {}, False),
        (True, 1, {}, False),
        (False, False, {}, True),
        (0, "0", {}, False),
        ("abc", "abc", {}, True),
        ("abc", "abd", {"tolerance": 99}, False),
        (1 << 62, (1 << 62) + 1, {}, False),
    ],
)
def test_agreement(
    expected: Value, measured: Value | None, more: dict[str, Any], answer: bool | None
) -> None:
    """A witness agrees within its tolerance, in its direction, in its own kind; silence is none."""
    assert agrees(witness("w", expected, measured, **more)) is answer


def test_pass_needs_three_witnesses_that_agree() -> None:
    """The plain case: everything heard, everything as expected."""
    judged = judge(evidence())
    assert (judged.verdict, judged.reason) == (Verdict.PASS, "")
    assert [each.agrees for each in judged.witnesses] == [True, True, True]


def test_contradiction_among_witnesses_is_a_reason_of_its_own() -> None:
    """One witness against two is not the same news as all three against the claim."""
    one = judge(evidence(witness(), witness("pages", 10, 9), witness("memory")))
    everyone = judge(evidence(*(witness(name, 10, 9) for name in ("engine", "pages", "memory"))))
    assert one.verdict is everyone.verdict is Verdict.FAIL
    assert "contradict" in one.reason
    assert "pages" in one.reason
    assert "contradict" not in everyone.reason


def test_missing_witness_is_unproven() -> None:
    """Two witnesses that agree do not make up for a third that was not heard."""
    judged = judge(evidence(witness(), witness("pages", 10, None), witness("memory")))
    assert judged.verdict is Verdict.UNPROVEN
    assert "pages" in judged.reason


def test_disagreement_outweighs_silence() -> None:
    """A contradiction must not hide behind a witness that was not heard."""
    assert judge(evidence(witness("a", 10, 9), witness("b", 10, None), witness("c"))).verdict is Verdict.FAIL


@pytest.mark.parametrize("names", [(), ("engine",), ("engine", "pages"), ("engine",) * 3])
def test_too_few_independent_witnesses_are_unproven(names: tuple[str, ...]) -> None:
    """The same witness three times is one witness."""
    judged = judge(replace(evidence(), witnesses=tuple(witness(name) for name in names)))
    assert judged.verdict is Verdict.UNPROVEN


def test_a_plain_state_needs_one_witness() -> None:
    """A build-id has no second source; a claim about merging has, an unknown family must."""
    assert judge(evidence(witness(), check="kernel.identity")).verdict is Verdict.PASS
    assert judge(replace(evidence(check="kernel.identity"), witnesses=())).verdict is Verdict.UNPROVEN
    assert witnesses_needed("kernel.identity") == 1
    assert witnesses_needed("kernels.identity") == witnesses_needed("new.family") == 3


def test_control_that_did_not_behave_is_unproven() -> None:
    """Evidence counts only when what had to fail did fail."""
    judged = judge(evidence(controls=(Control(name="off", claim="no saving", behaved=False),)))
    assert judged.verdict is Verdict.UNPROVEN
    assert "off" in judged.reason


@pytest.mark.parametrize("verdict", BY_CHECK)
def test_verdict_of_the_check_itself_is_kept_with_its_reason(verdict: Verdict) -> None:
    """Only the check knows that it could not measure; it has to say why."""
    assert judge(evidence(verdict=verdict, reason="why")).verdict is verdict
    assert judge(evidence(verdict=verdict, reason="why")).reason == "why"
    assert judge(evidence(verdict=verdict)).reason


@pytest.mark.parametrize("claimed", [each for each in Verdict if each not in BY_CHECK])
def test_claimed_verdict_is_computed_anew(claimed: Verdict) -> None:
    """A file that says pass proves nothing."""
    assert judge(evidence(witness("a", 10, 9), verdict=claimed, reason="trust me")).verdict is Verdict.FAIL
    assert judge(evidence(verdict=claimed, reason="old news")).reason == ""


FACTS = {"kernel": {"build_id": "b1"}}


def run(**changes: Any) -> Judgement:
    """Judge a run in which everything held, but for the changes."""
    parts: dict[str, Any] = {
        "facts": {"h1": FACTS},
        "deploy": {"h1": {"outcome": "promoted"}},
        "manifest": {"build_id": "b1"},
        "evidence": [judge(evidence(check=check)) for check in QUALIFYING],
        "finished": True,
        "panics": {},
    }
    return judge_run(**{**parts, **changes})


def with_one(verdict: Verdict) -> list[Evidence]:
    """All qualifying evidence, the last of it with another verdict."""
    *others, last = (judge(evidence(check=check)) for check in QUALIFYING)
    return [*others, replace(last, verdict=verdict, reason="because")]


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_of_a_check_reaches_the_run(verdict: Verdict) -> None:
    """One check that is not green is enough."""
    judged = run(evidence=with_one(verdict))
    assert judged.verdict is verdict
    assert (judged.findings == ()) is verdict.green


def test_only_pass_is_green() -> None:
    """A second green verdict would let something through."""
    assert [each for each in Verdict if each.green] == [Verdict.PASS]


def test_order_of_gravity_is_complete() -> None:
    """A verdict without a rank could not decide a run."""
    assert sorted(GRAVEST_FIRST) == sorted(Verdict)
    assert GRAVEST_FIRST[-1] is Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "verdict", "word"),
    [
        ({"finished": False}, Verdict.UNPROVEN, "end"),
        ({"facts": {}}, Verdict.UNPROVEN, "fingerprint"),
        ({"evidence": []}, Verdict.UNPROVEN, "nothing was checked"),
        ({"evidence": [judge(evidence())]}, Verdict.UNPROVEN, "did not run"),
        ({"deploy": {"h1": {"outcome": "rolled-back"}}}, Verdict.ROLLED_BACK, "did not come up"),
        (
            {"deploy": {"h1": {"outcome": "hang", "reason": "it did not answer"}}},
            Verdict.HANG,
            "it did not answer",
        ),
        ({"deploy": {}}, Verdict.PASS, "passed"),
        ({"panics": {"h1": "Kernel panic - not syncing: x"}}, Verdict.PANIC, "not syncing: x"),
        ({"manifest": {"build_id": "b2"}}, Verdict.FAIL, "build-id"),
        ({"manifest": {}}, Verdict.PASS, "passed"),
        ({"facts": {"h1": FACTS, "h2": FACTS}}, Verdict.UNPROVEN, "h2: nothing was checked"),
        (
            {"facts": {}, "deploy": {}, "evidence": [], "manifest": {}},
            Verdict.UNPROVEN,
            "no host was measured",
        ),
    ],
)
def test_run(changes: Mapping[str, Any], verdict: Verdict, word: str) -> None:
    """Each thing that can be wrong with a run makes it what the design says, in a sentence that names it."""
    judged = run(**changes)
    assert judged.verdict is verdict
    assert word in judged.reason


def test_panic_of_a_kernel_that_was_rolled_back_is_the_rollback() -> None:
    """The new kernel's panic at boot is why it was rolled back, and no second verdict."""
    changes = {"deploy": {"h1": {"outcome": "rolled-back"}}, "panics": {"h1": "Kernel panic"}, "evidence": []}
    assert run(**changes).verdict is Verdict.ROLLED_BACK


def test_gravest_finding_comes_first() -> None:
    """The sentence under the verdict has to be about the verdict."""
    judged = run(evidence=with_one(Verdict.SKIPPED), panics={"h1": "Kernel panic"}, finished=False)
    assert [each.verdict for each in judged.findings] == [Verdict.PANIC, Verdict.UNPROVEN, Verdict.SKIPPED]
    assert "2 more findings" in judged.reason


def test_evidence_that_was_not_judged_is_a_mistake_of_the_caller() -> None:
    """A verdict of None must not slip through as something harmless."""
    with pytest.raises(ValueError, match="not judged"):
        run(evidence=[evidence()])
