"""Identification of low-resolution faces: probes through the DSR, then EdgeFace, against a gallery of HR images.

    python -m pipeline.evaluate_dataset --dataset-root dataset/test_processed --threshold 0.35 \
        --dump-results out.csv --json out.json

Layout: `<root>/{hr_images,vlr_images}/<subject>_<n>.png`; a folder per identity, or a zip, is read as well. Rows: `hr`
(the probe's own HR image: an upper bound), `bicubic` and `dsr`. A probe's HR twin never stands in its gallery; a probe
left without another HR image of its person is non-mated, and right only when rejected.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import cli
from common.files import replacing, write_json
from facial_rec.sources import StoreSource
from facial_rec.tables import FOOTNOTE, format_table, has_few, judged
from pipeline.chain import DEFAULT_BATCH, Chain, Vectors
from pipeline.degradations import View
from pipeline.embedding import embed_images, embed_low
from pipeline.identification import (
    Gallery,
    Matches,
    counts_of,
    identification_shares,
    identify,
    join,
    per_subject,
)
from pipeline.identification_record import Resampling, measure_shares
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, check_settings, load_chain
from pipeline.probes import Probe, ProbeSet, key_of, load_probes
from pipeline.provenance import command_of

LABELS = {
    "accuracy": "accuracy at {threshold}, %",
    "unknown_rate": "unknown, %",
    "false_accept_rate": "false accepts, %",
    "false_accept_rate_mated": "  of mated probes, %",
    "false_accept_rate_nonmated": "  of non-mated probes, %",
    "rank1": "rank-1, %",
    "rank5": "rank-5, %",
    "reject_all_accuracy": "rejecting all scores, %",
    "accept_all_accuracy": "accepting all scores, %",
}
WITH_INTERVAL = tuple(LABELS)[:7]
SHOWN_SUBJECTS = 20
CSV_COLUMNS = (
    "probe",
    "subject",
    "method",
    "size",
    "mated",
    "best_subject",
    "score",
    "own_best_score",
    "rank",
    "decision",
)


@dataclass(frozen=True)
class Config:
    """What to evaluate, and with what."""

    dataset_root: Path | None = None
    """Folder with hr_images and vlr_images, folder per identity, or zip (default: dataset/test_processed)."""
    threshold: float = 0.35
    """Cosine from which a probe is accepted as its best person."""
    hr_dir: Path | None = None
    """HR images, instead of <dataset-root>/hr_images."""
    vlr_dir: Path | None = None
    """VLR images, instead of <dataset-root>/vlr_images."""
    vlr_size: int = 16
    """Side in pixels, 8 to 64, of the VLR images that are made where there are none."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too; none: HR and bicubic only."""
    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace weights, looked up in checkpoints/ too."""
    gallery_via_dsr: bool = False
    """Reduce the gallery to the probe's size and enlarge it by the same method, so both sides look alike."""
    limit: int | None = None
    """At most this many probes, spread evenly over the sorted list; the gallery stays whole."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the resampling; nothing else is random."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    batch_size: int = DEFAULT_BATCH
    """Images that go through the networks together."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    dump_results: Path | None = None
    """CSV to write, one row a probe and method."""
    json: Path | None = None
    """File to write the figures to, as fractions."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the tables, write the files asked for, and return what the JSON holds."""
    check_settings(cfg.threshold, cfg.bootstrap, cfg.seed)
    faces = load_probes(cfg.dataset_root, cfg.hr_dir, cfg.vlr_dir, cfg.vlr_size, cfg.limit)
    describe(faces)
    chain, checksums = load_chain([cfg.edgeface], cfg.dsr, cfg.device, cfg.batch_size, cfg.threads)
    matched = match(faces, chain, cfg.gallery_via_dsr)
    result = {
        "methods": {method: figures_of(matches, cfg) for method, (_, matches) in matched.items()},
        "threshold": cfg.threshold,
        "vlr_sizes": {str(size): len(probes) for size, probes in faces.by_size()},
        "vlr_made": faces.made,
        "gallery": {"images": len(faces.hr), "people": len(faces.hr.subjects), "via_dsr": cfg.gallery_via_dsr},
        "weights": checksums,
        "seed": cfg.seed,
        "bootstrap": cfg.bootstrap,
        "command": command_of("pipeline.evaluate_dataset", cfg),
    }
    print_result(result)
    if cfg.dump_results is not None:
        write_rows(cfg.dump_results, matched, cfg.threshold)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


def describe(faces: ProbeSet) -> None:
    """Say what was found, and warn of probes that cannot be right by name."""
    sizes = ", ".join(f"{len(probes):,} of {size} pixels" for size, probes in faces.by_size())
    print(f"Gallery: {len(faces.hr):,} HR images of {len(faces.hr.subjects):,} people ({faces.hr.root}).")
    print(f"Probes: {sizes}.")
    if faces.made:
        print("There are no VLR images: they are made from the HR images by the canonical reduction.")
    without_twin = sum(probe.twin is None for probe in faces.probes)
    enrolled = set(faces.hr.subjects)
    strangers = sorted({probe.face.subject for probe in faces.probes} - enrolled)
    if without_twin:
        print(f"Warning: {without_twin:,} probes have no HR image of the same name; the row hr leaves them out.")
    if strangers:
        print(f"Warning: {len(strangers):,} people are not in the gallery (non-mated): {_some(strangers)}.")


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


Matched = dict[str, tuple[list[Probe], Matches]]


