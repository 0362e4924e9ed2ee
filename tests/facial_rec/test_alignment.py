"""Alignment against scikit-image, against drawn landmarks, and against aliasing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from common.errors import UserError
from facial_rec.alignment import ARCFACE_TEMPLATE, align_face, native_size, similarity_transform, template


def moved(degrees: float, scale: float, shift: tuple[float, float], size: int = 112) -> np.ndarray:
    """The template turned, scaled and shifted."""
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return scale * template(size) @ rotation.T + shift


@pytest.mark.parametrize("seed", range(8))
def test_transform_is_that_of_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = moved(rng.uniform(-180, 180), rng.uniform(0.1, 9), (rng.uniform(-50, 900), 20))
    source += rng.normal(0, 3, source.shape)
    reference = SimilarityTransform.from_estimate(source, template(112))
    np.testing.assert_allclose(similarity_transform(source, ARCFACE_TEMPLATE), reference.params[:2], atol=1e-9)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = template(112) * [-1, 1] + np.array([200, 0])
    matrix = similarity_transform(mirrored, ARCFACE_TEMPLATE)
    reference = SimilarityTransform.from_estimate(mirrored, template(112))
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, reference.params[:2], atol=1e-9)


def test_template_face_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert np.array_equal(align_face(image, ARCFACE_TEMPLATE), image)


@pytest.mark.parametrize("size", [16, 64, 112])
@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.0), (35, 0.6), (-90, 2.3), (170, 7.9)])
def test_landmarks_come_to_lie_on_the_template(degrees: float, scale: float, size: int) -> None:
    """A soft spot drawn at each landmark has its centre of mass at the template's point."""
    points = moved(degrees, scale, (0, 0))
    width = max(0.8 * 112 / size, 3.0) * scale
    margin = int(4 * width)
    points += margin - points.min(axis=0)
    ys, xs = np.mgrid[: int(points[:, 1].max()) + margin, : int(points[:, 0].max()) + margin]
    for point, expected in zip(points, template(size), strict=True):
        spot = 255 * np.exp(-((xs - point[0]) ** 2 + (ys - point[1]) ** 2) / (2 * width**2))
        face = align_face(np.repeat(spot[..., None], 3, axis=2).round().astype(np.uint8), points, size)[..., 0]
        rows, columns = np.mgrid[:size, :size]
        weight = face.astype(float)
        centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        np.testing.assert_allclose(centre, expected, atol=0.25)


@pytest.mark.parametrize("scale", [1.4, 3.0, 12.5])
def test_reducing_does_not_alias(scale: float) -> None:
    """A chequered pattern finer than the face's pixels becomes grey, and not a coarse pattern."""
    points = moved(10, scale, (40, 10))
    side = int(points.max() + 40)
    ys, xs = np.mgrid[:side, :side]
    chequered = np.repeat(((xs + ys) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    plain = cv2.warpAffine(chequered, similarity_transform(points, template(112)), (112, 112))
    inner = slice(30, 80)
    assert plain[inner, inner].std() > 25, "without averaging this pattern aliases"
    assert align_face(chequered, points)[inner, inner].std() < plain[inner, inner].std() / 1.9


def test_native_size_is_that_of_the_photo() -> None:
    assert native_size(ARCFACE_TEMPLATE) == pytest.approx(112)
    assert native_size(moved(77, 16 / 112, (5, 900))) == pytest.approx(16)
    assert native_size(template(24)) == pytest.approx(24)


def test_aligning_at_native_size_is_a_plain_cut() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    face = align_face(image, template(24) + np.array([20, 10]), 24)
    assert np.array_equal(face, image[10:34, 20:44])


def test_outside_the_photo_is_black() -> None:
    image = np.full((60, 60, 3), 200, np.uint8)
    half = align_face(image, ARCFACE_TEMPLATE - [60, 0])
    assert half[:, :59].max() == 0
    assert half[:59, 61:].min() > 195
    assert align_face(image, ARCFACE_TEMPLATE - [5000, 0]).max() == 0
    assert align_face(image, ARCFACE_TEMPLATE - [0, 5000]).max() == 0
    assert align_face(image, 300 * ARCFACE_TEMPLATE).shape == (112, 112, 3)


def test_very_wide_photos_are_read() -> None:
    image = np.full((130, 40_000, 3), 90, np.uint8)
    assert align_face(image, ARCFACE_TEMPLATE - [-39_800, -5]).min() == 90


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.zeros((5, 2)), "in one place"),
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((4, 2)), "five landmarks"),
        (np.zeros((5, 3)), r"found shape \(5, 3\)"),
        (np.zeros(10), r"found shape \(10,\)"),
    ],
)
def test_bad_landmarks_are_refused(landmarks: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        align_face(np.zeros((8, 8, 3), np.uint8), landmarks)


def test_bad_images_and_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="RGB image"):
        align_face(np.zeros((8, 8), np.uint8), ARCFACE_TEMPLATE)
    with pytest.raises(UserError, match="RGB image"):
        align_face(np.zeros((8, 8, 3), np.float32), ARCFACE_TEMPLATE)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 1"):
        align_face(np.zeros((8, 8, 3), np.uint8), ARCFACE_TEMPLATE, 0)
    with pytest.raises(UserError, match="cannot be laid"):
        similarity_transform(ARCFACE_TEMPLATE, ARCFACE_TEMPLATE[:4])
