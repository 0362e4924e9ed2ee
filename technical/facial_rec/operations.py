"""How many multiply-accumulates a network takes for one face.

Counted is what multiplies: convolutions, linear layers, and the two matrix products of each attention. Biases, norms,
activations, softmax and additions are left out; they would add less than 3 %. The EdgeFace paper's "MFLOPs" are two for
each of these: a multiplication and an addition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.models.edgenext import CrossCovarianceAttn
from torch import Tensor, nn

from facial_rec.edgeface import INPUT_SIZE

# What the authors give for their networks, in MFLOPs: https://arxiv.org/abs/2307.01838, table of the model zoo.
AUTHORS_MFLOPS = {
    "edgeface_xxs": 94.72,
    "edgeface_xs_gamma_06": 154.00,
    "edgeface_s_gamma_05": 306.12,
    "edgeface_base": 1398.83,
}


def convolution_macs(layer: nn.Conv2d, output: Tensor) -> int:
    """One for each output value and each weight that it is made of: `out H W (in / groups) k k`."""
    return output.numel() * layer.weight[0].numel()


def linear_macs(layer: nn.Linear, output: Tensor) -> int:
    """One for each output value and each input feature."""
    return output.numel() * layer.in_features


def attention_macs(layer: CrossCovarianceAttn, tokens: Tensor) -> int:
    """Two matrix products a head, `(d, N)(N, d)` and `(d, d)(d, N)`, for tokens `(B, N, C)` and d = C / heads.

    Cross-covariance attention compares channels, not positions (El-Nouby et al. 2021, https://arxiv.org/abs/2106.09681).
    The linear layers inside are counted as linear layers.
    """
    batch, positions, channels = tokens.shape
    return 2 * batch * positions * channels * channels // layer.num_heads


def count_macs(network: nn.Module, size: int = INPUT_SIZE) -> dict[str, int]:
    """Multiply-accumulates of one face by kind: `convolutions`, `linear`, `attention`; found with forward hooks."""
    counts = {"convolutions": 0, "linear": 0, "attention": 0}

    def counter(kind: str, macs: Callable[[Any, Tensor], int], of_input: bool) -> Callable[..., None]:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            counts[kind] += macs(layer, inputs[0] if of_input else output)

        return count

    kinds: dict[type[nn.Module], tuple[str, Callable[[Any, Tensor], int], bool]] = {
        nn.Conv2d: ("convolutions", convolution_macs, False),
        nn.Linear: ("linear", linear_macs, False),
        CrossCovarianceAttn: ("attention", attention_macs, True),
    }
    hooks = [
        layer.register_forward_hook(counter(*found))
        for layer in network.modules()
        for kind, found in kinds.items()
        if isinstance(layer, kind)
    ]
    was_training = network.training
    try:
        device = next(network.parameters()).device
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, size, size, device=device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return counts
