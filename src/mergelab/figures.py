# SPDX-License-Identifier: GPL-2.0-only
"""Figures as a person reads them. What was not measured reads “not measured”, never zero."""

from datetime import UTC, datetime

from mergelab.scales import scale

MISSING = "not measured"


def count(value: float) -> str:
    """A number with thousands set apart: ``12 288``, ``0.999``."""
    text = (
        f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    )
    return text.replace(",", "\u202f")


def size(value: float) -> str:
    """Bytes in the binary unit that reads best: ``1.95 GiB``."""
    divisor, unit = scale(abs(value), "bytes")
    return f"{value / divisor:.4g} {unit}"


def duration(value: float) -> str:
    """Seconds as a person says them: ``850 ms``, ``12.3 s``, ``3 min 5 s``, ``1 h 2 min``."""
    if 0 < value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.3g} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(text: object) -> str:
    """A time of the record as ``2026-01-01 00:00:00 UTC``."""
    return f"{str(text)[:19].replace('T', ' ')} UTC" if text else MISSING


def unix_seconds(text: str) -> float:
    """A time of the record as seconds since 1970, as telemetry counts them."""
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def value(measured: object, unit: str = "") -> str:
    """A witness's value with its unit; None is “not measured”, an empty text “none”."""
    if measured is None:
        return MISSING
    if isinstance(measured, bool):
        return "yes" if measured else "no"
    if isinstance(measured, int | float):
        if unit in ("bytes", "B"):
            return size(measured)
        if unit in ("s", "seconds"):
            return duration(measured)
        return f"{count(measured)} {unit}".rstrip()
    return f"{measured} {unit}".strip() or "none"
