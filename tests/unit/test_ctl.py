# SPDX-License-Identifier: GPL-2.0-only
"""memmergectl on a faked host: what it prints as JSON, what it sets, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mergelab.cli import main as mergelab_main
from mergelab.ctl import NotLoadedError, cli, domains, process, status, tune, watch
from mergelab.ctl.files import FILES, File
from mergelab.ctl.module import Module, Value
from mergelab.host import HostError, guests
from mergelab.host.engine import REASONS, STAT_FIELDS
from mergelab.hosttool import build
from tests.faked import COUNTERS, RELEASE, Host, describe, stat

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with the engine."""
    return Host(tmp_path)


@pytest.fixture
def module(host: Host) -> Module:
    """Its module."""
    return Module(host.root, RELEASE)


@pytest.fixture
def run(host: Host, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command on the host; returns exit status, standard output and standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        ended = cli.main(words, host.root)
        out, err = capsys.readouterr()
        return ended, out, err

    return call


class Refusing(Module):
    """A module that refuses some values, as the kernel does with what it alone knows to be wrong."""

    refused: tuple[tuple[str, Value], ...] = ()

    def write(self, name: str, new: Value) -> None:
        """Writes, or refuses."""
        if (name, new) in self.refused:
            raise HostError(f"{name}={new} was refused: EINVAL")
        super().write(name, new)


class Unsharing(Module):
    """A module that unshares when it is told to."""

    left = 0

    def write(self, name: str, new: Value) -> None:
        """Writes, and does what the kernel does then."""
        super().write(name, new)
        if (name, new) == ("run", tune.UNMERGE):
            now = {"pages_shared": 0, "pages_sharing": self.left, "pages_mapped_zero": 0}
            for file, pages in now.items():
                (self.files / file).write_text(str(pages))
            (self.proc / "vmstat").write_text("cow_ksm 2051\n")


# status and show


def test_status_as_json(run: Run) -> None:
    """Every figure of the engine's state, in bytes, pages, seconds."""
    ended, out, err = run("status", "--json")
    assert (ended, err) == (0, "")
    assert json.loads(out) == {
        "module": {"loaded": True, "version": None, "srcversion": "40243E9D72D8595814953A3"},
        "engine": "ksm",
        "scanner": {"run": 1, "state": "running", "thread": 27},
        "domains": 1,
        "regions": 2,
        "saved_bytes": 2048 * 4096,
        "metadata_bytes": 151312,
        "net_bytes": 2048 * 4096 - 151312,
        "pages": {
            "pages_shared": 1024,
            "pages_sharing": 1024,
            "pages_mapped_zero": 1024,
            "pages_unshared": 1024,
            "pages_volatile": 0,
        },
        "scanning": {
            "pages": 32768,
            "passes": 8,
            "cpu_seconds": 0.016384,
            "cpu_us_per_page": 0.5,
            "sleep_millisecs": 20,
            "pages_to_scan": 1000,
        },
        "unsharing": {
            "demand_bytes": 4194304,
            "supply_bytes": (441676 + 262140) * 1024,
            "covered": True,
        },
        "changed": {},
    }


def test_a_supply_that_the_module_states_is_believed(host: Host, module: Module) -> None:
    """It knows better what the host could give than a sum of meminfo."""
    host.write("unshare_supply", "4194303")
    assert status.unsharing(module) == {
        "demand_bytes": 4194304,
        "supply_bytes": 4194303,
        "covered": False,
    }


def test_changed_tunables_are_named(host: Host, module: Module) -> None:
    """Whether the scanner runs is a state; the others are what somebody has chosen."""
    host.write("run", "0")
    host.write("max_page_sharing", "2")
    assert status.changed(module) == {"max_page_sharing": {"value": 2, "default": 256}}


def test_missing_files_are_null(host: Host, run: Run) -> None:
    """A module with fewer files is no error, and what it does not say is not zero."""
    host.remove("pages_mapped_zero", "metadata_bytes", "scan_cpu_ns", "unshare_demand")
    state = json.loads(run("status", "--json")[1])
    assert state["saved_bytes"] == 1024 * 4096
    assert state["net_bytes"] is None
    assert state["scanning"]["cpu_us_per_page"] is None
    assert state["unsharing"]["covered"] is None


def test_a_supply_that_the_module_does_not_state_is_reckoned(host: Host, module: Module) -> None:
    """Memory that is available, and free swap."""
    host.remove("unshare_supply")
    assert status.unsharing(module)["supply_bytes"] == (441676 + 262140) * 1024


def test_show_as_json(host: Host, run: Run) -> None:
    """Values, and what may be written."""
    ended, out, _ = run("show", "--json")
    shown = json.loads(out)
    assert ended == 0
    assert {name: each["value"] for name, each in shown.items()} == {
        **{name: int(text) for name, text in COUNTERS.items() if "[" not in text},
        "engine": "ksm",
        "advisor_mode": "none",
    }
    assert shown["use_zero_pages"] == {
        "value": 1,
        "access": "rw",
        "default": 1,
        "allowed": "0 or 1",
        "unit": "",
        "meaning": "1: a page of zeroes maps the kernel's zero page, 0: it is merged",
    }
    assert shown["run"]["allowed"] == "0, 1 or 2"
    assert shown["max_page_sharing"]["allowed"] == "2 to 2147483647"
    assert shown["engine"]["allowed"] == "ksm memmerge"
    assert shown["unshare_limit_percent"]["allowed"] == "-1 to 10000"
    assert shown["pages_shared"]["allowed"] is None


def test_show_named_files(run: Run) -> None:
    """In the order in which they were asked for."""
    ended, out, _ = run("show", "--json", "scanner_pid", "run")
    assert (ended, list(json.loads(out))) == (0, ["scanner_pid", "run"])


def test_a_known_file_that_this_module_lacks_is_not_available(host: Host, run: Run) -> None:
    """It is no typing error: another version of the module has it."""
    host.remove("use_zero_pages")
    ended, out, err = run("show", "use_zero_pages")
    assert (ended, out) == (1, "")
    assert err == (
        "memmergectl: use_zero_pages is not available: this version of the module does not have it\n"
    )


@pytest.mark.parametrize("words", [("show", "page_shared"), ("set", "page_shared=1")])
def test_an_unknown_file_names_those_there_are(run: Run, words: tuple[str, ...]) -> None:
    """A typing error is put right by reading the list."""
    ended, out, err = run(*words)
    assert (ended, out) == (1, "")
    assert err.startswith("memmergectl: there is no file 'page_shared'; there are: run pages_to_scan ")


def test_a_name_stays_inside(run: Run) -> None:
    """A name with a slash would read and set files of other parts of the kernel."""
    assert run("show", "../ksm/run")[0] == 1
    assert "not the name of a file" in run("set", "../ksm/run=1")[2]


# the module is not there


@pytest.mark.parametrize(
    "words", [("show",), ("set", "run=1"), ("start",), ("stop",), ("unmerge",), ("watch",), ("engine",)]
)
def test_every_verb_says_how_to_load_the_module(host: Host, run: Run, words: tuple[str, ...]) -> None:
    """And ends with the status of its own that scripts can tell."""
    host.unload()
    assert run(*words) == (3, "", "memmergectl: module memmerge is not loaded: sudo modprobe memmerge\n")


def test_status_of_no_module(host: Host, run: Run) -> None:
    """That it is not loaded is an answer, too."""
    host.unload()
    ended, out, err = run("status", "--json")
    assert (ended, json.loads(out)) == (3, {"module": {"loaded": False}})
    assert "modprobe memmerge" in err


def test_a_kernel_without_the_module_is_told_from_one_that_has_not_loaded_it(
    host: Host, module: Module
) -> None:
    """Loading a module that the running kernel does not have cannot be the fix."""
    host.unload()
    host.put(f"lib/modules/{RELEASE}/modules.dep", "kernel/mm/zsmalloc.ko:\n")
    with pytest.raises(NotLoadedError, match=f"running kernel {RELEASE} has no module memmerge"):
        module.require()
    host.put(f"lib/modules/{RELEASE}/modules.dep", "kernel/mm/memmerge/memmerge.ko.xz:\n")
    with pytest.raises(NotLoadedError, match="modprobe memmerge"):
        module.require()


# set


def test_set_says_old_and_new(host: Host, run: Run) -> None:
    """Both numbers, and the files hold the new ones."""
    ended, out, _ = run("set", "--json", "pages_to_scan=9", "sleep_millisecs=100")
    assert ended == 0
    assert json.loads(out) == {
        "pages_to_scan": {"old": 1000, "new": 9},
        "sleep_millisecs": {"old": 20, "new": 100},
    }
    assert host.values() == COUNTERS | {"pages_to_scan": "9", "sleep_millisecs": "100"}


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("run=3", "run cannot be '3'; allowed: 0, 1 or 2"),
        ("run=-1", "run cannot be '-1'; allowed: 0, 1 or 2"),
        ("use_zero_pages=2", "use_zero_pages cannot be '2'; allowed: 0 or 1"),
        ("pages_to_scan=0", "pages_to_scan cannot be '0'; allowed: 1 to 4294967295 pages"),
        ("pages_to_scan=4294967296", "pages_to_scan cannot be '4294967296'; allowed: 1 to 4294967295 pages"),
        ("pages_to_scan=1k", "pages_to_scan cannot be '1k'; allowed: 1 to 4294967295 pages"),
        ("max_page_sharing=1", "max_page_sharing cannot be '1'; allowed: 2 to 2147483647 mappings"),
        ("sleep_millisecs=0x10", "sleep_millisecs cannot be '0x10'; allowed: 0 to 4294967295 ms"),
        ("sleep_millisecs=²", "sleep_millisecs cannot be '²'; allowed: 0 to 4294967295 ms"),
        ("engine=uksm", "engine cannot be 'uksm'; allowed: ksm memmerge"),
        ("pages_shared=1", "pages_shared is a counter, only to be read; can be set: run pages_to_scan "),
        ("sleep_millisecs", "'sleep_millisecs' is not FILE=VALUE, such as sleep_millisecs=20"),
        ("sleep_millisecs=", "'sleep_millisecs=' is not FILE=VALUE, such as sleep_millisecs=20"),
        ("=1", "'=1' is not FILE=VALUE"),
    ],
)
def test_one_bad_assignment_changes_nothing(host: Host, run: Run, word: str, complaint: str) -> None:
    """All are looked at before the first is written."""
    before = host.values()
    good = "sleep_millisecs=1" if "sleep" not in word else "run=0"
    ended, out, err = run("set", good, word)
    assert (ended, out) == (1, "")
    assert err.startswith(f"memmergectl: {complaint}")
    assert host.values() == before


