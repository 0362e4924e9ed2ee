"""Margin losses on identities: what makes a recogniser's embeddings cluster by person."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cosface_logits(cosine: Tensor, labels: Tensor, scale: float = 64.0, margin: float = 0.4) -> Tensor:
    """CosFace (Wang et al. 2018, https://arxiv.org/abs/1801.09414, eq. 4): `s (cos - m)` for the own class.

    Other classes keep `s cos`.

    `cosine` `(B, C)` between embeddings and class centres, `labels` `(B,)` in 0 .. C-1 -> logits `(B, C)` for
    cross-entropy. EdgeFace's authors use a margin of 0.4.
    """
    return scale * (cosine - margin * F.one_hot(labels, cosine.shape[1]))


class CosFaceHead(nn.Module):
    """Class centres with the CosFace loss: embeddings `(B, D)` and labels `(B,)` -> scalar."""

    def __init__(self, classes: int, dimensions: int, scale: float = 64.0, margin: float = 0.4) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.centres = nn.Parameter(torch.empty(classes, dimensions))
        nn.init.normal_(self.centres, std=0.01)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(embeddings), F.normalize(self.centres))
        return F.cross_entropy(cosface_logits(cosine, labels, self.scale, self.margin), labels)
