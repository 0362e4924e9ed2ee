"""Averages of weights: over the steps of a training (EMA), and between a network and the one it came from (WiSE-FT)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from common.errors import UserError


class WeightAverage:
    """An exponential moving average of a network's trainable parameters.

    After t updates its decay is `min(decay, (1 + t) / (10 + t))`, so that the first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {name: value.detach().clone() for name, value in _trainable(network)}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the network's weights of now."""
        keep = min(self.decay, (1.0 + self.updates) / (10.0 + self.updates))
        names, values = zip(*_trainable(network), strict=True)
        torch._foreach_lerp_([self.values[name] for name in names], list(values), 1.0 - keep)  # one call, not hundreds
        self.updates += 1

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Set the network's trainable parameters to the average."""
        for name, value in _trainable(network):
            value.copy_(self.values[name])

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` takes."""
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue a saved average. Raises UserError when it is of another network."""
        values, updates = state.get("values"), state.get("updates")
        if not isinstance(values, dict) or not isinstance(updates, int) or values.keys() != self.values.keys():
            raise UserError(
                "the saved weight average is another network's: run without --resume, or give another --out."
            )
        self.updates = updates
        for name, value in values.items():
            self.values[name].copy_(value)


def _trainable(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in network.named_parameters() if value.requires_grad]


def interpolate(original: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """`(1 - alpha) original + alpha tuned`, key by key; 0 and 1 give the two state dicts exactly.

    M. Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), CVPR 2022, https://arxiv.org/abs/2109.01903,
    section 3: the mixture often keeps what the original knew and most of what was learned. Tensors that are not of
    floating point are the tuned ones. Raises UserError for an alpha outside [0, 1] and for state dicts that differ in
    their keys.
    """
    if not 0.0 <= alpha <= 1.0:
        raise UserError(f"a mixture of two networks takes an alpha from 0 to 1, found {alpha}.")
    if original.keys() != tuned.keys():
        different = sorted(original.keys() ^ tuned.keys())[:4]
        raise UserError(f"two networks to mix must have the same keys; they differ in {', '.join(different)}.")
    if alpha in (0.0, 1.0):
        return {key: value.clone() for key, value in (tuned if alpha else original).items()}
    return {
        key: torch.lerp(original[key], value, alpha) if value.is_floating_point() else value.clone()
        for key, value in tuned.items()
    }
