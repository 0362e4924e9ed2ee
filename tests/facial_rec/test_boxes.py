"""Overlap, suppression and cutting out, against torchvision and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, nms

from facial_rec.boxes import cut_out, overlaps, shifted, squared, suppress


def made_boxes(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 50, (count, 2))]).astype(np.float32)
    return boxes, rng.random(count).astype(np.float32)


def test_overlaps_are_those_of_torchvision() -> None:
    boxes, _ = made_boxes(0)
    expected = box_iou(torch.from_numpy(boxes[:1]), torch.from_numpy(boxes))[0].numpy()
    np.testing.assert_allclose(overlaps(boxes[0], boxes), expected, atol=1e-6)


def test_share_of_the_smaller_box() -> None:
    large, small = np.array([0, 0, 10, 10], np.float32), np.array([[8, 8, 12, 12]], np.float32)
    assert overlaps(large, small, of_smaller=True) == pytest.approx(4 / 16)
    assert overlaps(large, small) == pytest.approx(4 / 112)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7])
def test_suppression_is_that_of_torchvision(threshold: float) -> None:
    boxes, scores = made_boxes(1)
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).numpy()
    assert np.array_equal(suppress(boxes, scores, threshold), expected)


def test_nothing_is_suppressed_to_nothing() -> None:
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).shape == (0,)


def test_offsets_are_in_sides_of_the_box() -> None:
    box = np.array([[10, 20, 30, 60]], np.float32)
    np.testing.assert_allclose(shifted(box, np.array([[0.1, 0.1, -0.5, 1.0]], np.float32)), [[12, 24, 20, 100]])


def test_squares_keep_the_centre_and_the_longer_side() -> None:
    np.testing.assert_allclose(squared(np.array([[10, 20, 30, 60], [0, 0, 0.2, 0.1]], np.float32))[0], [0, 20, 40, 60])
    assert (squared(np.array([[3, 3, 3.2, 3.1]], np.float32))[0, 2:] > 3).all(), "never empty"


def test_cut_out_is_black_outside() -> None:
    image = np.random.default_rng(0).integers(1, 256, (20, 30, 3), dtype=np.uint8)
    boxes = np.array([[5, 5, 17, 17], [-6, -4, 6, 8], [24, 12, 36, 24], [100, 100, 112, 112], [-50, 0, -38, 12]])
    cuts = cut_out(image, boxes.astype(np.float32), 12)
    np.testing.assert_array_equal(cuts[0], image[5:17, 5:17].transpose(2, 0, 1))
    np.testing.assert_array_equal(cuts[1][:, 4:, 6:], image[:8, :6].transpose(2, 0, 1))
    np.testing.assert_array_equal(cuts[2][:, :8, :6], image[12:, 24:].transpose(2, 0, 1))
    assert cuts[1][:, :4].max() == cuts[2][:, 8:].max() == cuts[3].max() == cuts[4].max() == 0
