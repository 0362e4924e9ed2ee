"""Changes of training faces: geometry, light, faces of nobody, for both networks; blur, erased patches for the student.

Images are `(B, 3, H, W)`, RGB in [0, 1]. Every draw comes from the generator given (on CPU), so a seed gives the same
faces on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """How far faces are changed; 0 leaves a change out."""

    flip: float = 0.5
    """Chance of mirroring."""
    shift: float = 4.0
    """Furthest shift along each axis in pixels."""
    grow: float = 4.0
    """Furthest growth or shrinkage of the face's side in pixels."""
    light: float = 0.2
    """Furthest change of brightness, contrast and colour, as a fraction."""
    blur: float = 0.2
    """Chance that the student's image is blurred."""
    blur_sigma: float = 1.0
    """Strongest blur in pixels."""
    erase: float = 0.2
    """Chance that a patch of the student's image is erased."""
    erase_side: float = 0.3
    """Largest side of an erased patch, as a fraction of the image's."""
    stranger: float = 0.0
    """Chance that a face becomes a stranger's: parts of another face of the batch in it, its features moved."""
    stranger_warp: float = 1.2
    """How far a stranger's features are moved, standard deviation in pixels."""


AUGMENTATIONS = {
    "none": Augmentation(flip=0.0, shift=0.0, grow=0.0, light=0.0, blur=0.0, erase=0.0),
    "flip": Augmentation(shift=0.0, grow=0.0, light=0.0, blur=0.0, erase=0.0),
    "light": Augmentation(grow=0.0, blur=0.0, erase=0.0),
    "strong": Augmentation(),
    "strangers": Augmentation(grow=0.0, blur=0.0, erase=0.0, stranger=0.4),
}


