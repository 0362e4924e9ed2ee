"""Muon beside AdamW, in one optimizer: for networks whose weights are mostly matrices and convolution kernels.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024, https://kellerjordan.github.io/posts/muon/):
the momentum of a matrix is replaced by the nearest orthogonal one, so that every direction of it moves alike, the rare
ones too. The step is scaled to the size of an AdamW step (J. Liu et al. 2025, https://arxiv.org/abs/2502.16982).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: fast, and exact enough (singular values within .7 to 1.2)
STEPS = 5
MOMENTUM = 0.95
ADAMW_SIZE = 0.2  # root mean square of an AdamW step, by Liu et al.
MATRIX_SCALE = 3.0  # by `benchmarks/dsr_optimizers.py`: what a matrix may move, as a multiple of the others' rate


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon takes it: a matrix, or a kernel `(out, in, h, w)`, read as one; no depthwise kernel, no map."""
    return parameter.ndim in (2, 4) and min(parameter.shape[:2]) > 1


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix `(m, n)` with orthogonal rows or columns, by five Newton-Schulz steps."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / wide.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def split_groups(parameters: Iterable[nn.Parameter], weight_decay: float, scale: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups for `Muon`: matrices, which move `MATRIX_SCALE` times as far, what else decays, and the rest.

    `scale` is what a training multiplies its rate by for all of them.
    """
    matrices, decaying, others = [], [], []
    for parameter in parameters:
        kind = matrices if is_matrix(parameter) else decaying if parameter.ndim > 1 else others
        kind.append(parameter)
    return [
        {"params": matrices, "weight_decay": weight_decay, "scale": scale * MATRIX_SCALE, "muon": True},
        {"params": decaying, "weight_decay": weight_decay, "scale": scale},
        {"params": others, "weight_decay": 0.0, "scale": scale},
    ]


class Muon(torch.optim.AdamW):
    """Muon for the groups marked `"muon": True`, AdamW for all others; takes AdamW's arguments.

    Gradients must be finite (`require_finite`); one that is all zero leaves its matrix where the momentum takes it.
    """

    def step(self, closure: Any = None) -> Any:
        """One step; see `torch.optim.Optimizer.step`."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group.get("muon")]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        with torch.no_grad():
            for group in groups:
                if group.get("muon"):
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            self._turn(parameter, parameter.grad, group["lr"], group["weight_decay"])
        return loss

    def _turn(self, parameter: Tensor, gradient: Tensor, rate: float | Tensor, weight_decay: float) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1.0 - MOMENTUM)
        matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
        turned = orthogonal(matrix).mul_(ADAMW_SIZE * max(matrix.shape) ** 0.5).view(parameter.shape)
        parameter.mul_(1.0 - rate * weight_decay).sub_(turned * rate)
