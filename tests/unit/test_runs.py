# SPDX-License-Identifier: GPL-2.0-only
"""A run directory begins once, ends once, and says what it was."""

import json
from pathlib import Path

import pytest

from mergelab import runs
from mergelab.errors import MergelabError

NAME = "20260102T030405Z-virtual"


def test_begin_writes_what_is_known(tmp_path: Path) -> None:
    """The report must be able to say when, where and with which sources a run was made."""
    assert runs.begin(tmp_path / NAME, "virtual")
    meta = json.loads((tmp_path / NAME / "meta.json").read_text())
    commit = runs.commit(Path(runs.__file__).parent)
    assert commit is not None
    assert meta == {
        "schema": 1,
        "run": NAME,
        "started": "2026-01-02T03:04:05Z",
        "inventory": "virtual",
        "commit": commit,
    }
    assert (tmp_path / "latest").resolve() == tmp_path / NAME


def test_beginning_again_changes_nothing(tmp_path: Path) -> None:
    """Deploy and qualify may both begin the run; the second must not forget the first."""
    runs.begin(tmp_path / NAME, "virtual")
    before = (tmp_path / NAME / "meta.json").read_bytes()
    assert not runs.begin(tmp_path / NAME, "other")
    assert (tmp_path / NAME / "meta.json").read_bytes() == before


def test_latest_moves_to_the_newest(tmp_path: Path) -> None:
    """`make report` without a name takes the run that was begun last."""
    runs.begin(tmp_path / NAME, "virtual")
    runs.begin(tmp_path / "20260203T030405Z-virtual", "virtual")
    assert (tmp_path / "latest").readlink() == Path("20260203T030405Z-virtual")
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "20260203T030405Z-virtual", "latest"]


def test_end_adds_the_time_and_keeps_the_rest(tmp_path: Path) -> None:
    """Without `ended` the report must say that the run did not reach its end."""
    runs.begin(tmp_path / NAME, "virtual")
    before = json.loads((tmp_path / NAME / "meta.json").read_text())
    runs.end(tmp_path / NAME)
    after = json.loads((tmp_path / NAME / "meta.json").read_text())
    assert after.pop("ended") >= before["started"]
    assert after == before


@pytest.mark.parametrize("name", ["latest", "20260102T030405Z", "2026-01-02-virtual"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    """The start of a run is in its name; another directory would be given a wrong one."""
    with pytest.raises(MergelabError, match="not the name of a run"):
        runs.begin(tmp_path / name, "virtual")


def test_ending_what_never_began_is_an_error(tmp_path: Path) -> None:
    """A run without meta.json must not look complete."""
    with pytest.raises(MergelabError, match="never began"):
        runs.end(tmp_path / NAME)


def test_no_commit_outside_of_a_checkout(tmp_path: Path) -> None:
    """A release tarball has no commit; the record then has none either."""
    assert runs.commit(tmp_path) is None


def test_consoles_keep_what_was_written_during_the_run(tmp_path: Path) -> None:
    """What a host said before the run is not the run's; beginning again does not move the place."""
    old, fresh, absent = (tmp_path / name for name in ("old", "fresh", "absent"))
    old.write_bytes(b"before\n")
    logs = {"a": old, "b": fresh, "c": absent}
    runs.begin(tmp_path / NAME, "virtual")
    runs.begin(tmp_path / NAME, "virtual", logs)
    with old.open("ab") as log:
        log.write(b"panic\n")
    fresh.write_bytes(b"first boot\n")
    runs.begin(tmp_path / NAME, "virtual", logs)
    runs.end(tmp_path / NAME)
    kept = {path.name: path.read_bytes() for path in (tmp_path / NAME / "console").iterdir()}
    assert kept == {"a.log": b"panic\n", "b.log": b"first boot\n"}


def test_console_of_a_host_that_was_made_anew_is_kept_from_its_start(tmp_path: Path) -> None:
    """A log shorter than it was is another one."""
    log = tmp_path / "log"
    log.write_bytes(b"a long life before the run\n")
    runs.begin(tmp_path / NAME, "virtual", {"a": log})
    log.write_bytes(b"new\n")
    assert [path.read_bytes() for path in runs.keep_consoles(tmp_path / NAME)] == [b"new\n"]
