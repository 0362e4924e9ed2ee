"""Identification of low-resolution probes against HR galleries: everybody enrolled (closed set), or a half (open set).

    python -m pipeline.evaluate_identification --images lfw_112.zip --vlr-size 16 24 32 \
        --json identification.json

Any faces with names will do: a folder per identity, `<subject>_<n>.png` files, or a zip of either; who is enrolled is
said in `pipeline.identification_protocols`. The gallery is always of HR images. Rows: `hr` (HR probes: an upper bound),
`bicubic` and `dsr`. The JSON is an evaluation record, from which `pipeline.report` makes a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from common import cli
from common.errors import UserError
from common.files import write_json
from common.paths import find_dataset
from facial_rec.faceset import FaceSet
from facial_rec.metrics import Floats
from facial_rec.sources import StoreSource
from facial_rec.tables import FOOTNOTE, format_table, has_few, judged, percent
from pipeline.cache import EmbeddingCache, open_cache
from pipeline.chain import DEFAULT_BATCH, Chain
from pipeline.degradations import Degradation, View, check_size
from pipeline.embedding import embed_images
from pipeline.identification import Matches
from pipeline.identification_protocols import SetName, Split, closed_set, open_set, some_people
from pipeline.identification_record import (
    RANKS,
    Measured,
    Resampling,
    cmc_record,
    measure_closed_set,
    measure_open_set,
    open_set_record,
)
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, check_settings, load_chain
from pipeline.run_record import FORMAT, checksums, now, run_record

SIZES = (8, 12, 16, 20, 24, 28, 32)
LABELS: dict[SetName, dict[str, str]] = {
    "closed": {f"rank{k}": f"rank-{k}" for k in RANKS},
    "open": {
        "dir@fpir=1e-2": "DIR at FPIR 1e-2",
        "dir@fpir=1e-3": "DIR at FPIR 1e-3",
        "rank1": "rank-1",
        "fpir@threshold": "FPIR at {threshold}",
        "fnir@threshold": "FNIR at {threshold}",
    },
}


@dataclass(frozen=True)
class Config:
    """What to evaluate, and with what."""

    images: Path
    """Folder or zip of aligned 112x112 faces: a folder per identity, or <subject>_<n>.png."""
    vlr_size: tuple[int, ...] = SIZES
    """Sides of the low-resolution probes in pixels, 8 to 64."""
    sets: tuple[SetName, ...] = ("closed", "open")
    """closed: everybody enrolled; open: half of the people with several images, drawn by the seed."""
    degradation: Degradation = "canonical"
    """How probes are reduced: canonical (antialiased bicubic), inter_area, or realistic-mild, -medium, -severe."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too; none: HR and bicubic only."""
    edgeface: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """EdgeFace weights, looked up in checkpoints/ too; repeat for several (default: edgeface_xxs_dsr.pth)."""
    threshold: float = 0.35
    """Cosine from which a candidate is returned, for FPIR and FNIR at the threshold."""
    limit: int | None = None
    """At most this many people, spread evenly over the sorted names."""
    bootstrap: int = 1000
    """Resamples of probe people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the open set's draw, of the resampling and of the realistic degradations."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    batch_size: int = DEFAULT_BATCH
    """Images that go through the networks together."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    cache: bool = True
    """Keep embeddings in .cache/embeddings.sqlite, and take from there what was computed before."""
    json: Path | None = None
    """File to write the record to, figures as fractions."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the tables, write `cfg.json` if given, and return the record it holds."""
    started = now()
    check_settings(cfg.threshold, cfg.bootstrap, cfg.seed)
    for size in cfg.vlr_size:
        check_size(size, "--vlr-size")
    if not cfg.sets:
        raise UserError("--sets is empty: expected closed, open or both.")
    faces = FaceSet(find_dataset(cfg.images))
    chosen = some_people(faces.faces, cfg.limit)
    splits = [
        closed_set(chosen) if name == "closed" else open_set(chosen, cfg.seed) for name in dict.fromkeys(cfg.sets)
    ]
    chain, weights = load_chain(cfg.edgeface or (DEFAULT_EDGEFACE,), cfg.dsr, cfg.device, cfg.batch_size, cfg.threads)
    source = StoreSource(faces.store, sorted(face.name for face in chosen))
    with open_cache(cfg.cache) as cache:
        sections = evaluate(source, splits, chain, cfg, cache)
    record = {
        "format": FORMAT,
        "title": f"Identification on {faces.root.name}",
        "run": run_record("pipeline.evaluate_identification", cfg, started, weights, checksums(source)),
        "threshold": cfg.threshold,
        **sections,
    }
    print_record(record)
    if cfg.json is not None:
        write_json(cfg.json, record)
        print(f"written: {cfg.json}")
    return record


def evaluate(
    source: StoreSource, splits: Sequence[Split], chain: Chain, cfg: Config, cache: EmbeddingCache | None = None
) -> dict[str, Any]:
    """The sections `identification` and `differences` of the record."""
    return _Evaluation(source, splits, chain, cfg, cache).sections()


