"""The axes of the charts: linear, logarithmic and probit scales with round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

SMALLEST_RATE = 1e-5  # where a rate of 0 stands on an axis that has no 0

Scale = Literal["linear", "log", "probit"]


@dataclass(frozen=True)
class Axis:
    """One axis: what it shows, over which range, with which ticks."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    scale: Scale = "linear"

    def place(self, value: float) -> float:
        """Where `value` lies, 0 at `low` and 1 at `high`; values beyond the ends are put on them."""
        low, high = self._warp(self.low), self._warp(self.high)
        return (self._warp(min(max(value, self.low), self.high)) - low) / (high - low)

    def _warp(self, value: float) -> float:
        if self.scale == "log":
            return math.log10(value)
        return NormalDist().inv_cdf(value) if self.scale == "probit" else value


def percent_axis(label: str, values: Sequence[float], floor: float = 0.0, ceiling: float = 1.0) -> Axis:
    """A linear axis in percent that holds all `values` (fractions) with some air, within [floor, ceiling]."""
    low, high = min(values), max(values)
    air = 0.06 * (high - low) if high - low > 1e-6 else 0.01
    low, high = max(floor, min(low, ceiling - air) - air), min(ceiling, max(high, floor + air) + air)
    return linear_axis(label, low, high, 100.0)


def linear_axis(label: str, low: float, high: float, times: float = 1.0) -> Axis:
    """An axis with round ticks; the tick labels are the values `times` a factor (100 for percent)."""
    if high <= low:
        low, high = low - 0.5 / times, high + 0.5 / times
    step = _round_step((high - low) * times / 7)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals == 0 and step % 1:
        decimals = 1
    first, last = math.ceil(low * times / step - 1e-9), math.floor(high * times / step + 1e-9)
    ticks = [(index * step / times, f"{index * step:.{decimals}f}") for index in range(first, last + 1)]
    return Axis(label, low, high, ticks)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * 0.999)


def log_axis(label: str, low: float) -> Axis:
    """Rates from `low` (rounded down to a decade, at least `SMALLEST_RATE`) to 100 %, by decades, in percent."""
    decade = math.floor(math.log10(max(low, SMALLEST_RATE)) + 1e-9)
    decade = min(decade, -1)
    return Axis(label, 10.0**decade, 1.0, [(10.0**n, f"{100 * 10.0**n:g}") for n in range(decade, 1)], "log")


def probit_axis(label: str, low: float, high: float) -> Axis:
    """Rates on the scale on which normal scores make a straight DET line (A. Martin et al., Eurospeech 1997)."""
    low, high = max(low, SMALLEST_RATE), min(high, 0.99)
    marks = (1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
    low = max((mark for mark in marks if mark <= low), default=marks[0])
    high = min((mark for mark in marks if mark >= high and mark > low), default=marks[-1])
    return Axis(label, low, high, [(m, f"{100 * m:g}") for m in marks if low <= m <= high], "probit")


def size_axis(sizes: Sequence[int]) -> Axis:
    """Sides of the images in pixels, on a logarithmic scale with a tick at each size."""
    low, high = min(sizes) / 1.08, max(sizes) * 1.08
    return Axis("size of the face, pixels", low, high, [(size, str(size)) for size in sorted(set(sizes))], "log")
