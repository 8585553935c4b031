# SPDX-License-Identifier: GPL-2.0-only
"""The bench: drives a host through its `mergelab-host`, and turns what it shows into evidence.

Everything that a check needs besides its own claim: one call for several verbs, as a call to an emulated host
is dear; a claim that is always written down, whatever happens while it is being proved; and the kernel log,
the taint and the engine's tunables looked after around it.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mergelab.errors import MergelabError
from mergelab.evidence import Control, Evidence, Relation, Value, Verdict, Witness, to_json
from mergelab.files import write_atomically
from mergelab.judge import judge

PAGE = 4096
TUNABLES = (
    "pages_to_scan", "sleep_millisecs", "use_zero_pages", "max_page_sharing", "huge_split_pages", "run"
)  # fmt: skip
STAGE = {"run": 0, "use_zero_pages": 1, "huge_split_pages": 1}
"""What exact numbers rest on, whatever the operator prefers: only the scans of a check merge, zeroes merge
with the kernel's zero page, and no page is left alone because it lies in a huge one."""

CALL_SECONDS = 600
SSH_FAILED = 255
TIMEOUT_EXPIRED = 124

Execute = Callable[[str], tuple[int, str, str]]
"""Runs a shell command on the host; gives exit status, standard output, standard error."""


class HostLostError(Exception):
    """The host does not answer any more."""


class Skipped(Exception):  # noqa: N818 - not an error: the check does not apply
    """A check does not apply; the message says why."""


