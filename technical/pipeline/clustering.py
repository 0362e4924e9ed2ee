"""From embeddings to people: faces of one person get one number, however many people there are.

Average linkage: the two clusters whose faces are most alike on average are joined, until no two are as alike as the
threshold (R. Sokal and C. Michener, 1958; scikit-learn's AgglomerativeClustering). DBSCAN joins whoever is connected by
a chain of neighbours, and one blurred face between two people makes them one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from common.errors import UserError
from common.files import write_text
from common.images import RgbImage
from common.progress import progress_bar
from pipeline.gallery import check_embeddings
from pipeline.html import Markup, Section, data_uri, page, paragraph

# On the 60 validation people as good as the best (pairwise F .988, at 0.225 .990): benchmarks/clustering.py.
DEFAULT_THRESHOLD = 0.25
MOST_FACES = 20_000  # their similarities take 1.6 GB, and what scikit-learn makes of them 4 GB more
_THUMBNAIL = 80

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Cluster:
    """Faces taken for one person."""

    faces: list[int]
    """Their places in what was clustered, the most typical first."""


def check_threshold(threshold: float) -> None:
    """Raise UserError for a threshold that is no cosine."""
    if not -1.0 <= threshold <= 1.0:
        raise UserError(f"The threshold is a cosine from -1 to 1, found {threshold}.")


def cluster_embeddings(embeddings: ArrayLike, threshold: float = DEFAULT_THRESHOLD) -> Labels:
    """The number of each face's cluster `(N,)`: the largest is 0, and of equal ones that with the first face is first.

    `embeddings` `(N, D)` of any length are compared by cosine; clusters are joined while the mean cosine between them
    is above `threshold`. Raises UserError for NaN, a row of zeros, a threshold outside -1 to 1, and more than 20,000.
    """
    check_threshold(threshold)
    rows = np.asarray(embeddings)
    if rows.ndim != 2:
        raise UserError(f"Expected embeddings (N, D), found shape {rows.shape}.")
    if len(rows) > MOST_FACES:
        raise UserError(f"{len(rows):,} faces: at most {MOST_FACES:,} are compared all with all. Give fewer at a time.")
    if len(rows) < 2:
        return np.zeros(len(rows), dtype=np.int64)
    unit = check_embeddings(rows, rows.shape[1])
    from sklearn.cluster import AgglomerativeClustering  # half a second, and only needed here

    distances = (1.0 - unit @ unit.T).clip(0.0, 2.0)
    model = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1.0 - threshold
    )
    return _by_size(model.fit_predict(distances))


def clusters_of(labels: ArrayLike, embeddings: ArrayLike) -> list[Cluster]:
    """The clusters of `labels` `(N,)` in order; in each, the faces nearest its mean of `embeddings` `(N, D)` first."""
    numbers, rows = np.asarray(labels), np.asarray(embeddings)
    if not len(numbers):
        return []
    unit = check_embeddings(rows, rows.shape[1])
    clusters = []
    for number in np.unique(numbers):
        faces = np.flatnonzero(numbers == number)
        likeness = unit[faces] @ unit[faces].mean(axis=0)
        clusters.append(Cluster([int(face) for face in faces[np.argsort(-likeness, kind="stable")]]))
    return clusters


def write_contact_sheet(
    path: Path,
    clusters: Sequence[Cluster],
    read: Callable[[int], RgbImage],
    names: Sequence[str],
    most: int = 60,
) -> None:
    """Write one self-contained HTML page: a strip of small pictures for each cluster, at most `most` of one.

    `read` gives face i, uint8 `(H, W, 3)`; `names` what it is called. The page shows real people: keep it to yourself.
    """
    groups = [one for one in clusters if len(one.faces) > 1]
    alone = [one.faces[0] for one in clusters if len(one.faces) == 1]
    shown = [(f"Person {number}", one.faces) for number, one in enumerate(groups, 1)]
    if alone:
        shown.append(("Seen once", alone))
    sections: list[str | Section] = [
        paragraph(
            f"{len(names):,} faces, {len(groups):,} people seen more than once, {len(alone):,} faces alone.", "lead"
        )
    ]
    with progress_bar(sum(min(len(faces), most) for _, faces in shown), "contact sheet", "face") as progress:
        for title, faces in shown:
            pictures = []
            for face in faces[:most]:
                pictures.append(_thumbnail(read(face), names[face]))
                progress.update()
            more = f" ({most} shown)" if len(faces) > most else ""
            strip = Markup('<div style="display:flex;flex-wrap:wrap;gap:4px">' + "".join(pictures) + "</div>")
            sections.append(Section(f"{title}: {len(faces)} faces{more}", [strip]))
    write_text(path, page("Faces by person", sections, contents=len(shown) <= 100))


def _thumbnail(face: RgbImage, name: str) -> Markup:
    image = Image.fromarray(face)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=85)
    words = escape(name, quote=True)
    return Markup(f'<img src="{data_uri(file.getvalue(), "image/jpeg")}" alt="{words}" title="{words}">')


def _by_size(found: NDArray[np.integer]) -> Labels:
    """Renumber clusters, the largest first."""
    _, first, numbers, counts = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -counts))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places[numbers]
