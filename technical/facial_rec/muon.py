"""Muon beside AdamW, in one optimizer: for networks whose weights are mostly matrices and convolution kernels.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024,
https://kellerjordan.github.io/posts/muon/): the momentum of a matrix is replaced by the nearest orthogonal one, so that
every direction of it moves alike, the rare ones too. The step is scaled to the size of an AdamW step (J. Liu et al.
2025, https://arxiv.org/abs/2502.16982). torch.optim.Muon takes matrices alone; this one reads a kernel as a matrix, and
leaves to AdamW what is neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's: fast, and exact enough (singular values of about .7 to 1.2)
STEPS = 5
MOMENTUM = 0.95
ADAMW_SIZE = 0.2  # root mean square of an AdamW step, by Liu et al.
MATRIX_SCALE = 3.0
"""How much further a matrix moves than what is left to AdamW; from trials of a DSR, not measured well."""


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon takes it: a matrix, or a kernel `(out, in, h, w)`, read as one; no depthwise kernel, no map."""
    return parameter.ndim in (2, 4) and min(parameter.shape[:2]) > 1


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix `(m, n)` whose rows, or columns if there are more rows, are orthonormal.

    Five Newton-Schulz steps: the singular vectors stay, the singular values come near 1.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def with_muon(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parameter groups, matrices apart in groups marked `"muon": True`, whose `scale` is `MATRIX_SCALE` times.

    `scale` (1 where a group has none) is what a training multiplies its learning rate by, step by step.
    """
    split: list[dict[str, Any]] = []
    for group in groups:
        for muon in (False, True):
            chosen = [parameter for parameter in group["params"] if is_matrix(parameter) == muon]
            scale = group.get("scale", 1.0) * (MATRIX_SCALE if muon else 1.0)
            split += [{**group, "params": chosen, "scale": scale, "muon": muon}] if chosen else []
    return split


class Muon(torch.optim.AdamW):
    """Muon for the groups marked `"muon": True`, AdamW for all others; takes AdamW's arguments.

    Gradients must be finite: one that is not makes its matrix NaN.
    """

    def step(self, closure: Any = None) -> Any:
        """One step; see `torch.optim.Optimizer.step`."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group.get("muon")]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for parameter in group["params"] if group.get("muon") else ():
                if parameter.grad is not None:
                    self._turn(parameter, parameter.grad, group["lr"], group["weight_decay"])
        return loss

    @torch.no_grad()
    def _turn(self, parameter: Tensor, gradient: Tensor, rate: float | Tensor, weight_decay: float) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # AdamW asks every restored state for one
        momentum = state["momentum"].lerp_(gradient, 1.0 - MOMENTUM)
        matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
        turned = orthogonal(matrix).mul(ADAMW_SIZE * max(matrix.shape) ** 0.5).view(parameter.shape)
        parameter.mul_(1.0 - rate * weight_decay).sub_(turned * rate)
