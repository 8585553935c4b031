# SPDX-License-Identifier: GPL-2.0-only
"""Values as tables for people: plain text, aligned, nothing that a terminal must understand."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mergelab.figures import duration, size
from mergelab.host.pages import PAGE

MISSING = "not available"
DASH = "-"
WATCH_COLUMNS = (
    "SCANNED/S", "MERGED/S", "ZEROED/S", "UNSHARED/S", "SAVED", "CHANGE", "CPU %",
)  # fmt: skip
_WATCH_WIDTHS = (11, 10, 10, 10, 11, 11, 7)
_NARROWEST = 20


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Lays out rows below a head, numbers to the right, and wraps the last column into a width."""
    columns = list(zip(head, *rows, strict=True))
    sizes = [max(map(len, column)) for column in columns]
    numeric = [all(_numeric(cell) for cell in column[1:]) and len(column) > 1 for column in columns]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(room) if right else cell.ljust(room)
            for cell, room, right in zip(row, sizes, numeric, strict=True)
        ]
        lines += _wrapped("  ".join(cells[:-1]), cells[-1], width)
    return "\n".join(lines)


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Lays out names and values in two columns."""
    room = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name.ljust(room)}  {value}".rstrip() for name, value in pairs)


def status(state: Mapping[str, Any]) -> str:
    """The state of the engine."""
    module, scanner, unsharing = state["module"], state["scanner"], state["unsharing"]
    identity = ", ".join(f"{key} {module[key]}" for key in ("version", "srcversion") if module[key])
    pairs = [("module", f"loaded, {identity}" if identity else "loaded")]
    if state["engine"] is not None:
        pairs.append(("engine", f"{state['engine']} for madvise() and prctl()"))
    pairs += [
        ("scanner", _scanner(scanner, state["scanning"])),
        ("domains", _domains(state)),
        ("saved", _saved(state)),
        ("  net", _net(state)),
        ("not merged", _unmerged(state["pages"])),
        ("scanned", _scanned(state["scanning"])),
        ("unsharing", _unsharing(unsharing)),
        ("tunables", "all at their defaults"),
    ]
    if state["changed"]:
        pairs[-1:] = [
            ("tunables" if not at else "", f"{name} {each['value']} (default {each['default']})")
            for at, (name, each) in enumerate(state["changed"].items())
        ]
    return facts(pairs)


def show(files: Mapping[str, Mapping[str, Any]], width: int | None) -> str:
    """Files with value and meaning."""
    rows = [
        (
            name,
            str(file["value"]),
            DASH if file["default"] is None else str(file["default"]),
            file["access"],
            file["unit"] or DASH,
            file["meaning"] or "not known to this version of memmergectl",
        )
        for name, file in files.items()
    ]
    return table(("FILE", "VALUE", "DEFAULT", "ACCESS", "UNIT", "MEANING"), rows, width)


def changes(changed: Mapping[str, Mapping[str, Any]]) -> str:
    """What was set: old and new."""
    return facts([(name, f"{each['old']} → {each['new']}") for name, each in changed.items()])


def unmerged(done: Mapping[str, Any]) -> str:
    """What unmerging came to."""
    sharing, zero = done["pages_sharing"], done["pages_mapped_zero"]
    given = sum((each["old"] or 0) - (each["new"] or 0) for each in (sharing, zero))
    return f"unmerged: {_count(given, 'page')} more in use, {size(given * PAGE)}; the scanner is stopped"


def engine(answer: Mapping[str, Any]) -> str:
    """The machine's engine."""
    if "old" in answer:
        return f"engine  {answer['old']} → {answer['engine']}"
    return f"engine  {answer['engine']} (of {', '.join(answer['choices'])})"


def watch_head() -> str:
    """The head of a watch."""
    return "  ".join(cell.rjust(room) for cell, room in zip(WATCH_COLUMNS, _WATCH_WIDTHS, strict=True))


def watch_row(row: Mapping[str, Any]) -> str:
    """One line of a watch."""
    rates = [row[key] for key in ("scanned_per_s", "merged_per_s", "zeroed_per_s", "unshared_per_s")]
    change = row["saved_change_bytes"]
    cells = [DASH if rate is None else f"{rate:.0f}" for rate in rates]
    cells.append(DASH if row["saved_bytes"] is None else size(row["saved_bytes"]))
    cells.append(DASH if change is None else ("+" if change > 0 else "") + _signed(change))
    cells.append(DASH if row["cpu_percent"] is None else f"{row['cpu_percent']:.1f}")
    return "  ".join(cell.rjust(room) for cell, room in zip(cells, _WATCH_WIDTHS, strict=True))


def processes(found: Sequence[Mapping[str, Any]]) -> str:
    """Processes, one a line."""
    head = (
        "PID", "PROCESS", "RESIDENT", "MERGED", "MERGEABLE", "MERGE-ANY", "KSM-PAGES", "ZERO-PAGES", "PROFIT",
    )  # fmt: skip
    rows = [
        (
            str(each["pid"]),
            each["guest"] or each["command"],
            *(DASH if each[key] is None else size(each[key]) for key in ("rss_bytes", "merged_bytes")),
            size(each["mergeable_bytes"]),
            {None: DASH, True: "yes", False: "no"}[each["merge_any"]],
            *(
                DASH if each[key] is None else str(each[key])
                for key in ("ksm_merging_pages", "ksm_zero_pages")
            ),
            DASH if each["profit_bytes"] is None else _signed(each["profit_bytes"]),
        )
        for each in found
    ]
    return table(head, rows)


