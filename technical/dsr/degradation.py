"""From a high-resolution face to the low-resolution one a camera would have given.

`canonical_reduce` is the project's convention, deterministic, the one figures are quoted for. `RealisticDegradation`
adds what far cameras do (blur, motion, noise, mixed resampling, JPEG), drawn from an explicit generator, so the same
seed gives the same images. Shapes are `(B, 3, H, W)`, RGB in [0, 1].
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import kornia
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

HR_SIZE = 112
MIN_SIZE, MAX_SIZE = 8, 64


def round_to_8bit(images: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the 256 levels an image file can hold."""
    return images.clamp(0.0, 1.0).mul(255.0).round().div(255.0)


def canonical_reduce(images: Tensor, size: int) -> Tensor:
    """The project's reduction: torch's antialiased bicubic to `size` x `size`, rounded to 8 bit.

    `(B, 3, H, W)` -> `(B, 3, size, size)`.
    """
    reduced = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False, antialias=True)
    return round_to_8bit(reduced)


def bicubic_enlarge(images: Tensor, size: int = HR_SIZE) -> Tensor:
    """The baseline every result stands beside: torch's bicubic (a = -0.75) to `size` x `size`, rounded to 8 bit."""
    return round_to_8bit(F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False))


@dataclass(frozen=True)
class RealisticDegradation:
    """Blur -> motion -> reduction -> sensor noise -> JPEG, each drawn per image.

    Ranges follow the first-order model of BSRGAN and Real-ESRGAN (https://arxiv.org/abs/2103.14006,
    https://arxiv.org/abs/2107.10833), scaled to faces that end 8 to 64 pixels wide. `severity` in (0, 1] scales all of
    them; lengths are in pixels of the *reduced* image, so a blur means the same at every size.
    """

    severity: float = 0.5
    """How strong the worst draws are, from 0 (exclusive) to 1."""
    blur_probability: float = 0.7
    motion_probability: float = 0.3
    noise_probability: float = 0.7
    jpeg_probability: float = 0.7

    def __post_init__(self) -> None:
        if not 0.0 < self.severity <= 1.0:
            raise ValueError(f"severity must lie in (0, 1], found {self.severity}")

    def __call__(self, images: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Degrade `(B, 3, H, W)` to `(B, 3, size, size)`, rounded to 8 bit. Draws come from `generator` (on CPU)."""
        return torch.cat([self._one(image[None], size, generator) for image in images])

    def _one(self, image: Tensor, size: int, generator: torch.Generator) -> Tensor:
        pixel = image.shape[-1] / size  # one low-resolution pixel, in pixels of the input
        draw = _Draw(generator)
        if draw.chance(self.blur_probability):
            image = self._blur(image, pixel, draw)
        if draw.chance(self.motion_probability):
            image = self._motion(image, pixel, draw)
        image = reduce_with(draw.choice(REDUCTIONS), image, size).clamp(0.0, 1.0)
        if draw.chance(self.noise_probability):
            image = self._noise(image, draw)
        if draw.chance(self.jpeg_probability):
            image = self._jpeg(image, draw)
        return round_to_8bit(image)

    def _blur(self, image: Tensor, pixel: float, draw: _Draw) -> Tensor:
        largest = 0.3 + 0.9 * self.severity
        sigmas = [pixel * draw.uniform(0.1, largest) for _ in range(2)]  # anisotropic: one along each axis
        reach = 2 * math.ceil(2.5 * max(sigmas)) + 1
        kernel = min(reach, 2 * ((image.shape[-1] - 1) // 2) - 1)  # reflection needs a kernel within the image
        return kornia.filters.gaussian_blur2d(image, (kernel, kernel), (sigmas[0], sigmas[1]))

    def _motion(self, image: Tensor, pixel: float, draw: _Draw) -> Tensor:
        length = pixel * draw.uniform(0.5, 0.5 + 2.0 * self.severity)
        kernel = max(3, 2 * round(length / 2) + 1)
        angle, direction = draw.uniform(0.0, 360.0), draw.uniform(-1.0, 1.0)
        return kornia.filters.motion_blur(image, kernel, angle, direction, border_type="replicate")

    def _noise(self, image: Tensor, draw: _Draw) -> Tensor:
        # Shot noise grows with the signal, read noise does not (EMVA 1288's linear camera model).
        shot, read = draw.uniform(0.0, 0.02 * self.severity), draw.uniform(0.0, 0.04 * self.severity)
        deviation = (shot * image + read**2).sqrt()
        return (image + deviation * draw.normal_like(image)).clamp(0.0, 1.0)

    def _jpeg(self, image: Tensor, draw: _Draw) -> Tensor:
        quality = round(draw.uniform(95.0 - 60.0 * self.severity, 95.0))
        pixels = image[0].mul(255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
        coded = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
        return coded.to(image.device, image.dtype).div(255.0)[None]


REDUCTIONS = ("bicubic", "bilinear", "area", "bicubic_aliased")


def reduce_with(method: str, image: Tensor, size: int) -> Tensor:
    """Reduce `(B, 3, H, W)` to `size` x `size` with one of `REDUCTIONS`, not rounded. ValueError for another name."""
    target = (size, size)
    match method:
        case "bicubic" | "bilinear":
            return F.interpolate(image, size=target, mode=method, align_corners=False, antialias=True)
        case "area":
            return F.interpolate(image, size=target, mode="area")
        case "bicubic_aliased":
            return F.interpolate(image, size=target, mode="bicubic", align_corners=False)
    raise ValueError(f"reduction '{method}' is unknown: expected one of {', '.join(REDUCTIONS)}")


class _Draw:
    """Numbers from one CPU generator, so that a seed means the same on every device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def chance(self, probability: float) -> bool:
        return self.uniform(0.0, 1.0) < probability

    def choice(self, options: tuple[str, ...]) -> str:
        return options[int(torch.randint(len(options), (), generator=self.generator))]

    def normal_like(self, image: Tensor) -> Tensor:
        return torch.randn(image.shape, generator=self.generator).to(image.device, image.dtype)
