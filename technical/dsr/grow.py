"""A wider and deeper DSR that starts as an exact copy of a smaller one (after Net2Net, https://arxiv.org/abs/1511.05641).

Training a large network from its first step is dear; one that was grown starts where the small one stopped.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn

from common.errors import UserError
from dsr.model import Dsr, DsrConfig, ResidualBlock


@torch.no_grad()
def grow(small: Dsr, config: DsrConfig) -> Dsr:
    """A network of `config` that computes what `small` computes; what is new starts at random and is read by nobody.

    The weights with which old channels read new ones are zero but not fixed, so training takes the new ones into use.
    Raises UserError where `config` is narrower or shallower than `small`, or has other cells.
    """
    old = small.config
    if config.cell != old.cell or config.channels < old.channels or config.blocks < old.blocks:
        raise UserError(
            f"a DSR of {asdict(old)} cannot grow into {asdict(config)}: expected at least its channels and blocks, "
            "and the same cell. Choose a larger --preset, or leave --start out."
        )
    large, width = Dsr(config), old.channels
    large.stem.weight[:width] = small.stem.weight
    _bias(large.stem)[:width] = _bias(small.stem)
    large.position[:, :width] = small.position
    large.coarseness[:, :width] = small.coarseness
    for index, block in enumerate(large.body):
        assert isinstance(block, ResidualBlock)
        known = small.body[index] if index < old.blocks else None
        for name in ("conv1", "conv2"):
            conv = getattr(block, name)
            conv.weight[:width] = 0
            conv.bias[:width] = 0
            if known is not None:
                conv.weight[:width, :width] = getattr(known, name).weight
                conv.bias[:width] = getattr(known, name).bias
    large.last.weight.zero_()
    large.last.weight[:, :width] = small.last.weight
    _bias(large.last)[:] = _bias(small.last)
    return large


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
