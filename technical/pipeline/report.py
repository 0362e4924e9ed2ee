"""One page from evaluation records: what was found, the figures with their intervals, charts, pictures, what was run.

    python -m pipeline.report --json runs/lfw.json --json runs/identification.json --out runs/report.html

The page needs no network and no other file. The same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from common import cli
from common.errors import UserError
from common.files import write_text
from pipeline import html, report_charts, report_tables
from pipeline.html import Section
from pipeline.report_finding import PROTOCOLS, finding
from pipeline.report_pictures import picture_parts
from pipeline.report_record import Entry, Records, distinct, read_records

NOT_FOR = (
    "The figures hold for these images and these people only: do not use them to decide about a person, to set a "
    "threshold for other cameras, or to claim how the system treats groups that the data barely contains."
)
OPEN_FIGURES = ("accuracy", "tar@fmr=1e-3", "fmr@threshold", "fnmr@threshold")
QUALITY = ("psnr", "ssim", "lpips", "identity_loss")
HIDDEN = ("accuracy_std", *report_tables.BASELINES)


@dataclass(frozen=True)
class Config:
    """Which records become which page."""

    json: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Record that an evaluation wrote; repeat for several, which are joined."""
    out: Path = Path("runs/report.html")
    """HTML file to write."""
    title: str = ""
    """Title of the page; without one the first record's."""


def main(cfg: Config) -> Path:
    """Write the page and return where it lies."""
    if cfg.out.is_dir():
        raise UserError(f"--out {cfg.out} is a folder: expected the name of an HTML file.")
    page = report(read_records(cfg.json), cfg.title)
    write_text(cfg.out, page)
    print(f"written: {cfg.out} ({len(page.encode()) / 1e6:.1f} MB)")
    return cfg.out


def report(records: Records, title: str = "") -> str:
    """The page as HTML; sections without figures are left out."""
    sections = [
        Section("Finding", [*finding(records), html.paragraph(NOT_FOR, "soft")]),
        *_verification(records),
        *_identification(records),
        *_calibration(records),
        *_groups(records),
        *_optional("Pictures", picture_parts(records.pictures)),
        Section("What was run", [part for run in records.runs for part in _run(run, len(records.runs) > 1)]),
        Section("How to read this", _reading(records)),
    ]
    return html.page(title or records.runs[0]["title"], sections, contents=True)


def _optional(title: str, parts: Sequence[str]) -> list[Section]:
    kept = [part for part in parts if part]
    return [Section(title, kept)] if kept else []


def _verification(records: Records) -> list[Section]:
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
    rest = [n for n in names if n not in (*OPEN_FIGURES, *QUALITY, *HIDDEN) and not n.endswith("_ci95")]
    tables = {
        kind: [table for name in which if (table := report_tables.size_table(entries, gaps, name, threshold))]
        for kind, which in {"open": OPEN_FIGURES, "rest": rest, "quality": QUALITY}.items()
    }
    parts = [html.block("tables", tables["open"]), html.paragraph(_legend(entries, gaps), "soft")]
    if tables["rest"]:
        parts.append(html.details("More figures: equal error rate and others", [html.block("tables", tables["rest"])]))
    if tables["quality"]:
        parts.append(html.details("Quality of the images", [html.block("tables", tables["quality"])]))
    return parts


def _legend(entries: Sequence[Entry], gaps: Sequence[Entry] = ()) -> str:
    words = [report_tables.IN_BRACKETS] if any(key.endswith("_ci95") for e in entries for key in e["figures"]) else []
    if gaps:
        words.append("Differences in bold: the interval leaves zero out.")
    if any(one.get("few_errors") for one in entries):
        words.append(report_tables.FEW)
    if any(one.get("withheld") for one in entries):
        words.append("Raised numbers: withheld, see the footnotes.")
    return " ".join(words)


def _by_size(entries: Sequence[Entry], threshold: float | None) -> list[str]:
    parts = []
    for title, mine in _each_recogniser(entries):
        charts = _charts([report_charts.by_size(mine, name, threshold) for name in OPEN_FIGURES])
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


def _identification(records: Records) -> list[Section]:
    entries = records.sections["identification"]
    parts: list[str] = []
    for (kind,) in distinct(entries, "set"):
        mine = [one for one in entries if one["set"] == kind]
        for degradation in _degradations(mine):
            here = _of(mine, degradation)
            gaps = [one for one in _of(records.sections["differences"], degradation) if one.get("set") == kind]
            parts += _identification_part(kind, degradation, here, gaps, records.threshold)
    return _optional("Identification", parts)


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
    "gallery": "images in the gallery",
    "people": "people in the gallery",
    "mated": "probes of people in it",
    "nonmated": "probes of strangers",
}