def match(faces: ProbeSet, chain: Chain, gallery_via_dsr: bool) -> Matched:
    """Each method's probes and what they were matched to. The row `hr` holds the probes that have a twin."""
    (recogniser,) = chain.embedders
    hr_faces, keys = faces.hr.faces, [key_of(face) for face in faces.hr.faces]
    vectors = _embed_hr(faces, chain, [View("hr")], "gallery, hr")[recogniser, View("hr")]
    rows = {face: row for row, face in enumerate(hr_faces)}
    gallery = Gallery(vectors, keys)
    twinned = [probe for probe in faces.probes if probe.twin is not None]
    hr_probes = vectors[[rows[probe.twin] for probe in twinned if probe.twin is not None]]
    matched = {"hr": (twinned, identify(hr_probes, [probe.key for probe in twinned], gallery))}
    found: dict[str, list[Matches]] = {method: [] for method in chain.low_methods}
    for size, probes in faces.by_size():
        low = embed_low(chain, faces.low, probes, f"probes, {size} pixels")
        galleries = _low_galleries(faces, chain, size) if gallery_via_dsr else {}
        for method, parts in found.items():
            enrolled = galleries.get(method, gallery)
            parts.append(identify(low[recogniser, method], [probe.key for probe in probes], enrolled))
    return matched | {method: (list(faces.probes), join(parts)) for method, parts in found.items()}


def _low_galleries(faces: ProbeSet, chain: Chain, size: int) -> dict[str, Gallery]:
    """The gallery reduced to `size` and enlarged by each method."""
    (recogniser,) = chain.embedders
    views = {method: View(method, size) for method in chain.low_methods}
    vectors = _embed_hr(faces, chain, list(views.values()), f"gallery, {size} pixels")
    keys = [key_of(face) for face in faces.hr.faces]
    return {method: Gallery(vectors[recogniser, view], keys) for method, view in views.items()}


def _embed_hr(faces: ProbeSet, chain: Chain, views: Sequence[View], what: str) -> dict[tuple[str, View], Vectors]:
    """The HR images in these views, row i for the i-th face."""
    names = [face.name for face in faces.hr.faces]
    return embed_images(chain, StoreSource(faces.hr.store), names, views, quality=False, description=what).vectors


def figures_of(matches: Matches, cfg: Config) -> dict[str, Any]:
    """Figures with 95 % intervals from resampled probe people, counts, and the per-subject table.

    A figure with fewer than 3 errors behind it is None and explained in `withheld`; `few_errors` names those with fewer
    than 30.
    """
    resampling = Resampling.of(matches, cfg.bootstrap, cfg.seed)
    record = measure_shares(identification_shares(matches, cfg.threshold), resampling, WITH_INTERVAL).record()
    judged = {name: record[name] for name in ("withheld", "few_errors")}
    people = {"per_subject": per_subject(matches, cfg.threshold)}
    return record["figures"] | judged | counts_of(matches, cfg.threshold) | people


def print_result(result: dict[str, Any]) -> None:
    """The table of figures, methods across; then the people with the lowest accuracy."""
    methods: Mapping[str, Any] = result["methods"]
    rows = [
        [label.format(threshold=result["threshold"])]
        + [judged({"figures": figures, **figures}, name) for figures in methods.values()]
        for name, label in LABELS.items()
    ]
    counts = ("probes", "mated", "nonmated", "false_accepts_mated", "false_accepts_nonmated")
    rows += [[name.replace("_", " "), *(f"{f[name]:,}" for f in methods.values())] for name in counts]
    print("\n" + format_table(["", *methods], rows))
    if result["bootstrap"]:
        print(f"In brackets: 95 % intervals from {result['bootstrap']:,} resamples of probe people.")
    if has_few(list(methods.values())):
        print(FOOTNOTE)
    print("\n" + _subject_table(methods))


def _subject_table(methods: Mapping[str, Any]) -> str:
    last = list(methods)[-1]
    people = methods[last]["per_subject"]
    shown = sorted(people, key=lambda subject: (people[subject]["accuracy"], -people[subject]["probes"], subject))
    rows = [
        [subject, str(people[subject]["probes"])]
        + [_subject_cell(m["per_subject"].get(subject)) for m in methods.values()]
        for subject in shown[:SHOWN_SUBJECTS]
    ]
    title = "Per subject: correct / unknown / false accepts"
    if len(shown) > SHOWN_SUBJECTS:
        title += f"; the {SHOWN_SUBJECTS} of {len(shown):,} with the lowest accuracy of {last} (all: --json)"
    return title + "\n" + format_table(["subject", "probes", *methods], rows)


def _subject_cell(row: Mapping[str, float | int] | None) -> str:
    return "-" if row is None else f"{row['correct']} / {row['unknown']} / {row['false_accepts']}"


def write_rows(path: Path, matched: Matched, threshold: float) -> None:
    """Write one row a probe and method; scores with six decimals, empty where there is none."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for method, (probes, matches) in matched.items():
            writer.writerows(_rows(method, probes, matches, threshold))
    print(f"written: {path}")


def _rows(method: str, probes: Sequence[Probe], matches: Matches, threshold: float) -> list[list[str]]:
    return [
        [
            probe.face.name,
            probe.face.subject,
            method,
            str(probe.size),
            str(int(matches.ranks[index] > 0)),
            str(matches.best_subjects[index]),
            f"{matches.scores[index]:.6f}",
            f"{matches.own_scores[index]:.6f}" if matches.ranks[index] > 0 else "",
            str(matches.ranks[index]) if matches.ranks[index] > 0 else "",
            decision,
        ]
        for index, (probe, decision) in enumerate(zip(probes, matches.decisions(threshold), strict=True))
    ]


if __name__ == "__main__":
    cli.run(main, Config)
