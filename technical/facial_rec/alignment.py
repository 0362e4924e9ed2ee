"""Five-point alignment: from the eyes, nose and mouth of a photo to the ArcFace template that EdgeFace was trained on.

Coordinates are (x, y) in pixels, and whole numbers are the centres of pixels. No torch here.
"""

from __future__ import annotations

from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError
from common.images import RgbImage

TEMPLATE_SIZE = 112
ARCFACE_TEMPLATE: NDArray[np.float32] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where the image-left eye, image-right eye, nose and mouth corners lie in a 112x112 face (InsightFace,
`face_align.py`)."""


def similarity_transform(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The `(2, 3)` matrix that turns, scales and shifts `source` onto `target`, both `(N, 2)`, with least squares.

    Never a mirror image. S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", IEEE TPAMI 1991, equations 40 to 43. Raises UserError for points that are not finite, not two columns of
    at least two, or all in one place.
    """
    points, aims = _points(source), _points(target)
    if points.shape != aims.shape:
        raise UserError(f"points of shape {points.shape} cannot be laid onto points of shape {aims.shape}.")
    centre, aim = points.mean(axis=0), aims.mean(axis=0)
    spread = ((points - centre) ** 2).sum(axis=1).mean()
    if spread < 1e-12:
        raise UserError("all landmarks lie in one place: no face can be aligned by them. Detect it again.")
    covariance = (aims - aim).T @ (points - centre) / len(points)
    left, strengths, right = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turned = (strengths * signs).sum() / spread * (left * signs) @ right
    return np.column_stack([turned, aim - turned @ centre])


def template(size: int) -> NDArray[np.float64]:
    """The ArcFace template `(5, 2)` for faces of `size` x `size` pixels."""
    return (ARCFACE_TEMPLATE.astype(np.float64) + 0.5) * (size / TEMPLATE_SIZE) - 0.5


def native_size(landmarks: ArrayLike) -> float:
    """How many of the photo's own pixels the side of the aligned face covers: 16.0 for a face 16 pixels wide.

    `landmarks` as in `align_face`, with its errors.
    """
    return TEMPLATE_SIZE / _scale(similarity_transform(_five(landmarks), ARCFACE_TEMPLATE))


def align_face(image: RgbImage, landmarks: ArrayLike, size: int = TEMPLATE_SIZE) -> RgbImage:
    """The face as `(size, size, 3)`, its landmarks moved onto the ArcFace template as well as a similarity can.

    `image` is RGB uint8 `(H, W, 3)`; `landmarks` `(5, 2)`: image-left eye, image-right eye, nose, image-left and
    image-right mouth corner. Bilinear; where that makes the face smaller, averaged over the pixels that fall into one,
    so that nothing aliases. What lies outside the photo is black. Raises UserError for another shape and as
    `similarity_transform`.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UserError(f"expected an RGB image uint8 (H, W, 3), found {image.dtype} {image.shape}.")
    if size < 1:
        raise UserError(f"a face of {size} pixels: expected at least 1.")
    matrix = similarity_transform(_five(landmarks), template(size))
    image, matrix = _cut_out(image, matrix, size)
    if not image.size:
        return np.zeros((size, size, 3), np.uint8)
    image, matrix = _averaged(image, matrix)
    fine = 2 if _scale(matrix) < 0.999 else 1
    warped = cv2.warpAffine(image, _enlarged(matrix, fine), (size * fine, size * fine), flags=cv2.INTER_LINEAR)
    return cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA) if fine > 1 else warped


def _cut_out(image: RgbImage, matrix: NDArray[np.float64], size: int) -> tuple[RgbImage, NDArray[np.float64]]:
    """The part of `image` that the face can touch, and the matrix for it: OpenCV takes no side above 32,767."""
    back = cv2.invertAffineTransform(matrix)
    corners = np.array([[-1, -1, 1], [size, -1, 1], [-1, size, 1], [size, size, 1]], np.float64) @ back.T
    margin = 2 + 2 / _scale(matrix)
    height, width = image.shape[:2]
    left, top = (max(0, floor(value - margin)) for value in corners.min(axis=0))
    right, bottom = (ceil(value + margin) for value in corners.max(axis=0))
    part = image[top : max(0, min(bottom, height)), left : max(0, min(right, width))]
    return np.ascontiguousarray(part), np.column_stack([matrix[:, :2], matrix @ [left, top, 1]])


def _averaged(image: RgbImage, matrix: NDArray[np.float64]) -> tuple[RgbImage, NDArray[np.float64]]:
    """`image` reduced by the whole number of its pixels that fall into one of the face, and the matrix for it."""
    step = floor(1 / _scale(matrix))
    if step < 2:
        return image, matrix
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % step, 0, -width % step, cv2.BORDER_REPLICATE)
    small = cv2.resize(padded, (padded.shape[1] // step, padded.shape[0] // step), interpolation=cv2.INTER_AREA)
    half = (step - 1) / 2  # the centre of the first small pixel
    return small, np.column_stack([matrix[:, :2] * step, matrix @ [half, half, 1]])


def _enlarged(matrix: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """`matrix` followed by an enlargement that keeps the outer edges of the picture."""
    grown = matrix * factor
    grown[:, 2] += (factor - 1) / 2
    return grown


def _scale(matrix: NDArray[np.float64]) -> float:
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _points(values: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise UserError(f"expected at least two points (N, 2), found shape {points.shape}.")
    if not np.isfinite(points).all():
        raise UserError("a landmark is not a finite number. Detect the face again.")
    return points


def _five(landmarks: ArrayLike) -> NDArray[np.float64]:
    points = _points(landmarks)
    if points.shape != (5, 2):
        raise UserError(f"expected five landmarks (5, 2): eyes, nose, mouth corners; found shape {points.shape}.")
    return points
