# SPDX-License-Identifier: GPL-2.0-only
"""Kernel configurations: what was asked for, what the kernel made of it, and why they differ."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mergelab.errors import MergelabError

_SET = re.compile(r"CONFIG_(\w+)=(.*)")
_UNSET = re.compile(r"# CONFIG_(\w+) is not set")
_SYMBOL = re.compile(r"\b[A-Z0-9_]*[A-Z][A-Z0-9_]*\b")


def parse(text: str) -> dict[str, str]:
    """Read a ``.config`` or a fragment.

    Returns:
        symbol without ``CONFIG_`` to its value; a symbol that "is not set" has the value ``n``.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        if match := _SET.fullmatch(line.strip()):
            values[match[1]] = match[2]
        elif match := _UNSET.fullmatch(line.strip()):
            values[match[1]] = "n"
    return values


@dataclass(frozen=True)
class Dropped:
    """A symbol that the kernel did not take as a fragment wanted it."""

    fragment: str
    symbol: str
    wanted: str
    got: str


def dropped(fragments: Iterable[tuple[str, str]], final: str) -> list[Dropped]:
    """Compare fragments with the configuration that the kernel made of them.

    Args:
        fragments: name and text of each, in the order of merging; a later one overrides an earlier one.
        final: text of the final ``.config``.

    Returns:
        what was not taken, in the order of the fragments. A symbol that is absent from final counts as ``n``.
    """
    wanted: dict[str, tuple[str, str]] = {}
    for name, text in fragments:
        for symbol, value in parse(text).items():
            wanted[symbol] = (name, value)
    values = parse(final)
    return [
        Dropped(name, symbol, value, values.get(symbol, "n"))
        for symbol, (name, value) in wanted.items()
        if values.get(symbol, "n") != value
    ]


@dataclass
class Definition:
    """How a symbol is defined in the kernel's Kconfig files.

    Attributes:
        prompt: it can be set by hand.
        depends: the conditions that must hold, as they are written.
        selected_by: symbols that turn it on.
    """

    prompt: bool = False
    depends: list[str] = field(default_factory=list)
    selected_by: list[str] = field(default_factory=list)


def _statements(text: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Read a Kconfig file: keyword, rest, its symbol, the conditions around it."""
    blocks: list[str] = []
    symbol = ""
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().replace("\t", " ").partition(" ")
        rest = rest.strip()
        if word in ("config", "menuconfig"):
            symbol = rest
        elif word in ("if", "menu", "choice"):
            blocks.append(rest if word == "if" else "")
            symbol = ""
        elif word in ("endif", "endmenu", "endchoice"):
            if blocks:
                blocks.pop()
            symbol = ""
        elif word == "depends" and not symbol and blocks:
            blocks[-1] = rest.removeprefix("on ")
        yield word, rest, symbol, tuple(block for block in blocks if block)


def definition(texts: Iterable[str], symbol: str) -> Definition | None:
    """Find what a symbol needs, by reading Kconfig files one by one.

    Conditions of enclosing blocks count when they are in the same file; those of a file that sources it do
    not.

    Args:
        texts: the Kconfig files.
        symbol: without ``CONFIG_``.

    Returns:
        None when no file defines it.
    """
    known = Definition()
    defined = False
    for text in texts:
        if not re.search(rf"\b{symbol}\b", text):
            continue
        for word, rest, current, blocks in _statements(text):
            if word == "select" and current and rest.split()[0] == symbol:
                known.selected_by.append(current)
            if current != symbol:
                continue
            if word in ("config", "menuconfig"):
                defined = True
                known.depends.extend(blocks)
            elif word == "depends":
                known.depends.append(rest.removeprefix("on "))
            elif word in ("bool", "tristate", "string", "int", "hex", "prompt"):
                known.prompt = known.prompt or rest.startswith(('"', "'"))
    return known if defined else None


def reason(drop: Dropped, known: Definition | None, values: dict[str, str]) -> str:
    """Say why the kernel probably did not take a symbol.

    Args:
        drop: what was not taken.
        known: the symbol's definition, None when there is none.
        values: the final configuration.
    """
    if known is None:
        return "no Kconfig file defines it: renamed, removed, or part of a patch that is not applied"
    if drop.wanted == "n":
        by = [symbol for symbol in known.selected_by if values.get(symbol, "n") != "n"]
        if by:
            return f"selected by {', '.join(by[:4])}"
    unmet = []
    for condition in known.depends:
        symbols = dict.fromkeys(_SYMBOL.findall(condition))
        state = ", ".join(f"{symbol}={values.get(symbol, 'n')}" for symbol in symbols)
        if any(values.get(symbol, "n") != "y" for symbol in symbols):
            unmet.append(f"({condition}) with {state}")
    if unmet:
        return "depends on " + " and ".join(unmet[:3])
    if not known.prompt:
        return "it cannot be set by hand" + (
            f", only selected by: {', '.join(known.selected_by[:4])}" if known.selected_by else ""
        )
    return "another choice, or the range of the symbol, excludes it"


def check(fragments: Iterable[tuple[str, str]], final: str, tree: Path) -> None:
    """Refuse a configuration that is not what the fragments asked for.

    Args:
        fragments: as for `dropped`.
        final: as for `dropped`.
        tree: the kernel's source tree, read only when something was dropped.

    Raises:
        MergelabError: names every dropped symbol with fragment, wanted, got and the likely reason.
    """
    drops = dropped(fragments, final)
    if not drops:
        return
    kconfigs = [file.read_text(encoding="utf-8", errors="replace") for file in sorted(tree.rglob("Kconfig*"))]
    values = parse(final)
    lines = [
        f"  {drop.fragment}: CONFIG_{drop.symbol} wanted {drop.wanted}, got {drop.got}: "
        + reason(drop, definition(kconfigs, drop.symbol), values)
        for drop in drops
    ]
    raise MergelabError(
        f"the kernel did not take {len(drops)} config symbol(s):\n" + "\n".join(lines),
        "add what it depends on to a fragment of the profile, or remove the symbol from its fragment",
    )
