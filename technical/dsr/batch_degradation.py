"""The realistic degradation for a whole batch at once, for training on a GPU: `dsr.degradation` goes face by face.

The same chain and the same ranges (blur -> motion -> reduction -> sensor noise -> JPEG, each drawn per image), but no
image waits for another: blur and JPEG are kornia's batched ones, and what one batch must share, the length of motion
and the method of reduction, is drawn once a batch. Evaluations use the face-by-face one, whose draws they fix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import kornia
import torch
from torch import Tensor

from dsr.degradation import REDUCTIONS, RealisticDegradation, reduce_with, round_to_8bit


@dataclass(frozen=True)
class BatchDegradation:
    """`(B, 3, H, W)`, RGB in [0, 1], to `(B, 3, size, size)`, rounded to 8 bit; ranges as `RealisticDegradation`'s."""

    ranges: RealisticDegradation = RealisticDegradation()

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
        kernel = min(2 * math.ceil(2.5 * largest) + 1, 2 * ((images.shape[-1] - 1) // 2) - 1)
        return kornia.filters.gaussian_blur2d(images, (kernel, kernel), sigmas)

    def _moved(self, images: Tensor, pixel: float, draw: _Draws) -> Tensor:
        length = pixel * draw.one(0.5, 0.5 + 2.0 * self.ranges.severity)
        kernel = max(3, 2 * round(length / 2) + 1)
        angles, directions = draw.uniform(0.0, 360.0)[:, 0], draw.uniform(-1.0, 1.0)[:, 0]
        return kornia.filters.motion_blur(images, kernel, angles, directions, border_type="replicate")

    def _noisy(self, images: Tensor, draw: _Draws) -> Tensor:
        shot = draw.uniform(0.0, 0.02 * self.ranges.severity)[..., None, None]
        read = draw.uniform(0.0, 0.04 * self.ranges.severity)[..., None, None]
        deviation = (shot * images + read**2).sqrt()
        return (images + deviation * draw.normal_like(images)).clamp(0.0, 1.0)

    def _compressed(self, images: Tensor, draw: _Draws) -> Tensor:
        quality = draw.uniform(95.0 - 60.0 * self.ranges.severity, 95.0)[:, 0].round()
        return kornia.enhance.jpeg_codec_differentiable(round_to_8bit(images), quality)


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
