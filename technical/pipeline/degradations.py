"""The named ways an HR face becomes a low-resolution one, and how an image is looked at before it is embedded.

`canonical` is the project's convention and `inter_area` that of published cross-resolution figures; both always give
the same image. `realistic-mild`, `-medium` and `-severe` draw blur, motion, noise and JPEG per image (see
`dsr.degradation.RealisticDegradation`). The draws of an image depend on the seed, its file and the size alone, so its
probe is the same in any order, batch and subset; the severities share their draws, so they differ in strength only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.images import RgbImage
from dsr.degradation import MAX_SIZE, MIN_SIZE, RealisticDegradation, canonical_reduce, round_to_8bit

Degradation = Literal["canonical", "inter_area", "realistic-mild", "realistic-medium", "realistic-severe"]
SEVERITIES: dict[str, float] = {"realistic-mild": 0.25, "realistic-medium": 0.5, "realistic-severe": 1.0}
DEGRADATIONS = ("canonical", "inter_area", *SEVERITIES)


@dataclass(frozen=True)
class View:
    """How an image is looked at: as it is (`hr`), or reduced and then enlarged by a method.

    Raises UserError for a size out of range and an unknown degradation; ValueError for a method that does not exist.
    """

    method: str
    """`hr`, `bicubic` or `dsr`."""
    size: int | None = None
    """Side in pixels it is reduced to; None for `hr`."""
    degradation: Degradation = "canonical"
    seed: int = 0
    """Seed of the realistic degradations; the others draw nothing."""

    def __post_init__(self) -> None:
        if self.method not in ("hr", "bicubic", "dsr") or (self.method == "hr") != (self.size is None):
            raise ValueError(f"expected hr without a size, or bicubic or dsr with one, found {self}")
        if self.size is not None:
            check_size(self.size, "The low resolution")
        if self.degradation not in DEGRADATIONS:
            raise UserError(f"Degradation {self.degradation} is unknown: expected one of {', '.join(DEGRADATIONS)}.")


def check_size(size: int, what: str) -> None:
    """Raise UserError, naming `what`, for a low resolution that the DSR does not take."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UserError(f"{what} is {size} pixels: expected {MIN_SIZE} to {MAX_SIZE}.")


def reduce(
    images: Tensor, fingerprints: Sequence[str], size: int, degradation: Degradation = "canonical", seed: int = 0
) -> Tensor:
    """Reduce `(B, 3, H, W)` to `(B, 3, size, size)`, rounded to 8 bit.

    `fingerprints` are those of the B image files (`ImageSource.fingerprint`); with `seed` and `size` they seed the
    draws of the realistic degradations. Raises UserError for an unknown degradation.
    """
    if degradation == "canonical":
        return canonical_reduce(images, size)
    if degradation == "inter_area":
        return _inter_area(images, size)
    if degradation not in SEVERITIES:
        raise UserError(f"Degradation {degradation} is unknown: expected one of {', '.join(DEGRADATIONS)}.")
    realistic = RealisticDegradation(SEVERITIES[degradation])
    reduced = [
        realistic(image[None], size, _generator(fingerprint, size, seed))
        for image, fingerprint in zip(images, fingerprints, strict=True)
    ]
    return torch.cat(reduced)


def _generator(fingerprint: str, size: int, seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{fingerprint}/{size}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _inter_area(images: Tensor, size: int) -> Tensor:
    """OpenCV's INTER_AREA on 8-bit images, as in published cross-resolution figures."""
    pixels = round_to_8bit(images).mul(255).byte().permute(0, 2, 3, 1).cpu().numpy()
    reduced = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in pixels]
    return to_tensor(reduced).to(images.device)


def to_tensor(images: Sequence[RgbImage]) -> Tensor:
    """RGB uint8 images `(H, W, 3)` of one size as float `(B, 3, H, W)` in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float().div(255.0)
