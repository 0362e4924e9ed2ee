"""Training crops of the landmark refiner: where the landmarks lie in them, and how far they are changed."""

from __future__ import annotations

import math

import cv2
import numpy as np

from facial_rec.alignment import ARCFACE_TEMPLATE, similarity_transform
from facial_rec.landmark_crops import (
    BORDER,
    CROP,
    Augmentation,
    in_pixels,
    in_sides,
    perturbed,
    surrounded,
    training_crop,
)

PLAIN = Augmentation(small=0.0, light=0.0, grey=0.0, blur=0.0, noise=0.0, jpeg=0.0)


def test_perturbed_landmarks_stay_within_reach() -> None:
    rng, how = np.random.default_rng(0), Augmentation(degrees=20, scale=0.2, shift=0.1, narrow=0.5)
    turns, sizes, near = [], [], 0
    for _ in range(200):
        matrix = similarity_transform(ARCFACE_TEMPLATE, perturbed(rng, how))
        turns.append(abs(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))))
        sizes.append(abs(math.hypot(matrix[0, 0], matrix[1, 0]) - 1))
        near += turns[-1] <= 20 / 3 and sizes[-1] <= 0.2 / 3
    assert 15 < max(turns) <= 20.01
    assert 0.15 < max(sizes) <= 0.2001
    assert 90 < near < 150


def test_the_crop_holds_the_landmarks_where_it_says() -> None:
    """A face that is black but for its right mouth corner, or, mirrored, its left one."""
    marked = np.zeros((112, 112, 3), np.uint8)
    landmarks = ARCFACE_TEMPLATE + np.array([2.0, -3.0], np.float32)
    x, y = landmarks[4].round().astype(int)
    cv2.circle(marked, (int(x), int(y)), 4, (255, 255, 255), -1)
    landmarks[4] = x, y
    sides = set()
    for seed in range(12):
        crop, found = training_crop(marked, landmarks, np.random.default_rng(seed), PLAIN)
        assert crop.shape == (CROP, CROP, 3)
        assert crop.dtype == np.uint8
        light = [around(crop, point) for point in in_pixels(found)]
        brightest = max(range(5), key=lambda number: light[number][0])
        sides.add(brightest)
        assert light[brightest][0] > 0
        assert np.linalg.norm(light[brightest][1] - in_pixels(found)[brightest]) < 1.0
    assert sides == {3, 4}


def around(crop: np.ndarray, point: np.ndarray) -> tuple[float, np.ndarray]:
    """How much light lies within 5 pixels of `point`, and its centre; a border of one colour is elsewhere."""
    columns_and_rows = np.mgrid[:CROP, :CROP][::-1]
    near = np.hypot(*(columns_and_rows - point[:, None, None])) < 5
    light = crop.astype(float).mean(axis=2) * near
    return float(light.sum()), np.array([(light * axis).sum() for axis in columns_and_rows]) / max(light.sum(), 1e-9)


def test_sides_and_pixels_are_each_others_reverse() -> None:
    np.testing.assert_allclose(in_sides(np.array([[-0.5, CROP - 0.5]])), [[0, 1]], atol=1e-6)
    np.testing.assert_allclose(in_pixels(in_sides(ARCFACE_TEMPLATE)), ARCFACE_TEMPLATE, atol=1e-4)


def test_a_face_is_surrounded_and_not_changed() -> None:
    face = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    around = [surrounded(face, np.random.default_rng(seed)) for seed in range(12)]
    assert all(np.array_equal(one[BORDER:-BORDER, BORDER:-BORDER], face) for one in around)
    assert len({one[:BORDER].tobytes() for one in around}) >= 4


def test_the_same_seed_gives_the_same_crop() -> None:
    face = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    one, again, other = (
        training_crop(face, ARCFACE_TEMPLATE, np.random.default_rng(seed), Augmentation()) for seed in (5, 5, 6)
    )
    assert np.array_equal(one[0], again[0])
    assert np.array_equal(one[1], again[1])
    assert not np.array_equal(one[0], other[0])
