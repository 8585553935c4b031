# SPDX-License-Identifier: GPL-2.0-only
"""What the payload writes to memory: the same page contents as kernel/guest/pattern.c, byte for byte.

The bench computes with it how many distinct pages a batch of guests holds, and tests compare the two.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PAGE = 4096
_WORDS = PAGE // 8
_GOLDEN_RATIO = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

# kind of near-duplicate: first byte, bytes and values of the page's index that is XORed in; None: all values
NEAR_KINDS: dict[str, tuple[int, int, int | None]] = {
    "last-byte": (PAGE - 1, 1, 255),
    "last-word": (PAGE - 8, 8, None),
    "last-21": (PAGE - 21, 8, None),
    "last-96": (PAGE - 96, 8, None),
    "mid-bit": (PAGE // 2, 1, 2),
}


def generator(seed: int, index: int) -> bytes:
    """Returns page `index` of `seed`: 512 words of splitmix64, little-endian."""
    state = (seed ^ (index * _GOLDEN_RATIO)) & _MASK
    words = []
    for _ in range(_WORDS):
        state = (state + _GOLDEN_RATIO) & _MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        words.append(z ^ (z >> 31))
    return struct.pack(f"<{_WORDS}Q", *words)


@dataclass(frozen=True)
class Pattern:
    """A pattern of the payload's protocol: `zero`, `byte:HH`, `seed:S`, `same:S` or `near:S:KIND`."""

    kind: str
    value: int = 0
    near: str = ""

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Parses a pattern as the protocol writes it.

        Raises:
            ValueError: It is not one.
        """
        kind, *rest = text.split(":")
        match kind, rest:
            case "zero", []:
                return cls(kind)
            case "byte", [value] if len(value) == 2:
                return cls(kind, int(value, 16))
            case (("seed" | "same"), [value]):
                return cls(kind, _seed(value))
            case "near", [value, near] if near in NEAR_KINDS:
                return cls(kind, _seed(value), near)
        raise ValueError(f"'{text}' is not zero, byte:HH, seed:S, same:S or near:S:KIND")

    def page(self, index: int) -> bytes:
        """Returns the content of page `index` of a fill, 4096 bytes."""
        match self.kind:
            case "zero":
                return bytes(PAGE)
            case "byte":
                return bytes([self.value]) * PAGE
            case "seed":
                return generator(self.value, index)
            case "same":
                return generator(self.value, 0)
        at, length, values = NEAR_KINDS[self.near]
        page = bytearray(generator(self.value, 0))
        mixed = index if values is None else index % values
        for offset, byte in enumerate(mixed.to_bytes(8, "little")[:length]):
            page[at + offset] ^= byte
        return bytes(page)

    def distinct(self, count: int) -> int:
        """Returns how many different pages a fill of `count` pages holds."""
        if self.kind == "seed":
            return count
        if self.kind == "near":
            values = NEAR_KINDS[self.near][2]
            return count if values is None else min(count, values)
        return min(count, 1)


def _seed(text: str) -> int:
    seed = int(text, 0)
    if not 0 <= seed <= _MASK:
        raise ValueError(f"seed {text} is not a number of 64 bits")
    return seed
