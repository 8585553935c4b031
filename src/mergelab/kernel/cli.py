# SPDX-License-Identifier: GPL-2.0-only
"""``mergelab kernel``: build kernels, and prepare trees for the tools that need one."""

import argparse
import shutil
import signal
from pathlib import Path

from mergelab.errors import MergelabError
from mergelab.kernel import build, source
from mergelab.kernel.profile import names

PROJECT = Path(__file__).parents[3]


def _options(parsed: argparse.Namespace) -> build.Options:
    return build.Options(
        kernel=parsed.kernel,
        profile=parsed.profile,
        source=parsed.source,
        cache=parsed.cache,
        jobs=parsed.jobs,
        base_config=parsed.base_config,
        extra_patches=tuple(parsed.extra_patch),
    )


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _build(parsed: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _interrupted)  # a run that is told to end leaves as little as one by Ctrl-C
    print(build.build(_options(parsed), build.say_on_stderr))
    return 0


def _tree(parsed: argparse.Namespace) -> int:
    if parsed.to.exists():
        raise MergelabError(f"{parsed.to} exists already", "name a folder that does not exist, or remove it")
    options = _options(parsed)
    try:
        if parsed.modules:
            build.prepare_for_modules(options, parsed.to, build.say_on_stderr)
        else:
            inputs = build.collect(options, build.say_on_stderr)
            build.prepare_configured(options, inputs, parsed.to, build.say_on_stderr)
    except BaseException:
        shutil.rmtree(parsed.to, ignore_errors=True)
        raise
    print(parsed.to)
    return 0


def _source(parsed: argparse.Namespace) -> int:
    print(build.collect(_options(parsed), build.say_on_stderr).tree)
    return 0


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``mergelab kernel`` to the command."""
    room = subparsers.add_parser("kernel", help="build kernels").add_subparsers(metavar="VERB", required=True)
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--profile", default="lab", help=f"{', '.join(names(PROJECT / 'kernel/config'))} (%(default)s)")
    add("--source", type=Path, default=source.DEBIAN, help="tarball or git tree (%(default)s)")
    add("--kernel", type=Path, default=PROJECT / "kernel", help="the project's kernel folder")
    add("--cache", type=Path, default=build.default_cache(), help="where kernels are kept (%(default)s)")
    add("--jobs", "-j", type=int, default=build.default_jobs(), help="compilers at a time (%(default)s)")
    add("--base-config", type=Path, help="the distribution's configuration, for profile metal")
    add("--extra-patch", type=Path, action="append", default=[], help="apply after the series")
    verb = room.add_parser("build", parents=[common], help="build a kernel, or find it; prints its folder")
    verb.set_defaults(run=_build)
    verb = room.add_parser("tree", parents=[common], help="patch and configure a source tree for other tools")
    verb.add_argument("--to", type=Path, required=True, help="a folder that does not exist yet")
    verb.add_argument(
        "--modules", action="store_true", help="for make -C TO/build M=…; builds the kernel, or finds it"
    )
    verb.set_defaults(run=_tree)
    verb = room.add_parser("source", parents=[common], help="unpack the plain source; prints its folder")
    verb.set_defaults(run=_source)
