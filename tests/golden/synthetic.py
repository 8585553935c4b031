# SPDX-License-Identifier: GPL-2.0-only
"""Run directories made up for the tests of the report. Not one figure in them was measured.

Host, vendor, digests and releases all say ``synthetic``, so that nothing of it can be taken for a result.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mergelab.evidence import Control, Evidence, Relation, Verdict, Witness, to_json
from mergelab.judge import judge

START = 1_767_225_600  # 2026-01-01T00:00:00Z
HOST = "synthetic1"
MIB = 1 << 20
Files = dict[str, str]


def _time(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"


def _pages(name: str, claim: str, expected: int, measured: int | None, tolerance: int = 0) -> Witness:
    return Witness(
        name=name, claim=claim, expected=expected, measured=measured, unit="pages", tolerance=tolerance
    )


def _merge(check: str, second: int, title: str, shared: int, sharing: int) -> Evidence:
    return Evidence(
        check=check,
        host=HOST,
        started=_time(second),
        seconds=38.5,
        title=title,
        expected={"guests": 4, "pages_shared": shared, "pages_sharing": sharing},
        witnesses=(
            _pages("engine", "pages_sharing of the domain", sharing, sharing),
            _pages("pages", "mappings of a frame that another guest maps too", sharing, sharing),
            Witness(
                name="memory",
                claim="MemAvailable grew by the saving",
                expected=sharing * 4096,
                measured=sharing * 4096 - 3 * MIB if sharing else 0,
                unit="bytes",
                tolerance=8 * MIB,
            ),
            Witness(name="content", claim="bad pages after verify", expected=0, measured=0, unit="pages"),
        ),
        controls=(
            Control(name="kernel-log", claim="no new warning and no new taint", behaved=True),
            Control(name="scanned", claim="the engine looked at every page it was given", behaved=True),
        ),
    )


def green_evidence() -> list[Evidence]:
    """Evidence of a run in which everything held."""
    return [
        Evidence(
            check="kernel.identity",
            host=HOST,
            started=_time(60),
            seconds=0.8,
            title="The host runs the kernel that this run built.",
            witnesses=(
                Witness(
                    name="build-id",
                    claim="build-id of the running kernel",
                    expected="5e17e71c" * 5,
                    measured="5e17e71c" * 5,
                ),
            ),
        ),
        _merge("control.off", 65, "With the engine stopped nothing is saved.", 0, 0),
        _merge("merge.identical", 110, "Equal pages of four guests become one page each.", 16384, 49152),
        _merge("merge.zero", 155, "Pages of zeroes map the kernel's zero page.", 0, 65536),
        _merge("merge.near", 200, "Pages that differ in one place only are left alone.", 0, 0),
        _merge("merge.plain", 245, "The same without KVM, in plain processes.", 4096, 12288),
        replace(
            _merge("unshare.one", 290, "A write takes back exactly the pages it touches.", 16384, 47104),
            expected={"written": 2048},
        ),
        Evidence(
            check="overcommit.density",
            host=HOST,
            started=_time(335),
            seconds=72,
            title="More guest memory is filled than the host has.",
            expected={"guests": 9, "declared_bytes": 2304 * MIB},
            witnesses=(
                Witness(
                    name="engine",
                    claim="pages saved while all guests are full",
                    expected=400_000,
                    measured=417_792,
                    unit="pages",
                    relation=Relation.AT_LEAST,
                ),
                Witness(
                    name="pages",
                    claim="distinct frames behind all guests",
                    expected=130_000,
                    measured=120_832,
                    unit="pages",
                    relation=Relation.AT_MOST,
                ),
                Witness(
                    name="memory",
                    claim="declared guest memory over the host's memory",
                    expected=1.01,
                    measured=1.1513,
                    relation=Relation.AT_LEAST,
                ),
            ),
            controls=(Control(name="alive", claim="every guest still answers", behaved=True),),
        ),
    ]


def facts(*, emulated: bool) -> dict[str, Any]:
    """A fingerprint."""
    return {
        "hostname": HOST,
        "dmi": {
            "sys_vendor": "Synthetic" if not emulated else "QEMU (synthetic)",
            "product_name": "Sample machine",
            "bios_version": "0.0-synthetic",
        },
        "cpu": {
            "vendor": "SyntheticCPU",
            "model": "Synthetic CPU 2x",
            "microcode": "0x0",
            "threads": 2,
            "sockets": 1,
            "flags": ["svm", "npt"],
        },
        "numa": [{"node": 0, "cpus": "0-1", "bytes": 2001 * MIB}],
        "memory": {
            "total": 2001 * MIB,
            "swap": 0,
            "page": 4096,
            "transparent_hugepage": "madvise",
            "devices": [{"bytes": 2048 * MIB, "place": "DIMM 0", "maker": "Synthetic"}],
        },
        "emulated": emulated,
        "kernel": {
            "release": "6.12.0-synthetic",
            "build_id": "5e17e71c" * 5,
            "cmdline": "BOOT_IMAGE=/boot/vmlinuz-6.12.0-synthetic root=LABEL=root console=ttyS0",
            "boot_id": "00000000-0000-4000-8000-000000000002",
            "taint": 0,
        },
        "modules": {"memmerge": {"srcversion": "5E17E71C5E17E71C5E17E71"}, "kvm": {}},
    }


def _samples(count: int) -> list[dict[str, Any]]:
    samples = []
    for number in range(count):
        at = number * 2
        merged = 1 / (1 + math.exp(-(at - 150) / 12)) * (1 if at < 300 else 0.96) if at > 110 else 0.0
        sharing = round(49152 * merged)
        guests = {
            f"guest{index}": {
                "rss": 70 * MIB + index * MIB,
                "pss": round((70 - 46 * merged) * MIB) + index * MIB,
            }
            for index in range(4)
            if at > 20 + 6 * index
        }
        available = 1650 * MIB - len(guests) * 68 * MIB + sharing * 4096
        samples.append(
            {
                "t": START + at + 0.25,
                "host": HOST,
                "engine": {
                    "pages_shared": sharing // 3,
                    "pages_sharing": sharing,
                    "pages_mapped_zero": 65536 if 160 < at < 200 else 0,
                    "scan_cpu_ns": round(1e9 * max(at - 100, 0) * 0.021),
                },
                "meminfo": {
                    "MemTotal": 2001 * MIB,
                    "MemAvailable": available,
                    "AnonPages": 1700 * MIB - available,
                },
                "psi": {
                    "memory_some_avg10": 0.0,
                    "memory_full_avg10": 0.0,
                    "cpu_some_avg10": 12.5 + 8 * merged,
                },
                "scanner_cpu_s": round(max(at - 110, 0) * 0.004, 2),
                "vmstat": {"cow_ksm": 0},
                "guests": guests,
            }
        )
    return samples


@dataclass(kw_only=True)
class Run:
    """A synthetic run directory before it is written; a case changes what it is about."""

    meta: dict[str, Any]
    facts: dict[str, Any] | None
    deploy: dict[str, Any] | None
    manifest: dict[str, Any] | None
    guests: list[dict[str, Any]] | None
    evidence: list[Evidence]
    telemetry: str | None
    console: str | None

    def write(self, folder: Path) -> Path:
        """Write the run below a folder; returns the run directory."""
        run_dir = folder / str(self.meta["run"])
        for path, text in self._files():
            file = run_dir / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return run_dir

    def _files(self) -> Iterable[tuple[str, str]]:
        yield "meta.json", json.dumps(self.meta)
        if self.facts is not None:
            yield f"facts/{HOST}.json", json.dumps(self.facts)
        if self.deploy is not None:
            yield f"deploy/{HOST}.json", json.dumps(self.deploy)
        if self.manifest is not None:
            yield "kernel/manifest.json", json.dumps(self.manifest)
        if self.guests is not None:
            yield f"guests/{HOST}.json", json.dumps({"schema": 1, "host": HOST, "guests": self.guests})
        for each in self.evidence:
            yield f"evidence/{HOST}/{each.check}.json", json.dumps(to_json(judge(each)))
        if self.telemetry is not None:
            yield f"telemetry/{HOST}.jsonl", self.telemetry
        if self.console is not None:
            yield f"console/{HOST}.log", self.console


def green() -> Run:
    """A run in which everything held, on an emulated host."""
    return Run(
        meta={
            "schema": 1,
            "run": "20260101T000000Z-synthetic",
            "started": _time(0),
            "ended": _time(431),
            "inventory": "synthetic",
            "commit": "0000000000000000000000000000000000000000",
        },
        facts=facts(emulated=True),
        deploy={
            "schema": 1,
            "host": HOST,
            "outcome": "promoted",
            "reason": "",
            "old_release": "6.1.0-synthetic",
            "new_release": "6.12.0-synthetic",
            "old_boot_id": "00000000-0000-4000-8000-000000000001",
            "new_boot_id": "00000000-0000-4000-8000-000000000002",
            "steps": {"install": 21.4, "reboot": 48.2, "confirm": 1.9, "promote": 0.7},
            "console_tail": [],
        },
        manifest={
            "schema": 1,
            "digest": "5e17e71c5e17e71c",
            "profile": "lab",
            "version": "6.12.0",
            "source": {"kind": "package", "name": "linux-synthetic.tar.xz", "digest": "0" * 64},
            "patches": [{"name": "0001-synthetic.patch", "sha256": "1" * 64}],
            "module": [{"name": "main.c", "sha256": "2" * 64}, {"name": "merge.c", "sha256": "3" * 64}],
            "configuration": {"base": "allnoconfig", "base_sha256": None, "fragments": []},
            "compiler": "gcc (synthetic) 0.0",
            "kernel_release": "6.12.0-synthetic",
            "build_id": "5e17e71c" * 5,
            "config": {"sha256": "4" * 64, "options": 900},
            "modules": {"memmerge": {"srcversion": "5E17E71C5E17E71C5E17E71"}},
            "packages": [
                {"name": "linux-image-6.12.0-synthetic", "bytes": 12_345_678, "sha256": "5" * 64},
            ],
            "build": {"objects": 3000, "seconds": {"configure": 14.2, "build": 701.0}},
        },
        guests=[
            {
                "name": f"guest{index}",
                "state": "running",
                "memory": 128 * MIB,
                "vcpus": 1,
                "boot_seconds": 9.5 + index,
                "console": f"console/{HOST}-guest{index}.log",
            }
            for index in range(4)
        ],
        evidence=green_evidence(),
        telemetry="".join(json.dumps(sample) + "\n" for sample in _samples(210)),
        console="[    0.000000] Linux version 6.12.0-synthetic\n",
    )


def failed() -> Run:
    """One witness contradicts the others."""
    run = green()
    run.evidence[2] = replace(
        run.evidence[2],
        witnesses=(
            *run.evidence[2].witnesses[:3],
            Witness(name="content", claim="bad pages after verify", expected=0, measured=3, unit="pages"),
        ),
    )
    return run


def unproven() -> Run:
    """A witness was not heard, a control did not behave, a check is absent, another was skipped."""
    run = green()
    first, second = run.evidence[2], run.evidence[3]
    run.evidence[2] = replace(
        first,
        witnesses=(first.witnesses[0], replace(first.witnesses[1], measured=None), *first.witnesses[2:]),
    )
    run.evidence[3] = replace(
        second, controls=(Control(name="kernel-log", claim="no new warning and no new taint", behaved=False),)
    )
    run.evidence[4] = replace(
        run.evidence[4], verdict=Verdict.SKIPPED, reason="no guest has room for it", witnesses=(), controls=()
    )
    del run.evidence[5]
    return run


def rolled_back() -> Run:
    """The new kernel did not come up; nothing was checked."""
    run = green()
    tail = [
        "[    2.101] Run /sbin/init as init process",
        "[    2.104] Kernel panic - not syncing: synthetic panic",
        "[    2.110] Rebooting in 5 seconds..",
    ]
    run.deploy = {
        "schema": 1,
        "host": HOST,
        "outcome": "rolled-back",
        "reason": "the host came back with its old kernel",
        "old_release": "6.1.0-synthetic",
        "new_release": "6.12.0-synthetic",
        "old_boot_id": "00000000-0000-4000-8000-000000000001",
        "steps": {"install": 21.4, "reboot": 95.0},
        "console_tail": tail,
    }
    run.facts = {**facts(emulated=True), "kernel": {"release": "6.1.0-synthetic", "taint": 0}, "modules": {}}
    run.guests, run.telemetry, run.evidence = None, None, []
    run.console = "\n".join(tail) + "\n"
    return run


def empty() -> Run:
    """Nothing but the run itself."""
    run = green()
    run.facts = run.deploy = run.manifest = run.guests = run.telemetry = run.console = None
    run.evidence = []
    del run.meta["ended"]
    return run


def died() -> Run:
    """The host's kernel died in the middle: torn telemetry, no end, half of the checks."""
    run = green()
    del run.meta["ended"]
    run.evidence = run.evidence[:3]
    assert run.telemetry is not None
    lines = run.telemetry.splitlines(keepends=True)[:70]
    run.telemetry = "".join([*lines[:30], "\x00\x00\n", *lines[30:], lines[0][:120]])
    run.console = (
        "[    0.000000] Linux version 6.12.0-synthetic\n"
        "[  151.000] \x1b[31mBUG: unable to handle page fault for address: 0000000000000bad\x1b[0m\n"
        "[  151.001] Kernel panic - not syncing: Fatal exception\n"
    )
    return run


def hardware() -> Run:
    """The green run on a host that is not emulated, with some text that must not become markup."""
    run = green()
    run.facts = facts(emulated=False)
    run.facts["dmi"]["product_name"] = "Sample <b>machine</b> | & more"
    run.meta["inventory"] = "<script>alert(1)</script>"
    return run


CASES: dict[str, Callable[[], Run]] = {
    "green": green,
    "failed": failed,
    "unproven": unproven,
    "rolled-back": rolled_back,
    "empty": empty,
    "died": died,
    "hardware": hardware,
}
