"""The batched degradation: its filters against kornia's, its ranges, its seeds."""

from __future__ import annotations

import io

import kornia
import numpy as np
import pytest
import torch
from PIL import Image

from dsr.batch_degradation import BatchDegradation, filtered, gaussian_blur
from dsr.degradation import RealisticDegradation, canonical_reduce
from dsr.training import reduction_named


def images(count: int = 6, side: int = 112) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("reach", [1, 8, 27, 54])
def test_blur_is_kornias(reach: int) -> None:
    sigmas = 0.3 + 5.0 * torch.rand(6, 2, generator=torch.Generator().manual_seed(1))
    expected = kornia.filters.gaussian_blur2d(images(), (2 * reach + 1, 2 * reach + 1), sigmas)
    torch.testing.assert_close(gaussian_blur(images(), sigmas, reach), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kernel", [3, 9, 21])
def test_motion_is_kornias(kernel: int) -> None:
    angles, directions = torch.linspace(0, 350, 6), torch.linspace(-1, 1, 6)
    expected = kornia.filters.motion_blur(images(), kernel, angles, directions, border_type="replicate")
    ours = filtered(images(), kornia.filters.get_motion_kernel2d(kernel, angles, directions))
    torch.testing.assert_close(ours, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("size", [8, 13, 24, 64])
def test_gives_8_bit_faces_of_the_size_and_the_seed_decides(size: int) -> None:
    first, again, other = (
        BatchDegradation()(images(), size, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert first.shape == (6, 3, size, size)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, first.mul(255).round().div(255))
    assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0


def test_without_any_chance_it_only_reduces() -> None:
    nothing = RealisticDegradation(0.5, 0.0, 0.0, 0.0, 0.0)
    made = [BatchDegradation(nothing)(images(), 16, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert any(torch.equal(one, canonical_reduce(images(), 16)) for one in made), "one of the reductions is canonical"


def test_is_as_hard_as_the_one_that_goes_face_by_face() -> None:
    smooth = torch.nn.functional.interpolate(images(64, 14), size=(112, 112), mode="bicubic").clamp(0, 1)
    clean = canonical_reduce(smooth, 24)

    def median(degrade: RealisticDegradation | BatchDegradation) -> float:
        parts = [degrade(part, 24, torch.Generator().manual_seed(i)) for i, part in enumerate(smooth.split(8))]
        return float((torch.cat(parts) - clean).square().mean((1, 2, 3)).log10().median() * -10.0)

    assert median(BatchDegradation()) == pytest.approx(median(RealisticDegradation()), abs=2.5)


@pytest.mark.parametrize("quality", [35, 65, 95])
def test_its_jpeg_is_near_pillows(quality: int) -> None:
    """Nearer than either is to the face: what is lost is lost alike."""
    faces = torch.nn.functional.interpolate(images(8, 7), size=(24, 24), mode="bicubic").clamp(0, 1)
    faces = faces.mul(255).round().div(255)
    coded = []
    for face in faces:
        file = io.BytesIO()
        pixels = face.mul(255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
        coded.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255)
    pillows, ours = (
        torch.stack(coded),
        kornia.enhance.jpeg_codec_differentiable(faces, torch.full((8,), float(quality))),
    )
    assert float((ours - pillows).square().mean()) < 0.25 * float((pillows - faces).square().mean())


def test_training_may_ask_for_it() -> None:
    one, other = (reduction_named("realistic", at_once=at_once) for at_once in (False, True))
    assert isinstance(one, RealisticDegradation)
    assert isinstance(other, BatchDegradation)
