"""Boxes `(N, 4)` as left, top, right, bottom: overlap, suppression, squares, cutting out. Pure functions on numpy."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.images import RgbImage

Boxes = NDArray[np.float32]


def overlaps(box: NDArray[np.float32], others: Boxes, of_smaller: bool = False) -> NDArray[np.float32]:
    """Intersection of `box` `(4,)` with each of `others`, as a share of their union or of the smaller one: `(N,)`."""
    corner = np.maximum(box[:2], others[:, :2])
    sides = np.maximum(np.minimum(box[2:], others[:, 2:]) - corner, 0)
    shared = sides.prod(axis=1)
    own, theirs = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    whole = np.minimum(own, theirs) if of_smaller else own + theirs - shared
    return shared / np.maximum(whole, 1e-9)


def suppress(boxes: Boxes, scores: NDArray[np.float32], threshold: float, of_smaller: bool = False) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best first: those that overlap no better kept one by more than `threshold`."""
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        waiting = waiting[overlaps(boxes[best], boxes[waiting], of_smaller) <= threshold]
    return np.array(kept, np.intp)


def shifted(boxes: Boxes, offsets: NDArray[np.float32]) -> Boxes:
    """`boxes` with each side moved by `offsets` `(N, 4)`, in widths (left, right) and heights (top, bottom)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.tile(sides, 2)


def squared(boxes: Boxes) -> Boxes:
    """Squares of whole pixels around the centres of `boxes`, as wide as their longer sides."""
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    corner = np.round((boxes[:, :2] + boxes[:, 2:] - side) / 2)
    return np.hstack([corner, corner + np.maximum(np.round(side), 1)]).astype(np.float32)


def cut_out(image: RgbImage, boxes: Boxes, side: int) -> NDArray[np.float32]:
    """The boxes' pixels as float32 `(N, 3, side, side)`, black outside the image; `boxes` are of whole pixels.

    Reduced by averaging, enlarged bilinearly.
    """
    return np.stack([_cut(image, box, side) for box in boxes.astype(int).tolist()])


def _cut(image: RgbImage, box: list[int], side: int) -> NDArray[np.float32]:
    left, top, right, bottom = box
    height, width = image.shape[:2]
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    missing = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if any(missing):
        whole = np.zeros((bottom - top, right - left, 3), np.uint8)
        if inside.size:
            whole[missing[0] :, missing[2] :][: inside.shape[0], : inside.shape[1]] = inside
        inside = whole
    method = cv2.INTER_AREA if right - left > side else cv2.INTER_LINEAR
    return cv2.resize(inside, (side, side), interpolation=method).transpose(2, 0, 1).astype(np.float32)
