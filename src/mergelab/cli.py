# SPDX-License-Identifier: GPL-2.0-only
"""The ``mergelab`` command: one subcommand per room, each registered by its own module."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import cast

from mergelab import guest_image, hosttool, report, runs, telemetry
from mergelab.benchmark import cli as benchmark
from mergelab.errors import MergelabError
from mergelab.kernel import cli as kernel
from mergelab.torture import cli as torture

ROOMS: tuple[Callable[["argparse._SubParsersAction[argparse.ArgumentParser]"], None], ...] = (
    benchmark.register,
    guest_image.register,
    hosttool.register,
    kernel.register,
    report.register,
    runs.register,
    telemetry.register,
    torture.register,
)
"""One ``register(subparsers)`` per room; it adds parsers and sets ``run`` on each."""


def parser() -> argparse.ArgumentParser:
    """Build the parser with the subcommands of every room."""
    top = argparse.ArgumentParser(
        prog="mergelab", description="Build, deploy and qualify a memory-merging kernel."
    )
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    for register in ROOMS:
        register(subparsers)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    A room's parser sets ``run``, a function that takes the parsed arguments and returns the exit status.

    Args:
        arguments: the command line without the program's name; None takes it from the process.

    Returns:
        0 when all is well, 1 for a failure with a known cause, 130 when interrupted; a room may add its own.
    """
    parsed = parser().parse_args(arguments)
    run = cast(Callable[[argparse.Namespace], int], parsed.run)
    try:
        return run(parsed)
    except MergelabError as error:
        print(f"mergelab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mergelab: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
