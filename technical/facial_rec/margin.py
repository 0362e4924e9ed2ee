"""Losses on identities, which make a recogniser's embeddings cluster by person: margin softmax and triplets.

A margin softmax compares an embedding with a centre of each class by the cosine of the angle θ between them, makes the
comparison with its own class harder, and takes the cross-entropy of `s cos`. How much harder the functions below say:
each takes the own-class cosines, of any shape, and gives what stands in their place. Angles are in radians. float16 and
bfloat16 come back as float32, and near 0 and π, where the arc cosine is infinitely steep, the slope is held finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError

OwnCosine = Callable[[Tensor], Tensor]
SCALE = 64.0
STEEPEST = 1e-6  # an angle is taken no closer to 0 or π than 1.4e-3, whose cosine is 1 - 1e-6


def cosface(cosine: Tensor, margin: float = 0.4) -> Tensor:
    """CosFace: `cos θ - m` (Wang et al. 2018, https://arxiv.org/abs/1801.09414, eq. 4). EdgeFace's authors take 0.4."""
    return _precise(cosine) - margin


def arcface(cosine: Tensor, margin: float = 0.5) -> Tensor:
    """ArcFace: `cos(θ + m)` (Deng et al. 2019, https://arxiv.org/abs/1801.07698, eq. 3).

    Past θ = π - m, where that would rise again, it is `cos θ - m sin m`, as in the authors' code.
    """
    cosine = _precise(cosine)
    angle = _angle(cosine)
    return torch.where(angle <= math.pi - margin, torch.cos(angle + margin), cosine - margin * math.sin(margin))


def sphereface(cosine: Tensor, margin: float = 1.35) -> Tensor:
    """SphereFace: `(-1)^k cos(mθ) - 2k`, k the whole multiples of π in mθ (Liu et al. 2017,
    https://arxiv.org/abs/1704.08063, eq. 6 and 7).

    The paper's m = 4 needs annealing to converge; 1.35 is the margin with which ArcFace's authors train it without. As
    in their comparison the scale is the softmax's, not the embedding's length.
    """
    return combined(cosine, margin)


def combined(cosine: Tensor, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0) -> Tensor:
    """The three margins in one: `cos(m1 θ + m2) - m3` (Deng et al. 2019, eq. 4).

    Past m1 θ + m2 = π, where that would rise again, it goes on falling as SphereFace does, without a kink.
    """
    turned = m1 * _angle(_precise(cosine)) + m2
    half_turns = (turned.detach() / math.pi).floor()
    sign = 1.0 - 2.0 * (half_turns % 2)
    return sign * torch.cos(turned) - 2.0 * half_turns - m3


def _precise(cosine: Tensor) -> Tensor:
    return cosine.float() if cosine.dtype in (torch.float16, torch.bfloat16) else cosine


def _angle(cosine: Tensor) -> Tensor:
    """The arc cosine, its slope held within -707, which also goes on past the ends, so that nothing is stuck there."""
    inside = cosine.detach().clamp(STEEPEST - 1.0, 1.0 - STEEPEST)
    return torch.acos(cosine + (inside - cosine.detach()))


MARGINS: dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]] = {
    "cosface": (cosface, (0.4,)),
    "arcface": (arcface, (0.5,)),
    "sphereface": (sphereface, (1.35,)),
    "combined": (combined, (1.0, 0.3, 0.2)),
}


