"""What a fine-tuned recogniser is trained on: distillation from SR and HR, a margin on people, triplets across both.

Embeddings are `(B, D)` of any length, compared with cosine. SR are faces that a super-resolution network restored, HR
the true ones. Every term is a mean over faces, each is weighted, switched off by the weight 0, and logged by its name.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from facial_rec.margin import CosFaceHead

NO_IDENTITY = -1
CONTRAST_SCALE = 30.0
CONTRAST_MARGIN = 0.3


@dataclass(frozen=True)
class LossWeights:
    """What each term counts; 0 leaves it out."""

    sr: float = 1.0
    hr: float = 1.0
    margin: float = 0.0
    octuplet: float = 0.0
    agreement: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        values = (self.sr, self.hr, self.margin, self.octuplet, self.agreement, self.contrast)
        if not all(0.0 <= value < float("inf") for value in values) or not any(values):
            raise UserError("loss weights must be 0 or more, and at least one of them above 0.")

    @property
    def needs_identities(self) -> bool:
        return self.margin > 0 or self.octuplet > 0


@dataclass(frozen=True)
class Embedded:
    """One batch as the networks see it."""

    sr: Tensor
    """`(B, D)` the student's embeddings of the restored faces."""
    hr: Tensor
    """`(K, D)` the student's of the first K true faces, K <= B; K may be 0."""
    targets: Tensor
    """`(B, D)` the frozen original's of the true faces."""
    people: Tensor
    """`(B,)` number of the person, -1 where unknown."""
    classes: Tensor
    """`(B,)` class in the margin head, -1 for faces that are in none."""


def distillation_loss(embeddings: Tensor, targets: Tensor) -> Tensor:
    """Mean `1 - cos` to the target, half the squared distance of the two unit vectors. `(B, D), (B, D)` -> scalar."""
    return (1.0 - F.cosine_similarity(embeddings, targets.detach(), dim=1, eps=1e-8)).mean()


def agreement_loss(low: Tensor, high: Tensor) -> Tensor:
    """Mean `1 - cos` of the student's view of a restored face to its own of the true one: `(K, D), (K, D)` -> scalar.

    Only `low` has a gradient. What a student cannot copy of its teacher it may still say alike at every resolution.
    """
    return distillation_loss(low, high)


def contrast_loss(
    embeddings: Tensor,
    targets: Tensor,
    references: Tensor,
    own: Tensor,
    scale: float = CONTRAST_SCALE,
    margin: float = CONTRAST_MARGIN,
) -> Tensor:
    """How well each embedding `(B, D)` finds its own target `(B, D)` among the references `(R, D)`; a scalar.

    Contrastive distillation (Y. Tian, D. Krishnan, P. Isola, "Contrastive Representation Distillation", ICLR 2020,
    https://arxiv.org/abs/1910.10699) as a softmax with a margin: the mean of
    `-log(exp(s (cos(e, t) - m)) / (exp(s (cos(e, t) - m)) + sum_r exp(s cos(e, r))))`. Reference `own` `(B,)` is the
    face's own person and left out of the sum; -1 where it is none of theirs. No label is needed for a face of nobody:
    every face is a class of its own, whose centre is what the teacher says of it.
    """
    embeddings, references = F.normalize(embeddings), F.normalize(references)
    positive = scale * ((embeddings * F.normalize(targets.detach())).sum(1, keepdim=True) - margin)
    negative = scale * embeddings @ references.T
    mask = own[:, None] == torch.arange(len(references), device=own.device)
    logits = torch.cat([positive, negative.masked_fill(mask, -torch.inf)], 1)
    return (torch.logsumexp(logits, 1) - positive[:, 0]).mean()


