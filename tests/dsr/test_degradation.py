"""dsr.degradation: the canonical reduction against Pillow; the realistic one seeded, bounded and of every size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dsr.degradation import (
    REDUCTIONS,
    RealisticDegradation,
    bicubic_enlarge,
    canonical_reduce,
    reduce_with,
    round_to_8bit,
)
from dsr.quality import psnr


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_8bit_grid(images: torch.Tensor) -> bool:
    levels = images * 255
    return bool(((levels - levels.round()).abs() < 1e-4).all()) and 0 <= float(images.min()) <= float(images.max()) <= 1


def to_pixels(image: torch.Tensor) -> np.ndarray:
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [8, 16, 24, 32, 45, 64])
def test_canonical_is_torchs_antialiased_bicubic(faces: torch.Tensor, size: int) -> None:
    reduced = canonical_reduce(faces, size)
    expected = F.interpolate(faces, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    assert reduced.shape == (4, 3, size, size)
    assert float((reduced - expected).abs().max()) <= 0.5 / 255 + 1e-6
    assert on_8bit_grid(reduced)


@pytest.mark.parametrize("size", [8, 16, 24, 32, 45, 64])
def test_canonical_agrees_with_pillow(faces: torch.Tensor, size: int) -> None:
    for face, reduced in zip(faces, canonical_reduce(faces, size), strict=True):
        expected = np.asarray(Image.fromarray(to_pixels(face)).resize((size, size), Image.Resampling.BICUBIC))
        assert np.abs(expected.astype(int) - to_pixels(reduced).astype(int)).max() <= 2


def test_bicubic_enlarge_is_torchs_rounded(faces: torch.Tensor) -> None:
    low = canonical_reduce(faces, 16)
    enlarged = bicubic_enlarge(low)
    expected = F.interpolate(low, size=(112, 112), mode="bicubic", align_corners=False)
    assert torch.equal(enlarged, round_to_8bit(expected))
    assert on_8bit_grid(enlarged)


def test_round_to_8bit() -> None:
    values = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.3])
    assert torch.equal(round_to_8bit(values) * 255, torch.tensor([0.0, 0.0, 0.0, 1.0, 255.0, 255.0]))


@pytest.mark.parametrize("severity", [0.01, 0.5, 1.0])
def test_realistic_gives_every_size_on_the_8bit_grid(faces: torch.Tensor, severity: float) -> None:
    degrade, generator = RealisticDegradation(severity, 1.0, 1.0, 1.0, 1.0), seeded(0)
    for size in range(8, 65, 7):
        images = degrade(faces[:2], size, generator)
        assert images.shape == (2, 3, size, size)
        assert images.dtype == torch.float32
        assert on_8bit_grid(images)


def test_every_draw_can_be_survived() -> None:
    """Many draws at the ends of the range, where kernels are largest."""
    image, degrade = torch.rand(1, 3, 112, 112), RealisticDegradation(1.0, 1.0, 1.0, 1.0, 1.0)
    for seed in range(40):
        assert bool(degrade(image, 8 if seed % 2 else 64, seeded(seed)).isfinite().all())


def test_same_seed_same_images(faces: torch.Tensor) -> None:
    degrade = RealisticDegradation()
    first = degrade(faces, 16, seeded(3))
    torch.manual_seed(12345)  # torch's own state must have no say
    assert torch.equal(degrade(faces, 16, seeded(3)), first)
    assert not torch.equal(degrade(faces, 16, seeded(4)), first)


def test_no_draw_is_taken_from_the_global_state(faces: torch.Tensor) -> None:
    state = torch.get_rng_state()
    RealisticDegradation()(faces, 16, seeded(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_depends_on_its_draws_and_not_on_its_mates_pixels(faces: torch.Tensor) -> None:
    degrade = RealisticDegradation()
    together = degrade(faces, 16, seeded(0))
    assert torch.equal(degrade(faces[:1], 16, seeded(0)), together[:1])
    others = torch.cat([1 - faces[:2], faces[2:]])
    assert torch.equal(degrade(others, 16, seeded(0))[2:], together[2:])


def test_images_of_a_batch_are_drawn_one_by_one(faces: torch.Tensor) -> None:
    alike = faces[:1].expand(6, -1, -1, -1)
    degraded = RealisticDegradation()(alike, 24, seeded(0))
    assert len({image.numpy().tobytes() for image in degraded}) > 3


def test_draws_do_not_depend_on_the_device(faces: torch.Tensor, cuda: str) -> None:
    degrade = RealisticDegradation(jpeg_probability=0.0)  # a JPEG coder enlarges differences in the last bit
    here, there = degrade(faces, 16, seeded(0)), degrade(faces.to(cuda), 16, seeded(0)).cpu()
    assert float((here - there).abs().max()) <= 1.01 / 255


@pytest.mark.parametrize("severity", [0.0, -0.1, 1.01, float("nan")])
def test_severity_has_bounds(severity: float) -> None:
    with pytest.raises(ValueError, match=r"severity must lie in \(0, 1\], found"):
        RealisticDegradation(severity)


def mean_psnr(faces: torch.Tensor, degrade: Callable[[torch.Tensor, int, torch.Generator], torch.Tensor]) -> float:
    results = [psnr(bicubic_enlarge(degrade(faces, 32, seeded(seed))), faces).mean() for seed in range(6)]
    return float(torch.stack(results).mean())


def test_severity_raises_the_error(faces: torch.Tensor) -> None:
    canonical = mean_psnr(faces, lambda images, size, _: canonical_reduce(images, size))
    mild, middling, severe = (mean_psnr(faces, RealisticDegradation(severity)) for severity in (0.1, 0.5, 1.0))
    assert canonical > mild > middling > severe


@pytest.mark.parametrize("field", ["blur", "motion", "noise", "jpeg"])
def test_each_part_does_something(faces: torch.Tensor, field: str) -> None:
    off = {f"{name}_probability": 0.0 for name in ("blur", "motion", "noise", "jpeg")}
    without = RealisticDegradation(1.0, **off)
    alone = RealisticDegradation(1.0, **{**off, f"{field}_probability": 1.0})
    assert mean_psnr(faces, alone) < mean_psnr(faces, without) - 0.05


@pytest.mark.parametrize("method", REDUCTIONS)
@pytest.mark.parametrize("size", [8, 16, 56])
def test_every_reduction_keeps_flat_images_and_shape(method: str, size: int) -> None:
    reduced = reduce_with(method, torch.full((2, 3, 112, 112), 0.3), size)
    torch.testing.assert_close(reduced, torch.full((2, 3, size, size), 0.3))


def test_area_reduction_is_the_mean_of_cells(faces: torch.Tensor) -> None:
    expected = faces.reshape(4, 3, 16, 7, 16, 7).mean(dim=(3, 5))
    torch.testing.assert_close(reduce_with("area", faces, 16), expected)


def test_reductions_differ(faces: torch.Tensor) -> None:
    results = [reduce_with(method, faces, 16) for method in REDUCTIONS]
    assert not any(torch.allclose(a, b, atol=1e-3) for i, a in enumerate(results) for b in results[:i])


def test_unknown_reduction_is_refused(faces: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="reduction 'nearest' is unknown: expected one of bicubic, bilinear, area"):
        reduce_with("nearest", faces, 16)
