# SPDX-License-Identifier: GPL-2.0-only
"""Command line of `mergelab-host`: every verb returns a value, printed as JSON, one object a line."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergelab.host import HostError

if TYPE_CHECKING:
    from mergelab.host.guests import Ram

Verb = Callable[[argparse.Namespace], object]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if arguments[:1] == ["batch"]:
            _print(_batch(arguments[1:]))
        else:
            _print(run(arguments))
    except HostError as error:
        print(f"mergelab-host: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(arguments: Sequence[str]) -> object:
    """Parses and runs one verb and returns its value."""
    options = _parser().parse_args(arguments)
    verb: Verb = options.verb
    return verb(options)


def _print(value: object) -> None:
    for item in value if isinstance(value, Iterator) else [value]:
        if item is not None:
            print(json.dumps(item), flush=True)


def _batch(lines: Sequence[str]) -> Iterator[object]:
    """Runs verbs in one process, as starting one is dear on an emulated host; stops at the first error."""
    for line in lines or sys.stdin:
        words = shlex.split(line)
        if words[:1] in (["batch"], ["serve"], ["sample"]):
            raise HostError(f"'{words[0]}' cannot be part of a batch")
        value = run(words)
        yield {"verb": line.strip(), "result": list(value) if isinstance(value, Iterator) else value}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mergelab-host", description="What mergelab does on a host; prints JSON."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    add = verbs.add_parser("serve", help="run the agent that holds the engine's domains")
    add.set_defaults(verb=_serve)
    add = verbs.add_parser("batch", help="run the verbs given as arguments, or as lines on standard input")
    add.set_defaults(verb=_serve)
    _add_domain(verbs)
    _add_engine(verbs)
    _add_guest(verbs)
    _add_plain(verbs)

    add = verbs.add_parser(
        "pages", help="which frames a range maps; several ranges are compared page by page"
    )
    where = add.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--guest", action="append", metavar="NAME", help="guest or plain process; may be repeated"
    )
    where.add_argument("--pid", type=int)
    add.add_argument("--start", type=_number, default=0, help="virtual address, with --pid")
    add.add_argument(
        "--from-gpa", type=_number, default=0, help="guest-physical address of page 0, with --guest"
    )
    add.add_argument("--first", type=_number, default=0, help="first page of the range")
    add.add_argument("--count", type=_number, required=True, help="pages")
    add.add_argument("--runs", action="store_true", help="also print the frames as [first, length] runs")
    add.add_argument("--brief", action="store_true", help="only count pages and distinct frames")
    add.set_defaults(verb=_pages)

    add = verbs.add_parser("memory", help="meminfo, and sizes of every guest")
    add.set_defaults(verb=_memory)
    add = verbs.add_parser(
        "klog", help="position of the kernel log, its errors since another position, taint"
    )
    add.add_argument("--after", type=int, metavar="SEQUENCE")
    add.set_defaults(verb=_klog)
    add = verbs.add_parser("sample", help="stream telemetry until standard input closes")
    add.add_argument("--interval", type=float, default=2.0, metavar="SECONDS")
    add.set_defaults(verb=_sample)
    add = verbs.add_parser("facts", help="fingerprint of this host")
    add.set_defaults(verb=_facts)
    return parser


def _add_domain(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    domain = verbs.add_parser("domain", help="domains of the engine, held by the agent")
    actions = domain.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("create")
    add.add_argument("name")
    add.add_argument("--replace", action="store_true", help="close a domain of that name first")
    add.set_defaults(verb=lambda o: _ask("create", name=o.name, replace=o.replace))
    add = actions.add_parser("destroy")
    add.add_argument("name")
    add.add_argument("--missing-ok", action="store_true", help="no error when there is none, or no agent")
    add.set_defaults(verb=_domain_destroy)
    for action in ("stat", "unmerge"):
        add = actions.add_parser(action)
        add.add_argument("name")
        add.set_defaults(verb=lambda o, action=action: _ask(action, name=o.name))
    add = actions.add_parser("list")
    add.set_defaults(verb=lambda _: _ask("list"))
    add = actions.add_parser("limit", help="limit what it may take to unshare the domain")
    add.add_argument("name")
    add.add_argument("bytes", type=_limit, help="or 'none'")
    add.set_defaults(verb=lambda o: _ask("limit", name=o.name, unshare_bytes=o.bytes))
    add = actions.add_parser("scan")
    add.add_argument("name")
    add.add_argument("--passes", type=int, default=1)
    add.set_defaults(verb=lambda o: _ask("scan", name=o.name, passes=o.passes))
    add = actions.add_parser("add", help="register memory of a process or guest")
    add.add_argument("name")
    who = add.add_mutually_exclusive_group(required=True)
    who.add_argument("--pid", type=int)
    who.add_argument("--guest", action="append", help="may be repeated")
    add.add_argument("--start", type=_number, help="virtual address, with --pid")
    add.add_argument("--from-gpa", type=_number, default=0, help="guest-physical address, with --guest")
    add.add_argument("--length", type=_number, help="bytes; with --guest, all of its RAM that follows")
    add.set_defaults(verb=_domain_add)


def _add_engine(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    engine = verbs.add_parser("engine", help="counters and tunables in /sys/kernel/mm/memmerge")
    actions = engine.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("get")
    add.add_argument("file", nargs="?")
    add.add_argument("--missing-ok", action="store_true", help="print {} when the module is not loaded")
    add.set_defaults(verb=_engine_get)
    add = actions.add_parser("set")
    add.add_argument("settings", nargs="+", type=_setting, metavar="FILE=VALUE")
    add.set_defaults(verb=_engine_set)
    add = actions.add_parser("device", help="kind, mode, owner and group of /dev/memmerge")
    add.set_defaults(verb=lambda _: _engine_device())


def _add_guest(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    guest = verbs.add_parser("guest", help="payload and RAM of guests and plain processes")
    actions = guest.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser(
        "call", help="send payload commands; names separated by commas are called side by side"
    )
    add.add_argument("name")
    add.add_argument("line", nargs="+")
    add.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="for each answer")
    add.set_defaults(verb=_guest_call)
    add = actions.add_parser(
        "list", help="running guests and plain processes, and whether they have a payload"
    )
    add.set_defaults(verb=_guest_list)
    add = actions.add_parser("ram", help="where a guest's RAM lies")
    add.add_argument("name")
    add.set_defaults(verb=_guest_ram)
    add = actions.add_parser(
        "corrupt", help="change one byte of a guest from the host, to prove that checks notice"
    )
    add.add_argument("name")
    add.add_argument("--gpa", type=_number, required=True)
    add.add_argument("--xor", type=_number, default=0xFF)
    add.set_defaults(verb=_guest_corrupt)


def _add_plain(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    plain = verbs.add_parser("plain", help="the payload as a plain process")
    actions = plain.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("start")
    add.add_argument("name")
    add.add_argument("--pages", type=_number, required=True)
    add.add_argument("--program", type=Path, help="the payload, if not where role guest_image puts it")
    add.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    add.set_defaults(verb=_plain_start)
    add = actions.add_parser("stop")
    add.add_argument("name")
    add.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS")
    add.set_defaults(verb=_plain_stop)


def _number(text: str) -> int:
    return int(text, 0)


def _setting(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not FILE=VALUE")
    return name, _number(value)


def _limit(text: str) -> int:
    from mergelab.host.engine import NO_LIMIT  # noqa: PLC0415 - only what a verb needs is imported

    value = NO_LIMIT if text == "none" else _number(text)
    if not 0 <= value <= NO_LIMIT:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of bytes, or 'none'")
    return value


def _serve(_: argparse.Namespace) -> object:
    from mergelab.host.domains import serve  # noqa: PLC0415 - only what a verb needs is imported

    serve()
    return None


def _ask(verb: str, **arguments: object) -> object:
    from mergelab.host.domains import ask  # noqa: PLC0415 - only what a verb needs is imported

    return ask({"verb": verb, **arguments})


def _domain_destroy(options: argparse.Namespace) -> object:
    try:
        return _ask("destroy", name=options.name)
    except HostError:
        if options.missing_ok:
            return {}
        raise


def _domain_add(options: argparse.Namespace) -> object:
    from mergelab.host.domains import add_guest  # noqa: PLC0415 - only what a verb needs is imported

    if options.guest:
        return iter(
            [add_guest(options.name, guest, options.from_gpa, options.length) for guest in options.guest]
        )
    if options.start is None or options.length is None:
        raise HostError("domain add --pid also needs --start and --length")
    return _ask("add", name=options.name, pid=options.pid, start=options.start, length=options.length)


def _engine_get(options: argparse.Namespace) -> object:
    from mergelab.host import engine  # noqa: PLC0415 - only what a verb needs is imported

    if options.file:
        return {options.file: engine.read_file(options.file)}
    values = engine.read_all()
    if not values and not options.missing_ok:
        raise HostError(f"{engine.SYSFS} does not exist: load the module (modprobe memmerge)")
    return values


def _engine_set(options: argparse.Namespace) -> object:
    from mergelab.host import engine  # noqa: PLC0415 - only what a verb needs is imported

    for name, value in options.settings:
        engine.write_file(name, value)
    return dict(options.settings)


def _engine_device() -> object:
    import stat  # noqa: PLC0415 - only what a verb needs is imported

    from mergelab.host import engine  # noqa: PLC0415 - only what a verb needs is imported

    try:
        status = engine.DEVICE.stat()
        owner, group = engine.DEVICE.owner(), engine.DEVICE.group()
    except FileNotFoundError:
        raise HostError(f"{engine.DEVICE} does not exist: load the module (modprobe memmerge)") from None
    kind = "character device" if stat.S_ISCHR(status.st_mode) else "no character device"
    return {"kind": kind, "mode": f"{stat.S_IMODE(status.st_mode):04o}", "owner": owner, "group": group}


def _guest_call(options: argparse.Namespace) -> object:
    from mergelab.host.payload import call_all  # noqa: PLC0415 - only what a verb needs is imported

    return call_all(options.name.split(","), options.line, options.timeout)


def _guest_list(_: argparse.Namespace) -> object:
    from mergelab.host import guests  # noqa: PLC0415 - only what a verb needs is imported

    return [
        {
            "name": name,
            "pid": pid,
            "payload": (guests.directory(name) / "payload.sock").is_socket(),
            "plain": guests.plain(name) is not None,
        }
        for name, pid in sorted(guests.running().items())
    ]


def _guest_ram(options: argparse.Namespace) -> object:
    from mergelab.host import guests, memory  # noqa: PLC0415 - only what a verb needs is imported

    ram = guests.ram(options.name)
    sizes, flags = memory.sizes(ram.pid, ram.base)
    result: dict[str, object] = {
        "guest": options.name,
        "pid": ram.pid,
        "base": ram.base,
        "size": ram.size,
        "mergeable": "mg" in flags,
        "huge_advised": "hg" in flags,
    }
    return result | {key: sizes[key] for key in ("rss", "pss", "anonymous", "anonhugepages")}


def _guest_corrupt(options: argparse.Namespace) -> object:
    from mergelab.host import guests  # noqa: PLC0415 - only what a verb needs is imported

    if not 0 < options.xor <= 0xFF:
        raise HostError(f"--xor {options.xor:#x} changes nothing or is more than a byte")
    ram = guests.ram(options.name)
    address, _ = ram.range(options.gpa, 1)
    try:
        with open(f"/proc/{ram.pid}/mem", "r+b", buffering=0) as file:  # noqa: PTH123 - unbuffered, at an address
            file.seek(address)
            old = file.read(1)[0]
            file.seek(address)
            file.write(bytes([old ^ options.xor]))
    except OSError as error:
        raise HostError(
            f"memory of process {ram.pid} may not be changed: {error.strerror}; run as root"
        ) from None
    return {"guest": options.name, "gpa": options.gpa, "old": old, "new": old ^ options.xor}


def _plain_start(options: argparse.Namespace) -> object:
    from mergelab.host.payload import start_plain  # noqa: PLC0415 - only what a verb needs is imported

    return start_plain(options.name, options.pages, options.program, options.timeout)


def _plain_stop(options: argparse.Namespace) -> object:
    from mergelab.host.payload import stop_plain  # noqa: PLC0415 - only what a verb needs is imported

    stop_plain(options.name, options.timeout)
    return {"stopped": options.name}


def _pages(options: argparse.Namespace) -> object:
    from mergelab.host import guests, pages  # noqa: PLC0415 - only what a verb needs is imported

    first = options.first * pages.PAGE
    if options.count < 1:
        raise HostError(f"--count {options.count} is not a number of pages")
    length = options.count * pages.PAGE
    targets: list[tuple[str, int, int]] = []
    for name in options.guest or []:
        ram: Ram = guests.ram(name)
        targets.append((name, ram.pid, ram.range(options.from_gpa + first, length)[0]))
    if options.pid is not None:
        targets.append((str(options.pid), options.pid, options.start + first))
    ranges = [pages.read_pagemap(pid, start, options.count) for _, pid, start in targets]
    result: dict[str, object] = dict(pages.count(ranges))
    if options.brief:
        return result
    summaries = []
    for (name, pid, start), entries in zip(targets, ranges, strict=True):
        summary: dict[str, object] = {"name": name, "pid": pid, "start": start, **pages.describe(entries)}
        if options.runs:
            summary["runs"] = pages.runs(pfn for pfn in pages.frames(entries) if pfn is not None)
        summaries.append(summary)
    result["ranges"] = summaries
    return result | pages.compare(ranges)


def _memory(_: argparse.Namespace) -> object:
    from mergelab.host import engine, memory, sample  # noqa: PLC0415 - only what a verb needs is imported

    engine.settle()
    memory.settle()
    return {
        "meminfo": memory.meminfo(),
        "percpu_free": memory.percpu_free(),
        "vmstat": memory.vmstat(sample.VMSTAT),
        "guests": sample.guest_sizes(),
    }


def _klog(options: argparse.Namespace) -> object:
    from mergelab.host import klog  # noqa: PLC0415 - only what a verb needs is imported

    return klog.window(options.after)


def _sample(options: argparse.Namespace) -> object:
    from mergelab.host import sample  # noqa: PLC0415 - only what a verb needs is imported

    if options.interval <= 0:
        raise HostError(f"--interval {options.interval} is not a positive number of seconds")
    sample.stream(options.interval)
    return None


def _facts(_: argparse.Namespace) -> object:
    from mergelab.host import facts  # noqa: PLC0415 - only what a verb needs is imported

    return facts.gather()
