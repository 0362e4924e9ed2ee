"""Image quality in float on [0, 1]: PSNR, SSIM and LPIPS, one figure an image."""

from __future__ import annotations

import kornia
import torch
from torch import Tensor

from dsr.losses import LpipsLoss

SSIM_WINDOW = 11


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, `-10 log10(mean squared error)` with peak 1.

    Both `(B, 3, H, W)` in [0, 1] -> `(B,)`; infinite where an image equals its reference.
    Raises ValueError for different shapes or integer images (whose differences wrap).
    """
    _check(images, reference)
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
