"""The DSR generator: any square face from 8 to 64 pixels to 112 x 112, with one set of weights.

The input is first enlarged to 112 with bicubic, whatever its size, and read into a fixed grid of cells of `cell` x
`cell` pixels by one convolution of that stride. All the work happens on that grid, so every input size costs the same
and one checkpoint serves them all. The network predicts what bicubic misses, every cell its own pixels and a few around
them, added up where cells meet, so that no border shows; its last layer starts at zero, so an untrained DSR *is*
bicubic.

Aligned faces have an eye always in the same cell, so a learned map is added on the grid; ten 3 x 3 convolutions in a
row let every cell see most of the face. `README.md` beside this file has the measurements behind the choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from dsr.degradation import HR_SIZE, MAX_SIZE, MIN_SIZE

REFERENCE_SIZE = 32  # the size whose conditioning value is 0


@dataclass(frozen=True)
class DsrConfig:
    """The shape of a DSR; saved in its checkpoint."""

    channels: int = 64
    """Width of the convolutions on the grid."""
    blocks: int = 5
    """Number of residual blocks of two 3 x 3 convolutions."""
    cell: int = 7
    """Side of a grid cell in pixels; must divide 112."""
    overlap: int = 2
    """Pixels that a cell's output reaches beyond it on every side; 0 lets every cell write its own pixels only."""
    mirrored: bool = False
    """Restore the mirror image as well, and average both: better, in twice the time, with the same weights."""


PRESETS: dict[str, DsrConfig] = {
    "default": DsrConfig(),
    "large": DsrConfig(channels=96, blocks=8),
    "tiny": DsrConfig(channels=16, blocks=1),
    "separate": DsrConfig(overlap=0),
    "mirrored": DsrConfig(mirrored=True),
}


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a leaky ReLU, added to the input; starts near the identity. `(B, C, H, W)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)
            self.conv2.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(x), 0.1))


class SeparateCells(nn.Conv2d):
    """Features `(B, C, grid, grid)` to pixels `(B, 3, 112, 112)`, every cell its own; starts at zero."""

    def __init__(self, channels: int, cell: int) -> None:
        super().__init__(channels, 3 * cell**2, 1)
        self.cell = cell
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(super().forward(input), self.cell)


class OverlappingCells(nn.ConvTranspose2d):
    """The same, every cell reaching `overlap` pixels into its neighbours, and their outputs added."""

    bias: None

    def __init__(self, channels: int, cell: int, overlap: int) -> None:
        super().__init__(channels, 3, cell + 2 * overlap, stride=cell, padding=overlap, bias=False)
        self.tile = nn.Parameter(torch.zeros(1, 3, cell, cell))  # what every cell adds whatever it shows
        nn.init.zeros_(self.weight)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(input, output_size) + self.tile.repeat(1, 1, *input.shape[2:])


def _painter(config: DsrConfig) -> SeparateCells | OverlappingCells:
    if config.overlap:
        return OverlappingCells(config.channels, config.cell, config.overlap)
    return SeparateCells(config.channels, config.cell)


class Dsr(nn.Module):
    """`(B, 3, n, n)`, 8 <= n <= 64, RGB in [0, 1] -> `(B, 3, 112, 112)`.

    In evaluation mode the output is clamped to [0, 1]; in training it is not, so that every pixel has a gradient.
    Raises UserError for another shape.
    """

    def __init__(self, config: DsrConfig) -> None:
        super().__init__()
        if HR_SIZE % config.cell:
            raise UserError(f"a grid cell of {config.cell} pixels does not divide {HR_SIZE}: use 4, 7, 8, 14 or 16.")
        if not 0 <= config.overlap <= config.cell // 2:
            raise UserError(f"an overlap of {config.overlap} pixels: expected 0 to {config.cell // 2}, half a cell.")
        self.config = config
        self.grid = HR_SIZE // config.cell
        width = config.channels
        self.stem = nn.Conv2d(3, width, config.cell, stride=config.cell)
        self.position = nn.Parameter(torch.zeros(1, width, self.grid, self.grid))
        self.coarseness = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        self.last = _painter(config)

    def forward(self, low: Tensor) -> Tensor:
        self._check(low)
        enlarged = F.interpolate(low, size=(HR_SIZE, HR_SIZE), mode="bicubic", align_corners=False)
        output = self.restore(enlarged, math.log2(low.shape[-1] / REFERENCE_SIZE))
        return output if self.training else output.clamp(0.0, 1.0)

    def restore(self, enlarged: Tensor, log_size: float | Tensor) -> Tensor:
        """What comes after the enlargement, not clamped: `(B, 3, 112, 112)` to the same.

        `log_size` is log2(n / 32) of the input's side n, a number or a tensor `(1,)`; or of every input's,
        `(B, 1, 1, 1)`.
        """
        output = self._restore(enlarged, log_size)
        return (output + self._restore(enlarged.flip(3), log_size).flip(3)) / 2 if self.config.mirrored else output

    def _restore(self, enlarged: Tensor, log_size: float | Tensor) -> Tensor:
        features = self.stem(enlarged - 0.5) + self.position + self.coarseness * log_size  # (B, C, grid, grid)
        features = features + self.body(features)
        return enlarged + self.last(features)

    @staticmethod
    def _check(low: Tensor) -> None:
        shape = tuple(low.shape)
        square = low.ndim == 4 and shape[1] == 3 and shape[2] == shape[3]
        if not square or not MIN_SIZE <= shape[2] <= MAX_SIZE:
            raise UserError(
                f"DSR takes square RGB faces (B, 3, n, n) with n from {MIN_SIZE} to {MAX_SIZE}, found {shape}. "
                "Crop and align the face first; a larger one needs no super-resolution."
            )


def preset(name: str) -> DsrConfig:
    """A named configuration. Raises UserError for an unknown one."""
    if name not in PRESETS:
        raise UserError(f"DSR preset '{name}' is unknown: expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]
