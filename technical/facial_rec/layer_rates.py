"""Parameter groups of an EdgeFace whose learning rate falls from the head to the stem.

Layer-wise decay keeps early layers, which see what every face has, closer to the original (J. Howard, S. Ruder,
"Universal Language Model Fine-tuning", 2018, https://arxiv.org/abs/1801.06146, section 3.2; K. Clark et al., "ELECTRA",
2020, appendix A).
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from facial_rec.edgeface import EdgeFace


def layer_depth(name: str, depths: tuple[int, ...]) -> int:
    """Which layer a parameter belongs to: 0 for the stem, then every block in turn, the last number for the head.

    `depths` are the numbers of blocks in the stages. A stage's downsampling counts with its first block.

    >>> [layer_depth(n, (2, 2)) for n in ("model.stem.0.weight", "model.stages.1.blocks.0.gamma", "model.head.fc.bias")]
    [0, 3, 5]
    """
    if match := re.match(r"model\.stages\.(\d+)\.(?:blocks\.(\d+)\.)?", name):
        return 1 + sum(depths[: int(match[1])]) + int(match[2] or 0)
    return 0 if name.startswith("model.stem.") else 1 + sum(depths)


def parameter_groups(network: EdgeFace, rate: float, layer_decay: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser over the trainable parameters, each with its `lr` and its `scale` = lr / `rate`.

    The head learns at `rate`, each layer below it at `layer_decay` times the one above (1.0: all alike). Biases,
    norms and layer scales (at most one dimension) take no weight decay.
    """
    stages = network.model.stages
    assert isinstance(stages, nn.Sequential)
    depths = tuple(len(list(stage.get_submodule("blocks").children())) for stage in stages)
    last = 1 + sum(depths)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        depth, decays = layer_depth(name, depths), parameter.ndim > 1
        scale = layer_decay ** (last - depth)
        group = {"params": [], "lr": rate * scale, "scale": scale, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault((depth, decays), group)["params"].append(parameter)
    return list(groups.values())
