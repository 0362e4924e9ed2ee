"""The sections of a report, from tables and charts: verification, identification, calibration, groups of people."""

from __future__ import annotations

from collections.abc import Sequence

from facial_rec.tables import NO_PEOPLE
from pipeline import html, report_charts, report_tables
from pipeline.html import Section
from pipeline.report_finding import PROTOCOLS
from pipeline.report_record import Entry, Records, distinct

STRICT = ("tar@fmr=1e-3", "tar@fmr=1e-2")  # the first that is not withheld everywhere
QUALITY = ("psnr", "ssim", "lpips", "identity_loss")
HIDDEN = ("accuracy_std", *report_tables.BASELINES)


def optional_section(title: str, parts: Sequence[str]) -> list[Section]:
    """A section of the parts that are not empty; none without any."""
    kept = [part for part in parts if part]
    return [Section(title, kept)] if kept else []


def verification_sections(records: Records) -> list[Section]:
    """A section for each protocol: charts by size, tables, curves and scores."""
    entries = records.sections["verification"]
    protocols = [name for (name,) in distinct(entries, "protocol")]
    protocols.sort(key=lambda name: PROTOCOLS.index(name) if name in PROTOCOLS else len(PROTOCOLS))
    sections = []
    for protocol in protocols:
        mine = [one for one in entries if one["protocol"] == protocol]
        gaps = [one for one in records.sections["differences"] if one.get("protocol") == protocol]
        parts = []
        for degradation in _degradations(mine):
            here, gaps_here = _of(mine, degradation), _of(gaps, degradation)
            if degradation != "canonical" or len(_degradations(mine)) > 1:
                parts.append(html.heading(f"Reduction: {degradation}", 3))
            parts += _by_size(here, records.threshold)
            parts += _verification_tables(here, gaps_here, records.threshold)
            parts += _curves_of_each(here, records.threshold)
        sections.append(Section(f"Verification, {protocol.upper()}" if protocol != "templates" else "Templates", parts))
        parts.insert(0, html.paragraph(f"{report_tables.protocol_name(protocol)}. {_pairs(mine)}"))
    return sections


def _degradations(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(one.get("degradation") or "canonical" for one in entries if one["method"] != "hr")) or [
        "canonical"
    ]


def _of(entries: Sequence[Entry], degradation: str) -> list[Entry]:
    """The entries of a degradation; full images of another belong to it where it has none of its own."""
    here = [one for one in entries if (one.get("degradation") or "canonical") == degradation]
    own = {_but_degradation(one) for one in here}
    others = [one for one in entries if one["method"] == "hr" and _but_degradation(one) not in own]
    return [*{_but_degradation(one): one for one in others}.values(), *here]


def _but_degradation(entry: Entry) -> tuple[object, ...]:
    return tuple(entry.get(key) for key in ("recogniser", "protocol", "set", "method", "size", "minus"))


def _pairs(entries: Sequence[Entry]) -> str:
    counts = [one["pairs"] for one in entries if one.get("pairs")]
    if not counts:
        return ""
    words = [f"{counts[0][key]:,} {name}" for key, name in _COUNTED.items() if counts[0].get(key) is not None]
    return ", ".join(words) + "." if all(one == counts[0] for one in counts) else "The number of pairs differs by row."


_COUNTED = {"genuine": "genuine pairs", "impostor": "impostor pairs", "people": "people", "folds": "folds"}


def _verification_tables(entries: Sequence[Entry], gaps: Sequence[Entry], threshold: float | None) -> list[str]:
    names = list(dict.fromkeys(name for one in entries for name in (*one["figures"], *(one.get("withheld") or {}))))
    leading = _open_figures(entries)
    rest = [n for n in names if n not in (*leading, *QUALITY, *HIDDEN) and not n.endswith("_ci95")]
    tables = {
        kind: [table for name in which if (table := report_tables.size_table(entries, gaps, name, threshold))]
        for kind, which in {"open": leading, "rest": rest, "quality": QUALITY}.items()
    }
    parts = [html.block("tables", tables["open"]), html.paragraph(_legend(entries, gaps), "soft")]
    if tables["rest"]:
        parts.append(html.details("More figures: equal error rate and others", [html.block("tables", tables["rest"])]))
    if tables["quality"]:
        parts.append(html.details("Quality of the images", [html.block("tables", tables["quality"])]))
    return parts


