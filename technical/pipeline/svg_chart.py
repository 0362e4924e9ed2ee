"""Small charts as inline SVG: colours come from the page's style sheet, so they follow light and dark.

The same input gives the same bytes. Sizes are in the units of a 420-unit wide drawing that scales with the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from pipeline.svg_axes import Axis, linear_axis

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 30, 44
CLOSEST_TICKS = 24

_DASHES = {"hr": "1 5", "bicubic": "7 4", "dsr": "", "s0": "", "s1": "7 4", "s2": "2 4", "s3": "9 3 2 3", "s4": "4 3"}
_DASHES["s5"] = "12 4"
_MARKS = {"hr": "diamond", "bicubic": "square", "dsr": "circle"}
_MARKS |= {"s0": "circle", "s1": "square", "s2": "diamond", "s3": "triangle", "s4": "circle", "s5": "square"}
SERIES = ("s0", "s1", "s2", "s3", "s4", "s5")


@dataclass(frozen=True)
class Line:
    """A line through points, with a band around it and markers on it if wanted."""

    label: str
    style: str
    """A series of the style sheet: hr, bicubic, dsr, s0 to s5."""
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None] = ()
    """Lower ends of the interval at each point, None where there is none; empty: no band."""
    high: Sequence[float | None] = ()
    marks: bool = False


@dataclass(frozen=True)
class Bars:
    """A histogram: shares between edges, as a filled outline."""

    label: str
    style: str
    edges: Sequence[float]
    shares: Sequence[float]


@dataclass(frozen=True)
class Reference:
    """A line across the chart at one x, with a word beside it."""

    x: float
    word: str


@dataclass(frozen=True)
class Chart:
    """What is drawn."""

    title: str
    x: Axis
    y: Axis
    layers: Sequence[Line | Bars]
    references: Sequence[Reference] = field(default_factory=tuple)
    caption: str = ""


def render(chart: Chart) -> str:
    """A `figure` with title, legend, drawing and caption."""
    labels = [layer.label for layer in chart.layers]
    alt = f"{chart.title}. {chart.y.label} against {chart.x.label}: {', '.join(labels)}."
    drawing = _frame(chart) + "".join(_layer(chart, layer) for layer in chart.layers)
    drawing += "".join(_reference(chart, reference) for reference in chart.references)
    return figure(chart.title, alt, drawing, HEIGHT, legend(chart.layers), chart.caption)


def figure(title: str, alt: str, drawing: str, height: int, legend_html: str = "", caption: str = "") -> str:
    """A chart's box around SVG elements drawn `WIDTH` x `height`; `alt` says it in words."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="chart"><h4>{escape(title)}</h4>{legend_html}'
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(alt)}">{drawing}</svg>'
        f"{below}</figure>"
    )


