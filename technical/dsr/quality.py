"""Image quality in float on [0, 1]: PSNR, SSIM and LPIPS, one figure an image; and whether a grid shows."""

from __future__ import annotations

import kornia
import torch
from torch import Tensor

from common.errors import UserError
from dsr.losses import LpipsLoss

SSIM_WINDOW = 11


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, `-10 log10(mean squared error)` with peak 1.

    Both `(B, 3, H, W)` in [0, 1] -> `(B,)`; infinite where an image equals its reference.
    Raises ValueError for different shapes or integer images (whose differences wrap).
    """
    _check(images, reference)
    if images.device.type == "mps":  # Metal has no float64
        images, reference = images.cpu(), reference.cpu()
    error = (images.double() - reference.double()).square().mean(dim=(1, 2, 3))
    return -10.0 * torch.log10(error)


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity with an 11 x 11 Gaussian window, sigma 1.5, over RGB (Wang et al. 2004), by kornia.

    Both `(B, 3, H, W)` in [0, 1] -> `(B,)`. Raises ValueError as `psnr` does.
    """
    _check(images, reference)
    return kornia.metrics.ssim(images, reference, window_size=SSIM_WINDOW, padding="valid").mean(dim=(1, 2, 3))


def lpips_distance(lpips: LpipsLoss, images: Tensor, reference: Tensor) -> Tensor:
    """Learned perceptual distance (Zhang et al. 2018), 0 for equal images; its backbone is in `lpips`.

    Both `(B, 3, H, W)` in [0, 1] -> `(B,)`. Raises ValueError as `psnr` does.
    """
    _check(images, reference)
    return lpips.distances(images, reference)


def _check(images: Tensor, reference: Tensor) -> None:
    if images.shape != reference.shape or images.ndim != 4:
        raise ValueError(f"expected two (B, 3, H, W) batches, found {tuple(images.shape)}, {tuple(reference.shape)}")
    if not (images.is_floating_point() and reference.is_floating_point()):
        raise ValueError(f"expected float images in [0, 1], found {images.dtype} and {reference.dtype}")


def border_steps(images: Tensor, cell: int) -> float:
    """How visible a grid of `cell` pixels is in `(B, C, H, W)`: mean step across its lines / mean step elsewhere.

    A step is the absolute difference of two neighbouring pixels, along rows and columns. 1 where no grid shows.
    Raises UserError for flat images, which have no steps, and for a cell below 2 pixels.
    """
    if cell < 2:
        raise UserError(f"cells of {cell} pixel have no inside: expected 2 or more.")
    across, inside = [], []
    for axis in (2, 3):
        steps = images.diff(dim=axis).abs().transpose(0, axis).flatten(1).mean(1)
        at_border = torch.arange(1, len(steps) + 1, device=images.device) % cell == 0
        across.append(steps[at_border].mean())
        inside.append(steps[~at_border].mean())
    if not float(sum(inside)) > 0:
        raise UserError("images without any step inside their cells: expected pictures, found flat ones.")
    return float(sum(across) / sum(inside))


def cell_pattern(images: Tensor, cell: int) -> float:
    """How visible a texture is that repeats twice in every cell of `cell` pixels, in square `(B, C, H, H)`.

    Mean power at the period of half a cell, of rows and of columns, over that of the neighbouring frequencies: about 1
    where nothing repeats so. Raises UserError for images that are not square or hold fewer than eight cells a side.
    """
    side = images.shape[-1]
    if images.shape[-2] != side or side % cell or side // cell < 8:
        raise UserError(f"{tuple(images.shape[-2:])} pixels do not hold eight or more cells of {cell} a side.")
    grey = images.double().mean(1)
    power = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs().square().mean(0)
    spectrum, place = power.mean(0) + power.mean(1), 2 * side // cell
    beside = spectrum[[place - 3, place - 2, place + 2, place + 3]].mean()
    return float(spectrum[place] / beside.clamp(min=1e-12))
