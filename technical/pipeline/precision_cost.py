"""What a model in fewer bits loses: verification on pairs of faces, and the cosine of its embeddings to float32's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from common.paths import default_dataset
from common.progress import progress_bar
from dsr.degradation import bicubic_enlarge, canonical_reduce, round_to_8bit
from facial_rec.metrics import cosine_pairs
from facial_rec.pairs import PairList
from facial_rec.tables import number, percent
from facial_rec.thresholds import DEFAULT_THRESHOLD
from facial_rec.trials import load_trials
from facial_rec.verification import Comparisons
from pipeline.degradations import to_tensor
from pipeline.export_check import Array, cosines_of
from pipeline.model_metadata import Kind
from pipeline.onnx_models import OnnxModel
from pipeline.onnx_session import session_of
from pipeline.sample_faces import Faces

FIGURES = ("accuracy", "eer", "tar@fmr=1e-2")
LOW_SIZE = 16
BATCH = 32

Model = Callable[[NDArray[Any]], Array]
Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Trials:
    """Pairs of faces, each face read once."""

    faces: Faces
    """`(M, 112, 112, 3)`."""
    pairs: PairList
    label: str

    @classmethod
    def load(cls, root: Path, pairs: Path | None = None, seed: int = 0, per_person: int = 10) -> Trials:
        """The pairs of a list, or drawn from the people of a folder or zip. Raises UserError as `load_trials`."""
        source, found = load_trials(root, pairs, seed, genuine_per_person=per_person)
        names = found.images
        with progress_bar(len(names), f"reading {source.label}", "face", keep=False) as progress:
            faces = np.empty((len(names), 112, 112, 3), np.uint8)
            for row, name in enumerate(names):
                faces[row] = source.read(name)
                progress.update()
        return cls(faces, found, source.label)

    @property
    def people(self) -> list[str]:
        """Whom the pairs are of, by the list's names."""
        return sorted({name for pair in self.pairs.pairs for name in (pair.first_subject, pair.second_subject)})

    def figures(self, embeddings: Array) -> dict[str, float | None]:
        """Accuracy over the folds, EER and TAR at FMR 1e-2 of embeddings `(M, D)`, as fractions."""
        rows = {name: row for row, name in enumerate(self.pairs.images)}
        first = np.array([rows[pair.first] for pair in self.pairs.pairs])
        second = np.array([rows[pair.second] for pair in self.pairs.pairs])
        scores = cosine_pairs(embeddings[first], embeddings[second])
        found = Comparisons(scores, self.pairs.genuine, self.pairs.fold_numbers).figures(DEFAULT_THRESHOLD)
        return {name: found[name] for name in FIGURES}


@torch.no_grad()
def views_of(kind: Kind, faces: Faces, size: int, dsr: Network | None = None) -> dict[str, NDArray[np.uint8]]:
    """What a model of `kind` is shown of the faces, uint8 `(M, 3, n, n)`, by the view's name.

    EdgeFace sees them in high resolution, and reduced to `size` and enlarged by the DSR, or by bicubic without one;
    the chain sees them reduced.
    """
    views: dict[str, list[NDArray[np.uint8]]] = {}
    for start in range(0, len(faces), BATCH):
        high = to_tensor(list(faces[start : start + BATCH]))
        low = canonical_reduce(high, size)
        shown = {str(size): low}
        if kind == "edgeface":
            restored = bicubic_enlarge(low) if dsr is None else round_to_8bit(dsr(low))
            shown = {"hr": high, str(size): restored}
        for name, images in shown.items():
            views.setdefault(name, []).append(images.mul(255).round().byte().numpy())
    return {name: np.concatenate(parts) for name, parts in views.items()}


def embed(model: Model, kind: Kind, images: NDArray[np.uint8]) -> Array:
    """Embeddings `(M, 512)` of uint8 images `(M, 3, n, n)`, normalised first for an EdgeFace."""
    parts = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        parts.append(model(batch.astype(np.float32) / 255 * 2 - 1 if kind == "edgeface" else batch))
    return np.concatenate(parts)


def print_cost(full: ModelProto, quantised: Path, kind: Kind, val_root: Path | None, seed: int) -> None:
    """Print how verification changes from the float32 graph `full` to the file `quantised`.

    On the pairs of `val_root` (default: dataset/val_processed); says so where there are no faces, or for a DSR, which
    embeds nothing.
    """
    root = val_root or default_dataset("val")
    if kind == "dsr" or root is None:
        why = "a DSR embeds nothing" if kind == "dsr" else "no dataset/val_processed is here, and no --val-root given"
        print(f"[export] change in verification accuracy: not measured, {why}")
        return
    trials = Trials.load(root, seed=seed, per_person=3)
    models: dict[str, Model] = {"float32": session_of(full), "less": OnnxModel(quantised, kind)}
    for view, images in views_of(kind, trials.faces, LOW_SIZE).items():
        vectors = {name: embed(model, kind, images) for name, model in models.items()}
        figures = {name: trials.figures(found) for name, found in vectors.items()}
        cosines = cosines_of(kind, vectors["less"], vectors["float32"])
        where = "HR" if view == "hr" else f"{view} pixels"
        changes = [f"{name} {change(figures['float32'][name], figures['less'][name])}" for name in FIGURES]
        print(
            f"[export] {where}, {len(trials.pairs):,} pairs of {trials.label}: cosine to float32 "
            f"{number(float(cosines.mean()), decimals=4)}; {', '.join(changes)}"
        )


def change(before: float | None, after: float | None) -> str:
    """Such as `98.20 -> 98.10 % (-0.10)`; a dash where one is missing."""
    if before is None or after is None:
        return "-"
    return f"{percent(before)} -> {percent(after)} % ({percent(after - before, signed=True)})"