def legend(layers: Sequence[Line | Bars]) -> str:
    """The names of the layers beside a piece of each."""
    items = []
    for layer in layers:
        if isinstance(layer, Bars):
            sample = f'<path class="fill paint-{layer.style}" d="M2 2H28V12H2Z" opacity="0.3"/>'
            sample += f'<path class="line ink-{layer.style}"{_dash(layer.style)} d="M2 2H28"/>'
        else:
            sample = f'<path class="line ink-{layer.style}"{_dash(layer.style)} d="M1 7H29"/>'
            sample += mark(layer.style, 15, 7) if layer.marks else ""
        items.append(f'<li><svg viewBox="0 0 30 14" aria-hidden="true">{sample}</svg>{escape(layer.label)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def mark(style: str, x: float, y: float, radius: float = 4.2) -> str:
    """The marker of a series at a point."""
    classes = f'class="mark paint-{style}"'
    match _MARKS[style]:
        case "circle":
            return f'<circle {classes} cx="{_n(x)}" cy="{_n(y)}" r="{radius}"/>'
        case "square":
            corner = radius * 0.9
            side = f"{2 * corner:g}"
            return f'<path {classes} d="M{_n(x - corner)} {_n(y - corner)}h{side}v{side}h-{side}Z"/>'
        case "diamond":
            reach = radius * 1.25
            outline = (
                f"M{_n(x - reach)} {_n(y)}L{_n(x)} {_n(y - reach)}L{_n(x + reach)} {_n(y)}L{_n(x)} {_n(y + reach)}Z"
            )
            return f'<path {classes} d="{outline}"/>'
    reach = radius * 1.2
    outline = f"M{_n(x - reach)} {_n(y + reach * 0.8)}L{_n(x)} {_n(y - reach)}L{_n(x + reach)} {_n(y + reach * 0.8)}Z"
    return f'<path {classes} d="{outline}"/>'


def _n(value: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{round(value, 1) + 0.0:g}"


def _dash(style: str) -> str:
    return f' stroke-dasharray="{_DASHES[style]}"' if _DASHES[style] else ""


def _at(chart: Chart, x: float, y: float) -> tuple[float, float]:
    across, up = chart.x.place(x), chart.y.place(y)
    return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _frame(chart: Chart) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value, word in _spread(chart.x, WIDTH - LEFT - RIGHT, CLOSEST_TICKS):
        x, _ = _at(chart, value, chart.y.low)
        parts.append(f'<path class="grid" d="M{_n(x)} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{_n(x)}" y="{bottom + 17}" text-anchor="middle">{escape(word)}</text>')
    for value, word in _spread(chart.y, HEIGHT - TOP - BOTTOM, CLOSEST_TICKS * 0.75):
        _, y = _at(chart, chart.x.low, value)
        parts.append(f'<path class="grid" d="M{LEFT} {_n(y)}H{right}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{_n(y + 4.5)}" text-anchor="end">{escape(word)}</text>')
    parts.append(f'<path class="frame" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{_n(middle)}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x.label)}</text>')
    parts.append(f'<text x="2" y="14">{escape(chart.y.label)}</text>')
    return "".join(parts)


def _spread(axis: Axis, length: float, closest: float) -> list[tuple[float, str]]:
    """The ticks that have room for their words."""
    kept: list[tuple[float, str]] = []
    for value, word in axis.ticks:
        if not kept or abs(axis.place(value) - axis.place(kept[-1][0])) * length >= closest:
            kept.append((value, word))
    return kept


def _layer(chart: Chart, layer: Line | Bars) -> str:
    return _bars(chart, layer) if isinstance(layer, Bars) else _line(chart, layer)


def _line(chart: Chart, line: Line) -> str:
    points = [_at(chart, x, y) for x, y in zip(line.x, line.y, strict=True)]
    parts = _band(chart, line) if line.low else ""
    parts += f'<path class="line ink-{line.style}"{_dash(line.style)} d="{_path(points)}"/>'
    return parts + ("".join(mark(line.style, x, y) for x, y in points) if line.marks else "")


def _band(chart: Chart, line: Line) -> str:
    spans = list(zip(line.x, line.low, line.high, strict=True))
    known = [(x, low, high) for x, low, high in spans if low is not None and high is not None]
    if len(known) == 1:
        (x, low), (_, high) = _at(chart, known[0][0], known[0][1]), _at(chart, known[0][0], known[0][2])
        return f'<path class="whisker ink-{line.style}" d="M{_n(x)} {_n(low)}V{_n(high)}"/>'
    outline = [_at(chart, x, high) for x, _, high in known] + [_at(chart, x, low) for x, low, _ in reversed(known)]
    return f'<path class="band paint-{line.style}" d="{_path(outline)}Z"/>' if known else ""


def _path(points: Sequence[tuple[float, float]]) -> str:
    words: list[str] = []
    for x, y in points:
        word = f"{_n(x)} {_n(y)}"
        if not words or words[-1] != word:
            words.append(word)
    # A line of one point shows as a dot because its ends are round.
    return f"M{words[0]}" + ("".join(f"L{word}" for word in words[1:]) or "h0") if words else ""


def _bars(chart: Chart, bars: Bars) -> str:
    corners = [(bars.edges[0], 0.0)]
    for left, right, share in zip(bars.edges[:-1], bars.edges[1:], bars.shares, strict=True):
        corners += [(left, share), (right, share)]
    corners.append((bars.edges[-1], 0.0))
    outline = _path([_at(chart, x, y) for x, y in corners])
    return (
        f'<path class="fill paint-{bars.style}" d="{outline}Z"/>'
        f'<path class="line ink-{bars.style}"{_dash(bars.style)} d="{outline}"/>'
    )


def _reference(chart: Chart, reference: Reference) -> str:
    if not chart.x.low <= reference.x <= chart.x.high:
        return ""
    x, _ = _at(chart, reference.x, chart.y.low)
    side, shift = ("end", -5) if x > WIDTH * 0.6 else ("start", 5)
    return (
        f'<path class="ref" d="M{_n(x)} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<text class="ref" x="{_n(x + shift)}" y="{TOP + 11}" text-anchor="{side}">{escape(reference.word)}</text>'
    )


def dot_rows(title: str, label: str, rows: Sequence[tuple[str, float | None, tuple[float, float] | None, str]]) -> str:
    """A figure per row as a dot with its interval: `(name, rate, interval, word shown when there is no rate)`."""
    shown = [value for _, value, interval, _ in rows for value in (value, *(interval or ())) if value is not None]
    axis = linear_axis(label, 0.0, min(1.0, max([0.001, *shown]) * 1.08), 100.0)
    left, top, step = 120, 6, 30
    height = top + BOTTOM + step * len(rows)

    def across(value: float) -> float:
        return left + axis.place(value) * (WIDTH - left - RIGHT)

    bottom, parts = height - BOTTOM, []
    for tick, word in axis.ticks:
        parts.append(f'<path class="grid" d="M{_n(across(tick))} {top}V{bottom}"/>')
        parts.append(f'<text x="{_n(across(tick))}" y="{bottom + 17}" text-anchor="middle">{escape(word)}</text>')
    parts.append(f'<path class="frame" d="M{left} {top}V{bottom}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text x="{(left + WIDTH) / 2:g}" y="{height - 6}" text-anchor="middle">{escape(label)}</text>')
    for number, (name, value, interval, absent) in enumerate(rows):
        y = top + step * (number + 0.5)
        short = name if len(name) <= 15 else name[:14] + "…"
        parts.append(f'<text x="{left - 8}" y="{y + 4.5:g}" text-anchor="end">{escape(short)}</text>')
        if interval is not None:
            ends = f"M{_n(across(interval[0]))} {y:g}H{_n(across(interval[1]))}"
            parts.append(f'<path class="whisker ink-s0" d="{ends}"/>')
        if value is None:
            parts.append(f'<text x="{left + 8}" y="{y + 4.5:g}">{escape(absent)}</text>')
        else:
            parts.append(mark("s0", across(value), y, 5))
    return figure(title, f"{title}. {label} of {', '.join(name for name, *_ in rows)}.", "".join(parts), height)
