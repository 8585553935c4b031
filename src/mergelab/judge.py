# SPDX-License-Identifier: GPL-2.0-only
"""The judge: pure functions from what was measured to what it proves.

A claim passes only when enough independent witnesses were heard, every one of them agrees with the expected
value, and every control behaved. Nothing here reads a file or a clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from mergelab.evidence import Evidence, Relation, Value, Verdict, Witness

WITNESSES = 3
"""Independent witnesses that a claim needs."""

ONE_WITNESS = ("kernel", "module", "device", "host")
"""Families of checks (the word before the dot) about a plain state, which one witness can prove."""

BY_CHECK = (Verdict.ENVIRONMENT, Verdict.HANG, Verdict.PANIC, Verdict.SKIPPED)
"""Verdicts that a check itself gives, because it could not measure; they need a reason."""

GRAVEST_FIRST = (
    Verdict.PANIC,
    Verdict.HANG,
    Verdict.ROLLED_BACK,
    Verdict.FAIL,
    Verdict.ENVIRONMENT,
    Verdict.UNPROVEN,
    Verdict.SKIPPED,
    Verdict.PASS,
)
"""The verdict of a run is the gravest of its parts."""

QUALIFYING = (
    "merge.identical",
    "merge.zero",
    "merge.near",
    "merge.plain",
    "unshare.one",
    "overcommit.density",
    "control.off",
)
"""Checks without which a host does not qualify; a run that left one out is unproven."""

LATER = {
    "merge.linux-idle": "four idle Debian guests running X",
    "unshare.storm": "all guests write all pages at once",
    "unshare.unmerge": "explicit unmerge, also when memory is too short for it",
    "overcommit.guard": "a refused merge and a bound that holds",
    "overcommit.exhaust": "past the limit on purpose",
    "swap.merged": "merged pages to swap and back",
    "life.churn": "guests killed, paused and migrated while scanning",
    "isolate.domain": "equal content in two domains",
    "control.corrupt": "one page changed behind the bench's back",
    "control.ineligible": "memory that must not be merged",
    "ab.engines": "the same against KSM and against no engine",
}
"""Scenarios of a full qualification that a run may lack; the report says which."""


def witnesses_needed(check: str) -> int:
    """How many witnesses a check needs, by the family in its id."""
    return 1 if check.split(".", 1)[0] in ONE_WITNESS else WITNESSES


def agrees(witness: Witness) -> bool | None:
    """Whether a witness confirms what was expected.

    Returns:
        None when it was not heard. Numbers compare within the tolerance; a bool, a text, and values of
        different kinds compare exactly.
    """
    expected, measured = witness.expected, witness.measured
    if measured is None:
        return None
    if not (_number(expected) and _number(measured)):
        return type(expected) is type(measured) and expected == measured
    difference = measured - expected
    if witness.relation is Relation.AT_LEAST:
        return difference >= -witness.tolerance
    if witness.relation is Relation.AT_MOST:
        return difference <= witness.tolerance
    return abs(difference) <= witness.tolerance


def _number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def judge(evidence: Evidence) -> Evidence:
    """Complete evidence: ``agrees`` of every witness, the verdict and the reason.

    A verdict that only the check can know (environment, hang, panic, skipped) is kept; any other is
    computed anew, whatever the evidence claims.
    """
    evidence = replace(
        evidence, witnesses=tuple(replace(each, agrees=agrees(each)) for each in evidence.witnesses)
    )
    if evidence.verdict in BY_CHECK:
        return replace(evidence, reason=evidence.reason or "the check gave no reason")
    verdict, reason = _verdict(evidence)
    return replace(evidence, verdict=verdict, reason=reason)


def _verdict(evidence: Evidence) -> tuple[Verdict, str]:
    against = [each for each in evidence.witnesses if each.agrees is False]
    confirming = [each for each in evidence.witnesses if each.agrees]
    unheard = [each for each in evidence.witnesses if each.agrees is None]
    astray = [each.name for each in evidence.controls if not each.behaved]
    if against:
        said = "; ".join(f"{each.name} {_said(each)}" for each in against)
        if confirming:
            others = _listing(each.name for each in confirming)
            return Verdict.FAIL, f"the witnesses contradict each other: {said}, while {others} confirmed"
        return Verdict.FAIL, f"not as expected: {said}"
    if unheard:
        return Verdict.UNPROVEN, f"not measured: {_listing(each.name for each in unheard)}"
    needed, names = witnesses_needed(evidence.check), {each.name for each in confirming}
    if len(names) < needed:
        return Verdict.UNPROVEN, f"{len(names)} of {needed} independent witnesses"
    if astray:
        return Verdict.UNPROVEN, f"control did not behave: {_listing(astray)}"
    return Verdict.PASS, ""


def _said(witness: Witness) -> str:
    relation = "" if witness.relation is Relation.EQUALS else f"{witness.relation.value} "
    unit = f" {witness.unit}" if witness.unit else ""
    within = f" ± {witness.tolerance:g}" if witness.tolerance else ""
    return f"measured {witness.measured}{unit} where {relation}{witness.expected}{within} was expected"


def _listing(names: Iterable[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One reason why a run has the verdict it has.

    Attributes:
        verdict: what this finding alone would make of the run.
        subject: host, or host and check.
        sentence: what was found.
    """

    verdict: Verdict
    subject: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict of a run, one sentence why, and everything that is not green, gravest first."""

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]


def judge_run(
    *,
    facts: Mapping[str, Mapping[str, object]],
    deploy: Mapping[str, Mapping[str, object]],
    manifest: Mapping[str, object],
    evidence: Sequence[Evidence],
    finished: bool,
    panics: Mapping[str, str],
) -> Judgement:
    """Judge a run from its parts.

    Args:
        facts: fingerprint per host, as measured.
        deploy: outcome of the deployment per host; empty when the run did not deploy.
        manifest: of the kernel that was built; empty when none was.
        evidence: all of it, judged.
        finished: whether the run reached its end.
        panics: per host, the console's line that says that its kernel died.
    """
    hosts = sorted({*facts, *deploy, *panics, *(each.host for each in evidence)})
    findings = [_of_evidence(each) for each in evidence if each.verdict is not Verdict.PASS]
    for host in hosts:
        findings += _of_host(host, facts.get(host, {}), deploy.get(host, {}), manifest, panics.get(host))
        checked = {each.check for each in evidence if each.host == host}
        absent = [check for check in QUALIFYING if check not in checked]
        if absent:
            sentence = f"{_listing(absent)} did not run" if checked else "nothing was checked"
            findings.append(Finding(verdict=Verdict.UNPROVEN, subject=host, sentence=sentence))
    if not hosts:
        findings.append(Finding(verdict=Verdict.UNPROVEN, subject="run", sentence="no host was measured"))
    if not finished:
        findings.append(Finding(verdict=Verdict.UNPROVEN, subject="run", sentence="it did not reach its end"))
    findings.sort(key=lambda each: GRAVEST_FIRST.index(each.verdict))
    if not findings:
        count = len({each.check for each in evidence})
        reason = (
            f"All {count} checks passed on {_listing(hosts)}; every witness agrees, every control behaved."
        )
        return Judgement(verdict=Verdict.PASS, reason=reason, findings=())
    first, others = findings[0], len(findings) - 1
    more = f" ({others} more {'finding' if others == 1 else 'findings'})" if others else ""
    return Judgement(
        verdict=first.verdict, reason=f"{first.subject}: {first.sentence}{more}.", findings=tuple(findings)
    )


def _of_evidence(evidence: Evidence) -> Finding:
    if evidence.verdict is None:
        raise ValueError(f"evidence of {evidence.check} on {evidence.host} was not judged")
    return Finding(
        verdict=evidence.verdict, subject=f"{evidence.check} on {evidence.host}", sentence=evidence.reason
    )


def _of_host(
    host: str,
    facts: Mapping[str, object],
    deploy: Mapping[str, object],
    manifest: Mapping[str, object],
    panic: str | None,
) -> list[Finding]:
    findings = []
    rolled_back = deploy.get("outcome") == Verdict.ROLLED_BACK
    if rolled_back:
        release = deploy.get("new_release", "that was deployed")
        sentence = f"the kernel {release} did not come up; the host is back on the one it had"
        findings.append(Finding(verdict=Verdict.ROLLED_BACK, subject=host, sentence=sentence))
    elif deploy.get("outcome") == Verdict.HANG:
        reason = str(deploy.get("reason", "")) or "it did not come back after a reboot"
        findings.append(Finding(verdict=Verdict.HANG, subject=host, sentence=reason))
    if panic and not rolled_back:
        findings.append(Finding(verdict=Verdict.PANIC, subject=host, sentence=f"its console says “{panic}”"))
    if not facts:
        findings.append(
            Finding(verdict=Verdict.UNPROVEN, subject=host, sentence="its fingerprint was not taken")
        )
    kernel = facts.get("kernel")
    built, runs = manifest.get("build_id"), kernel.get("build_id") if isinstance(kernel, Mapping) else None
    if built and runs and built != runs and not rolled_back:
        findings.append(
            Finding(
                verdict=Verdict.FAIL,
                subject=host,
                sentence=f"it runs the kernel of build-id {runs}, but the run built {built}",
            )
        )
    return findings
