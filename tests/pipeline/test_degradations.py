"""pipeline.degradations: named, deterministic, and the same for an image in whatever company."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import cv2
import pytest
import torch

from common.errors import UserError
from common.images import RgbImage
from dsr.degradation import canonical_reduce
from dsr.quality import psnr
from pipeline.degradations import DEGRADATIONS, SEVERITIES, Degradation, View, reduce, to_tensor

PRINTS = ["aa", "bb", "cc", "dd", "ee", "ff"]
every_degradation = pytest.mark.parametrize("degradation", DEGRADATIONS)


@pytest.fixture
def images(face: Callable[..., RgbImage]) -> torch.Tensor:
    return to_tensor([face(person, 1) for person in range(6)])


def test_the_names_are_those_of_the_command_line() -> None:
    assert get_args(Degradation) == DEGRADATIONS


@every_degradation
@pytest.mark.parametrize("size", [8, 16, 64])
def test_shape_and_eight_bits(images: torch.Tensor, degradation: Any, size: int) -> None:
    low = reduce(images, PRINTS, size, degradation)
    assert low.shape == (6, 3, size, size)
    assert float(low.min()) >= 0
    assert float(low.max()) <= 1
    torch.testing.assert_close((low * 255).round() / 255, low)


@every_degradation
def test_an_image_gives_one_probe_in_any_order_batch_and_subset(images: torch.Tensor, degradation: Any) -> None:
    all_at_once = reduce(images, PRINTS, 16, degradation, seed=5)
    backwards = reduce(images.flip(0), PRINTS[::-1], 16, degradation, seed=5)
    assert torch.equal(backwards.flip(0), all_at_once)
    assert torch.equal(reduce(images[3:4], PRINTS[3:4], 16, degradation, seed=5)[0], all_at_once[3])
    assert torch.equal(reduce(images[[5, 2]], ["ff", "cc"], 16, degradation, seed=5), all_at_once[[5, 2]])


@pytest.mark.parametrize("degradation", SEVERITIES)
def test_seed_file_and_size_decide_the_draws(images: torch.Tensor, degradation: Any) -> None:
    one = images[:1].repeat(6, 1, 1, 1)
    low = reduce(one, PRINTS, 16, degradation)
    assert len({tuple(image.flatten().tolist()) for image in low}) > 1, "another file, other draws"
    assert not torch.equal(reduce(one, PRINTS, 16, degradation, seed=1), low)
    state = torch.random.get_rng_state()
    assert torch.equal(reduce(one, PRINTS, 16, degradation), low)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"


def test_severity_orders_the_damage(images: torch.Tensor) -> None:
    many, prints = images.repeat(20, 1, 1, 1), [str(index) for index in range(120)]
    reference = canonical_reduce(many, 32)
    quality = [
        float(psnr(reduce(many, prints, 32, degradation), reference).clamp(max=60).mean()) for degradation in SEVERITIES
    ]
    assert quality[0] > quality[1] + 1 > quality[2] + 2


def test_canonical_and_inter_area(images: torch.Tensor, face: Callable[..., RgbImage]) -> None:
    assert torch.equal(reduce(images, PRINTS, 24), canonical_reduce(images, 24))
    expected = to_tensor([cv2.resize(face(p, 1), (24, 24), interpolation=cv2.INTER_AREA) for p in range(6)])
    assert torch.equal(reduce(images, PRINTS, 24, "inter_area"), expected)
    assert not torch.equal(canonical_reduce(images, 24), expected)


def test_an_unknown_degradation_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(UserError, match="Degradation fog is unknown: expected one of canonical, inter_area, realistic"):
        reduce(images, PRINTS, 16, "fog")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Degradation fog is unknown"):
        View("dsr", 16, "fog")  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "size"), [("hr", 16), ("dsr", None), ("bicubic", None), ("nearest", 16)])
def test_a_view_that_makes_no_sense_is_refused(method: str, size: int | None) -> None:
    with pytest.raises(ValueError, match="expected hr without a size, or bicubic or dsr with one"):
        View(method, size)


@pytest.mark.parametrize("size", [7, 65])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=rf"is {size} pixels: expected 8 to 64"):
        View("bicubic", size)


def test_views_are_keys() -> None:
    assert len({View("hr"), View("hr"), View("dsr", 16), View("dsr", 16, "inter_area"), View("bicubic", 16)}) == 4
