"""Within-class covariance normalisation of embeddings, folded into a recogniser's last layer at no cost.

Directions in which photos of one person differ say little about who it is; a linear map that shortens them leaves more
of what does (A. Hatch, S. Kajarekar, A. Stolcke, "Within-class covariance normalization for SVM-based speaker
recognition", Interspeech 2006). Here there are two such covariances: of a restored face's embedding around the true
face's own, which needs no label, and of a person's photos at all resolutions around their mean. Both maps are softened
by a power, and a part of the mean embedding is taken off before, since a blurred face drifts towards it.

Embeddings are rows: `e` becomes `(e - offset) @ matrix`.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from facial_rec.edgeface import EdgeFace, LoRaLin
from facial_rec.finetune_losses import NO_IDENTITY


def residual_covariance(low: Tensor, high: Tensor) -> Tensor:
    """Mean outer product of the differences of unit embeddings, two `(N, D)` -> `(D, D)` in float64."""
    difference = F.normalize(low.double()) - F.normalize(high.double())
    return difference.T @ difference / len(difference)


def within_covariance(embeddings: Tensor, people: Tensor) -> Tensor:
    """Mean outer product of unit embeddings `(N, D)` around the mean of their person's, `(D, D)` in float64.

    `people` `(N,)` numbers the persons, -1 for unknown ones. Raises UserError where nobody has two embeddings.
    """
    known = people != NO_IDENTITY
    units, numbers = F.normalize(embeddings[known].double()), people[known]
    counts = numbers.bincount(minlength=1)
    if not bool((counts > 1).any()):
        raise UserError("nobody has two photos, so nothing tells how photos of one person differ: set --within 0.")
    several = counts[numbers] > 1
    deviations = (units - _means(units, numbers)[numbers])[several]
    return deviations.T @ deviations / len(deviations)


def mean_of_people(embeddings: Tensor, people: Tensor) -> Tensor:
    """The mean of the persons' mean embeddings, `(N, D), (N,)` -> `(D,)`: each counts alike; unknown ones alone."""
    numbers = people.clone()
    unknown = numbers == NO_IDENTITY
    first = int(numbers.max()) + 1
    numbers[unknown] = first + torch.arange(int(unknown.sum()))
    present = numbers.unique()
    return _means(embeddings.double(), numbers)[present].mean(0)


def _means(embeddings: Tensor, numbers: Tensor) -> Tensor:
    sums = embeddings.new_zeros(int(numbers.max()) + 1, embeddings.shape[1]).index_add_(0, numbers, embeddings)
    return sums / numbers.bincount().clamp(min=1)[:, None]


def damping(covariance: Tensor, strength: float, rank: int) -> Tensor:
    """The map `(C / c + I)^(-strength / 2)`, symmetric `(D, D)`; strength 0 is the identity.

    `c` is the mean variance over the `rank` dimensions that the embeddings have: below it a direction is hardly
    damped, so that those in which the sample varies little by chance are not blown up.
    """
    values, vectors = torch.linalg.eigh(covariance.double())
    values = values.clamp(min=0.0)
    floor = values.sum() / rank
    if not bool(floor > 0):
        raise UserError("the embeddings do not vary at all: give more faces, or another network.")
    return (vectors * (values / floor + 1.0) ** (-strength / 2.0)) @ vectors.T


def folded(network: EdgeFace, matrix: Tensor, offset: Tensor) -> EdgeFace:
    """A copy of `network` that gives `(e - offset) @ matrix` where `network` gives `e`, `(D, D)` and `(D,)`."""
    result = copy.deepcopy(network)
    last = _last_layer(result)
    weight, bias = last.weight.detach().double(), last.bias.detach().double()
    with torch.no_grad():
        last.weight.copy_(matrix.double().T @ weight)
        last.bias.copy_((bias - offset.double()) @ matrix.double())
    return result


def head_rank(network: EdgeFace) -> int:
    """How many dimensions the embeddings can vary in: the width of what enters the last layer."""
    return _last_layer(network).in_features


def _last_layer(network: EdgeFace) -> nn.Linear:
    head = network.model.get_submodule("head.fc")
    last = head.linear2 if isinstance(head, LoRaLin) else head
    assert isinstance(last, nn.Linear)
    assert last.bias is not None
    return last
