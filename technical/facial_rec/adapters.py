"""Low-rank adapters: train a small correction of each weight matrix instead of the matrix, then fold it in.

E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, https://arxiv.org/abs/2106.09685: the
weight becomes `W + s B A` with `A` `(r, in)` drawn at random and `B` `(out, r)` zero, so training starts at the network
itself. The correction is added to the weight and not to the output, so folding it in changes no bit of the latter.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.utils import parametrize

from common.errors import UserError


class LowRankUpdate(nn.Module):
    """`weight -> weight + scale * (up @ down)` for a weight `(out, in, ...)`; at first it changes nothing."""

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down).view_as(weight)


def takes_adapter(layer: nn.Module) -> bool:
    """Whether the layer is a linear one or a 1 x 1 convolution that mixes channels."""
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def add_adapters(network: nn.Module, rank: int, scale: float = 1.0) -> list[str]:
    """Freeze `network` and give its linear layers and 1 x 1 convolutions trainable adapters, in place.

    Returns the names of those layers. Draws from torch's global generator. Raises UserError for a rank below 1.
    """
    if rank < 1:
        raise UserError(f"a low-rank adapter needs a rank of at least 1, found {rank}.")
    network.requires_grad_(False)
    layers = [(name, layer) for name, layer in network.named_modules() if takes_adapter(layer)]
    for _, layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRankUpdate(layer.weight, rank, scale))
    return [name for name, _ in layers]


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict that `network` would have without adapters, their corrections folded into its weights."""
    state = {}
    for key, value in network.state_dict().items():
        layer, part, rest = key.partition(".parametrizations.")
        if not part:
            state[key] = value
        elif rest.endswith(".original"):
            weight = getattr(network.get_submodule(layer), rest.removesuffix(".original"))  # computes it
            state[f"{layer}.{rest.removesuffix('.original')}"] = weight.detach()
    return state
