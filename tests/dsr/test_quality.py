"""dsr.quality against scikit-image and the lpips package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lpips as lpips_package
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from common.errors import UserError
from dsr.losses import LpipsLoss, find_lpips_backbone
from dsr.quality import border_steps, cell_pattern, lpips_distance, psnr, ssim

Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
both = pytest.mark.parametrize("measure", [psnr, ssim])


@pytest.fixture
def noisy(faces: torch.Tensor) -> torch.Tensor:
    """The faces with four strengths of noise."""
    strength = torch.tensor([0.01, 0.03, 0.1, 0.3])[:, None, None, None]
    return (faces + strength * torch.randn(faces.shape)).clamp(0, 1)


def image(batch: torch.Tensor, index: int) -> np.ndarray:
    return batch[index].permute(1, 2, 0).double().numpy()


def test_psnr_equals_scikit_image(faces: torch.Tensor, noisy: torch.Tensor) -> None:
    expected = [peak_signal_noise_ratio(image(faces, i), image(noisy, i), data_range=1.0) for i in range(4)]
    np.testing.assert_allclose(psnr(noisy, faces).numpy(), expected, rtol=1e-6)


def test_ssim_equals_scikit_image(faces: torch.Tensor, noisy: torch.Tensor) -> None:
    expected = [
        # The mean of scikit-image is over the interior, where the window lies wholly inside.
        structural_similarity(
            image(faces, i),
            image(noisy, i),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=2,
        )
        for i in range(4)
    ]
    np.testing.assert_allclose(ssim(noisy, faces).numpy(), expected, atol=1e-4)


def test_known_psnr() -> None:
    zeros = torch.zeros(2, 3, 16, 16)
    images = torch.stack([zeros[0] + 0.1, zeros[1] + 1.0])
    torch.testing.assert_close(psnr(images, zeros), torch.tensor([20.0, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_equal_images(faces: torch.Tensor) -> None:
    assert bool(psnr(faces, faces).isposinf().all())
    torch.testing.assert_close(ssim(faces, faces), torch.ones(4))


@both
def test_one_figure_an_image(measure: Measure, faces: torch.Tensor, noisy: torch.Tensor) -> None:
    figures = measure(noisy, faces)
    assert figures.shape == (4,)
    assert bool((figures.diff() < 0).all()), "more noise is worse"
    torch.testing.assert_close(measure(noisy[2:3], faces[2:3]), figures[2:3])


@both
def test_integers_are_refused(measure: Measure, faces: torch.Tensor) -> None:
    """Their differences would wrap: 0 - 1 = 255."""
    with pytest.raises(ValueError, match=r"expected float images in \[0, 1\], found torch\.uint8"):
        measure((faces * 255).byte(), (faces * 255).byte())


@both
@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (3, 112, 112), (1, 3, 112, 112)])
def test_other_shapes_are_refused(measure: Measure, faces: torch.Tensor, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected two \(B, 3, H, W\) batches, found"):
        measure(torch.zeros(shape), faces)


@pytest.mark.filterwarnings("ignore::UserWarning")  # lpips calls torchvision in a deprecated way
def test_lpips_equals_the_package(alexnet: Path, faces: torch.Tensor, noisy: torch.Tensor) -> None:
    package = lpips_package.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    state = torch.load(alexnet, weights_only=True)
    with torch.no_grad():
        for name, layer in package.net.named_modules():
            if isinstance(layer, torch.nn.Conv2d):
                number = name.split(".")[-1]
                layer.weight.copy_(state[f"features.{number}.weight"])
                layer.bias.copy_(state[f"features.{number}.bias"])
        expected = package(noisy * 2 - 1, faces * 2 - 1).flatten()
    measured = lpips_distance(LpipsLoss(alexnet), noisy, faces)
    assert measured.shape == (4,)
    torch.testing.assert_close(measured, expected)
    assert bool((measured > 0).all())
    assert lpips_distance(LpipsLoss(alexnet), faces, faces).tolist() == [0.0] * 4


def test_lpips_refuses_other_shapes(alexnet: Path, faces: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected two \(B, 3, H, W\) batches"):
        lpips_distance(LpipsLoss(alexnet), faces, faces[:1])


def test_the_backbone_is_looked_for(alexnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path / "..")
    assert find_lpips_backbone() is None
    downloaded = tmp_path / "hub" / "checkpoints" / alexnet.name
    downloaded.parent.mkdir(parents=True)
    downloaded.write_bytes(alexnet.read_bytes())
    assert find_lpips_backbone() == downloaded
    assert find_lpips_backbone(alexnet) == alexnet
    with pytest.raises(UserError, match=r"none\.pth is missing: expected torchvision's alex weights, from https"):
        find_lpips_backbone(tmp_path / "none.pth")


def test_border_steps_see_a_grid_and_nothing_else() -> None:
    noise = torch.rand(8, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    assert border_steps(noise, 7) == pytest.approx(1.0, abs=0.02)
    ramp = torch.linspace(0, 1, 56).expand(1, 3, 56, 56) + torch.linspace(0, 1, 56)[:, None]
    assert border_steps(ramp, 7) == pytest.approx(1.0, abs=1e-4)
    rows = ramp + (torch.arange(56) // 7).float()  # every border along a row steps up by 1 more, none along a column
    ratio = border_steps(rows, 7)
    assert ratio == pytest.approx((1 + 2 / 55) / (2 / 55), rel=1e-3)
    assert border_steps(rows.transpose(2, 3), 7) == pytest.approx(ratio)
    assert border_steps(rows, 8) < 2


def test_cell_pattern_sees_half_a_cell_and_nothing_else() -> None:
    noise = torch.rand(64, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    assert cell_pattern(noise, 7) == pytest.approx(1.0, abs=0.1)
    wave = torch.arange(112) * (2 * torch.pi)
    assert cell_pattern(noise + 0.1 * torch.sin(wave / 3.5), 7) > 2.0
    assert cell_pattern(noise + 0.1 * torch.sin(wave / 3.5)[:, None], 7) > 2.0
    assert cell_pattern(noise + 0.1 * torch.sin(wave / 8.0), 7) == pytest.approx(1.0, abs=0.1)
    with pytest.raises(UserError, match=r"\(112, 112\) pixels do not hold eight or more cells of 28 a side"):
        cell_pattern(noise, 28)
    with pytest.raises(UserError, match="do not hold eight"):
        cell_pattern(noise[..., :56], 7)


def test_border_steps_need_pictures_and_cells() -> None:
    with pytest.raises(UserError, match="found flat ones"):
        border_steps(torch.full((1, 3, 28, 28), 0.5), 7)
    with pytest.raises(UserError, match="cells of 1 pixel have no inside"):
        border_steps(torch.rand(1, 3, 28, 28), 1)
