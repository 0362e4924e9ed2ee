"""Who is who in a training set, as numbers; and an order of the faces that brings photos of one person together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from facial_rec.faceset import Face
from facial_rec.finetune_losses import NO_IDENTITY

UNLABELLED = "unlabelled"
"""Folder of faces without identity, where no other is named."""


def require_disjoint(
    train: object,
    val: object,
    people: Iterable[str],
    others: Iterable[str],
    unlabelled: Collection[str] = (UNLABELLED,),
) -> None:
    """Raise UserError where somebody of `people`, who are in the set that is called `train`, is among `others`.

    Names of `unlabelled` are nobody's.
    """
    shared = sorted((set(people) & set(others)) - set(unlabelled))
    if shared:
        named = ", ".join(shared[:5])
        raise UserError(f"{len(shared)} people are in both {train} and {val} ({named}): split by person.")


@dataclass(frozen=True)
class Identities:
    """The people of a list of faces, face by face."""

    people: Tensor
    """`(N,)` int64: number of the person, -1 for a face without identity."""
    classes: Tensor
    """`(N,)` int64: number among the people with enough photos, -1 for all others."""
    names: tuple[str, ...]
    """Name of each class."""

    @property
    def count(self) -> int:
        """How many people are known."""
        return int(self.people.max()) + 1 if len(self.people) else 0


def identities_of(
    faces: Sequence[Face], unlabelled: Collection[str] = (), least_photos: int = 2, known: bool = True
) -> Identities:
    """Numbers for the people of `faces`, in the order of their names.

    `unlabelled` are folders that are no person. People with fewer than `least_photos` photos are no class. With
    `known` false nobody is known.
    """
    subjects = [face.subject if known and face.subject not in unlabelled else None for face in faces]
    photos = Counter(subject for subject in subjects if subject is not None)
    people = {name: number for number, name in enumerate(sorted(photos))}
    named = tuple(name for name in people if photos[name] >= least_photos)
    classes = {name: number for number, name in enumerate(named)}
    return Identities(
        torch.tensor([NO_IDENTITY if s is None else people[s] for s in subjects], dtype=torch.int64),
        torch.tensor([NO_IDENTITY if s is None else classes.get(s, NO_IDENTITY) for s in subjects], dtype=torch.int64),
        named,
    )


def numbers_of(faces: Sequence[Face], unlabelled: Collection[str] = (UNLABELLED,)) -> NDArray[np.int64]:
    """A number for the person of each face, `(N,)`; a face without identity is a person of its own."""
    people = identities_of(faces, unlabelled).people.numpy()
    return np.where(people == NO_IDENTITY, people.max(initial=0) + 1 + np.arange(len(people)), people)


def require_without_gaps(labels: Tensor, what: str = "labels") -> None:
    """Raise UserError unless the labels `(N,)`, -1 aside, are 0 .. C-1, each with a face, as a class head wants."""
    known = labels[labels != NO_IDENTITY]
    if len(known) and int(known.min()) < 0:
        raise UserError(f"{what} hold {int(known.min())}: expected numbers from 0, or {NO_IDENTITY} for no identity.")
    present = torch.unique(known).tolist()
    gaps = sorted(set(range(present[-1] + 1)) - set(present)) if present else []
    if gaps:
        listed = ", ".join(map(str, gaps[:5])) + (", …" if len(gaps) > 5 else "")
        raise UserError(
            f"{what} go from 0 to {present[-1]}, but {len(gaps)} of these numbers have no face ({listed}): "
            "number the people from 0 without gaps."
        )


def grouped_order(people: Tensor, seed: int, epoch: int, together: int = 2) -> list[int]:
    """Every face once, in random order, the photos of a person dealt out in groups of `together` that stay together.

    So a batch holds positives, without showing anybody more often than others. `together` 1 is a plain permutation.
    """
    chance = np.random.default_rng([seed, epoch, 5])
    order = chance.permutation(len(people))
    groups: list[list[int]] = []
    filling: dict[int, list[int]] = {}
    numbers = people.tolist()
    for index in order.tolist():
        person = numbers[index]
        group = filling.get(person)
        if person == NO_IDENTITY or together < 2 or group is None or len(group) == together:
            group = []
            groups.append(group)
            filling[person] = group
        group.append(index)
    return [index for position in chance.permutation(len(groups)) for index in groups[position]]


def people_in_turn(subjects: Sequence[str], seed: int) -> list[str]:
    """The people, each once, in the order in which they are held out for validation."""
    names = sorted(set(subjects))
    return [names[index] for index in np.random.default_rng([seed, 7]).permutation(len(names))]


def split_people(
    faces: Sequence[Face], fraction: float, seed: int, unlabelled: Collection[str] = (), known: bool = True
) -> tuple[list[Face], list[Face]]:
    """Training faces, and held-out faces of other people: about `fraction` of the people, two where there are three.

    Faces without identity stay in training, unless nobody is known: then each face is a person. Raises UserError when
    there is one person only.
    """
    named = [face.subject for face in faces if known and face.subject not in unlabelled]
    subjects = sorted(set(named)) or sorted(face.name for face in faces)
    if len(subjects) < 2:
        raise UserError(
            f"{len(faces)} images of {len(subjects)} identity: at least 2 people are needed, some to train on and "
            "others to validate on. Name files <subject>_<n>.png, use a folder per identity, or give --labels none."
        )
    count = min(len(subjects) - 1, max(2, round(fraction * len(subjects))))
    held = set(people_in_turn(subjects, seed)[:count])
    is_held = [(face.subject if named else face.name) in held for face in faces]
    return (
        [face for face, out in zip(faces, is_held, strict=True) if not out],
        [face for face, out in zip(faces, is_held, strict=True) if out],
    )