class _Evaluation:
    """One size after the other, so that only its embeddings lie in memory beside those of the HR images."""

    def __init__(
        self,
        source: StoreSource,
        splits: Sequence[Split],
        chain: Chain,
        cfg: Config,
        cache: EmbeddingCache | None,
    ) -> None:
        self.source, self.splits, self.chain, self.cfg, self.cache = source, splits, chain, cfg, cache
        self.probes = sorted({face.name for split in splits for face in split.probes})
        self.resamplings: dict[SetName, Resampling] = {}
        self.entries: list[dict[str, Any]] = []
        self.differences: list[dict[str, Any]] = []

    def sections(self) -> dict[str, Any]:
        hr_view = View("hr")
        names = list(self.source.names)
        hr = self._embed(names, [hr_view], "hr")
        self._measure(None, {"hr": hr_view}, hr, hr)
        for size in dict.fromkeys(self.cfg.vlr_size):
            views = {
                method: View(method, size, self.cfg.degradation, self.cfg.seed) for method in self.chain.low_methods
            }
            low = self._embed(self.probes, list(views.values()), f"probes, {size} pixels")
            self._measure(size, views, low, hr)
        return {"identification": self.entries, "differences": self.differences}

    def _embed(self, names: list[str], views: list[View], description: str) -> _Vectors:
        found = embed_images(self.chain, self.source, names, views, self.cache, quality=False, description=description)
        return _Vectors(names, found.vectors)

    def _measure(self, size: int | None, views: Mapping[str, View], probes: _Vectors, hr: _Vectors) -> None:
        first = next(iter(self.chain.embedders))
        baselines: dict[SetName, Measured] = {}
        for recogniser in self.chain.embedders:
            for split in self.splits:
                gallery = hr.of(recogniser, View("hr"), [face.name for face in split.gallery])
                keys = {"recogniser": recogniser, "size": size, "degradation": self.cfg.degradation, "set": split.name}
                found: dict[str, Measured] = {}
                for method, view in views.items():
                    vectors = probes.of(recogniser, view, [face.name for face in split.probes])
                    matches = split.match(vectors, gallery)
                    found[method] = self._figures(split, matches)
                    self.entries.append({**keys, "method": method, **_entry(split, matches, found[method])})
                if "dsr" in found:
                    names = {"protocol": "identification", "method": "dsr"}
                    gap = {"minus": "bicubic", "figures": found["dsr"].minus(found["bicubic"])}
                    self.differences.append({**keys, **names, **gap})
                    if recogniser == first:
                        baselines[split.name] = found["bicubic"]
                    else:
                        gap = {"minus": f"bicubic of {first}", "figures": found["dsr"].minus(baselines[split.name])}
                        self.differences.append({**keys, **names, **gap})

    def _figures(self, split: Split, matches: Matches) -> Measured:
        if split.name not in self.resamplings:
            self.resamplings[split.name] = Resampling.of(matches, self.cfg.bootstrap, self.cfg.seed)
        resampling = self.resamplings[split.name]
        if split.name == "closed":
            return measure_closed_set(matches, resampling)
        return measure_open_set(matches, self.cfg.threshold, resampling)


class _Vectors:
    """Embeddings of named images."""

    def __init__(self, names: Sequence[str], vectors: Mapping[tuple[str, View], Any]) -> None:
        self.rows = {name: row for row, name in enumerate(names)}
        self.vectors = vectors

    def of(self, recogniser: str, view: View, names: Sequence[str]) -> Floats:
        """`(len(names), D)`."""
        return np.asarray(self.vectors[recogniser, view][[self.rows[name] for name in names]], dtype=np.float64)


def _entry(split: Split, matches: Matches, measured: Measured) -> dict[str, Any]:
    curves = {"cmc": cmc_record(matches), "open_set": open_set_record(matches) if split.name == "open" else None}
    return {"counts": split.counts, **measured.record(), **curves}


def print_record(record: Mapping[str, Any]) -> None:
    """A table for each recogniser and set: sizes and methods down, figures across, differences below them."""
    entries = record["identification"]
    for recogniser, name in dict.fromkeys((one["recogniser"], one["set"]) for one in entries):
        shown = [one for one in entries if (one["recogniser"], one["set"]) == (recogniser, name)]
        gaps = [one for one in record["differences"] if (one["recogniser"], one["set"]) == (recogniser, name)]
        counts = shown[0]["counts"]
        print(
            f"\n{recogniser}, {name} set: gallery of {counts['gallery']:,} people; {counts['mated']:,} mated and "
            f"{counts['nonmated']:,} non-mated probes of {counts['people']:,} people; figures in %"
        )
        print(_table(shown, gaps, LABELS[name], record["threshold"]))
    if resamples := record["run"]["bootstrap"]:
        print(f"\nIn brackets: 95 % intervals from {resamples:,} resamples of probe people; the gallery is held fixed.")
    if has_few(entries):
        print(FOOTNOTE)


def _table(
    entries: Sequence[Mapping[str, Any]],
    gaps: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    threshold: float,
) -> str:
    rows = []
    for size in dict.fromkeys(one["size"] for one in entries):
        pixels = "HR" if size is None else str(size)
        for one in entries:
            if one["size"] == size:
                rows.append([pixels, one["method"], *(judged(one, name) for name in labels)])
        for minus, gap in ((one["minus"], one["figures"]) for one in gaps if one["size"] == size):
            cells = [percent(gap[name], gap.get(f"{name}_ci95"), signed=True) for name in labels]
            rows.append([pixels, f"dsr - {minus}", *cells])
    return format_table(["size", "method", *(label.format(threshold=threshold) for label in labels.values())], rows)


if __name__ == "__main__":
    cli.run(main, Config)
