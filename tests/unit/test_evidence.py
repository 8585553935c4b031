# SPDX-License-Identifier: GPL-2.0-only
"""Evidence is read as strictly as it is written."""

import json
from copy import deepcopy
from typing import Any

import pytest

from mergelab.errors import MergelabError
from mergelab.evidence import Control, Evidence, Relation, Verdict, Witness, from_json, to_json
from mergelab.judge import judge

GOOD = judge(
    Evidence(
        check="merge.identical",
        host="h1",
        started="2026-01-01T00:00:00Z",
        seconds=1.5,
        title="a claim",
        expected={"pages": 10, "ratio": 1.5, "on": True, "name": "x"},
        witnesses=(
            Witness(name="engine", claim="c", expected=10, measured=10, unit="pages", tolerance=1),
            Witness(name="pages", claim="c", expected=10, measured=None, relation=Relation.AT_LEAST),
            Witness(name="memory", claim="c", expected="a", measured="a"),
        ),
        controls=(Control(name="off", claim="c", behaved=True),),
    )
)


def test_round_trip() -> None:
    """What is written comes back the same, through real JSON."""
    assert from_json(json.loads(json.dumps(to_json(GOOD)))) == GOOD
    assert GOOD.verdict is Verdict.UNPROVEN


def test_evidence_without_verdict_is_not_written() -> None:
    """A file without a verdict would be read as one that nobody doubted."""
    unjudged = Evidence(check="a.b", host="h", started="2026-01-01T00:00:00Z", seconds=0, title="t")
    with pytest.raises(MergelabError, match="never judged"):
        to_json(unjudged)


def test_relation_may_be_left_out() -> None:
    """It means equals then."""
    value: Any = to_json(GOOD)
    del value["witnesses"][0]["relation"]
    assert from_json(value).witnesses[0].relation is Relation.EQUALS


PATHS = [
    *((key,) for key in to_json(GOOD)),
    *(
        ("witnesses", 0, key)
        for key in ("name", "claim", "expected", "measured", "unit", "tolerance", "agrees")
    ),
    *(("controls", 0, key) for key in ("name", "claim", "behaved")),
]


def changed(path: tuple[Any, ...], value: object = None, *, remove: bool = False) -> Any:
    """The good evidence with one member replaced or removed."""
    tree: Any = deepcopy(to_json(GOOD))
    *parents, last = path
    node = tree
    for key in parents:
        node = node[key]
    if remove:
        del node[last]
    else:
        node[last] = value
    return tree


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_missing_member_is_refused_by_name(path: tuple[Any, ...]) -> None:
    """A member that is silently filled in would be a measurement that nobody made."""
    with pytest.raises(MergelabError, match=f"has no '{path[-1]}'"):
        from_json(changed(path, remove=True))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_member_of_another_type_is_refused(path: tuple[Any, ...]) -> None:
    """No member may be an object of objects."""
    with pytest.raises(MergelabError, match=f"{path[-1]}"):
        from_json(changed(path, {"surprise": {}}))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema",), 2, "schema 2"),
        (("schema",), True, "schema"),
        (("seconds",), True, "seconds"),
        (("seconds",), "1", "seconds"),
        (("verdict",), "green", "unknown verdict"),
        (("surprise",), 1, "unknown members: surprise"),
        (("witnesses", 0, "surprise"), 1, "unknown members: surprise"),
        (("witnesses", 0, "relation"), "about", "unknown relation"),
        (("witnesses", 0, "tolerance"), None, "tolerance"),
        (("controls", 0, "behaved"), 1, "behaved"),
        (("controls", 0, "behaved"), None, "behaved"),
    ],
)
def test_what_this_version_does_not_know_is_refused(path: tuple[Any, ...], value: object, words: str) -> None:
    """Half-understood evidence is worse than none."""
    with pytest.raises(MergelabError, match=words):
        from_json(changed(path, value))


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_not_an_object(value: object) -> None:
    """The message names the file and says what to do."""
    with pytest.raises(MergelabError, match=r"(?s)some/file\.json is not an object.*fix: ") as caught:
        from_json(value, "some/file.json")
    assert caught.value.fix
