# SPDX-License-Identifier: GPL-2.0-only
"""Units that read well; apart from the charts, so that figures in a text need no chart library."""


def scale(top: float, unit: str) -> tuple[float, str]:
    """Choose a divisor and the unit's name, so that a value of that size reads in one to four digits."""
    steps = {
        "bytes": (1024.0, ("B", "KiB", "MiB", "GiB", "TiB")),
        "pages": (1000.0, ("pages", "k pages", "M pages")),
        "ns": (1000.0, ("ns", "µs", "ms", "s")),
    }
    if unit not in steps:
        return 1.0, unit
    base, names = steps[unit]
    step = 0
    while step + 1 < len(names) and top >= base ** (step + 1):
        step += 1
    return base**step, names[step]