def margin_named(name: str, values: Sequence[float] = ()) -> OwnCosine:
    """One of `MARGINS` with its margins, its usual ones if `values` is empty.

    Raises UserError for an unknown name, another number of margins, and a margin that makes nothing harder.
    """
    if name not in MARGINS:
        raise UserError(f"--loss {name} is not a margin loss: expected one of {', '.join(MARGINS)}.")
    function, usual = MARGINS[name]
    values = tuple(values) or usual
    given = " ".join(f"{value:g}" for value in values)
    if len(values) != len(usual):
        raise UserError(f"--loss {name} takes {len(usual)} margin(s), found {len(values)}: --margin {given}.")
    lowest = {"sphereface": (1.0,), "combined": (0.5, 0.0, 0.0)}.get(name, (0.0,))
    if not all(math.isfinite(value) and value >= low for value, low in zip(values, lowest, strict=True)):
        raise UserError(
            f"--margin {given}: expected {' '.join(f'{low:g}' for low in lowest)} or more for --loss {name}."
        )
    if name == "arcface" and values[0] >= math.pi:
        raise UserError(f"--margin {given}: expected an angle below π for --loss arcface, in radians, not degrees.")
    return partial(function, **dict(zip(_margin_names(name), values, strict=True)))


def _margin_names(name: str) -> tuple[str, ...]:
    return ("m1", "m2", "m3") if name == "combined" else ("margin",)


def margin_logits(cosine: Tensor, labels: Tensor, own: OwnCosine, scale: float = SCALE) -> Tensor:
    """Logits `(B, C)` for cross-entropy: `s own(cos)` for the own class, `s cos` for the others.

    `cosine` `(B, C)` between embeddings and class centres, `labels` `(B,)` in 0 .. C-1.
    """
    cosine = _precise(cosine)
    mine = labels[:, None]
    return scale * cosine.scatter(1, mine, own(cosine.gather(1, mine)))


def cosface_logits(cosine: Tensor, labels: Tensor, scale: float = SCALE, margin: float = 0.4) -> Tensor:
    """`margin_logits` of CosFace."""
    return margin_logits(cosine, labels, partial(cosface, margin=margin), scale)


class MarginHead(nn.Module):
    """Class centres under a margin softmax over all classes: embeddings `(B, D)` and labels `(B,)` -> scalar.

    For many classes, or several processes, `facial_rec.partial_fc.PartialFC` gives the same in less memory.
    """

    def __init__(self, classes: int, dimensions: int, own: OwnCosine, scale: float = SCALE) -> None:
        super().__init__()
        self.own, self.scale = own, scale
        self.centres = nn.Parameter(torch.empty(classes, dimensions))
        nn.init.normal_(self.centres, std=0.01)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.each(embeddings, labels).mean()

    def each(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of every embedding, `(B,)`."""
        cosine = F.linear(F.normalize(embeddings), F.normalize(self.centres))
        return F.cross_entropy(margin_logits(cosine, labels, self.own, self.scale), labels, reduction="none")


class CosFaceHead(MarginHead):
    """`MarginHead` with CosFace's margin."""

    def __init__(self, classes: int, dimensions: int, scale: float = SCALE, margin: float = 0.4) -> None:
        super().__init__(classes, dimensions, partial(cosface, margin=margin), scale)


def batch_hard_triplet(embeddings: Tensor, labels: Tensor, margin: float = 1.5) -> Tensor:
    """Mean over anchors of `max(0, m + max d²(anchor, positive) - min d²(anchor, negative))`, d between unit vectors.

    Hermans et al. 2017, https://arxiv.org/abs/1703.07737, eq. 5, with squared Euclidean distances, so
    `d² = 2 - 2 cos`, 0 to 4. Embeddings `(B, D)`, labels `(B,)` -> scalar. Only a photo whose person is in the batch a
    second time, beside somebody else, is an anchor. Raises UserError when none is.
    """
    unit = F.normalize(_precise(embeddings))
    squared = 2.0 - 2.0 * unit @ unit.T
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchors = positive.any(dim=1) & ~same.all(dim=1)
    if not bool(anchors.any()):
        missing = "another person" if bool(same.all()) else "a second photo of anyone (a positive)"
        raise UserError(
            f"a batch of {len(labels)} faces holds no triplet: {missing} is missing. Raise --batch-size or "
            "--photos-per-person, or train on people with several photos."
        )
    furthest = squared.masked_fill(~positive, -math.inf).amax(dim=1)[anchors]
    nearest = squared.masked_fill(same, math.inf).amin(dim=1)[anchors]
    return F.relu(margin + furthest - nearest).mean()
