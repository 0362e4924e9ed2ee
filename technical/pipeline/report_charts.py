"""The charts of a report, from entries of checked records."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report_record import Entry, distinct
from pipeline.report_tables import Figure, bound, figure_of, method_name, size_name
from pipeline.svg_axes import linear_axis, log_axis, percent_axis, probit_axis, size_axis
from pipeline.svg_chart import SERIES, Bars, Chart, Line, Reference, dot_rows, render

METHOD_STYLES = ("hr", "bicubic", "dsr")
MOST_GROUPS = 24


def style_of(method: str, number: int = 0) -> str:
    """The series of the style sheet that a method is drawn with."""
    return method if method in METHOD_STYLES else SERIES[(number + 2) % len(SERIES)]


def by_size(entries: Sequence[Entry], name: str, threshold: float | None, caption: str = "") -> str:
    """A figure against the size of the face, intervals as bands, the full images as a level line; empty with fewer
    than two sizes."""
    figure = figure_of(name, threshold)
    lines = []
    sizes = sorted({one["size"] for one in entries if one["size"] is not None and _value(one, name) is not None})
    if len(sizes) < 2:
        return ""
    for number, (method,) in enumerate(distinct(entries, "method")):
        found = [one for one in entries if one["method"] == method and _value(one, name) is not None]
        found.sort(key=lambda one: one["size"] or 0)
        if found and found[0]["size"] is None:
            found = found[:1]
            span: list[float] = [min(sizes) / 1.08, max(sizes) * 1.08]
            lines.append(_line(found * 2, name, method, number, span, marks=False))
        elif found:
            lines.append(_line(found, name, method, number, [one["size"] for one in found], marks=True))
    values = [v for line in lines for v in (*line.y, *line.low, *line.high) if v is not None]
    axis = (
        percent_axis(figure.label, values) if figure.unit == "percent" else linear_axis(figure.label, *_range(values))
    )
    return render(Chart(f"{figure.label.split(',')[0]} by size", size_axis(sizes), axis, lines, (), caption))


def _value(entry: Entry, name: str) -> float | None:
    return entry["figures"].get(name)


def _line(entries: Sequence[Entry], name: str, method: str, number: int, x: Sequence[float], marks: bool) -> Line:
    ends = [one["figures"].get(f"{name}_ci95") or (None, None) for one in entries]
    low, high = [end[0] for end in ends], [end[1] for end in ends]
    label, style = method_name(method), style_of(method, number)
    return Line(label, style, x, [one["figures"][name] for one in entries], low, high, marks)


def _range(values: Sequence[float]) -> tuple[float, float]:
    air = 0.06 * (max(values) - min(values)) or 0.05
    return min(values) - air, max(values) + air


def roc(entries: Sequence[Entry]) -> str:
    """True against false match rate, on a logarithmic axis; empty without curves."""
    curves = _with(entries, "curve")
    if not curves:
        return ""
    lines = [
        _positive(Line(label, style, one["curve"]["fmr"], [1 - rate for rate in one["curve"]["fnmr"]]))
        for one, label, style in curves
    ]
    rates = [y for line in lines for y in line.y]
    fmr = log_axis("false match rate (FMR), %", _smallest([line.x for line in lines]))
    tmr = percent_axis("true match rate, %", rates or [0.0, 1.0])
    return render(Chart("ROC", fmr, tmr, lines))


def det(entries: Sequence[Entry]) -> str:
    """FNMR against FMR, both on probit axes; empty without curves."""
    curves = _with(entries, "curve")
    if not curves:
        return ""
    lines = [Line(label, style, one["curve"]["fmr"], one["curve"]["fnmr"]) for one, label, style in curves]
    lines = [_inside(line) for line in lines]
    x = probit_axis("false match rate (FMR), %", _smallest([line.x for line in lines]), 0.5)
    y = probit_axis("false non-match rate (FNMR), %", _smallest([line.y for line in lines]), 0.8)
    return render(Chart("DET", x, y, lines))


def _inside(line: Line) -> Line:
    """Only the points where both rates lie strictly between 0 and 1: a probit axis has no place for the ends."""
    kept = [(x, y) for x, y in zip(line.x, line.y, strict=True) if 0 < x < 1 and 0 < y < 1]
    return Line(line.label, line.style, [x for x, _ in kept], [y for _, y in kept])


def _positive(line: Line) -> Line:
    """Only the points with a rate above 0: a logarithmic axis has no place for it."""
    kept = [(x, y) for x, y in zip(line.x, line.y, strict=True) if x > 0]
    return Line(line.label, line.style, [x for x, _ in kept], [y for _, y in kept])


def _smallest(lists: Sequence[Sequence[float]]) -> float:
    return min((value for values in lists for value in values if value > 0), default=1e-3)


def _with(entries: Sequence[Entry], key: str) -> list[tuple[Entry, str, str]]:
    """The entries that have `key`, each with its name and series."""
    methods = [method for (method,) in distinct(entries, "method")]
    return [
        (one, method_name(one["method"]), style_of(one["method"], methods.index(one["method"])))
        for one in entries
        if one.get(key)
    ]


def histograms(entries: Sequence[Entry], threshold: float | None) -> list[str]:
    """One chart a method: how genuine and impostor scores lie, with the threshold drawn."""
    found = _with(entries, "histogram")
    if not found:
        return []
    tallest = max(max(_shares(one["histogram"][kind])) for one, _, _ in found for kind in ("genuine", "impostor"))
    edges = [edge for one, _, _ in found for edge in one["histogram"]["edges"]]
    x = linear_axis("score (cosine)", min(edges), max(edges))
    y = linear_axis("share of pairs, %", 0.0, tallest * 1.12, 100.0)
    lines = () if threshold is None else (Reference(threshold, f"threshold {threshold:g}"),)
    charts = []
    for one, label, _ in found:
        histogram = one["histogram"]
        layers = [
            Bars("impostor", "s1", histogram["edges"], _shares(histogram["impostor"])),
            Bars("genuine", "s0", histogram["edges"], _shares(histogram["genuine"])),
        ]
        charts.append(render(Chart(f"Scores, {label}", x, y, layers, lines)))
    return charts


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [count / total if total > 0 else 0.0 for count in counts]


def cmc(entries: Sequence[Entry]) -> str:
    """Rate of finding the right person among the best k, against k; empty without curves."""
    found = _with(entries, "cmc")
    if not found:
        return ""
    lines = [Line(label, style, one["cmc"]["rank"], one["cmc"]["rate"]) for one, label, style in found]
    last = max(max(line.x) for line in lines)
    ranks = linear_axis("rank", 1, max(2, last))
    return render(Chart("CMC", ranks, percent_axis("probes found, %", [y for line in lines for y in line.y]), lines))


def open_set(entries: Sequence[Entry]) -> str:
    """Missed members of the gallery against strangers accepted; empty without curves."""
    found = _with(entries, "open_set")
    if not found:
        return ""
    lines = [
        _positive(Line(label, style, one["open_set"]["fpir"], one["open_set"]["fnir"])) for one, label, style in found
    ]
    x = log_axis("false positive rate (FPIR), %", _smallest([line.x for line in lines]))
    y = percent_axis("missed (FNIR), %", [v for line in lines for v in line.y] or [0.0, 1.0])
    return render(Chart("Open set", x, y, lines))


def at_default(entries: Sequence[Entry], name: str, threshold: float | None) -> str:
    """An error rate at the default threshold by size, a line for each method; empty without two points."""
    rows: dict[tuple[str, int | None], Entry] = {}
    for entry in _first_of_each_method(entries):
        for one in entry["sizes"]:
            method = entry["method"] if one["size"] is not None else "hr"
            figures = _renamed(one, f"{name}_at_default", name)
            rows.setdefault((method, one["size"]), {"method": method, "size": one["size"], "figures": figures})
    in_order = sorted(rows.values(), key=lambda one: one["method"] != "hr")
    return by_size(in_order, name, threshold)


def _renamed(one: Entry, old: str, new: str) -> Entry:
    return {new: one.get(old), f"{new}_ci95": one.get(f"{old}_ci95")}


def _first_of_each_method(entries: Sequence[Entry]) -> list[Entry]:
    """The rates at the default threshold do not depend on the wanted FMR: one entry a method has them all."""
    found: dict[str, Entry] = {}
    for entry in entries:
        found.setdefault(entry["method"], entry)
    return list(found.values())


def risk_coverage(entry: Entry) -> str:
    """Errors among the decisions kept against the share kept, a line for each size; empty without curves."""
    found = [one for one in entry["sizes"] if one.get("risk_coverage")]
    if not found:
        return ""
    count = min(len(found), len(SERIES))  # more lines than that cannot be told apart
    found = [found[round(number * (len(found) - 1) / max(1, count - 1))] for number in range(count)]
    lines = [
        Line(
            size_name(one["size"]),
            SERIES[number],
            one["risk_coverage"]["coverage"],
            one["risk_coverage"]["risk"],
        )
        for number, one in enumerate(found)
    ]
    x = percent_axis("decisions kept, %", [0.0, 1.0])
    y = percent_axis("wrong among those kept, %", [v for line in lines for v in (0.0, *line.y)])
    return render(Chart(f"Risk and coverage, {method_name(entry['method'])}", x, y, lines))


def group_rates(entry: Entry, name: str) -> str:
    """One error rate of each group with its interval; empty when no group has it."""
    figure: Figure = figure_of(name, entry.get("threshold"))
    rows = []
    for one in entry["rows"][:MOST_GROUPS]:
        withheld = (one.get("withheld") or {}).get(name)
        absent = "too few errors" if withheld else "no pairs"
        absent += f", {bound(withheld, figure)} %" if withheld and withheld.get("upper95") else ""
        interval = one.get(f"{name}_ci95")
        value = one.get(name)
        rows.append((one["value"], value, tuple(interval) if interval and value is not None else None, absent))
    if all(value is None for _, value, _, _ in rows):
        return ""
    return dot_rows(f"{name.upper()} by {entry['column']}", figure.label, rows)


def operating_size(entries: Sequence[Entry], wanted: int = 16) -> int | None:
    """The size that a report leads with: 16 pixels, or else the nearest there is."""
    sizes = {one["size"] for one in entries if one["size"] is not None}
    return min(sizes, key=lambda size: (abs(size - wanted), size)) if sizes else None
