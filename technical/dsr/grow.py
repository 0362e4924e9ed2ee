"""A wider and deeper DSR that starts as an exact copy of a smaller one (after Net2Net, https://arxiv.org/abs/1511.05641).

Training a large network from its first step is dear; one that was grown starts where the small one stopped.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn

from common.errors import UserError
from dsr.model import Dsr, DsrConfig, ResidualBlock, SeparateCells


@torch.no_grad()
def grow(small: Dsr, config: DsrConfig) -> Dsr:
    """A network of `config` that computes what `small` computes; what is new starts at random and is read by nobody.

    The weights with which old channels read new ones are zero but not fixed, so training takes the new ones into use.
    Where only `config` is mirrored, it computes the mean of that over both mirror images. Raises UserError where
    `config` is narrower or shallower than `small`, has other cells, or is not mirrored where `small` is.
    """
    old = small.config
    smaller = config.channels < old.channels or config.blocks < old.blocks or config.overlap < old.overlap
    if old.mirrored > config.mirrored:
        raise UserError(
            "the DSR averages over both mirror images, and the network that it is to become does not: give --preset "
            "mirrored, or start from the plain DSR that it was made of."
        )
    if smaller or config.cell != old.cell:
        raise UserError(
            f"a DSR of {asdict(old)} cannot grow into {asdict(config)}: expected at least its channels, "
            "blocks and overlap, and the same cell. Choose a larger --preset, or leave --start-from out."
        )
    large, width = Dsr(config), old.channels
    large.stem.weight[:width] = small.stem.weight
    _bias(large.stem)[:width] = _bias(small.stem)
    large.position[:, :width] = small.position
    large.coarseness[:, :width] = small.coarseness
    for index, block in enumerate(large.body):
        assert isinstance(block, ResidualBlock)
        known = small.body[index] if index < old.blocks else None
        wider = config.channels > width  # else a block of zeros alone would never learn
        for name in ("conv1", "conv2") if known is not None or wider else ("conv2",):
            conv = getattr(block, name)
            conv.weight[:width] = 0
            conv.bias[:width] = 0
            if known is not None:
                conv.weight[:width, :width] = getattr(known, name).weight
                conv.bias[:width] = getattr(known, name).bias
    _grow_last(small, large)
    return large


def _grow_last(small: Dsr, large: Dsr) -> None:
    """Copy the layer that writes the pixels; with more overlap, what is new of its reach starts at zero."""
    width, cell = small.config.channels, small.config.cell
    if isinstance(large.last, SeparateCells):
        assert isinstance(small.last, SeparateCells)  # `grow` refused any other
        large.last.weight[:, :width] = small.last.weight
        _bias(large.last)[:] = _bias(small.last)
        return
    margin = large.config.overlap - small.config.overlap
    if isinstance(small.last, SeparateCells):
        known = small.last.weight.view(3, cell, cell, width).permute(3, 0, 1, 2)
        large.last.tile.copy_(_bias(small.last).view(1, 3, cell, cell))
    else:
        known = small.last.weight
        large.last.tile.copy_(small.last.tile)
    side = known.shape[-1]
    large.last.weight[:width, :, margin : margin + side, margin : margin + side] = known


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