def domains(found: Sequence[Mapping[str, Any]]) -> str:
    """Domains, each with its regions and the reasons."""
    if not found:
        return "the agent holds no domain"
    return "\n\n".join("\n".join(_domain(domain)) for domain in found)


def _domain(domain: Mapping[str, Any]) -> Iterator[str]:
    here = sum(not region["gone"] for region in domain["regions"])
    yield (
        f"{domain['domain']}: {_count(domain['pages_registered'], 'page')} in {_count(here, 'region')},"
        f" {_count(domain['passes'], 'pass')}; saved {size(domain['saved_bytes'])}, {_savers(domain)};"
        f" metadata {size(domain['metadata_bytes'])}"
    )
    for region in domain["regions"]:
        owner = f"process {region['pid']}" + (f" of {region['guest']}" if region["guest"] else "")
        yield f"  region {region['region']}: {size(region['length'])} at {region['start']:#x} of {owner}"
        if region["gone"]:
            yield "    gone: the process has exited"
            continue
        counts = [
            ("merged", region["pages_mapped_shared"]),
            ("the zero page", region["pages_mapped_zero"]),
            *((reason["reason"], reason["pages"]) for reason in region["why_not"]),
        ]
        room = max(len(str(pages)) for _, pages in counts)
        for name, pages in counts:
            yield f"    {str(pages).rjust(room)}  {name}"


def _scanner(scanner: Mapping[str, Any], scanning: Mapping[str, Any]) -> str:
    if scanner["state"] is None:
        return MISSING
    words = [scanner["state"]]
    if scanner["thread"]:
        words[0] += f" (thread {scanner['thread']})"
    if scanning["pages_to_scan"] is not None and scanning["sleep_millisecs"] is not None:
        words.append(f"{scanning['pages_to_scan']} pages a round, {scanning['sleep_millisecs']} ms of sleep")
    return ", ".join(words)


def _domains(state: Mapping[str, Any]) -> str:
    known = [(state[key], noun) for key, noun in (("domains", "domain"), ("regions", "region"))]
    return ", ".join(_count(value, noun) for value, noun in known if value is not None) or MISSING


def _saved(state: Mapping[str, Any]) -> str:
    if state["saved_bytes"] is None:
        return MISSING
    return f"{size(state['saved_bytes'])}: {_savers(state['pages'])}"


def _savers(pages: Mapping[str, Any]) -> str:
    zero = "" if pages["pages_mapped_zero"] is None else f", {pages['pages_mapped_zero']} by the zero page"
    return f"{_count(pages['pages_sharing'], 'page')} by sharing {pages['pages_shared']}{zero}"


def _net(state: Mapping[str, Any]) -> str:
    if state["net_bytes"] is None:
        return MISSING
    return f"{_signed(state['net_bytes'])} after {size(state['metadata_bytes'])} of the engine's own"


def _unmerged(pages: Mapping[str, Any]) -> str:
    if pages["pages_unshared"] is None:
        return MISSING
    volatile = "" if pages["pages_volatile"] is None else f", {pages['pages_volatile']} that change"
    return f"{_count(pages['pages_unshared'], 'page')} without an equal{volatile}"


def _scanned(scanning: Mapping[str, Any]) -> str:
    if scanning["pages"] is None:
        return MISSING
    text = _count(scanning["pages"], "page")
    if scanning["passes"] is not None:
        text += f", {_count(scanning['passes'], 'pass')} of the scanner"
    if scanning["cpu_seconds"] is not None:
        text += f"; {duration(scanning['cpu_seconds'])} of CPU"
    if scanning["cpu_us_per_page"] is not None:
        text += f", {scanning['cpu_us_per_page']:.3g} µs a page"
    return text


def _unsharing(unsharing: Mapping[str, Any]) -> str:
    if unsharing["demand_bytes"] is None:
        return MISSING
    text = (
        f"would take {size(unsharing['demand_bytes'])}, the host can give {size(unsharing['supply_bytes'])}"
    )
    return text if unsharing["covered"] else text + ": NOT ENOUGH"


def _signed(value: int) -> str:
    return f"-{size(-value)}" if value < 0 else size(value)


def _count(value: int, noun: str) -> str:
    plural = {"pass": "passes"}.get(noun, noun + "s")
    return f"{value} {noun if value == 1 else plural}"


def _numeric(cell: str) -> bool:
    return cell == DASH or cell.lstrip("-")[:1].isdigit()


def _wrapped(left: str, last: str, width: int | None) -> list[str]:
    room = None if width is None else max(width - len(left) - 2, _NARROWEST)
    parts = textwrap.wrap(last, room) if room is not None else [last.rstrip()]
    return [f"{left if not at else ' ' * len(left)}  {part}" for at, part in enumerate(parts)]