def octuplet_loss(high: Tensor, low: Tensor, people: Tensor, margin: float = 0.5) -> Tensor | None:
    """Batch-hard triplets with anchors and others of both resolutions, summed over the four combinations.

    M. Knoche et al., "Octuplet Loss: Make Face Recognition Robust to Image Resolution", FG 2023,
    https://arxiv.org/abs/2207.06726: `T(hhh) + T(hll) + T(lhh) + T(lll)`, each
    `max(0, d(anchor, positive) - d(anchor, negative) + margin)` with the farthest photo of the same person and the
    nearest of another, d the Euclidean distance of unit vectors.

    `high` and `low` `(B, D)` are embeddings of the same photos, row by row; `people` `(B,)` numbers the persons, -1 for
    unknown ones, who take no part. The mean is over anchors with a positive (a photo other than their own) and a
    negative; None where there is no such anchor.
    """
    known = people != NO_IDENTITY
    high, low, people = F.normalize(high[known]), F.normalize(low[known]), people[known]
    same = people[:, None] == people[None, :]
    own = torch.eye(len(people), dtype=torch.bool, device=people.device)
    anchors = (same & ~own).any(1) & (~same).any(1)
    if not bool(anchors.any()):
        return None
    terms = []
    for first, second in ((high, high), (high, low), (low, high), (low, low)):
        distance = (2.0 - 2.0 * first @ second.T).clamp(min=1e-8).sqrt()  # the root has no slope at 0
        farthest = distance.masked_fill(~same | own, -torch.inf)[anchors].amax(1)
        nearest = distance.masked_fill(same, torch.inf)[anchors].amin(1)
        terms.append(F.relu(farthest - nearest + margin).mean())
    return torch.stack(terms).sum()


class FinetuneLoss(nn.Module):
    """The weighted sum of the terms.

    Calling it gives `(total, parts)`, `parts` holding the unweighted terms by name as detached scalars. A term that
    this batch cannot give (no face of a class, no positive) is left out of both.
    """

    references: Tensor
    """`(R, D)` what the contrast tells a face from: the mean embedding of every person, by class; empty without it."""

    def __init__(
        self,
        weights: LossWeights,
        head: CosFaceHead | None = None,
        octuplet_margin: float = 0.5,
        references: Tensor | None = None,
    ) -> None:
        super().__init__()
        if weights.contrast > 0 and references is None:
            raise UserError("--contrast-weight is above 0, and there are no people to tell a face from.")
        if weights.margin > 0 and head is None:
            raise UserError("--margin-weight is above 0, and there are no identities to have a margin between.")
        self.weights, self.head, self.octuplet_margin = weights, head, octuplet_margin
        if references is not None:
            self.register_buffer("references", references)

    def forward(self, batch: Embedded) -> tuple[Tensor, dict[str, Tensor]]:
        shared = len(batch.hr)  # the faces that were embedded in both resolutions
        terms: dict[str, Tensor | None] = {}
        if self.weights.sr > 0:
            terms["sr"] = distillation_loss(batch.sr, batch.targets)
        if self.weights.hr > 0 and shared:
            terms["hr"] = distillation_loss(batch.hr, batch.targets[:shared])
        if self.weights.agreement > 0 and shared:
            terms["agreement"] = agreement_loss(batch.sr[:shared], batch.hr)
        if self.weights.margin > 0:
            terms["margin"] = self._margin(batch)
        if self.weights.contrast > 0:
            terms["contrast"] = self._contrast(batch)
        if self.weights.octuplet > 0:
            people = batch.people[:shared]
            terms["octuplet"] = octuplet_loss(batch.hr, batch.sr[:shared], people, self.octuplet_margin)
        found = {name: term for name, term in terms.items() if term is not None}
        zero = batch.sr.sum() * 0.0  # a batch without any term still has a gradient: none
        total = zero + sum((getattr(self.weights, name) * term for name, term in found.items()), zero)
        return total, {name: term.detach() for name, term in found.items()}

    def _contrast(self, batch: Embedded) -> Tensor:
        shared = len(batch.hr)
        embeddings, targets = torch.cat([batch.sr, batch.hr]), torch.cat([batch.targets, batch.targets[:shared]])
        return contrast_loss(embeddings, targets, self.references, torch.cat([batch.classes, batch.classes[:shared]]))

    def _margin(self, batch: Embedded) -> Tensor | None:
        assert self.head is not None
        embeddings = torch.cat([batch.sr, batch.hr])
        classes = torch.cat([batch.classes, batch.classes[: len(batch.hr)]])
        chosen = classes != NO_IDENTITY
        if embeddings.is_cuda:  # a captured step cannot choose rows, nor those before it: all count, or do not
            losses = self.head.each(embeddings, classes.clamp(min=0))
            return (losses * chosen).sum() / chosen.sum().clamp(min=1)
        return self.head(embeddings[chosen], classes[chosen]) if bool(chosen.any()) else None
