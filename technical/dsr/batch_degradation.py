"""The realistic degradation for a whole batch at once, for training on a GPU: `dsr.degradation` goes face by face.

The same chain and the same ranges (blur -> motion -> reduction -> sensor noise -> JPEG, each drawn per image), but no
image waits for another, and the length of motion and the method of reduction are drawn once a batch. The JPEG is
kornia's differentiable one, which is near Pillow's. Evaluations go face by face, for their draws are fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor

from dsr.degradation import REDUCTIONS, RealisticDegradation, reduce_with, round_to_8bit


@dataclass(frozen=True)
class BatchDegradation:
    """`(B, 3, H, W)`, RGB in [0, 1], to `(B, 3, size, size)`, rounded to 8 bit; ranges as `RealisticDegradation`'s."""

    ranges: RealisticDegradation = field(default_factory=RealisticDegradation)

    def __call__(self, images: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Degrade a batch on its own device. Draws come from `generator` (on CPU)."""
        ranges, draw = self.ranges, _Draws(len(images), images.device, generator)
        pixel = images.shape[-1] / size  # one low-resolution pixel, in pixels of the input
        images = draw.some(ranges.blur_probability, self._blurred(images, pixel, draw), images)
        images = draw.some(ranges.motion_probability, self._moved(images, pixel, draw), images)
        images = reduce_with(draw.choice(REDUCTIONS), images, size).clamp(0.0, 1.0)
        images = draw.some(ranges.noise_probability, self._noisy(images, draw), images)
        images = draw.some(ranges.jpeg_probability, self._compressed(images, draw), images)
        return round_to_8bit(images)

    def _blurred(self, images: Tensor, pixel: float, draw: _Draws) -> Tensor:
        largest = pixel * (0.3 + 0.9 * self.ranges.severity)
        sigmas = draw.uniform(0.1 * pixel, largest, columns=2)  # anisotropic: one along each axis
        reach = min(math.ceil(2.5 * largest), (images.shape[-1] - 1) // 2 - 1)
        return gaussian_blur(images, sigmas, reach)

    def _moved(self, images: Tensor, pixel: float, draw: _Draws) -> Tensor:
        length = pixel * draw.one(0.5, 0.5 + 2.0 * self.ranges.severity)
        kernel = max(3, 2 * round(length / 2) + 1)
        angles, directions = draw.uniform(0.0, 360.0)[:, 0], draw.uniform(-1.0, 1.0)[:, 0]
        return filtered(images, kornia.filters.get_motion_kernel2d(kernel, angles, directions))

    def _noisy(self, images: Tensor, draw: _Draws) -> Tensor:
        shot = draw.uniform(0.0, 0.02 * self.ranges.severity)[..., None, None]
        read = draw.uniform(0.0, 0.04 * self.ranges.severity)[..., None, None]
        deviation = (shot * images + read**2).sqrt()
        return (images + deviation * draw.normal_like(images)).clamp(0.0, 1.0)

    def _compressed(self, images: Tensor, draw: _Draws) -> Tensor:
        quality = draw.uniform(95.0 - 60.0 * self.ranges.severity, 95.0)[:, 0].round()
        return kornia.enhance.jpeg_codec_differentiable(round_to_8bit(images), quality)


def gaussian_blur(images: Tensor, sigmas: Tensor, reach: int) -> Tensor:
    """Blur each image `(B, C, H, W)` by its own sigmas `(B, 2)`, down and across, with `2 reach + 1` taps; reflected.

    As matrix products, `D @ image @ A^T`: grouped convolutions of ever new shapes would have cuDNN plan anew each time.
    """
    down, across = (_band(sigmas[:, axis], reach, images.shape[2 + axis]) for axis in range(2))
    return down[:, None] @ images @ across[:, None].mT


def _band(sigmas: Tensor, reach: int, side: int) -> Tensor:
    """The matrices `(B, side, side)` that filter columns with Gaussians of these sigmas `(B,)`."""
    positions = torch.arange(-reach, reach + 1, device=sigmas.device)
    kernels = torch.exp(-0.5 * (positions / sigmas[:, None]).square())
    kernels = kernels / kernels.sum(1, keepdim=True)
    taps = (torch.arange(side, device=sigmas.device)[:, None] + positions).abs()
    taps = (side - 1) - ((side - 1) - taps).abs()  # reflected at both borders, which are not repeated
    count = len(sigmas)
    bands = kernels.new_zeros(count, side, side)
    return bands.scatter_add_(2, taps.expand(count, -1, -1), kernels[:, None].expand(-1, side, -1))


def filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each image `(B, C, H, W)` with its own kernel `(B, k, k)`, k odd, the border repeated; by FFT."""
    height, width = images.shape[2:]
    reach = kernels.shape[-1] // 2
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    size = padded.shape[2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels, s=tuple(size))[:, None].conj()
    return torch.fft.irfft2(spectrum, s=tuple(size))[..., :height, :width]


@dataclass(frozen=True)
class _Draws:
    """Numbers for every image of a batch from one CPU generator, moved to the batch's device."""

    count: int
    device: torch.device
    generator: torch.Generator

    def one(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def uniform(self, low: float, high: float, columns: int = 1) -> Tensor:
        """`(B, columns)`."""
        return (low + (high - low) * torch.rand(self.count, columns, generator=self.generator)).to(self.device)

    def some(self, probability: float, changed: Tensor, images: Tensor) -> Tensor:
        """Each image changed with this probability."""
        return torch.where(self.uniform(0.0, 1.0)[..., None, None] < probability, changed, images)

    def choice(self, options: tuple[str, ...]) -> str:
        return options[int(torch.randint(len(options), (), generator=self.generator))]

    def normal_like(self, images: Tensor) -> Tensor:
        return torch.randn(images.shape, generator=self.generator).to(images.device, images.dtype)
