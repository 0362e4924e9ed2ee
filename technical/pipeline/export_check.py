"""Comparing an exported model with PyTorch, on faces, before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from dsr.degradation import canonical_reduce
from facial_rec.edgeface import normalise
from pipeline.degradations import to_tensor
from pipeline.model_metadata import Kind, Precision
from pipeline.sample_faces import Faces

BATCHES = (1, 3, 32)
SIZES = (8, 16, 23, 32, 64)
TOLERANCE = 1e-4
LEAST_COSINE: dict[Precision, float] = {"float32": 0.9999, "fp16": 0.999, "int8": 0.98, "int8-dynamic": 0.98}

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How near an export is to PyTorch, at its worst."""

    largest_difference: float
    """Of any value of the output."""
    least_cosine: float
    """Between the two outputs for one face; of the DSR, between the images' deviations from mid-grey."""
    faces: int
    sizes: tuple[int, ...]
    """Sides of the inputs in pixels."""

    def refuse_below(self, precision: Precision, what: str) -> None:
        """Raise UserError unless the two agree as `precision` must: float32 within 1e-4, all by their cosine."""
        least = LEAST_COSINE[precision]
        too_far = precision == "float32" and not self.largest_difference <= TOLERANCE
        if too_far or not self.least_cosine > least:
            bound = f" and a difference of at most {TOLERANCE:.0e}" if precision == "float32" else ""
            raise UserError(
                f"The {precision} {what} differs from PyTorch: cosine {self.least_cosine:.6f}, largest difference "
                f"{self.largest_difference:.1e}; expected a cosine above {least}{bound}. Nothing was written. "
                + ("Report this with the versions of torch and onnxruntime." if too_far else "Keep float32 or fp16.")
            )


def inputs_of(kind: Kind, faces: Faces, size: int) -> Tensor:
    """Faces `(N, 112, 112, 3)` as a model of `kind` takes them: reduced to `size`, but for EdgeFace."""
    images = to_tensor(list(faces))
    if kind == "edgeface":
        return normalise(images)
    low = canonical_reduce(images, size)
    return low if kind == "dsr" else low.mul(255).round().byte()


@torch.no_grad()
def compare(
    kind: Kind, exported: Callable[[Tensor], Array], original: Callable[[Tensor], Tensor], faces: Faces
) -> Agreement:
    """`exported` against `original` at batch 1, 3 and 32 (as far as there are faces) and at several sizes."""
    sizes = (112,) if kind == "edgeface" else SIZES
    differences, cosines = [], []
    for size in sizes:
        images = inputs_of(kind, faces[: max(BATCHES)], size)
        expected = original(images).numpy()
        for batch in BATCHES:
            found, wanted = exported(images[:batch]), expected[:batch]
            if found.shape != wanted.shape:
                raise UserError(
                    f"The exported {kind} gives {found.shape} for a batch of {batch} at {size} pixels, expected "
                    f"{wanted.shape}. Nothing was written."
                )
            differences.append(float(np.abs(found - wanted).max()))
            cosines.append(float(cosines_of(kind, found, wanted).min()))
    return Agreement(max(differences), min(cosines), min(len(faces), max(BATCHES)), sizes)


def cosines_of(kind: Kind, found: Array, wanted: Array) -> NDArray[np.float64]:
    """Cosine of each face's two outputs, `(N,)`; NaN where one is NaN, which no comparison passes."""
    centre = 0.5 if kind == "dsr" else 0.0
    a, b = (one.reshape(len(one), -1).astype(np.float64) - centre for one in (found, wanted))
    return np.asarray((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))
