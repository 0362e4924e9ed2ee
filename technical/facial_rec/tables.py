"""Plain-text tables and figures for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from facial_rec.bootstrap import Interval

ABSENT = "-"
FEW_MARK = "*"
FOOTNOTE = (
    "*: fewer than 30 errors behind the figure, an order of magnitude only. Fewer than 3: no figure, but - or the 95 % "
    "bound (<, >), were the pairs independent."
)

NO_PEOPLE = "The set names no people: a person under several names makes the intervals too narrow."


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


def judged(entry: Mapping[str, Any], name: str, show: Callable[..., str] = percent) -> str:
    """A figure of `entry` (a record's, with `figures`, `withheld` and `few_errors`) as the rules of 3 and 30 want it.

    Withheld: the bound of the rate, or `-`; flagged: a `*` behind the figure.
    """
    value, interval = judged_parts(entry, name, show)
    return f"{value} {interval}".rstrip()


def judged_parts(entry: Mapping[str, Any], name: str, show: Callable[..., str] = percent) -> tuple[str, str]:
    """Like `judged`, the figure and its bracketed interval apart; the interval may be empty."""
    figures = entry["figures"]
    value, interval = figures.get(name), figures.get(f"{name}_ci95")
    if value is None:
        return _bound(name, entry.get("withheld", {}).get(name), show), ""
    text = show(value, interval)
    number_text, _, rest = text.partition(" ")
    mark = FEW_MARK if name in entry.get("few_errors", {}) else ""
    return number_text + mark, rest


def _bound(name: str, withheld: Mapping[str, Any] | None, show: Callable[..., str]) -> str:
    upper = withheld.get("upper95") if withheld else None
    if upper is None or name == "accuracy_std":
        return ABSENT
    is_success = name == "accuracy" or name.startswith("rank")  # what is bounded is the rate of errors
    return f"> {show(1 - upper)}" if is_success else f"< {show(upper)}"


def has_few(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any figure of `entries` is flagged or withheld, so that the table needs its footnote."""
    return any(entry.get("withheld") or entry.get("few_errors") for entry in entries)


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _interval_times_100(interval: Interval | None) -> Interval | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
