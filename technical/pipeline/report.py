"""One page from evaluation records: what was found, the figures with their intervals, charts, pictures, what was run.

    python -m pipeline.report --json runs/lfw.json --json runs/identification.json --out runs/report.html

The page needs no network and no other file. The same records give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from common import cli
from common.errors import UserError
from common.files import write_text
from pipeline import html
from pipeline.html import Section
from pipeline.report_finding import finding
from pipeline.report_pictures import picture_parts
from pipeline.report_record import Entry, Records, read_records
from pipeline.report_sections import (
    calibration_section,
    groups_section,
    identification_section,
    optional_section,
    verification_sections,
)

NOT_FOR = (
    "The figures hold for these images and these people only: do not use them to decide about a person, to set a "
    "threshold for other cameras, or to claim how the system treats groups that the data barely contains."
)


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
        *verification_sections(records),
        *identification_section(records),
        *calibration_section(records),
        *groups_section(records),
        *optional_section("Pictures", picture_parts(records.pictures)),
        Section("What was run", [part for run in records.runs for part in _run(run, len(records.runs) > 1)]),
        Section("How to read this", _reading(records)),
    ]
    return html.page(title or records.runs[0]["title"], sections, contents=True)


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
