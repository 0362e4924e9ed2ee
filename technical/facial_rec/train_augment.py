"""Changes of training faces: mirrored, blurred, shrunk and enlarged again, grey, in other colours; a batch at a time.

Every draw is made for the whole batch of all processes, on the CPU, so that any number of processes, on any device,
sees the same faces.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.enhance import adjust_hue, adjust_saturation
from kornia.filters import gaussian_blur2d
from torch import Tensor

BLUR_KERNEL = 7
SIZE_STEP = 8  # shrunken sides are multiples of it, so that few groups of equal size are left to resize


@dataclass(frozen=True)
class Augmentation:
    """How often, and how far, faces are changed; chances from InsightFace's recognition/arcface_torch (`dali_aug`)."""

    flip: float = 0.5
    """Chance of mirroring."""
    blur: float = 0.2
    """Chance of a Gaussian blur."""
    blur_sigma: float = 1.5
    """Its strongest, in pixels."""
    resize: float = 0.1
    """Chance of being shrunk and enlarged again."""
    smallest: int = 56
    """Smallest side a face is shrunk to."""
    grey: float = 0.1
    """Chance of losing colour."""
    colour: float = 0.2
    """Chance of other brightness, saturation and hue."""
    colour_by: float = 0.2
    """Furthest change of brightness and saturation, as a fraction; hue changes by a third of it, in radians."""


AUGMENTATIONS = {
    "none": Augmentation(flip=0.0, blur=0.0, resize=0.0, grey=0.0, colour=0.0),
    "flip": Augmentation(blur=0.0, resize=0.0, grey=0.0, colour=0.0),
    "face": Augmentation(),
}


@dataclass(frozen=True)
class Changes:
    """What is done to each face of a batch; every field is `(B,)`."""

    flipped: Tensor
    sigma: Tensor
    """Of the blur; 0 for none."""
    side: Tensor
    """Of the shrunken face; 112 or more for none."""
    grey: Tensor
    brightness: Tensor
    """Factor; 1 for none, as with saturation."""
    saturation: Tensor
    hue: Tensor
    """Turn in radians; 0 for none."""

    def __getitem__(self, part: slice) -> Changes:
        return Changes(*(getattr(self, field.name)[part] for field in fields(self)))


def draw_changes(count: int, how: Augmentation, generator: torch.Generator) -> Changes:
    """Changes for `count` faces; as many draws are made whatever `how` says."""
    chance, size = (torch.rand(7, count, generator=generator) for _ in range(2))
    nothing, coloured = torch.zeros(count), chance[4] < how.colour
    steps = (112 - how.smallest) // SIZE_STEP
    by = (2.0 * size - 1.0) * how.colour_by
    return Changes(
        flipped=chance[0] < how.flip,
        sigma=torch.where(chance[1] < how.blur, 0.3 + (how.blur_sigma - 0.3) * size[1], nothing),
        side=torch.where(chance[2] < how.resize, how.smallest + SIZE_STEP * (size[2] * steps).floor(), nothing + 112),
        grey=chance[3] < how.grey,
        brightness=torch.where(coloured, 1.0 + by[4], nothing + 1.0),
        saturation=torch.where(coloured, 1.0 + by[5], nothing + 1.0),
        hue=torch.where(coloured, by[6] / 3.0, nothing),
    )


def changed(images: Tensor, changes: Changes) -> Tensor:
    """The images `(B, 3, 112, 112)`, RGB in [0, 1], with `changes` made."""
    flipped = changes.flipped.to(images.device)
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    images = _shrunk(images, changes.side)
    images = _blurred(images, changes.sigma)
    images = _coloured(images, changes)
    return images.clamp(0.0, 1.0)


def _shrunk(images: Tensor, side: Tensor) -> Tensor:
    for size in side[side < images.shape[-1]].unique().int().tolist():
        chosen = (side == size).to(images.device)
        small = F.interpolate(images[chosen], size=(size, size), mode="bilinear", antialias=True)
        images[chosen] = F.interpolate(small, size=images.shape[-2:], mode="bilinear")
    return images


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    chosen = (sigma > 0).nonzero()[:, 0].to(images.device)
    if len(chosen):
        each = sigma.to(images.device)[chosen, None].expand(-1, 2)
        images[chosen] = gaussian_blur2d(images[chosen], BLUR_KERNEL, each)
    return images


def _coloured(images: Tensor, changes: Changes) -> Tensor:
    chosen = (changes.brightness != 1.0).nonzero()[:, 0].to(images.device)
    if len(chosen):
        hue, saturation, brightness = (
            amount.to(images.device)[chosen] for amount in (changes.hue, changes.saturation, changes.brightness)
        )
        turned = adjust_saturation(adjust_hue(images[chosen], hue), saturation)
        images[chosen] = turned * brightness[:, None, None, None]
    grey = changes.grey.nonzero()[:, 0].to(images.device)
    if len(grey):
        images[grey] = rgb_to_grayscale(images[grey]).expand(-1, 3, -1, -1)
    return images
