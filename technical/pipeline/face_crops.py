"""The faces of a photo as the networks take them: small ones at their own size, for the DSR; larger ones at 112 x 112.

No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.images import RgbImage
from facial_rec.alignment import TEMPLATE_SIZE, align_face, native_size
from facial_rec.detector import Detector

DSR_BELOW = 36
"""Side in pixels below which a face goes through the DSR.

`benchmarks/dsr_below.py` prints it, from the validation people: against an HR face the DSR finds more genuine pairs
than bicubic, beyond chance, from 8 to 36 pixels, at 36 by 0.2 points, not at 40, and fewer from 48 on (the table is in
the README). So it prints 40; 36, what it printed of earlier models, was kept.
"""
SMALLEST, LARGEST = 8, 64
"""Sides that the DSR takes, in pixels."""


@dataclass(frozen=True)
class Face:
    """Where a face is, and how it reaches the recogniser."""

    photo: str
    """What the photo is called."""
    number: int
    """In the photo, from 1; the detector's surest face first."""
    box: tuple[float, ...] | None
    """Left, top, right, bottom in pixels of the photo; None for a face that came aligned."""
    landmarks: tuple[tuple[float, float], ...] | None
    """Eyes, nose, mouth corners; None for a face that came aligned."""
    detection: float | None
    """How sure the detector is."""
    resolution: int
    """Side, in pixels of the photo, of what was aligned: the resolution that thresholds depend on."""
    by_dsr: bool
    """Whether it went through the DSR."""


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """A face and its pixels."""

    face: Face
    pixels: RgbImage
    """RGB uint8 `(n, n, 3)`: n from 8 to 64 by way of the DSR, else 112."""


@dataclass(frozen=True, eq=False)
class EmbeddedFace:
    """A face and its embedding."""

    face: Face
    embedding: NDArray[np.float32]
    """`(512,)`, of length 1."""


def crop_size(resolution: float, dsr_below: float = DSR_BELOW) -> int:
    """Side of the crop of a face that covers `resolution` pixels: its own, from 8 to 64, or 112 from `dsr_below` on."""
    return TEMPLATE_SIZE if resolution >= dsr_below else min(max(round(resolution), SMALLEST), LARGEST)


def find_crops(name: str, image: RgbImage, detector: Detector, dsr_below: float = DSR_BELOW) -> list[FaceCrop]:
    """All faces that `detector` finds in `image`, RGB uint8 `(H, W, 3)`, the surest first."""
    crops = []
    for number, found in enumerate(detector.detect(image), start=1):
        native = native_size(found.landmarks)
        face = Face(
            photo=name,
            number=number,
            box=tuple(round(float(value), 2) for value in found.box),
            landmarks=tuple((round(float(x), 2), round(float(y), 2)) for x, y in found.landmarks),
            detection=round(float(found.score), 4),
            resolution=max(1, round(native)),
            by_dsr=native < dsr_below,
        )
        crops.append(FaceCrop(face, align_face(image, found.landmarks, crop_size(native, dsr_below))))
    return crops


def aligned_crop(name: str, image: RgbImage, dsr_below: float = DSR_BELOW) -> FaceCrop:
    """A face that is aligned already, `(n, n, 3)`. Raises UserError for one that is not square or below 8 pixels."""
    height, width = image.shape[:2]
    if height != width or width < SMALLEST:
        raise UserError(
            f"{name} is {width}x{height}: an aligned face is square, from {SMALLEST}x{SMALLEST} pixels. "
            "Is it a whole photo? Leave `aligned` (--aligned) out, and its faces are looked for."
        )
    pixels = resized(image, crop_size(width, dsr_below))
    return FaceCrop(Face(name, 1, None, None, None, width, width < dsr_below), pixels)


def resized(face: RgbImage, side: int) -> RgbImage:
    """A square face at another size, `(side, side, 3)`: averaged where that is smaller, else bicubic."""
    if len(face) == side:
        return face
    way = cv2.INTER_CUBIC if side > len(face) else cv2.INTER_AREA
    return np.asarray(cv2.resize(face, (side, side), interpolation=way), np.uint8)


def largest_crop(crops: list[FaceCrop]) -> FaceCrop:
    """The face that covers most of the photo, by its box: whom the photo is of, more often than not."""
    return max(crops, key=_area)


def _area(crop: FaceCrop) -> float:
    if crop.face.box is None:
        return float(crop.face.resolution**2)
    left, top, right, bottom = crop.face.box
    return (right - left) * (bottom - top)
