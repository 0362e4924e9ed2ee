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

LARGEST_SHARE_APART = 1e-3

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Rounding:
    """The 8-bit image between the DSR and EdgeFace of a chain, exported and in PyTorch.

    A value within 1e-6 of a rounding edge falls to either side, whoever computes it, and one level in one pixel moves
    an embedding by up to 1e-4. So the halves are compared by themselves: the levels, and what is made of the same ones.
    """

    exported: Callable[[Tensor], Array]
    """uint8 faces `(N, 3, n, n)` -> levels 0 to 255, `(N, 3, 112, 112)`."""
    original: Callable[[Tensor], Tensor]
    """The same in PyTorch."""
    embed: Callable[[Tensor], Tensor]
    """Levels -> unit embeddings `(N, 512)`, in PyTorch."""

    def expected(self, images: Tensor) -> tuple[Array, float]:
        """What PyTorch makes of the exported levels, and the share of them that differ from PyTorch's.

        Raises UserError where a level differs by more than one, or more than one in a thousand differ at all.
        """
        found = self.exported(images)
        apart = np.abs(found - self.original(images).numpy())
        share = float((apart > 0).mean())
        if not apart.max() <= 1 or share > LARGEST_SHARE_APART:
            raise UserError(
                f"The exported DSR differs from PyTorch by up to {apart.max():.0f} of 255 levels, in {share:.2%} of "
                f"the values; expected at most 1 level in {LARGEST_SHARE_APART:.1%}. Nothing was written."
            )
        return self.embed(torch.from_numpy(found)).numpy(), share


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
    rounded_apart: float | None = None
    """Largest share of values between a chain's halves that were rounded to another level than in PyTorch."""

    @property
    def batches(self) -> tuple[int, ...]:
        """How many faces were given at a time."""
        return tuple(sorted({min(batch, self.faces) for batch in BATCHES}))

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
    kind: Kind,
    exported: Callable[[Tensor], Array],
    original: Callable[[Tensor], Tensor],
    faces: Faces,
    rounding: Rounding | None = None,
) -> Agreement:
    """`exported` against `original` at batch 1, 3 and 32 (as far as there are faces) and at several sizes.

    With `rounding`, the largest difference of a chain is that to PyTorch's embedding of the same rounded images; the
    cosine is to PyTorch's whole chain.
    """
    sizes = (112,) if kind == "edgeface" else SIZES
    differences, cosines, shares = [], [], []
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
            cosines.append(float(cosines_of(kind, found, wanted).min()))
            if rounding is not None:
                wanted, share = rounding.expected(images[:batch])
                shares.append(share)
            differences.append(float(np.abs(found - wanted).max()))
    apart = max(shares) if shares else None
    return Agreement(max(differences), min(cosines), min(len(faces), max(BATCHES)), sizes, apart)


def cosines_of(kind: Kind, found: Array, wanted: Array) -> NDArray[np.float64]:
    """Cosine of each face's two outputs, `(N,)`; NaN where one is NaN, which no comparison passes."""
    centre = 0.5 if kind == "dsr" else 0.0
    a, b = (one.reshape(len(one), -1).astype(np.float64) - centre for one in (found, wanted))
    return np.asarray((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))
