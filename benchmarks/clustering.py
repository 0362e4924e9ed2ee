"""Ways to sort faces into people, compared on the validation people; the chosen one on other images.

    python benchmarks/clustering.py --validation dataset/val_processed --test lfw_112.zip

Every way runs at several thresholds on the validation people, each taken once with all photos. The test images take no
part in the choice: on them only the way and threshold of `pipeline.clustering` run, on people with 5 photos or more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN, HDBSCAN

from common import cli
from common.paths import find_dataset
from facial_rec.clustering_metrics import bcubed, pairwise
from facial_rec.faceset import FaceSet
from facial_rec.sources import StoreSource
from facial_rec.tables import format_table
from pipeline.cache import open_cache
from pipeline.clustering import DEFAULT_THRESHOLD, cluster_embeddings
from pipeline.degradations import View
from pipeline.embedding import embed_images
from pipeline.networks import DEFAULT_EDGEFACE, NO_DSR, load_chain

Vectors = NDArray[np.float32]
AVERAGE = (0.20, 0.225, 0.25, 0.275, 0.30, 0.35, 0.40)
DENSE = (0.40, 0.425, 0.45, 0.475, 0.50, 0.55, 0.60)
HEADER = ("way", "clusters", "pairwise P", "R", "F", "BCubed P", "R", "F")


@dataclass(frozen=True)
class Config:
    """What to cluster."""

    validation: Path = Path("dataset/val_processed")
    """Folder or zip of aligned faces on which the ways are compared."""
    test: Path | None = None
    """Folder or zip of other aligned faces for the chosen way."""
    least: int = 5
    """Photos that a person of the test images must have."""
    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace weights."""


def main(cfg: Config) -> None:
    """Print the tables."""
    unit, people = embedded(cfg.validation, cfg.edgeface, least=1)
    print(f"{cfg.validation}: {len(people):,} faces of {len(set(people)):,} people")
    rows = [row(f"average, {t:g}", cluster_embeddings(unit, t), people) for t in AVERAGE]
    rows += [row(f"DBSCAN, {t:g}, 3", dbscan(unit, t), people) for t in DENSE]
    rows += [row(f"HDBSCAN, {least}", hdbscan(unit, least), people) for least in (2, 5)]
    print(format_table(HEADER, rows))
    if cfg.test is not None:
        unit, people = embedded(cfg.test, cfg.edgeface, cfg.least)
        print(f"\n{cfg.test}, {cfg.least} photos or more: {len(people):,} faces of {len(set(people)):,} people")
        labels = cluster_embeddings(unit)
        print(format_table(HEADER, [row(f"average, {DEFAULT_THRESHOLD:g}", labels, people)]))


def embedded(root: Path, edgeface: str, least: int) -> tuple[Vectors, list[str]]:
    """Unit embeddings `(N, 512)` and the person of each face, of people with at least `least` photos."""
    faces = FaceSet(find_dataset(root))
    photos = Counter(face.subject for face in faces.faces)
    kept = [face for face in faces.faces if photos[face.subject] >= least]
    chain, _ = load_chain([edgeface], NO_DSR, threads=1)
    names = [face.name for face in kept]
    (name,) = chain.embedders
    with open_cache(True) as cache:
        found = embed_images(chain, StoreSource(faces.store, names), names, [View("hr")], cache, quality=False)
    rows = found.vectors[name, View("hr")]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), [face.subject for face in kept]


def dbscan(unit: Vectors, threshold: float) -> NDArray[Any]:
    """Neighbours are faces with a cosine above `threshold`; a core has three, itself counted."""
    model = DBSCAN(eps=1.0 - threshold, min_samples=3, metric="precomputed")
    return alone(model.fit_predict((1.0 - unit @ unit.T).clip(0.0, 2.0)))


def hdbscan(unit: Vectors, least: int) -> NDArray[Any]:
    """Clusters of at least `least` faces, at whatever density they lie."""
    distances = (1.0 - unit @ unit.T).clip(0.0, 2.0).astype(np.float64)
    return alone(HDBSCAN(min_cluster_size=least, metric="precomputed", copy=True).fit_predict(distances))


def alone(labels: NDArray[Any]) -> NDArray[Any]:
    """Each face that is called noise in a cluster of its own."""
    noise = np.flatnonzero(labels < 0)
    labels[noise] = labels.max() + 1 + np.arange(len(noise))
    return labels


def row(way: str, labels: NDArray[Any], people: list[str]) -> list[str]:
    """A line of the table."""
    figures: list[Callable[..., Any]] = [pairwise, bcubed]
    numbers = [(one.precision, one.recall, one.f) for one in (figure(labels, people) for figure in figures)]
    return [way, str(len(set(labels.tolist()))), *(f"{number:.3f}" for three in numbers for number in three)]


if __name__ == "__main__":
    cli.run(main, Config)
