"""Plain-text tables and figures for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from facial_rec.bootstrap import Interval

ABSENT = "-"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell; the first is flush left, the others right."""
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    for index, row in enumerate(table):
        lines[index] = row[0].ljust(widths[0]) + lines[index][widths[0] :]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(line.rstrip() for line in lines)


def percent(value: float | None, interval: Interval | None = None, signed: bool = False) -> str:
    """A fraction as percent with two decimals, its interval in brackets; `-` for None."""
    return number(_times_100(value), _interval_times_100(interval), 2, signed)


def number(value: float | None, interval: Interval | None = None, decimals: int = 3, signed: bool = False) -> str:
    """A figure with its interval in brackets; `-` for None."""
    if value is None:
        return ABSENT
    sign = "+" if signed else ""
    text = f"{value:{sign}.{decimals}f}"
    if interval is None:
        return text
    return f"{text} [{interval[0]:{sign}.{decimals}f}, {interval[1]:{sign}.{decimals}f}]"


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _interval_times_100(interval: Interval | None) -> Interval | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
