"""What a student is to say of a face: the original's embedding, or that of several recognisers agreed in its space.

Other networks know people better than a small original does, but each has a space of its own. A rotation takes one to
the other as well as a rotation can (P. Schönemann, "A generalized solution of the orthogonal Procrustes problem",
Psychometrika 31, 1966): it keeps every cosine between embeddings of one network, so what that network tells apart
stays apart. The targets are the unit sum of the original's and the rotated others': near the original, and wiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from common.progress import progress_bar
from facial_rec.embedder import Embedder

FACES_TO_FIT = 5000  # a rotation of 512 dimensions is settled by ten times as many faces
BATCH, GPU_BATCH = 32, 512


class JointTeacher(nn.Module):
    """Images `(B, 3, 112, 112)`, RGB in [0, 1], to unit embeddings `(B, D)`: the mean of all, in the first one's space.

    `rotations` `(D, D)` of the others, orthogonal; an embedding times its rotation lies in the first one's space.
    """

    def __init__(self, original: nn.Module, others: Sequence[nn.Module], rotations: Sequence[Tensor]) -> None:
        super().__init__()
        self.original, self.others = original, nn.ModuleList(others)
        self.rotations = nn.ParameterList(nn.Parameter(one, requires_grad=False) for one in rotations)

    def forward(self, images: Tensor) -> Tensor:
        return self.joined(self.original(images), images)

    def joined(self, first: Tensor, images: Tensor) -> Tensor:
        """The same where the original's embeddings `first` `(B, D)` are at hand."""
        total = F.normalize(first.float())
        for other, rotation in zip(self.others, self.rotations, strict=True):
            total = total + F.normalize(other(images).float()) @ rotation
        return F.normalize(total)


def joint_teacher(
    original: Embedder, others: Sequence[Embedder], read: Callable[[Sequence[int]], Tensor], count: int
) -> nn.Module:
    """`original` itself where there are no others, else the agreement of all, fitted on up to 5,000 of `count` faces.

    `read(indices)` gives uint8 `(B, 3, 112, 112)`. Raises UserError for a network whose embeddings are of another
    length than the original's.
    """
    if not others:
        return original
    device = next(original.parameters()).device
    chosen = torch.linspace(0, count - 1, min(count, FACES_TO_FIT)).round().long().tolist()
    networks = [original, *others]
    parts: list[list[Tensor]] = [[] for _ in networks]
    with torch.no_grad(), progress_bar(len(chosen), "fitting the teachers", "face", keep=False) as progress:
        batch = BATCH if device.type == "cpu" else GPU_BATCH
        for start in range(0, len(chosen), batch):
            indices = chosen[start : start + batch]
            images = read(indices).to(device, memory_format=torch.channels_last).float().div(255.0)
            for network, part in zip(networks, parts, strict=True):
                part.append(F.normalize(network(images).float()))
            progress.update(len(indices))
    targets, *sources = [torch.cat(part) for part in parts]
    for other, source in zip(others, sources, strict=True):
        if source.shape != targets.shape:
            raise UserError(
                f"--teachers {other.source.path} gives embeddings of {source.shape[1]} numbers and --edgeface "
                f"{targets.shape[1]}: they have no space in common. Give an EdgeFace."
            )
    rotations = [rotation_between(source, targets) for source in sources]
    for other, source, rotation in zip(others, sources, rotations, strict=True):
        agreement = float((source @ rotation * targets).sum(1).mean())
        print(f"[teachers] {other.source.path}: mean cosine to the original {agreement:.3f} after rotation")
    return JointTeacher(original, others, rotations)


def rotation_between(sources: Tensor, targets: Tensor) -> Tensor:
    """The orthogonal `(D, D)` matrix R with the largest sum of `(sources @ R) * targets`, two `(N, D)`."""
    left, _, right = torch.linalg.svd(sources.T.double() @ targets.double())
    return (left @ right).to(targets.dtype)
