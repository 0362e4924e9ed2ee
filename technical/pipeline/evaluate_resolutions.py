"""Verification across resolutions: from 8 to 32 pixels and HR, low against high and low against low, in one table.

    python -m pipeline.evaluate_resolutions --images lfw_112.zip --pairs pairs.txt --json runs/lfw.json

The record it writes is what `python -m pipeline.report --json runs/lfw.json --out runs/lfw.html` shows. Embeddings are
kept, so a second run over the same images, with other pairs or another threshold, takes seconds; a run that was killed
goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from common import cli
from common.errors import UserError
from common.files import write_json
from facial_rec.tables import ABSENT, format_table, judged_parts, number, percent
from facial_rec.trials import load_trials
from pipeline.attributes import read_attributes
from pipeline.cache import open_cache
from pipeline.chain import DEFAULT_BATCH
from pipeline.degradations import Degradation
from pipeline.error_groups import groups_text
from pipeline.evaluate_pairs import print_notes
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, load_chain, with_lpips
from pipeline.pair_evaluation import Protocol, Settings, evaluate
from pipeline.record_extras import check_groups, groups_section, pictures_section
from pipeline.records import verification_record
from pipeline.run_record import checksums, now, run_record

SHOWN = {
    "accuracy": "Accuracy, %",
    "tar@fmr=1e-3": "TAR at FMR 1e-3, %",
    "fmr@threshold": "FMR at {threshold}, %",
    "fnmr@threshold": "FNMR at {threshold}, %",
    "psnr": "PSNR, dB",
    "identity_loss": "Identity loss (1 - cosine to HR)",
}
PLAIN = ("psnr", "ssim", "lpips", "identity_loss")


@dataclass(frozen=True)
class Config:
    """What to evaluate, and with what."""

    images: Path
    """Folder or zip of aligned 112x112 faces, Name/Name_0001.jpg (any suffix), or a .bin verification set."""
    pairs: Path | None = None
    """Pair list in LFW's format; none: a .bin's own, or pairs made from the folder's people."""
    vlr_size: tuple[int, ...] = (8, 12, 16, 20, 24, 28, 32)
    """Sides of the low-resolution faces in pixels, 8 to 64; HR always stands beside them."""
    protocol: tuple[Protocol, ...] = ("lr-hr", "lr-lr")
    """lr-hr: the first image of a pair is of low resolution; lr-lr: both are."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too; none: HR and bicubic only."""
    edgeface: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """EdgeFace weights, looked up in checkpoints/ too; repeat for several (default: edgeface_xxs_dsr.pth)."""
    threshold: float = 0.35
    """Cosine from which a pair is accepted, for FMR and FNMR at the threshold."""
    degradation: Degradation = "canonical"
    """canonical: antialiased bicubic; inter_area: OpenCV's INTER_AREA; realistic-mild, -medium, -severe: seeded blur,
    motion, noise and JPEG."""
    attributes: Path | None = None
    """CSV with a column `subject` or `image` and any others (age, sex, camera): error rates by group."""
    by: tuple[str, ...] = ()
    """Columns of --attributes to split by; none: all of them."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the resampling, of realistic degradations, and of pairs that are made."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    batch_size: int = DEFAULT_BATCH
    """Images that go through the networks together."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    cache: bool = True
    """Keep embeddings in .cache/embeddings.sqlite, and take from there what was computed before."""
    pictures: int = 6
    """Faces in the sample grids, and worst errors shown, of the report; 0 leaves pictures out."""
    title: str = ""
    """What the report is called; none: the name of the image set."""
    json: Path | None = None
    """File to write the record to; pictures go into a folder beside it."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the tables, write `cfg.json` if given, and return what it holds."""
    started = now()
    settings = Settings(cfg.vlr_size, cfg.protocol, cfg.threshold, cfg.degradation, cfg.bootstrap, cfg.seed)
    if cfg.pictures < 0:
        raise UserError(f"--pictures {cfg.pictures}: expected 0 or more.")
    attributes = read_attributes(cfg.attributes) if cfg.attributes is not None else None
    if cfg.by and attributes is None:
        raise UserError(f"--by {' '.join(cfg.by)} needs --attributes: a CSV with these columns.")
    source, pairs = load_trials(cfg.images, cfg.pairs, cfg.seed)
    if attributes is not None:
        check_groups(attributes, cfg.by, pairs)
    edgeface = cfg.edgeface or (DEFAULT_EDGEFACE,)
    chain, weights = load_chain(edgeface, cfg.dsr, cfg.device, cfg.batch_size, cfg.threads)
    chain = with_lpips(chain)
    with open_cache(cfg.cache) as cache:
        evaluation = evaluate(source, pairs, chain, settings, cache)
    run = run_record("pipeline.evaluate_resolutions", cfg, started, weights, checksums(source, cfg.pairs))
    title = cfg.title or f"{Path(source.label).name} across resolutions"
    record = verification_record(title, evaluation, pairs, settings, run)
    print_tables(record)
    print_notes(record["verification"], cfg.bootstrap, pairs.people_known)
    if attributes is not None:
        record["groups"] = groups_section(attributes, cfg.by, pairs, settings, evaluation)
        print_groups(record["groups"])
    if cfg.json is not None and cfg.pictures:
        record["pictures"] = pictures_section(cfg.json, source, pairs, chain, settings, evaluation, cfg.pictures)
    print(f"\n{run['seconds']:.0f} seconds.")
    if cfg.json is not None:
        write_json(cfg.json, record)
        print(f"written: {cfg.json}")
    return record