def test_a_file_that_is_given_twice(host: Host, run: Run) -> None:
    """Which of the two was meant is not for the command to guess."""
    assert run("set", "run=0", "run=1") == (1, "", "memmergectl: run is given twice\n")
    assert host.values() == COUNTERS


def test_what_the_module_refuses_is_taken_back(host: Host) -> None:
    """The first file has been written when the second is refused."""
    module = Refusing(host.root)
    module.refused = (("sleep_millisecs", 5),)
    values = tune.parse(module, ["run=0", "pages_to_scan=7", "sleep_millisecs=5"])
    with pytest.raises(HostError, match=r"sleep_millisecs=5 was refused: EINVAL; all have their old values"):
        tune.apply(module, values)
    assert host.values() == COUNTERS


def test_what_cannot_be_put_back_is_named(host: Host) -> None:
    """A person has to know in which state the host is left."""
    module = Refusing(host.root)
    module.refused = (("sleep_millisecs", 5), ("pages_to_scan", 1000))
    values = tune.parse(module, ["pages_to_scan=7", "sleep_millisecs=5"])
    with pytest.raises(HostError, match="could not be put back: pages_to_scan"):
        tune.apply(module, values)
    assert host.values() == COUNTERS | {"pages_to_scan": "7"}


def test_an_interrupted_set_is_taken_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two files is no reason to leave half of it."""
    module = Module(host.root)
    read = module.read

    def interrupted(name: str) -> Value:
        if name == "sleep_millisecs" and host.read("sleep_millisecs") == "5":
            monkeypatch.setattr(module, "read", read)
            raise KeyboardInterrupt
        return read(name)

    monkeypatch.setattr(module, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune.apply(module, {"pages_to_scan": 7, "sleep_millisecs": 5})
    assert host.values() == COUNTERS


def test_a_value_that_does_not_stay_is_an_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two programs that set the same file would both report success."""
    module = Module(host.root)
    monkeypatch.setattr(module, "write", lambda name, new: None)
    with pytest.raises(HostError, match="was set to 5 but shows 20: someone else changes it"):
        tune.apply(module, {"sleep_millisecs": 5})


