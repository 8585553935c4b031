# SPDX-License-Identifier: GPL-2.0-only
"""Templates place strings; whatever is computed is computed where it can be typed and tested."""

from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

from mergelab.render import environment
from mergelab.store import REPORTS

TEMPLATES = sorted(path.name for path in (REPORTS / "templates").iterdir())
ARITHMETIC = (
    nodes.Add,
    nodes.Sub,
    nodes.Mul,
    nodes.Div,
    nodes.FloorDiv,
    nodes.Mod,
    nodes.Pow,
    nodes.Neg,
    nodes.Pos,
    nodes.Compare,
)
FILTERS = {"cell"}


def violations(source: str) -> list[str]:
    """Every place of a template that computes, compares or calls a filter not known to be harmless."""
    tree = environment().parse(source)
    found = [
        f"line {node.lineno}: {type(node).__name__}" for kind in ARITHMETIC for node in tree.find_all(kind)
    ]
    found += [
        f"line {node.lineno}: filter {node.name}"
        for node in tree.find_all(nodes.Filter)
        if node.name not in FILTERS
    ]
    return found


def test_there_are_templates() -> None:
    """The tests below must have something to look at."""
    assert {"index.html", "report.md", "style.css"} <= set(TEMPLATES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_hold_no_arithmetic(name: str) -> None:
    """A figure that a template computes is one that no record holds and no test sees."""
    assert violations((REPORTS / "templates" / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source", ["{{ a + 1 }}", "{{ a | sum }}", "{{ a | length }}", "{% if a > 1 %}{% endif %}", "{{ -a }}"]
)
def test_the_rule_bites(source: str) -> None:
    """The test above can fail."""
    assert violations(source)


def test_unknown_name_is_an_error() -> None:
    """A misspelt name must not print as nothing."""
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ page.verdit }}").render(page=object())


def test_nothing_is_fetched() -> None:
    """The sources of the page name no address."""
    for name in TEMPLATES:
        text = Path(REPORTS / "templates" / name).read_text(encoding="utf-8")
        assert "://" not in text, name