def _legend(entries: Sequence[Entry], gaps: Sequence[Entry] = ()) -> str:
    words = [report_tables.IN_BRACKETS] if any(key.endswith("_ci95") for e in entries for key in e["figures"]) else []
    if words and any("people" in (one.get("pairs") or {}) and one["pairs"]["people"] is None for one in entries):
        words.append(NO_PEOPLE)
    if gaps:
        words.append("Differences in bold: the interval leaves zero out.")
    if any(one.get("few_errors") for one in entries):
        words.append(report_tables.FEW)
    if any(one.get("withheld") for one in entries):
        words.append("Raised numbers: withheld, see the footnotes.")
    return " ".join(words)


def _open_figures(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The figures that are not folded away."""
    given = [name for name in STRICT if any(one["figures"].get(name) is not None for one in entries)]
    return ("accuracy", *(given[:1] or STRICT[:1]), "fmr@threshold", "fnmr@threshold")


def _by_size(entries: Sequence[Entry], threshold: float | None) -> list[str]:
    parts = []
    for title, mine in _each_recogniser(entries):
        charts = _charts([report_charts.by_size(mine, name, threshold) for name in _open_figures(mine)])
        parts += [title, charts] if charts else []
    return parts


def _curves_of_each(entries: Sequence[Entry], threshold: float | None) -> list[str]:
    parts = []
    for title, mine in _each_recogniser(entries):
        size = report_charts.operating_size(mine)
        found = _curves(mine, size, threshold)
        for other in sorted({one["size"] for one in mine} - {size, None}):
            if more := _curves(mine, other, threshold):
                found.append(html.details(f"Curves and scores at {other} pixels", more))
        parts += [title, *found] if found else []
    return parts


def _each_recogniser(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """A title (empty when there is one recogniser only) and the entries of each recogniser."""
    names = [name for (name,) in distinct(entries, "recogniser")]
    titles = [html.heading(name, 3) if len(names) > 1 else "" for name in names]
    return [
        (title, [one for one in entries if one["recogniser"] == name])
        for name, title in zip(names, titles, strict=True)
    ]


def _curves(entries: Sequence[Entry], size: int | None, threshold: float | None) -> list[str]:
    here = [one for one in entries if one["size"] in (size, None)]
    charts = [report_charts.roc(here), report_charts.det(here)]
    scores = report_charts.histograms(here, threshold)
    if not any(charts) and not scores:
        return []
    title = [html.heading(f"At {size} pixels", 4)] if size is not None else []
    return [*title, _charts(charts), _charts(scores)]


def _charts(charts: Sequence[str]) -> str:
    drawn = [chart for chart in charts if chart]
    return html.block("charts", drawn) if drawn else ""


def identification_section(records: Records) -> list[Section]:
    """Closed and open set: tables, CMC and open-set curves."""
    entries = records.sections["identification"]
    parts: list[str] = []
    for (kind,) in distinct(entries, "set"):
        mine = [one for one in entries if one["set"] == kind]
        for degradation in _degradations(mine):
            here = _of(mine, degradation)
            gaps = [one for one in _of(records.sections["differences"], degradation) if one.get("set") == kind]
            parts += _identification_part(kind, degradation, here, gaps, records.threshold)
    return optional_section("Identification", parts)


def _identification_part(
    kind: str, degradation: str, entries: Sequence[Entry], gaps: Sequence[Entry], threshold: float | None
) -> list[str]:
    names = dict.fromkeys(name for one in entries for name in (*one["figures"], *(one.get("withheld") or {})))
    shown = [name for name in names if not name.endswith("_ci95")]
    tables = [report_tables.size_table(entries, gaps, name, threshold) for name in shown]
    counts: Entry = next((one["counts"] for one in entries if one.get("counts")), {})
    words = [f"{value:,} {_PROBES.get(key, key)}" for key, value in counts.items() if value is not None]
    title = f"{kind.capitalize()} set" + (f", {degradation}" if degradation != "canonical" else "")
    parts = [html.heading(title, 3), html.paragraph(", ".join(words) + "." if words else "")]
    parts += [
        html.block("tables", [table for table in tables if table]),
        html.paragraph(_legend(entries, gaps), "soft"),
    ]
    for (recogniser,) in distinct(entries, "recogniser"):
        mine = [one for one in entries if one["recogniser"] == recogniser]
        size = report_charts.operating_size(mine)
        here = [one for one in mine if one["size"] in (size, None)]
        lines = [report_charts.by_size(mine, name, threshold) for name in shown[:1]]
        curves = [report_charts.cmc(here), report_charts.open_set(here)]
        if any([*lines, *curves]):
            at = f", curves at {size} pixels" if size is not None else ""
            parts += [html.heading(f"{recogniser}{at}", 4), _charts([*lines, *curves])]
    return [part for part in parts if part != "<p></p>"]


_PROBES = {
    "gallery": "people in the gallery, one HR image each",
    "people": "people on the probes",
    "mated": "probes of people in the gallery",
    "nonmated": "probes of strangers",
}


def calibration_section(records: Records) -> list[Section]:
    """Thresholds by size, error rates at the default threshold, risk against coverage."""
    entries, threshold = records.sections["calibration"], records.threshold
    parts: list[str] = []
    keys = ("recogniser", "protocol", "degradation")
    for chosen in distinct(entries, *keys):
        mine = [one for one in entries if tuple(map(one.get, keys)) == chosen]
        title = [chosen[0], str(chosen[1] or "").upper(), _reduced(chosen[2])]
        parts.append(html.heading(", ".join(word for word in title if word), 3))
        parts.append(report_tables.calibration_table(mine, threshold))
        charts = [report_charts.at_default(mine, name, threshold) for name in ("fmr", "fnmr")]
        parts.append(_charts([*charts, *(report_charts.risk_coverage(one) for one in _with_risk(mine))]))
    if parts:
        words = (
            "A threshold chosen for each size and the error rates it gives (held out: on people it was not chosen on), "
        )
        parts.insert(0, html.paragraph(words + "beside those of one threshold for all sizes."))
    return optional_section("Calibration and reject option", parts)


def _with_risk(entries: Sequence[Entry]) -> list[Entry]:
    """One entry a method; only those with curves of low-resolution faces, if there are any."""
    each = list({one["method"]: one for one in reversed(entries)}.values())[::-1]
    low = [e for e in each if any(one["size"] is not None and one.get("risk_coverage") for one in e["sizes"])]
    return low or each[:1]


def groups_section(records: Records) -> list[Section]:
    """Error rates by group of people; for each column the size a report leads with, the other cases folded away."""
    entries = records.sections["groups"]
    parts: list[str] = []
    keys = ("column", "recogniser", "protocol", "degradation")
    for chosen in distinct(entries, *keys):
        mine = [one for one in entries if tuple(map(one.get, keys)) == chosen]
        column, recogniser, protocol, degradation = chosen
        size = report_charts.operating_size(mine)
        first = next((one for one in mine if (one["size"], one["method"]) == (size, "dsr")), None)
        first = first or next(one for one in mine if one["size"] == size)
        where = [f"By {column}: {recogniser}", str(protocol or "").upper(), _case(first), _reduced(degradation)]
        parts.append(html.heading(", ".join(word for word in where if word), 3))
        parts += _group_parts(first)
        for one in mine:
            if one is not first:
                parts.append(html.details(_case(one), _group_parts(one)))
    if parts:
        words = (
            "Groups are compared at one threshold. Intervals that overlap do not show that groups are treated alike."
        )
        parts.insert(0, html.paragraph(words))
    return optional_section("Error rates by group", parts)


def _reduced(degradation: str | None) -> str:
    """The reduction in words; empty for the usual one."""
    return "" if degradation in (None, "canonical") else f"reduction {degradation}"


def _case(entry: Entry) -> str:
    name = report_tables.method_name(entry["method"])
    return name if entry["size"] is None else f"{name}, {report_tables.size_name(entry['size'])}"


def _group_parts(entry: Entry) -> list[str]:
    charts = _charts([report_charts.group_rates(entry, name) for name in ("fnmr", "fmr")])
    ratios = [html.paragraph(report_tables.ratio_words(one), "soft") for one in entry.get("ratios") or []]
    return [part for part in [report_tables.group_table(entry), *ratios, charts] if part]
