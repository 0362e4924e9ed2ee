"""Below which size the DSR helps, on people it was not trained on: `pipeline.face_crops.DSR_BELOW`.

    python benchmarks/dsr_below.py --images dataset/val_processed

Every pair of the development set, a small probe against an HR face: by way of bicubic and by way of the DSR, each at
its own threshold for the wanted FMR. LFW, on which the project is tested, is refused. The DSR helps at a size where it
finds more genuine pairs, beyond the 95 % interval of the paired difference (people resampled, thresholds held fixed).
What was embedded is kept, so a second run is short, and one that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import cli
from common.errors import UserError
from common.paths import find_dataset
from facial_rec.bootstrap import Interval
from facial_rec.faceset import FaceSet
from facial_rec.sources import StoreSource
from facial_rec.tables import format_table, percent
from pipeline.cache import EmbeddingCache
from pipeline.calibrate import Scored
from pipeline.calibration import Wanted, accept_threshold, fnmr_difference
from pipeline.degradations import View
from pipeline.development_set import development_pairs, refuse_lfw
from pipeline.embedding import embed_images
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, load_chain

METHODS = ("bicubic", "dsr")
HEADER = ("size", "bicubic", "DSR", "DSR - bicubic", "helps")


@dataclass(frozen=True)
class Config:
    """What to measure."""

    images: Path = Path("dataset/val_processed")
    """Faces by identity that neither network was trained on: a folder or a zip."""
    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace weights, looked up in checkpoints/ too."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too."""
    vlr_size: tuple[int, ...] = (8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 64)
    """Sides of the probes in pixels, 8 to 64."""
    fmr: float = 1e-3
    """False match rate at which the genuine pairs found are compared."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals."""
    seed: int = 0
    """Seed of the resampling, and of impostor pairs where there are more than a million."""
    threads: int = 1
    """CPU threads; 0 leaves the choice to torch."""


@dataclass(frozen=True)
class Row:
    """A size."""

    size: int
    tar: Mapping[str, float]
    """By method: share of genuine pairs that are accepted."""
    gain: float
    """TAR by way of the DSR minus that by way of bicubic."""
    interval: Interval | None

    @property
    def helps(self) -> bool:
        """Whether the gain is beyond its interval."""
        return self.interval is not None and self.interval[0] > 0

    def cells(self) -> list[str]:
        """Of the table, as `HEADER`."""
        shares, gain = (percent(self.tar[method]) for method in METHODS), percent(self.gain, self.interval, signed=True)
        return [str(self.size), *shares, gain, "yes" if self.helps else "no"]


def main(cfg: Config) -> int:
    """Print a row a size, and return the size below which the DSR helps."""
    if cfg.bootstrap < 1:
        raise UserError(f"--bootstrap {cfg.bootstrap}: expected 1 or more, since a gain is judged by its interval.")
    rows = measured(cfg)
    table = [row.cells() for row in rows]
    print(f"TAR at FMR {cfg.fmr:g}, %\n\n{format_table(HEADER, table)}")
    below = helps_below(rows)
    print(f"\nThe DSR helps below {below} pixels." if below else "\nThe DSR helps at no size.")
    unsure = [str(row.size) for row in rows if row.size < below and not row.helps]
    if unsure:
        print(f"Not beyond chance at {', '.join(unsure)}.")
    return below


def measured(cfg: Config) -> list[Row]:
    """Both ways at every size. Raises UserError for LFW, and for too few impostor pairs."""
    wanted, root = Wanted(cfg.fmr, bootstrap=cfg.bootstrap, seed=cfg.seed), find_dataset(cfg.images)
    faces = FaceSet(root)
    refuse_lfw(root, faces.subjects)
    pairs = development_pairs([face.subject for face in faces.faces], seed=cfg.seed)
    genuine = pairs.genuine
    if cfg.fmr * int((~genuine).sum()) < 1:
        raise UserError(f"{root}: {int((~genuine).sum())} impostor pairs are too few for an FMR of {cfg.fmr:g}.")
    print(
        f"{root}: {len(faces)} images of {len(faces.subjects)} people, {int(genuine.sum()):,} genuine and "
        f"{int((~genuine).sum()):,} impostor pairs, LR-HR"
    )
    chain, _ = load_chain([cfg.edgeface], cfg.dsr, threads=cfg.threads)
    sizes = sorted(set(cfg.vlr_size))
    views = [View("hr"), *(View(method, size) for size in sizes for method in METHODS)]
    source = StoreSource(faces.store, [face.name for face in faces.faces])
    with EmbeddingCache() as cache:
        vectors = embed_images(chain, source, source.names, views, cache, quality=False).vectors
    (recogniser,) = chain.embedders
    scored = Scored(pairs, {view: vectors[recogniser, view].astype(np.float64) for view in views}, "lr-hr")
    return [compared(scored, size, wanted) for size in sizes]


def compared(scored: Scored, size: int, wanted: Wanted) -> Row:
    """A size, by way of bicubic and of the DSR."""
    genuine = scored.pairs.genuine
    scores = {method: scored.scores(View(method, size)) for method in METHODS}
    accept = {method: accept_threshold(found[~genuine], wanted.fmr) for method, found in scores.items()}
    tar = {method: float((found[genuine] >= accept[method]).mean()) for method, found in scores.items()}
    lost, interval = fnmr_difference(
        scores["dsr"], scores["bicubic"], (accept["dsr"], accept["bicubic"]), scored.pairs, wanted
    )
    return Row(size, tar, -lost, None if interval is None else (-interval[1], -interval[0]))


def helps_below(rows: list[Row]) -> int:
    """The size after the largest at which the DSR helps, one more than that where none follows; 0 where it never does.

    So a small size at which there is too little to gain for certain, but no loss, does not end the search.
    """
    last = max((place for place, row in enumerate(rows) if row.helps), default=None)
    if last is None:
        return 0
    return rows[last + 1].size if last + 1 < len(rows) else rows[last].size + 1


if __name__ == "__main__":
    cli.run(main, Config)
