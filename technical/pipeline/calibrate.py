"""Thresholds for a wanted false match rate, per probe resolution, from faces kept for development.

    python -m pipeline.calibrate --images dataset/val_processed --vlr-size 8 12 16 20 24 28 32 \
        --fmr 1e-3 --fnmr 0.05 --protocol lr-hr --out thresholds.json

Every pair between the images of the set is scored at every resolution, by way of bicubic and of the DSR, and in HR.
`--out` holds, per resolution, from which score two faces are the same person, below which they are two, and the method
to use: the DSR, unless bicubic misses fewer genuine pairs beyond the 95 % interval of the difference. What the default
threshold of 0.35 does at each resolution stands beside it. LFW is refused: it is the test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common import cli
from common.errors import UserError
from common.files import write_json
from common.paths import default_dataset, find_dataset
from facial_rec.faceset import FaceSet
from facial_rec.metrics import Bools, Floats, cosine_pairs
from facial_rec.sources import StoreSource
from facial_rec.thresholds import (
    DEFAULT_THRESHOLD,
    DevelopmentSet,
    MadeFor,
    SizeThresholds,
    Thresholds,
)
from pipeline.cache import EmbeddingCache
from pipeline.calibration import Calibrated, Wanted, calibrate_scores, fnmr_difference
from pipeline.calibration_report import print_calibration
from pipeline.chain import DEFAULT_BATCH, Chain
from pipeline.confidence import Refusal, choose_measure, compare, refuse_worst
from pipeline.degradations import Degradation, View
from pipeline.development_set import (
    MOST_IMPOSTORS,
    DevelopmentPairs,
    development_pairs,
    refuse_lfw,
    says_training,
)
from pipeline.embedding import embed_images
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, load_chain
from pipeline.pair_evaluation import Protocol
from pipeline.provenance import command_of
from pipeline.run_record import FORMAT, checksums, now, run_record

COMPARED_IMPOSTORS = 20_000  # enough to compare measures of confidence: nearly all mistakes are missed genuine pairs


@dataclass(frozen=True)
class Config:
    """What to calibrate, and on what."""

    images: Path | None = None
    """Faces to choose thresholds on, by identity: a folder or a zip (default: dataset/val_processed)."""
    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace weights, looked up in checkpoints/ too."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too; none: low resolution goes by way of bicubic."""
    vlr_size: tuple[int, ...] = (8, 12, 16, 20, 24, 28, 32)
    """Sides of the low-resolution probes in pixels, 8 to 64; HR is always calibrated too."""
    fmr: float = 1e-3
    """Wanted false match rate: at most this share of impostor pairs is called the same person."""
    fnmr: float = 0.05
    """Wanted false non-match rate: at most this share of genuine pairs is called two people."""
    protocol: Protocol = "lr-hr"
    """lr-hr: a low-resolution probe against HR images; lr-lr: both of low resolution."""
    degradation: Degradation = "canonical"
    """How low resolution is made: canonical, inter_area, realistic-mild, realistic-medium or realistic-severe."""
    refuse: float = 0.05
    """Share of probes with the lowest quality that are refused, if that is found to help."""
    impostors: int = MOST_IMPOSTORS
    """Most impostor pairs; of more, this many are drawn with the seed."""
    out: Path = Path("thresholds.json")
    """Threshold file to write."""
    json: Path | None = None
    """Evaluation record to write, for `pipeline.report`."""
    cache: Path | None = None
    """File to keep embeddings in (default: .cache/embeddings.sqlite)."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the drawn pairs, the folds, the resampling and the realistic degradations."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    batch_size: int = DEFAULT_BATCH
    """Images that go through the networks together."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""

    def __post_init__(self) -> None:
        if not self.vlr_size or len(set(self.vlr_size)) < len(self.vlr_size):
            raise UserError(f"--vlr-size {self.vlr_size}: expected at least one size, each once.")
        if not 0 < self.refuse < 1:
            raise UserError(f"--refuse {self.refuse}: expected a share between 0 and 1.")
        if self.bootstrap < 0 or self.impostors < 1 or self.seed < 0:
            given = f"--bootstrap {self.bootstrap} --impostors {self.impostors} --seed {self.seed}"
            raise UserError(f"{given}: expected 0 or more, 1 or more, 0 or more.")