def print_tables(record: dict[str, Any]) -> None:
    """For each protocol and figure a table: sizes across; HR, bicubic, DSR and differences down.

    Differences are DSR minus bicubic, and, where there are several recognisers, each minus the first.
    """
    counts, entries = record["verification"][0]["pairs"], record["verification"]
    people = "unknown people" if counts["people"] is None else f"{counts['people']:,} people"
    print(
        f"\n{counts['genuine']:,} genuine and {counts['impostor']:,} impostor pairs of {people}, "
        f"{counts['folds']} fold(s); {entries[0]['degradation']} reduction."
    )
    baseline = entries[0]["figures"]
    for protocol in dict.fromkeys(entry["protocol"] for entry in entries):
        for name, label in SHOWN.items():
            print(f"\n{protocol.upper()}: {label.format(threshold=record['threshold'])}")
            if name == "accuracy":
                rejecting, accepting = (percent(baseline[f"{kind}_all_accuracy"]) for kind in ("reject", "accept"))
                print(f"(rejecting every pair scores {rejecting} %, accepting every pair {accepting} %)")
            print(resolution_table(record, protocol, name))


def print_groups(groups: Sequence[dict[str, Any]]) -> None:
    """Error rates by group, a table for each case."""
    for entry in groups:
        size = "HR" if entry["size"] is None else f"{entry['size']} px, {entry['method']}"
        print(f"\n{entry['recogniser']}, {entry['protocol'].upper()}, {size}\n{groups_text(entry)}")


def resolution_table(record: dict[str, Any], protocol: str, name: str) -> str:
    """One figure of one protocol: sizes across and HR last, each interval in the line below its figure."""
    entries = [entry for entry in record["verification"] if entry["protocol"] == protocol]
    gaps = [entry for entry in record["differences"] if entry["protocol"] == protocol]
    sizes = [*sorted({entry["size"] for entry in entries if entry["size"] is not None}), None]
    rows: list[list[str]] = []
    for recogniser in dict.fromkeys(entry["recogniser"] for entry in entries):
        own = [entry for entry in entries if entry["recogniser"] == recogniser]
        rows.append([recogniser, *([""] * len(sizes))])
        for method in dict.fromkeys(entry["method"] for entry in own):
            cells = {entry["size"]: _cell(entry, name) for entry in own if entry["method"] == method}
            if any(figure != ABSENT for figure, _ in cells.values()):
                rows += _lines(f"  {method}", [cells.get(size, EMPTY) for size in sizes])
        mine = [gap for gap in gaps if gap["recogniser"] == recogniser]
        for method, minus in dict.fromkeys((gap["method"], gap["minus"]) for gap in mine):
            same = [gap for gap in mine if (gap["method"], gap["minus"]) == (method, minus)]
            cells = {gap["size"]: _difference(gap, name) for gap in same}
            if any(figure != ABSENT for figure, _ in cells.values()):
                rows += _lines(f"  {method} - {minus}", [cells.get(size, EMPTY) for size in sizes])
    return format_table(["", *("HR" if size is None else f"{size} px" for size in sizes)], rows)


Cell = tuple[str, str]
EMPTY = ("", "")


def _cell(entry: dict[str, Any], name: str) -> Cell:
    figure, interval = judged_parts(entry, name, number if name in PLAIN else percent)
    return figure, _shorter(interval)


def _difference(gap: dict[str, Any], name: str) -> Cell:
    show = number if name in PLAIN else percent
    figure, _, interval = show(gap["figures"].get(name), gap["figures"].get(f"{name}_ci95"), signed=True).partition(" ")
    return figure, _shorter(interval)


def _shorter(interval: str) -> str:
    """`[98.97, 99.62]` as `98.97..99.62`."""
    return interval.strip("[]").replace(", ", "..")


def _lines(label: str, cells: Sequence[Cell]) -> list[list[str]]:
    """The figures of a row, and below them their intervals if there are any."""
    lines = [[label, *(figure for figure, _ in cells)]]
    if any(interval for _, interval in cells):
        lines.append(["", *(interval for _, interval in cells)])
    return lines


if __name__ == "__main__":
    cli.run(main, Config)