class Bench:
    """One host and its tool."""

    def __init__(self, name: str, execute: Execute, tool: str = "mergelab-host") -> None:
        """Keeps how to reach the host.

        Args:
            name: of the host in the inventory.
            execute: runs a command on it, with the rights of root.
            tool: path of `mergelab-host`.
        """
        self.name = name
        self._execute = execute
        self._tool = tool

    def do(self, *verbs: str) -> list[Any]:
        """Runs verbs of `mergelab-host` in order, in one call; returns the value of each.

        Raises:
            HostLostError: The host does not answer, or not in time.
            MergelabError: A verb failed; the message is the tool's own.
        """
        words = " ".join(shlex.quote(verb) for verb in verbs)
        try:
            status, output, errors = self._execute(f"timeout {CALL_SECONDS} {self._tool} batch {words}")
        except (OSError, RuntimeError) as error:
            raise HostLostError(f"{self.name} does not answer: {error}") from error
        if status == SSH_FAILED:
            raise HostLostError(f"{self.name} does not answer: {errors.strip()}")
        if status == TIMEOUT_EXPIRED:
            raise HostLostError(f"{self.name} did not finish '{words}' in {CALL_SECONDS} s")
        if status != 0:
            raise MergelabError(f"{self.name}: {errors.strip()}", "see the host's console and the run's logs")
        return [json.loads(line)["result"] for line in output.splitlines()]

    def wait(self, verb: str, reached: Callable[[Any], bool], seconds: float) -> tuple[bool, Any]:
        """Repeats a verb until its value satisfies, for a bounded time; returns (whether, last value)."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.do(verb)[0]
            if reached(value) or time.monotonic() > deadline:
                return reached(value), value
            time.sleep(0.5)


@dataclass(frozen=True)
class Group:
    """Payloads that are driven together: guests, or plain processes.

    Attributes:
        names: of the payloads.
        gpa: where the area of each begins, guest-physical (a plain process: 0).
        pages: size of the area of each.
    """

    names: tuple[str, ...]
    gpa: int
    pages: int

    @property
    def options(self) -> str:
        """The payloads as options of `domain add` and `pages`."""
        return " ".join(f"--guest {name}" for name in self.names) + f" --from-gpa {self.gpa:#x}"

    def take(self, count: int) -> Group:
        """Returns the first `count` payloads as a group.

        Raises:
            MergelabError: There are fewer.
        """
        if len(self.names) < count:
            raise MergelabError(
                f"{len(self.names)} guests answer on the host, the check needs {count}",
                "start a larger batch (guest_batch_count) or lower --merge-guests",
            )
        return Group(self.names[:count], self.gpa, self.pages)

    def call(self, *requests: str) -> str:
        """Returns the verb that sends requests to all payloads, side by side."""
        return f"guest call {','.join(self.names)} " + " ".join(shlex.quote(line) for line in requests)


@dataclass(frozen=True)
class View:
    """What the three witnesses show at one moment.

    Attributes:
        stat: of the domain, by the engine.
        pages: which frames the group's pages map, by the kernel's page tables.
        available: bytes that the host could give: MemAvailable and the free pages on per-CPU lists.
        pss: proportional size of the group's processes in bytes.
        vmstat: counters of the host.
    """

    stat: Mapping[str, int]
    pages: Mapping[str, Any]
    available: int
    pss: int
    vmstat: Mapping[str, int]


def available(memory: Mapping[str, Any]) -> int:
    """Returns the bytes that a host could give, from the value of the verb `memory`.

    Freed pages wait on per-CPU lists, where MemAvailable does not count them.
    """
    return int(memory["meminfo"]["MemAvailable"] + memory["percpu_free"])


class Scene:
    """A domain with the first pages of a group's areas registered in it."""

    def __init__(self, bench: Bench, group: Group, count: int, domain: str) -> None:
        """Keeps what belongs together.

        Args:
            bench: of the host.
            group: whose areas are used.
            count: pages of each area that are used, from its first.
            domain: name of the domain.
        """
        if count > group.pages:
            raise MergelabError(
                f"the area of {group.names[0]} has {group.pages} pages, the check needs {count}",
                "give the guests more memory (guest_batch_memory) or lower --merge-pages",
            )
        self.bench, self.group, self.count, self.domain = bench, group, count, domain

    @property
    def total(self) -> int:
        """Pages of all areas."""
        return self.count * len(self.group.names)

    @property
    def setup(self) -> list[str]:
        """Verbs that set the stage and register the areas."""
        length = self.count * PAGE
        add = f"domain add {self.domain} {self.group.options} --length {length}"
        return [_setting(STAGE), f"domain create {self.domain} --replace", add]

    @property
    def look(self) -> list[str]:
        """Verbs whose values :meth:`view` reads."""
        return [
            f"domain stat {self.domain}",
            f"pages {self.group.options} --count {self.count}",
            "memory",
        ]

    @property
    def look_briefly(self) -> list[str]:
        """The same for large areas: pages and frames are only counted."""
        stat, pages, memory = self.look
        return [stat, f"{pages} --brief", memory]

    def view(self, values: Sequence[Any]) -> View:
        """Reads the values of :attr:`look`."""
        stat, pages, memory = values
        return View(
            stat=stat,
            pages=pages,
            available=available(memory),
            pss=sum(memory["guests"][name]["pss"] for name in self.group.names),
            vmstat=memory["vmstat"],
        )

    def fill(self, pattern: str) -> str:
        """Returns the verb that fills every area with a pattern."""
        return self.group.call(f"fill 0 {self.count} {pattern}")

    def verify(self, pattern: str) -> str:
        """Returns the verb that compares every byte of every area with a pattern."""
        return self.group.call(f"verify 0 {self.count} {pattern}")

    def scan(self, passes: int = 2) -> str:
        """Returns the verb that scans the domain.

        Two passes by default: a page that the kernel itself holds for a moment is left to the next.
        """
        return f"domain scan {self.domain} --passes {passes}"


class Claim:
    """A claim while it is being proved; see :func:`proving`."""

    def __init__(self, bench: Bench) -> None:
        """Starts without witnesses."""
        self.bench = bench
        self.expected: dict[str, Value] = {}
        self.witnesses: list[Witness] = []
        self.controls: list[Control] = []
        self._domains: list[str] = []

    def expect(self, **numbers: Value) -> None:
        """Notes the numbers that are known before anything is measured."""
        self.expected |= numbers

    def witness(
        self,
        name: str,
        claim: str,
        expected: Value,
        measured: Value | None,
        unit: str = "",
        *,
        tolerance: float = 0,
        relation: Relation = Relation.EQUALS,
    ) -> None:
        """Hears a witness; the arguments are those of :class:`mergelab.evidence.Witness`."""
        self.witnesses.append(
            Witness(
                name=name,
                claim=claim,
                expected=expected,
                measured=measured,
                unit=unit,
                tolerance=tolerance,
                relation=relation,
            )
        )

    def control(self, name: str, claim: str, behaved: bool) -> None:
        """Notes how a control turned out."""
        self.controls.append(Control(name=name, claim=claim, behaved=behaved))

    def scene(self, group: Group, count: int, domain: str = "check") -> Scene:
        """Makes a scene whose domain is closed when the claim is done."""
        self._domains.append(domain)
        return Scene(self.bench, group, count, domain)

    def leave(self) -> list[str]:
        """Returns the verbs that close the domains."""
        return [f"domain destroy {name} --missing-ok" for name in self._domains]