def main(cfg: Config) -> Thresholds:
    """Print the tables, write `cfg.out` and, if given, `cfg.json`; return what `cfg.out` holds."""
    started, wanted = now(), Wanted(cfg.fmr, cfg.fnmr, cfg.bootstrap, cfg.seed)
    root = find_dataset(cfg.images or default_dataset("val") or Path("dataset/val_processed"))
    faces = FaceSet(root)
    refuse_lfw(root, faces.subjects)
    source = StoreSource(faces.store, [face.name for face in faces.faces])
    pairs = development_pairs([face.subject for face in faces.faces], cfg.impostors, cfg.seed)
    chain, weights = load_chain([cfg.edgeface], cfg.dsr, cfg.device, cfg.batch_size, cfg.threads)
    with EmbeddingCache(cfg.cache) as cache:
        views = views_of(cfg, chain)
        vectors = embed_images(chain, source, source.names, views, cache, quality=False).vectors
    (recogniser,) = chain.embedders
    scored = Scored(pairs, {view: vectors[recogniser, view].astype(np.float64) for view in views}, cfg.protocol)
    calibrated = {view: calibrate_scores(scored.scores(view), pairs, wanted) for view in views}
    used = [choose_view(scored, calibrated, size, wanted) for size in (*sorted(cfg.vlr_size), None)]
    refusals, measures = compare_measures(scored, calibrated, used, cfg)
    measure = choose_measure(refusals)
    data = checksums(source)
    thresholds = Thresholds(
        made_for=MadeFor(recogniser, chain.fingerprints[recogniser], chain.dsr_fingerprint),
        protocol=cfg.protocol,
        degradation=cfg.degradation,
        wanted_fmr=cfg.fmr,
        wanted_fnmr=cfg.fnmr,
        development_set=DevelopmentSet(source.label, next(iter(data.values())), len(faces.subjects), len(faces)),
        date=started.isoformat(timespec="seconds"),
        command=command_of("pipeline.calibrate", cfg),
        sizes=tuple(
            size_thresholds(view, calibrated[view], refusals[measure][index] if measure else None)
            for index, view in enumerate(used)
        ),
        quality_measure=measure,
    )
    entries = record_entries(recogniser, cfg, calibrated, used, measures)
    print_calibration(thresholds, entries, pairs, says_training(root))
    thresholds.save(cfg.out)
    print(f"written: {cfg.out}")
    if cfg.json is not None:
        run = run_record("pipeline.calibrate", cfg, started, weights, data)
        record = {"format": FORMAT, "title": f"Calibration, {cfg.protocol}", "run": run}
        write_json(cfg.json, record | {"threshold": DEFAULT_THRESHOLD, "calibration": entries})
        print(f"written: {cfg.json}")
    return thresholds


def views_of(cfg: Config, chain: Chain) -> list[View]:
    """HR, and every size by every method."""
    low = [
        View(method, size, cfg.degradation, cfg.seed) for size in sorted(cfg.vlr_size) for method in chain.low_methods
    ]
    return [View("hr"), *low]


@dataclass(frozen=True)
class Scored:
    """The development set as each view shows it."""

    pairs: DevelopmentPairs
    vectors: Mapping[View, Floats]
    """`(M, D)`, of any length."""
    protocol: Protocol

    def scores(self, view: View) -> Floats:
        """`(N,)` cosine of each pair: both sides in this view, or the second in HR."""
        return self.pairs.scores(self.vectors[view], self.vectors[view if self.protocol == "lr-lr" else View("hr")])

    def quality(self, measure: str, view: View) -> Floats | None:
        """`(N,)` quality of each pair's probe, the lower of both sides where both are probes; None where undefined."""
        values = np.linalg.norm(self.vectors[view], axis=1)
        if measure == "agreement":
            ways = [replace(view, method=method) for method in ("bicubic", "dsr") if view.method != "hr"]
            if len(ways) < 2 or not all(way in self.vectors for way in ways):
                return None
            values = cosine_pairs(*(self.vectors[way] for way in ways))
        first, second = values[self.pairs.first], values[self.pairs.second]
        return np.minimum(first, second) if self.protocol == "lr-lr" else first


