"""The tables of a report: figures with intervals, sizes across, methods down, footnotes for what is withheld."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Literal

from facial_rec.tables import ABSENT, number
from pipeline.html import Cell, Group, Markup, figure_table, note_mark, paragraph
from pipeline.report_record import Entry, distinct

METHOD_NAMES = {"hr": "HR (112 px)", "bicubic": "bicubic", "dsr": "DSR"}
PROTOCOL_NAMES = {
    "lr-hr": "LR-HR: a low-resolution face against a full one",
    "lr-lr": "LR-LR: both faces of low resolution",
    "templates": "Templates: several images of a person as one",
}
FEW = "* fewer than 30 errors behind the figure: read it as an order of magnitude."
IN_BRACKETS = "In brackets: 95 % intervals, people resampled."


@dataclass(frozen=True)
class Figure:
    """How a figure is named and written."""

    label: str
    unit: Literal["percent", "plain"] = "percent"
    decimals: int = 2
    higher_is_better: bool = True

    def write(self, value: float, signed: bool = False) -> str:
        """The figure as a table shows it, without its unit."""
        small = (
            self.unit == "percent" and not self.higher_is_better and not signed
        )  # 0.00 % would say nothing of a FMR of 3e-5
        decimals = self.decimals + (abs(value) < 1e-3) + (abs(value) < 1e-4) if small and value else self.decimals
        words = number(100 * value if self.unit == "percent" else value, None, decimals, signed)
        return words if float(words) else words.lstrip("+-")  # no -0.00


_ERRORS = {"fmr": "FMR", "fnmr": "FNMR", "fpir": "FPIR", "fnir": "FNIR"}


def figure_of(name: str, threshold: float | None = None) -> Figure:
    """The way to write a figure of the records; an unknown one is shown as it is, under its own name."""
    at = "the threshold" if threshold is None else f"threshold {threshold:g}"
    known = {
        "accuracy": Figure("Accuracy, %"),
        "auc": Figure("AUC, %"),
        "eer": Figure("Equal error rate, %", higher_is_better=False),
        "d_prime": Figure("d′ (separation of the scores)", "plain"),
        "psnr": Figure("PSNR, dB", "plain"),
        "ssim": Figure("SSIM", "plain", 3),
        "lpips": Figure("LPIPS (lower is better)", "plain", 3, higher_is_better=False),
        "identity_loss": Figure(
            "Identity loss (1 − cosine to HR, lower is better)", "plain", 3, higher_is_better=False
        ),
    }
    if name in known:
        return known[name]
    if rank := re.fullmatch(r"rank(\d+)", name):
        return Figure(f"Rank-{rank[1]}, %")
    if rate := re.fullmatch(r"(tar|dir)@(fmr|fpir)=(\S+)", name):
        return Figure(f"{rate[1].upper()} at {rate[2].upper()} {_share(rate[3])}, %")
    if error := re.fullmatch(r"(fmr|fnmr|fpir|fnir)(@threshold)?", name):
        return Figure(f"{_ERRORS[error[1]]} at {at}, %", higher_is_better=False)
    return Figure(name, "plain", 4)


def _share(word: str) -> str:
    try:
        return f"{100 * float(word):g} %"
    except ValueError:
        return word


def method_name(method: str) -> str:
    """How a method is called in the report."""
    return METHOD_NAMES.get(method, method)


def protocol_name(protocol: str) -> str:
    """How a protocol is called in the report."""
    return PROTOCOL_NAMES.get(protocol, protocol)


def size_name(size: int | None) -> str:
    """How a size is called in the report; None is the full image."""
    return "full size" if size is None else f"{size} px"


class Footnotes:
    """The reasons why figures of one table are withheld, numbered as they come."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def mark(self, reason: str) -> Markup:
        """The raised number of `reason`; the same reason gets the same number."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return note_mark(self.reasons.index(reason) + 1)


def figure_cell(entry: Entry, name: str, figure: Figure, footnotes: Footnotes, span: int = 1) -> Cell:
    """A figure with its interval below, flagged or withheld as the record says.

    `entry` holds the figures itself or under `figures`; beside them may stand `withheld` and `few_errors`.
    """
    figures = entry.get("figures", entry)
    value, interval = figures.get(name), figures.get(f"{name}_ci95")
    withheld = (entry.get("withheld") or {}).get(name)
    if value is None:
        if withheld is None:
            return Cell(ABSENT, span, "quiet")
        return Cell(Markup(escape(bound(withheld, figure)) + footnotes.mark(withheld["reason"])), span, "quiet")
    few = "*" if name in (entry.get("few_errors") or {}) else ""
    return Cell(Markup(escape(figure.write(value) + few) + _interval(interval, figure)), span)


def bound(withheld: dict[str, Any], figure: Figure) -> str:
    """What can be said of a withheld figure: how far it may lie from perfect, or nothing."""
    upper = withheld.get("upper95")
    if upper is None:
        return ABSENT
    return f"> {figure.write(1 - upper)}" if figure.higher_is_better else f"< {figure.write(upper)}"


def difference_cell(entry: Entry | None, name: str, figure: Figure) -> Cell:
    """A difference with its interval; bold when the interval leaves zero out."""
    value = None if entry is None else entry["figures"].get(name)
    if entry is None or value is None:
        return Cell(ABSENT, 1, "quiet")
    interval = entry["figures"].get(f"{name}_ci95")
    words = Markup(escape(figure.write(value, signed=True)) + _interval(interval, figure, signed=True))
    return Cell(words, 1, "marked" if excludes_zero(interval) else "")


def excludes_zero(interval: Sequence[float] | None) -> bool:
    """Whether an interval lies on one side of zero."""
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


def _interval(interval: Sequence[float] | None, figure: Figure, signed: bool = False) -> str:
    if interval is None:
        return ""
    low, high = (figure.write(end, signed) for end in interval)
    return f' <span class="interval">[{escape(low)}, {escape(high)}]</span>'


BASELINES = {"reject_all_accuracy": "rejecting every pair", "accept_all_accuracy": "accepting every pair"}


def size_table(entries: Sequence[Entry], differences: Sequence[Entry], name: str, threshold: float | None) -> str:
    """One figure: sizes across, methods down, a group of rows for each recogniser; empty when nobody has it.

    Below the methods stands DSR minus bicubic where the record has it, and beside accuracies the baselines.
    """
    figure = figure_of(name, threshold)
    holders = [one for one in entries if one["figures"].get(name) is not None or name in (one.get("withheld") or {})]
    if not holders:
        return ""
    if not any(_says_something(one, name) for one in holders):
        reasons = " ".join(dict.fromkeys(f"{one['withheld'][name]['reason']}." for one in holders))
        return paragraph(f"{figure.label.removesuffix(', %')} is withheld in every row. {reasons}", "soft")
    sizes = sorted({one["size"] for one in holders if one["size"] is not None})
    footnotes = Footnotes()
    groups = []
    for (recogniser,) in distinct(holders, "recogniser"):
        mine = [one for one in holders if one["recogniser"] == recogniser]
        rows = [_method_row(mine, method, sizes, name, figure, footnotes) for (method,) in distinct(mine, "method")]
        rows += _difference_rows([d for d in differences if d["recogniser"] == recogniser], sizes, name, figure)
        groups.append(Group(recogniser, rows))
    if name == "accuracy":
        groups += _baselines(holders, len(sizes), figure)
    return figure_table(figure.label, ["", *(size_name(size) for size in sizes or [None])], groups, footnotes.reasons)


def _says_something(entry: Entry, name: str) -> bool:
    """Whether an entry has the figure, or at least a bound of it."""
    withheld = (entry.get("withheld") or {}).get(name) or {}
    return entry["figures"].get(name) is not None or withheld.get("upper95") is not None


def _method_row(
    entries: Sequence[Entry], method: str, sizes: Sequence[int], name: str, figure: Figure, footnotes: Footnotes
) -> list[str | Cell]:
    by_size = {one["size"]: one for one in entries if one["method"] == method}
    label = method_name(method)
    if None in by_size:  # the full images, the same at every size
        return [label, figure_cell(by_size[None], name, figure, footnotes, max(1, len(sizes)))]
    cells = [
        figure_cell(by_size[size], name, figure, footnotes) if size in by_size else Cell(ABSENT, 1, "quiet")
        for size in sizes
    ]
    return [label, *cells]


def _difference_rows(
    differences: Sequence[Entry], sizes: Sequence[int], name: str, figure: Figure
) -> list[list[str | Cell]]:
    rows: list[list[str | Cell]] = []
    for method, minus in distinct(differences, "method", "minus"):
        by_size = {d["size"]: d for d in differences if (d["method"], d["minus"]) == (method, minus)}
        if any(one["figures"].get(name) is not None for one in by_size.values()):
            what, _, whose = minus.partition(" of ")
            label = f"{method_name(method)} − {method_name(what)}{f' of {whose}' if whose else ''}"
            cells = [difference_cell(by_size.get(size), name, figure) for size in sizes]
            if None in by_size:  # the full images
                cells = [replace(difference_cell(by_size[None], name, figure), span=max(1, len(sizes)))]
            rows.append([label, *cells])
    return rows


def _baselines(entries: Sequence[Entry], columns: int, figure: Figure) -> list[Group]:
    rows: list[list[str | Cell]] = []
    for name, label in BASELINES.items():
        values = {one["figures"].get(name) for one in entries} - {None}
        if values:
            words = " to ".join(figure.write(value) for value in sorted({min(values), max(values)}))
            rows.append([label, Cell(words, max(1, columns), "quiet")])
    return [Group("Baselines", rows)] if rows else []


def calibration_table(entries: Sequence[Entry], threshold: float | None) -> str:
    """Thresholds by size for each wanted FMR, what they give, and what the default threshold gives instead."""
    default = "the default threshold" if threshold is None else f"{threshold:g}"
    every = {
        "threshold": Figure("accept from", "plain", 3),
        "reject": Figure("reject below", "plain", 3),
        "fmr": Figure("FMR, %", higher_is_better=False),
        "fnmr": Figure("FNMR, %", higher_is_better=False),
        "fmr_held_out": Figure("FMR held out, %", higher_is_better=False),
        "fnmr_held_out": Figure("FNMR held out, %", higher_is_better=False),
        "fmr_at_default": Figure(f"FMR at {default}, %", higher_is_better=False),
        "fnmr_at_default": Figure(f"FNMR at {default}, %", higher_is_better=False),
    }
    columns = {
        name: figure for name, figure in every.items() if any(name in one for e in entries for one in e["sizes"])
    }
    footnotes = Footnotes()
    groups = []
    for entry in entries:
        wanted = "" if entry.get("wanted_fmr") is None else f", wanted FMR {_share(str(entry['wanted_fmr']))}"
        rows: list[list[str | Cell]] = []
        for one in entry["sizes"]:
            rows.append([size_name(one["size"]), *(figure_cell(one, *column, footnotes) for column in columns.items())])
        groups.append(Group(f"{method_name(entry['method'])}{wanted}", rows))
    header = ["", *(figure.label for figure in columns.values())]
    return figure_table("Thresholds by size", header, groups, footnotes.reasons)


def group_table(entry: Entry) -> str:
    """Error rates of each group of people, with what they rest on."""
    threshold = entry.get("threshold")
    footnotes = Footnotes()
    rows: list[list[str | Cell]] = []
    for one in entry["rows"]:
        counts = [ABSENT if one.get(key) is None else f"{one[key]:,}" for key in ("people", "genuine", "impostor")]
        rates = [figure_cell(one, name, figure_of(name, threshold), footnotes) for name in ("fnmr", "fmr")]
        rows.append([one["value"], *rates, *counts])
    header = [
        "",
        figure_of("fnmr", threshold).label,
        figure_of("fmr", threshold).label,
        "people",
        "genuine",
        "impostor",
    ]
    return figure_table(f"Error rates by {entry['column']}", header, [Group("", rows)], footnotes.reasons)


def ratio_words(ratio: Entry) -> str:
    """How much worse the worst group fares than the best, and whether that may be chance."""
    interval = ratio.get("ratio_ci95")
    words = f"{ratio['figure'].upper()} of {ratio['higher']} over {ratio['lower']}: {ratio['ratio']:.2f}"
    if interval is None:
        return words + "; no interval."
    widened = f", widened for {ratio['comparisons']} comparisons" if (ratio.get("comparisons") or 0) > 1 else ""
    verdict = "holds 1: it may be chance" if interval[0] <= 1 <= interval[1] else "excludes 1"
    return f"{words}; its interval [{interval[0]:.2f}, {interval[1]:.2f}]{widened} {verdict}."