def test_run_is_written_last(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scanner starts with the values that were given with it."""
    module = Module(host.root)
    written: list[str] = []
    write = module.write

    def noting(name: str, new: Value) -> None:
        written.append(name)
        write(name, new)

    monkeypatch.setattr(module, "write", noting)
    tune.apply(module, {"run": 0, "pages_to_scan": 7, "use_zero_pages": 0})
    assert written == ["pages_to_scan", "use_zero_pages", "run"]


def test_a_file_that_is_not_known_is_left_to_the_module(host: Host, run: Run) -> None:
    """A newer module can be set with an older command."""
    host.write("shiny_new", "7")
    assert run("set", "shiny_new=8") == (0, "shiny_new  7 → 8\n", "")
    assert host.read("shiny_new") == "8"


def test_a_size_may_have_a_unit(host: Host, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody types ten digits right; only what is counted in bytes takes K, M, G and T."""
    monkeypatch.setitem(FILES, "limit", File("limit", "bytes", "a limit", -1, -1, 2**63))
    host.write("limit", "0")
    assert tune.parse(module, ["limit=-1"]) == {"limit": -1}
    assert tune.parse(module, ["limit=3G"]) == {"limit": 3 << 30}
    assert tune.parse(module, ["limit=512m"]) == {"limit": 512 << 20}
    with pytest.raises(HostError, match="cannot be 'G'"):
        tune.parse(module, ["limit=G"])


def test_a_counter_that_begins_anew(host: Host, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only 0 may be written, and it may count again before it is read."""
    monkeypatch.setitem(FILES, "longest_ns", File("longest_ns", "ns", "a longest time", resets=True))
    host.write("longest_ns", "512")
    with pytest.raises(HostError, match=r"longest_ns cannot be '1'; allowed: 0, which begins anew$"):
        tune.parse(module, ["longest_ns=1"])
    monkeypatch.setattr(module, "write", lambda name, new: host.write(name, "3"))
    assert tune.apply(module, tune.parse(module, ["longest_ns=0"])) == {"longest_ns": {"old": 512, "new": 3}}
    assert status.changed(module) == {}


def test_a_tunable_with_a_default_in_words(
    host: Host, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compared as a number is."""
    monkeypatch.setitem(FILES, "mode", File("mode", "", "a mode", "none", words=("none", "fast")))
    host.write("mode", "[none] fast")
    assert status.changed(module) == {}
    assert tune.parse(module, ["mode=fast"]) == {"mode": "fast"}
    host.write("mode", "none [fast]")
    assert status.changed(module) == {"mode": {"value": "fast", "default": "none"}}


def test_who_may_not_write_is_told_who_may(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are root's."""

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    ended, _, err = run("stop")
    assert ended == 1
    assert "is for root to set: sudo memmergectl" in err


@pytest.mark.parametrize(("verb", "value"), [("start", "1"), ("stop", "0")])
def test_start_and_stop(host: Host, run: Run, verb: str, value: str) -> None:
    """They set run, and say what it was."""
    host.write("run", "2")
    assert run(verb) == (0, f"run  2 → {value}\n", "")
    assert host.read("run") == value


# unmerge


def test_unmerge(host: Host) -> None:
    """It ends when nothing is shared any more, and tells how far it is by the kernel's count of copies."""
    told: list[tuple[int, int]] = []
    done = tune.unmerge(Unsharing(host.root), lambda *pages: told.append(pages), interval=0.01)
    assert done == {
        "run": 2,
        "pages_sharing": {"old": 1024, "new": 0},
        "pages_mapped_zero": {"old": 1024, "new": 0},
    }
    assert told[-1] == (2048, 3072)


def test_unmerge_does_not_run_the_host_out_of_memory(host: Host, run: Run) -> None:
    """What it takes is known before; zero pages are given copies as well."""
    host.write("pages_mapped_zero", str(1 << 20))
    before = host.values()
    ended, _, err = run("unmerge")
    assert ended == 1
    assert "takes 4.004 GiB and the host can give 687.3 MiB" in err
    assert "--force" in err
    assert host.values() == before


def test_unmerge_by_force(host: Host) -> None:
    """The operator may know better."""
    host.write("unshare_demand", str(1 << 40))
    done = tune.unmerge(Unsharing(host.root), lambda *_: None, force=True, interval=0.01)
    assert done["run"] == 2


def test_unmerge_that_fails_says_what_is_left(host: Host) -> None:
    """The write is refused when memory runs out, with some pages still shared."""
    module = Refusing(host.root)
    module.refused = (("run", 2),)
    with pytest.raises(HostError, match="refused: EINVAL; 1024 pages still share"):
        tune.unmerge(module, lambda *_: None, interval=0.01)


def test_unmerge_does_not_claim_what_is_not_so(host: Host) -> None:
    """A forked child's pages belong to no region; they stay."""
    module = Unsharing(host.root)
    module.left = 5
    with pytest.raises(HostError, match="5 pages still share"):
        tune.unmerge(module, lambda *_: None, interval=0.01)


def test_unmerge_is_watched_while_it_lasts(host: Host) -> None:
    """The write to run lasts for minutes on a large host; progress must come before its end."""
    done = threading.Event()

    class Slow(Unsharing):
        def write(self, name: str, new: Value) -> None:
            assert done.wait(30)
            super().write(name, new)

    tune.unmerge(Slow(host.root), lambda *_: done.set(), interval=0.01)
    assert done.is_set()


# watch


def test_watch_rates(host: Host, module: Module) -> None:
    """Differences over the time that has really passed."""
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + 2.0
        host.write("pages_scanned", "40768")
        host.write("pages_merged", "2052")
        host.write("pages_sharing", "1026")
        host.write("scan_cpu_ns", "1016384000")

    rows = list(watch.rows(module, 2.0, 2, lambda: now, sleep))
    assert {key: rows[0][key] for key in rows[0] if key != "time"} == {
        "seconds": 4.0,
        "scanned_per_s": 2000.0,
        "merged_per_s": 1.0,
        "zeroed_per_s": 0.0,
        "unshared_per_s": 0.0,
        "saved_bytes": 2050 * 4096,
        "saved_change_bytes": 2 * 4096,
        "pages_shared": 1024,
        "cpu_percent": 25.0,
    }
    assert rows[1]["scanned_per_s"] == 0.0


def test_watch_of_a_module_that_was_loaded_anew(host: Host, module: Module) -> None:
    """Its counters begin at 0: no rate, and not a negative one."""
    host.remove("scan_cpu_ns")
    row = next(watch.rows(module, 1, 1, iter(range(9)).__next__, lambda _: host.write("pages_scanned", "5")))
    assert (row["scanned_per_s"], row["cpu_percent"]) == (None, None)


def test_watch_ends_when_the_module_goes(host: Host, module: Module) -> None:
    """A table of nothing for hours would hide it."""
    with pytest.raises(NotLoadedError):
        list(watch.rows(module, 1, 2, iter(range(9)).__next__, lambda _: host.unload()))


def test_watch_prints_a_line_each(run: Run) -> None:
    """One object a line, or a head and lines."""
    ended, out, _ = run("watch", "--interval", "0.01", "--count", "2", "--json")
    assert ended == 0
    assert [json.loads(line)["saved_change_bytes"] for line in out.splitlines()] == [0, 0]
    assert len(run("watch", "--interval", "0.01", "--count", "2")[1].splitlines()) == 3


@pytest.mark.parametrize(
    "words", [("--interval", "0"), ("--interval", "inf"), ("--interval", "soon"), ("--count", "0")]
)
def test_watch_refuses_nonsense(run: Run, words: tuple[str, ...]) -> None:
    """An interval of nothing would keep a processor busy."""
    with pytest.raises(SystemExit, match="2"):
        run("watch", *words)


# process


def test_process_as_json(host: Host, run: Run) -> None:
    """What the kernel says of a process, in bytes and pages."""
    ended, out, _ = run("process", "4711", "--json")
    assert ended == 0
    assert json.loads(out) == [
        {
            "pid": 4711,
            "command": "payload",
            "guest": None,
            "rss_bytes": 6232 * 1024,
            "merged_bytes": 4096 * 1024,
            "mergeable_bytes": 8192 * 1024,
            "merge_any": None,
            "ksm_merging_pages": 0,
            "ksm_zero_pages": 512,
            "ksm_rmap_items": 0,
            "profit_bytes": 2097152,
        }
    ]


def test_process_that_has_gone_does_not_hide_the_others(run: Run) -> None:
    """One of fifty guests ends while they are listed."""
    ended, out, err = run("process", "1", "4711", "--json")
    assert (ended, err) == (1, "memmergectl: process 1 does not exist\n")
    assert [each["pid"] for each in json.loads(out)] == [4711]


def test_process_by_guest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and all of them when none is named."""
    monkeypatch.setattr(guests, "running", lambda: {"web1": 4711})
    for words in (("--guest", "web1"), ()):
        found = json.loads(run("process", "--json", *words)[1])
        assert [(each["guest"], each["pid"]) for each in found] == [("web1", 4711)]
    assert "no running guest 'web2'; running are: web1" in run("process", "--guest", "web2")[2]
    monkeypatch.setattr(guests, "running", dict)
    with pytest.raises(HostError, match="name a process"):
        process.select([], [])


# domains


def test_domains_as_json() -> None:
    """Reasons in words beside the fields that count them, the largest first."""
    first, second = domains.gather(ask=describe)
    assert (first["saved_bytes"], first["pages_registered"], first["unshare_demand"]) == (
        8 << 20,
        4096,
        4 << 20,
    )
    assert first["regions"][0]["why_not"] == [
        {"field": "pages_unshared", "reason": "no equal page found", "pages": 500},
        {"field": "skip_huge", "reason": "part of a transparent huge page", "pages": 8},
        {"field": "skip_busy", "reason": "pinned, under I/O, or written meanwhile", "pages": 4},
    ]
    assert first["regions"][2] == {
        "region": 3, "pid": 4713, "guest": None, "start": 0x7F0000000000, "length": 8 << 20, "gone": True,
    }  # fmt: skip
    assert (second["domain"], second["regions"]) == ("tenant-b", [])


def test_domains_by_name() -> None:
    """One that the agent does not hold is an error that names those it does."""
    assert [each["domain"] for each in domains.gather(["tenant-b"], describe)] == ["tenant-b"]
    with pytest.raises(HostError, match="no domain 'x'; it holds: tenant-a tenant-b"):
        domains.gather(["x"], describe)


def test_every_reason_of_the_module_has_words() -> None:
    """A field that was added to the statistics would be shown by its name only."""
    fields = {name for name in STAT_FIELDS if name.startswith("skip_")}
    assert fields | {"pages_unshared", "pages_volatile"} == set(REASONS)


def test_a_reason_that_is_not_known_keeps_its_name() -> None:
    """A newer agent on the host is no reason to hide pages."""
    assert domains.why_not(stat(skip_new=3)) == [{"field": "skip_new", "reason": "skip_new", "pages": 3}]


def test_every_reason_is_in_the_runbook() -> None:
    """What to do about it is longer than a line."""
    text = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
    assert [words for words in REASONS.values() if words not in text] == []


# engine


def test_engine_is_shown_and_chosen(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has brackets around the chosen one; what is written is the bare word."""
    assert json.loads(run("engine", "--json")[1]) == {"engine": "ksm", "choices": ["ksm", "memmerge"]}
    write = Module.write

    def kernel(self: Module, name: str, new: Value) -> None:
        write(self, name, {"memmerge": "ksm [memmerge]", "ksm": "[ksm] memmerge"}[str(new)])

    monkeypatch.setattr(Module, "write", kernel)
    ended, out, _ = run("engine", "memmerge", "--json")
    assert ended == 0
    assert json.loads(out) == {"engine": "memmerge", "old": "ksm", "choices": ["ksm", "memmerge"]}
    assert host.read("engine") == "ksm [memmerge]"


def test_engine_that_there_is_not(host: Host, run: Run) -> None:
    """The choice is the module's."""
    assert "engine cannot be 'uksm'; allowed: ksm memmerge" in run("engine", "uksm")[2]


def test_a_module_without_the_choice_says_so(host: Host, run: Run) -> None:
    """An older module serves those who open its device, and nobody else."""
    host.remove("engine")
    ended, _, err = run("engine", "memmerge")
    assert ended == 1
    assert "has no file 'engine': madvise() and prctl() reach KSM alone" in err


# the installed file


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The command as the role packs it."""
    path = tmp_path / "memmergectl"
    assert mergelab_main(["host-tool", "--command", "memmergectl", str(path)]) == 0
    return path


def test_the_agent_s_tool_is_no_other_for_it(tmp_path: Path) -> None:
    """A change of the operator's command must not restart the agent, which would close its domains."""
    (tmp_path / "both.zip").write_bytes(build("memmergectl"))
    (tmp_path / "host.zip").write_bytes(build("mergelab-host"))
    both, host_ = (set(zipfile.ZipFile(tmp_path / name).namelist()) for name in ("both.zip", "host.zip"))
    assert "mergelab/ctl/cli.py" in both - host_
    assert {
        name for name in host_ if not name.startswith(("mergelab/host/", "mergelab/__init__", "__main__"))
    } == set()


def test_the_installed_command_has_all_it_needs(installed: Path) -> None:
    """A module that was left out would be missed on a host only."""
    for words in (
        ["status"],
        ["domains"],
        ["process", str(os.getpid())],
        ["set", "run=1"],
        ["unmerge"],
        ["watch"],
    ):
        done = subprocess.run([installed, *words], capture_output=True, text=True, cwd="/", check=False)
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("memmergectl: ") or done.returncode == 0


def test_the_reader_may_leave(installed: Path) -> None:
    """`memmergectl … | head` is no error."""
    line = f"for i in 1 2 3; do {installed} process {os.getpid()} || exit; done | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb shows how it is used."""
    for verb in (
        "status",
        "show",
        "set",
        "start",
        "stop",
        "unmerge",
        "watch",
        "process",
        "domains",
        "engine",
    ):
        with pytest.raises(SystemExit):
            cli.main([verb, "--help"])
        out: Any = capsys.readouterr().out
        assert f"examples:\n  memmergectl {verb}" in out