def choose_view(scored: Scored, calibrated: Mapping[View, Calibrated], size: int | None, wanted: Wanted) -> View:
    """The method in use at a size: the DSR, unless bicubic has the lower FNMR beyond the interval of the difference."""
    found = {view.method: view for view in calibrated if view.size == size}
    if "dsr" not in found:
        return next(iter(found.values()))
    dsr, bicubic = found["dsr"], found["bicubic"]
    at = calibrated[dsr].accept, calibrated[bicubic].accept
    if at[0] is None or at[1] is None:
        return dsr
    _, interval = fnmr_difference(scored.scores(dsr), scored.scores(bicubic), (at[0], at[1]), scored.pairs, wanted)
    return bicubic if interval is not None and interval[0] > 0 else dsr


def size_thresholds(view: View, calibrated: Calibrated, refusal: Refusal | None) -> SizeThresholds:
    """The row of the threshold file."""
    cutoff = refusal.cutoff if refusal is not None and refusal.helps else None
    return SizeThresholds(view.size, view.method, calibrated.accept, calibrated.reject, cutoff, calibrated.reason)


Refusals = dict[str, list[Refusal | None]]
Measures = list[dict[str, Any]]


def compare_measures(
    scored: Scored, calibrated: Mapping[View, Calibrated], used: Sequence[View], cfg: Config
) -> tuple[Refusals, Measures]:
    """For each view in use: what refusing by `norm` and `agreement` gains, and a row for every measure."""
    refusals: Refusals = {"norm": [], "agreement": []}
    measures: Measures = []
    for view in used:
        found, scores = calibrated[view], scored.scores(view)
        for measure, results in refusals.items():
            quality = scored.quality(measure, view)
            results.append(_refusal(scored.pairs, scores, found, quality, cfg))
        if found.accept is None:
            continue
        chosen = _fewer_impostors(scored.pairs)
        pairs = DevelopmentPairs(scored.pairs.first[chosen], scored.pairs.second[chosen], scored.pairs.people)
        wrong = ((scores >= found.accept) != scored.pairs.genuine)[chosen]
        confidences = {"margin": np.abs(scores - found.accept)}
        confidences |= {m: q for m in refusals if (q := scored.quality(m, view)) is not None}
        for measure, confidence in confidences.items():
            compared = compare(confidence[chosen], wrong, pairs, cfg.bootstrap, cfg.seed)
            refusal = refusals[measure][-1] if measure in refusals else None
            row = {"size": view.size, "method": view.method, "measure": measure, **compared.record()}
            measures.append(row | {"refusal": None if refusal is None else refusal.record()})
    return refusals, measures


def _refusal(
    pairs: DevelopmentPairs, scores: Floats, found: Calibrated, quality: Floats | None, cfg: Config
) -> Refusal | None:
    if quality is None or found.accept is None or found.reject is None:
        return None
    same, different = scores >= found.accept, scores < found.reject
    wrong: Bools = np.where(pairs.genuine, different, same)
    return refuse_worst(quality, cfg.refuse, same | different, wrong, pairs, cfg.bootstrap, cfg.seed)


def _fewer_impostors(pairs: DevelopmentPairs) -> Bools:
    """All genuine pairs, and evenly spread impostor pairs."""
    chosen, impostors = pairs.genuine.copy(), np.flatnonzero(~pairs.genuine)
    chosen[impostors[:: -(-len(impostors) // COMPARED_IMPOSTORS)]] = True
    return chosen


def record_entries(
    recogniser: str,
    cfg: Config,
    calibrated: Mapping[View, Calibrated],
    used: Sequence[View],
    measures: Measures,
) -> list[dict[str, Any]]:
    """The `calibration` section of the evaluation record: an entry a method, HR the last row of each."""
    entries = []
    for method in dict.fromkeys(view.method for view in calibrated if view.method != "hr"):
        rows = []
        for view in [*(v for v in calibrated if v.method == method), View("hr")]:
            mine = [m for m in measures if (m["size"], m["method"]) == (view.size, view.method)]
            margin = next((m for m in mine if m["measure"] == "margin"), None)
            curve = None if margin is None else {key: margin[key] for key in ("coverage", "risk")}
            row = {"size": view.size, "method_in_use": next(v.method for v in used if v.size == view.size)}
            rows.append(row | calibrated[view].figures | {"risk_coverage": curve})
        entries.append(
            {
                "recogniser": recogniser,
                "protocol": cfg.protocol,
                "method": method,
                "degradation": cfg.degradation,
                "wanted_fmr": cfg.fmr,
                "wanted_fnmr": cfg.fnmr,
                "sizes": rows,
                "measures": [m for m in measures if m["method"] in (method, "hr")],
            }
        )
    return entries


if __name__ == "__main__":
    cli.run(main, Config)