def _calibration(records: Records) -> list[Section]:
    entries, threshold = records.sections["calibration"], records.threshold
    parts: list[str] = []
    for recogniser, protocol in distinct(entries, "recogniser", "protocol"):
        mine = [one for one in entries if (one["recogniser"], one.get("protocol")) == (recogniser, protocol)]
        parts.append(html.heading(recogniser + (f", {protocol.upper()}" if protocol else ""), 3))
        parts.append(report_tables.calibration_table(mine, threshold))
        charts = [report_charts.at_default(mine, name, threshold) for name in ("fmr", "fnmr")]
        parts.append(_charts([*charts, *(report_charts.risk_coverage(one) for one in _first_each(mine))]))
    if parts:
        words = (
            "A threshold chosen for each size, what it gives on people it was not chosen on, and what one threshold "
        )
        parts.insert(0, html.paragraph(words + "for all sizes would have given."))
    return _optional("Calibration and reject option", parts)


def _first_each(entries: Sequence[Entry]) -> list[Entry]:
    return list({one["method"]: one for one in reversed(entries)}.values())[::-1]


def _groups(records: Records) -> list[Section]:
    parts: list[str] = []
    for entry in records.sections["groups"]:
        where = [entry["recogniser"], str(entry.get("protocol") or "").upper()]
        where += [report_tables.method_name(entry["method"])]
        where += [report_tables.size_name(entry["size"])] if entry["size"] is not None else []
        parts.append(html.heading(f"By {entry['column']}: " + ", ".join(word for word in where if word), 3))
        parts.append(report_tables.group_table(entry))
        parts.append(_charts([report_charts.group_rates(entry, name) for name in ("fnmr", "fmr")]))
    if parts:
        words = (
            "Groups are compared at one threshold. Intervals that overlap do not show that groups are treated alike."
        )
        parts.insert(0, html.paragraph(words))
    return _optional("Error rates by group", parts)


def _run(record: Entry, several: bool) -> list[str]:
    run = record["run"]
    state = {True: " with uncommitted changes", False: ""}.get(run.get("git_dirty"), "")
    commit = (html.Markup(f"<code>{html.text(run['git_commit'])}</code>{state}")) if run.get("git_commit") else ""
    versions = ", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items() if version)
    rows = [
        ("Record", record["file"]),
        ("Started", run.get("started") or ""),
        ("Took", f"{run['seconds']:,.0f} s" if run.get("seconds") is not None else ""),
        ("Commit", commit),
        ("Versions", versions),
        ("Device", run.get("device") or ""),
        ("Seed", _number(run.get("seed"))),
        ("Resamples of people", _number(run.get("bootstrap"))),
        ("Threshold", f"{record['threshold']:g}" if record["threshold"] is not None else ""),
    ]
    sums = [(name, digest) for kind in ("weights", "data") for name, digest in (run.get(kind) or {}).items() if digest]
    parts = [html.heading(record["title"], 3)] if several else []
    parts += [html.preformatted(run["command"])] if run.get("command") else []
    parts.append(html.facts([(name, value) for name, value in rows if value]))
    if sums:
        codes = [(name, html.Markup(f"<code>{html.text(digest)}</code>")) for name, digest in sums]
        parts.append(html.details("Checksums (SHA-256) of weights and data", [html.facts(codes)]))
    return parts


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _reading(records: Records) -> list[str]:
    terms = [
        ("HR, LR, DSR", "the full 112-pixel image, the reduced one, and the reduced one enlarged by super-resolution."),
        ("bicubic", "the reduced image enlarged without learning: what DSR has to beat."),
        ("FMR, FNMR", "share of pairs of different people accepted, and of one person rejected."),
        ("TAR at FMR", "share of genuine pairs accepted at the threshold where that FMR is kept."),
        ("EER", "the error rate at the threshold where FMR and FNMR are equal."),
    ]
    if records.sections["identification"]:
        terms.append(("Rank-k", "share of probes whose own person is among the k best of the gallery."))
        terms.append(("FPIR, FNIR", "share of strangers taken for somebody; share of known people missed."))
        terms.append(("DIR", "share of known people found and accepted at the threshold where that FPIR is kept."))
    if records.sections["calibration"]:
        terms.append(("Risk, coverage", "errors among the decisions kept, and the share of decisions kept."))
    terms.append(("95 % intervals", "from resampling people, not pairs: images of one person are not independent."))
    terms.append(("Withheld", "a figure with fewer than 3 errors behind it; < is the highest rate those errors allow."))
    terms.append(("*", "fewer than 30 errors behind it."))
    return [html.facts(terms)]


if __name__ == "__main__":
    cli.run(main, Config)
