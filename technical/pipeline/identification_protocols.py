"""Closed-set and open-set identification on any faces with names: who is enrolled, and which images are probes.

Closed set: everybody is enrolled with the first image by file name; all other images are probes, and every probe's
person is in the gallery. On LFW that is a gallery of 5,749 and 7,484 probes.

Open set: of the people with two or more images a half, drawn by the seed, is enrolled with the first image; their other
images are the mated probes. The non-mated probes are the first images of everyone else, people with a single image
included. (P. J. Phillips, P. Grother, R. Micheals, "Evaluation Methods in Face Recognition", in: Handbook of Face
Recognition, 2011.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.errors import UserError
from facial_rec.faceset import Face
from facial_rec.metrics import Floats
from pipeline.identification import Gallery, Key, Matches, identify

SetName = Literal["closed", "open"]


@dataclass(frozen=True)
class Split:
    """Who is enrolled and who is to be identified. No image is on both sides."""

    name: SetName
    gallery: tuple[Face, ...]
    """One image of each person enrolled."""
    probes: tuple[Face, ...]
    """Sorted by name."""

    @property
    def counts(self) -> dict[str, int]:
        """`gallery` people enrolled, `people` on the probes, and `mated` and `nonmated` probes."""
        enrolled = {face.subject for face in self.gallery}
        mated = sum(face.subject in enrolled for face in self.probes)
        return {
            "gallery": len(self.gallery),
            "people": len({face.subject for face in self.probes}),
            "mated": mated,
            "nonmated": len(self.probes) - mated,
        }

    def match(self, probes: Floats, gallery: Floats) -> Matches:
        """Identify embeddings of the probes `(P, D)` against those of the gallery `(G, D)`, in the split's order."""
        keys: list[Key] = [(face.subject, face.name) for face in self.probes]
        return identify(probes, keys, Gallery(gallery, [(face.subject, face.name) for face in self.gallery]))


def closed_set(faces: Sequence[Face]) -> Split:
    """Everybody enrolled. Raises UserError for fewer than two people, and when nobody has a second image."""
    people = by_person(faces)
    if len(people) < 2:
        raise UserError(f"Found {len(people)} identity: at least 2 are needed to tell people apart.")
    probes = [face for images in people.values() for face in images[1:]]
    if not probes:
        raise UserError(
            f"Each of the {len(people):,} people has a single image: there is none left to identify. "
            "Name files <subject>_<n>.png or use a folder per identity."
        )
    return Split("closed", tuple(images[0] for images in people.values()), _sorted(probes))


def open_set(faces: Sequence[Face], seed: int) -> Split:
    """A half of the people with two or more images enrolled. Raises UserError for fewer than four such people."""
    people = by_person(faces)
    several = [subject for subject, images in people.items() if len(images) > 1]
    if len(several) < 4:
        raise UserError(
            f"Found {len(several)} people with two or more images: the open set needs 4, two to enrol and two not to. "
            "Give more images, or --sets closed."
        )
    drawn = np.random.default_rng(seed).permutation(len(several))[: len(several) // 2]
    enrolled = {several[index] for index in drawn}
    mated = [face for subject in enrolled for face in people[subject][1:]]
    nonmated = [images[0] for subject, images in people.items() if subject not in enrolled]
    return Split("open", tuple(people[subject][0] for subject in sorted(enrolled)), _sorted([*mated, *nonmated]))


def by_person(faces: Sequence[Face]) -> Mapping[str, list[Face]]:
    """The images of each person, people and images sorted by name."""
    people: dict[str, list[Face]] = {}
    for face in sorted(faces, key=lambda face: (face.subject, face.name)):
        people.setdefault(face.subject, []).append(face)
    return people


def some_people(faces: Sequence[Face], limit: int | None) -> list[Face]:
    """All images of at most `limit` people, spread evenly over the sorted names; all people for None.

    Raises UserError for a limit below 2.
    """
    if limit is None:
        return list(faces)
    if limit < 2:
        raise UserError(f"--limit {limit}: expected at least 2 people.")
    people = list(by_person(faces))
    kept = {people[index] for index in np.linspace(0, len(people) - 1, min(limit, len(people))).round().astype(int)}
    return [face for face in faces if face.subject in kept]


def _sorted(faces: Sequence[Face]) -> tuple[Face, ...]:
    return tuple(sorted(faces, key=lambda face: face.name))
