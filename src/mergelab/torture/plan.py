# SPDX-License-Identifier: GPL-2.0-only
"""What is run: programs of kernel/selftests, each in several configurations."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mergelab.errors import MergelabError

OPS = 100_000
"""Operations of each configuration when none are asked for."""

SEEDS = 1 << 32


@dataclass(frozen=True)
class Configuration:
    """One program in one machine.

    Attributes:
        name: of the configuration.
        program: in kernel/selftests.
        arguments: its options beside seed and operations.
        memory: the machine's.
        share: of the operations that are asked for, as some cost more than others.
    """

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    memory: str = "256M"
    share: float = 1.0

    def words(self, program: str, seed: int, ops: int) -> list[str]:
        """Returns the command line: shell words, in which the machine's own variables are replaced."""
        module = ['--module "$MODULES/memmerge.ko"'] if self.program == "torture" else []
        count = max(1, round(ops * self.share))
        return [program, f"--seed {seed}", f"--ops {count}", *self.arguments, *module]


CONFIGURATIONS = (
    Configuration("plain", "torture", ("--rounds 4",)),
    Configuration("pressure", "torture", ("--rounds 3", "--limit 5500000"), memory="96M", share=0.5),
    Configuration("faults", "torture", ("--rounds 3", "--failslab 10", "--fail-page 5")),
    Configuration("crowd", "torture", ("--rounds 2", "--processes 6", "--threads 2"), share=0.5),
    Configuration("fuzz", "fuzz"),
    Configuration("fuzz-faults", "fuzz", ("--failslab 10", "--fail-page 5")),
)


def seed_of(text: str) -> int:
    """Read a seed, or make one up when there is none.

    Raises:
        MergelabError: it is no number.
    """
    if not text:
        return random.SystemRandom().randrange(1, SEEDS)
    try:
        return int(text, 0)
    except ValueError:
        raise MergelabError(
            f"'{text}' is no seed", "a seed is a number, such as the one that a run prints"
        ) from None


def ops_of(text: str) -> int:
    """Read a number of operations; empty is the default.

    Raises:
        MergelabError: it is no number of at least a thousand, below which some kinds never have their turn.
    """
    try:
        count = int(text.replace("_", ""), 10) if text else OPS
    except ValueError:
        count = 0
    if count < 1000:
        raise MergelabError(f"'{text}' is no number of operations", "1000 and more, such as OPS=100000")
    return count


def choose(names: list[str]) -> list[Configuration]:
    """Configurations by name; all when none are named.

    Raises:
        MergelabError: there is no such configuration.
    """
    known = {each.name: each for each in CONFIGURATIONS}
    for name in names:
        if name not in known:
            raise MergelabError(f"there is no configuration '{name}'", f"one of {', '.join(known)}")
    return [known[name] for name in names] or list(CONFIGURATIONS)
