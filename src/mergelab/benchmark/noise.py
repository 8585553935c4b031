# SPDX-License-Identifier: GPL-2.0-only
"""What chance makes of figures that scatter from pair to pair, by Student's t."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence

FREEDOM = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 30)
THOUSANDTH = (636.6, 31.60, 12.92, 8.61, 6.87, 5.96, 5.04, 4.59, 4.14, 3.85, 3.65)
"""Quantiles for these degrees of freedom, two-sided, 0.1 %: some hundred figures are compared, and none
should be called a regression by chance."""

TENTH = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.86, 1.81, 1.76, 1.72, 1.70)
"""Quantiles for the same, 10 %: 5 % on either side, as a goal is missed or reached on one."""


def _quantile(quantiles: Sequence[float], freedom: int) -> float:
    return quantiles[bisect.bisect_right(FREEDOM, freedom) - 1]


def difference(before: Sequence[float], after: Sequence[float]) -> float | None:
    """Largest difference that chance makes in one of a thousand comparisons; None where it is not known."""
    counts = len(before), len(after)
    if min(counts) < 2:
        return None
    freedom = sum(counts) - 2
    squares = sum((len(values) - 1) * statistics.variance(values) for values in (before, after))
    return _quantile(THOUSANDTH, freedom) * math.sqrt(squares / freedom * sum(1 / count for count in counts))


def margin(values: Sequence[float]) -> float | None:
    """How far off a figure may be, to either side, but for one in twenty; None where it is not known."""
    if len(values) < 2:
        return None
    return _quantile(TENTH, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