def change_scene(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Another photo of the same face: mirrored, moved, grown, in other light; clamped and rounded to 8 bit."""
    if how.flip:
        mirrored = torch.rand(len(images), generator=generator) < how.flip
        images = torch.where(_each(mirrored, images), images.flip(3), images)
    if how.shift or how.grow:
        images = _move(images, how, generator)
    if how.light:
        images = _relight(images, how.light, generator)
    return images.clamp(0.0, 1.0).mul(255.0).round().div(255.0)


def make_strangers(images: Tensor, how: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The batch with some faces made into those of people who do not exist, and which, bool `(B,)` on CPU.

    The training people are few; a network that is to do as another does, whoever is shown, can learn from faces of
    nobody. Smooth random regions come from another face of the batch, in this one's colours; then a smooth random field
    moves what is there. A batch of one face stays as it is.
    """
    count = len(images)
    if not how.stranger or count < 2:
        return images, torch.zeros(count, dtype=torch.bool)
    chosen = torch.rand(count, generator=generator) < how.stranger
    if not bool(chosen.any()):
        return images, chosen
    index = chosen.nonzero().flatten()
    partners = (index + count // 2) % count  # photos of one person lie side by side
    fields = (
        torch.randn(len(index), 1, 3, 3, generator=generator),
        torch.randn(len(index), 2, 6, 6, generator=generator),
    )
    index, partners = index.to(images.device), partners.to(images.device)
    size = images.shape[2:]
    own, mask = images[index], _smooth(fields[0].to(images.device), size).mul(4.0).sigmoid()
    blended = mask * own + (1.0 - mask) * _recoloured(images[partners], own)
    grid = F.affine_grid(torch.eye(2, 3, device=images.device).expand(len(index), 2, 3), list(own.shape), False)
    moves = _smooth(fields[1].to(images.device), size).permute(0, 2, 3, 1) * (2.0 * how.stranger_warp / size[0])
    strangers = F.grid_sample(blended, grid + moves, mode="bicubic", padding_mode="reflection", align_corners=False)
    images = images.clone()
    images[index] = strangers.clamp(0.0, 1.0).mul(255.0).round().div(255.0)
    return images, chosen


def _smooth(field: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(field, size=tuple(size), mode="bicubic", align_corners=True)


def _recoloured(images: Tensor, like: Tensor) -> Tensor:
    """Mean and spread of every channel as in `like` (E. Reinhard et al., "Color Transfer between Images", 2001)."""
    mean, spread = images.mean(dim=(2, 3), keepdim=True), images.std(dim=(2, 3), keepdim=True)
    wanted, wanted_spread = like.mean(dim=(2, 3), keepdim=True), like.std(dim=(2, 3), keepdim=True)
    return (images - mean) / (spread + 1e-3) * wanted_spread + wanted


def obscure(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """The same image, some of the batch blurred or with an erased patch."""
    if how.blur:
        sigma = 0.3 + (how.blur_sigma - 0.3) * float(torch.rand((), generator=generator))
        chosen = torch.rand(len(images), generator=generator) < how.blur
        if bool(chosen.any()):
            index = chosen.nonzero().flatten().to(images.device)
            images = images.clone()
            images[index] = _blurred(images[index], sigma)
    if how.erase:
        images = _erase(images, how, generator)
    return images


def _each(values: Tensor, images: Tensor) -> Tensor:
    """One value an image, `(B,)`, shaped to meet `(B, 3, H, W)`."""
    return values.to(images.device)[:, None, None, None]


def _uniform(count: int, furthest: float, generator: torch.Generator) -> Tensor:
    return furthest * (2.0 * torch.rand(count, generator=generator) - 1.0)


def _move(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift by whole pixels, which keeps the image sharp; half of the images are also resized, with bicubic."""
    count, _, height, width = images.shape
    down, across = (_uniform(count, how.shift, generator).round() for _ in range(2))
    resized = (torch.rand(count, generator=generator) < 0.5) & torch.tensor(how.grow > 0)
    zoom = torch.where(resized, width / (width + _uniform(count, how.grow, generator)), torch.ones(count))
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = zoom, zoom
    theta[:, 0, 2], theta[:, 1, 2] = 2.0 * across / width, 2.0 * down / height
    theta = theta.to(images.device)
    moved = torch.empty_like(images)
    for chosen, mode in ((~resized, "nearest"), (resized, "bicubic")):
        if bool(chosen.any()):
            index = chosen.nonzero().flatten().to(images.device)
            size = [len(index), 3, height, width]
            grid = F.affine_grid(theta[index], size, align_corners=False)
            moved[index] = F.grid_sample(images[index], grid, mode=mode, padding_mode="reflection", align_corners=False)
    return moved


def _relight(images: Tensor, furthest: float, generator: torch.Generator) -> Tensor:
    """Brightness times, contrast around the mean, colour around grey; each by its own factor an image."""
    brightness, contrast, colour = (_each(1.0 + _uniform(len(images), furthest, generator), images) for _ in range(3))
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    weights = images.new_tensor(_LUMA)[None, :, None, None]
    grey = (images * weights).sum(1, keepdim=True)
    return grey + (images - grey) * colour


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of seven taps, the border repeated. As matrices: cuDNN plans anew for every number of images."""
    positions = torch.arange(-3, 4, device=images.device)
    kernel = torch.exp(-0.5 * (positions / sigma).square())
    kernel = (kernel / kernel.sum()).to(images.dtype)
    down, across = (_band(kernel, positions, side) for side in images.shape[2:])
    return down @ images @ across.T


def _band(kernel: Tensor, positions: Tensor, side: int) -> Tensor:
    """The matrix `(side, side)` that filters a column: taps `kernel` at `positions`, the border repeated."""
    taps = (torch.arange(side, device=kernel.device)[:, None] + positions).clamp(0, side - 1)
    return kernel.new_zeros(side, side).scatter_add_(1, taps, kernel.expand(side, -1))


def _erase(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Fill a rectangle of some images with their mean colour (Z. Zhong et al., "Random Erasing", AAAI 2020)."""
    count, _, height, width = images.shape
    chosen = torch.rand(count, generator=generator) < how.erase
    sides = 0.1 + (how.erase_side - 0.1) * torch.rand(2, count, generator=generator)
    starts = torch.rand(2, count, generator=generator) * (1.0 - sides)
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    inside_rows = (rows >= starts[0][:, None]) & (rows < (starts + sides)[0][:, None])
    inside_columns = (columns >= starts[1][:, None]) & (columns < (starts + sides)[1][:, None])
    patch = (inside_rows[:, None, :, None] & inside_columns[:, None, None, :]) & chosen[:, None, None, None]
    return torch.where(patch.to(images.device), images.mean(dim=(2, 3), keepdim=True), images)