@contextmanager
def proving(bench: Bench, check: str, title: str, run_dir: Path | None) -> Iterator[Claim]:
    """Proves a claim in a `with` block: judges the witnesses, writes the evidence, asserts the verdict.

    Around the block it takes its window of the kernel log, and restores the engine's tunables and verifies
    that. The evidence is written whatever happens: a host that stops answering makes it a `hang`, a lab that
    cannot do what the check needs `environment`.

    Args:
        bench: of the host.
        check: id of the check.
        title: the claim in one sentence.
        run_dir: where evidence/ is, or None for no record.

    Raises:
        AssertionError: The verdict is not pass.
    """
    claim = Claim(bench)
    started, clock = datetime.now(UTC), time.monotonic()
    verdict: Verdict | None = None
    reason = ""
    failure: BaseException | None = None
    try:
        before = _position(bench)
        try:
            yield claim
        except HostLostError:
            raise
        except BaseException:
            with suppress(
                HostLostError, MergelabError
            ):  # what broke the check is the news, not what follows from it
                _after(claim, before)
            raise
        _after(claim, before)
    except Skipped as error:
        verdict, reason = Verdict.SKIPPED, str(error)
        raise
    except HostLostError as error:
        verdict, reason, failure = Verdict.HANG, str(error), error
    except MergelabError as error:
        verdict, reason, failure = Verdict.ENVIRONMENT, error.cause, error
    except BaseException as error:
        verdict, reason, failure = Verdict.ENVIRONMENT, f"the check itself broke: {error!r}", error
        raise
    finally:
        evidence = judge(
            Evidence(
                check=check,
                host=bench.name,
                started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
                seconds=round(time.monotonic() - clock, 1),
                title=title,
                expected=claim.expected,
                witnesses=tuple(claim.witnesses),
                controls=tuple(claim.controls),
                verdict=verdict,
                reason=reason,
            )
        )
        if run_dir is not None:
            text = json.dumps(to_json(evidence), indent=2, ensure_ascii=False) + "\n"
            write_atomically(run_dir / "evidence" / bench.name / f"{check}.json", text)
    if evidence.verdict is not Verdict.PASS:
        raise AssertionError(f"{check} on {bench.name}: {evidence.verdict}: {evidence.reason}") from failure


def _position(bench: Bench) -> dict[str, Any]:
    """Returns where the kernel log stands, the taint, and the engine's tunables if there is an engine."""
    log, engine = bench.do("klog", "engine get --missing-ok")
    return {"log": log, "tunables": {name: engine[name] for name in TUNABLES if name in engine}}


def _after(claim: Claim, before: Mapping[str, Any]) -> None:
    tunables: Mapping[str, int] = before["tunables"]
    verbs = [
        *claim.leave(),
        *([_setting(tunables), "engine get"] if tunables else []),
        f"klog --after {before['log']['last']}",
    ]
    values = claim.bench.do(*verbs)
    log = values[-1]
    if tunables:
        restored = all(values[-2][name] == value for name, value in tunables.items())
        claim.control("tunables", "every tunable of the engine has the value it had before", restored)
    errors = [record["text"] for record in log["errors"]]
    text = "the kernel reported no error" + (f"; it said: {errors[0]}" if errors else "")
    claim.witness("kernel-log", text, 0, None if log["lost"] else len(errors), "messages")
    claim.witness("kernel-log", "the kernel's taint did not change", before["log"]["taint"], log["taint"])


def _setting(tunables: Mapping[str, int]) -> str:
    return "engine set " + " ".join(f"{name}={value}" for name, value in tunables.items())
