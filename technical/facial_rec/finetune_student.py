"""The networks of a fine-tuning: the frozen original, the student that starts as its copy, a head of class centres."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.shipped import weights_sha256
from facial_rec.adapters import add_adapters
from facial_rec.download import edgeface_file
from facial_rec.edgeface import EMBEDDING_DIM, EdgeFace
from facial_rec.embedder import Embedder, Source
from facial_rec.finetune_losses import NO_IDENTITY, FinetuneLoss, LossWeights
from facial_rec.finetune_state import RunState
from facial_rec.identities import Identities, require_without_gaps
from facial_rec.layer_rates import parameter_groups
from facial_rec.margin import CosFaceHead
from facial_rec.weight_average import WeightAverage
from facial_rec.weights import describe_difference, load_strictly, read_edgeface_state, recognise

PHOTOS_A_CENTRE = 10  # that many embeddings make a good enough mean


def load_teacher(weights: str, device: torch.device) -> tuple[Embedder, EdgeFace]:
    """The frozen original, and the same network as it is read: a plain EdgeFace on CPU.

    A state dict, float or int8, and a TorchScript are read alike. Raises UserError for a file that is missing or
    damaged, or whose keys are no known EdgeFace's.
    """
    path = edgeface_file(weights)
    state = read_edgeface_state(path)
    variant, network = recognise(state, path)
    load_strictly(network, state, path)
    network.eval().requires_grad_(False)
    teacher = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)
    return Embedder(teacher, Source(path, weights_sha256(path), "state_dict", variant)), network


def load_start(weights: str | None, original: EdgeFace) -> tuple[EdgeFace, str | None]:
    """The network in `weights` and the file's SHA-256; without a name `original` itself, and None.

    Raises UserError for a file that is missing or damaged, or that holds another network than `original`'s.
    """
    if weights is None:
        return original, None
    path = edgeface_file(weights)
    state = read_edgeface_state(path)
    if difference := describe_difference(original.state_dict(), state):
        raise UserError(
            f"--start-from {path} is another network than --edgeface's: {difference}. Give one of its kind."
        )
    start = copy.deepcopy(original)
    load_strictly(start, state, path)
    return start, weights_sha256(path)


def fresh_state(
    start: EdgeFace,
    loss: FinetuneLoss,
    rate: float,
    layer_decay: float,
    weight_decay: float,
    ema_decay: float,
    adapter_rank: int,
    device: torch.device,
) -> RunState:
    """A student that computes what `start` does, and its optimiser; with `adapter_rank` > 0 only adapters learn."""
    student = copy.deepcopy(start).eval().requires_grad_(True)
    if adapter_rank:
        add_adapters(student, adapter_rank)
    student = student.to(device).to(memory_format=torch.channels_last)
    loss.to(device)
    groups = parameter_groups(student, rate, layer_decay, weight_decay)
    if centres := list(loss.parameters()):
        groups.append({"params": centres, "lr": rate, "scale": 1.0, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))
    return RunState(student, loss, WeightAverage(student, ema_decay), optimizer)


def make_loss(
    weights: LossWeights, identities: Identities, octuplet_margin: float, cosface_margin: float
) -> FinetuneLoss:
    """The loss with a class for each person of `identities` that has enough photos.

    Raises UserError where a term is asked for that these people cannot give.
    """
    if weights.margin > 0 and len(identities.names) < 2:
        raise UserError(
            f"--margin-weight {weights.margin} needs people to tell apart, and the training faces have "
            f"{len(identities.names)} identity with enough photos (--margin-photos): at least 2 are needed. "
            "Name files <subject>_<n>.png, use a folder per identity, or set --margin-weight 0."
        )
    people = identities.people[identities.people != NO_IDENTITY]
    if weights.octuplet > 0 and (not len(people) or int(people.bincount().max()) < 2 or identities.count < 2):
        raise UserError(
            f"--octuplet-weight {weights.octuplet} needs two people, one of them with two photos: none of the "
            f"{identities.count} people here is enough. Use a folder per identity, or set --octuplet-weight 0."
        )
    if weights.contrast > 0 and len(identities.names) < 2:
        raise UserError(
            f"--contrast-weight {weights.contrast} needs people to tell a face from, and the training faces have "
            f"{len(identities.names)} identity with enough photos (--margin-photos): at least 2 are needed. "
            "Name files <subject>_<n>.png, use a folder per identity, or set --contrast-weight 0."
        )
    head, references = None, None
    if weights.margin > 0 or weights.contrast > 0:
        require_without_gaps(identities.classes, "class numbers")
    if weights.margin > 0:
        head = CosFaceHead(len(identities.names), EMBEDDING_DIM, margin=cosface_margin)
    if weights.contrast > 0:
        references = torch.zeros(len(identities.names), EMBEDDING_DIM)
    return FinetuneLoss(weights, head, octuplet_margin, references)


@torch.no_grad()
def fill_centres(
    loss: FinetuneLoss,
    teacher: nn.Module,
    read: Callable[[Sequence[int]], Tensor],
    classes: Tensor,
    device: torch.device,
) -> None:
    """Set each class centre, and reference, to the mean of the teacher's unit embeddings of up to ten of its photos.

    `read(indices)` gives uint8 `(B, 3, 112, 112)`. Random centres would pull the student off for a whole epoch first.
    """
    held: list[Tensor] = [loss.head.centres] if loss.head is not None else []
    held += [loss.references] if loss.weights.contrast > 0 else []
    if not held:
        return
    chosen: list[int] = []
    for number in range(len(held[0])):
        chosen += torch.nonzero(classes == number).flatten()[:PHOTOS_A_CENTRE].tolist()
    sums = torch.zeros_like(held[0])
    batch = 32 if device.type == "cpu" else 512
    for start in range(0, len(chosen), batch):
        indices = chosen[start : start + batch]
        images = read(indices).to(device, memory_format=torch.channels_last).float().div(255.0)
        vectors = torch.nn.functional.normalize(teacher(images).float())
        sums.index_add_(0, classes[indices].to(device), vectors)
    for centres in held:
        centres.copy_(torch.nn.functional.normalize(sums))
