"""Who is enrolled and who is a probe: counted by hand, on LFW, and refused where there is nothing to measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from facial_rec.faceset import Face, FaceSet
from pipeline.identification_protocols import closed_set, open_set, some_people

IMAGES = {"Ann": 3, "Bo": 2, "Cy": 1, "Di": 2, "Ed": 4, "Flo": 1, "Gus": 2}
FACES = [Face(f"{name}/{name}_{n:04d}.jpg", name) for name, count in IMAGES.items() for n in range(count, 0, -1)]


def test_closed_set_enrols_the_first_image_of_everybody() -> None:
    split = closed_set(FACES)
    assert [face.name for face in split.gallery] == [f"{name}/{name}_0001.jpg" for name in IMAGES]
    assert [face.name for face in split.probes][:3] == ["Ann/Ann_0002.jpg", "Ann/Ann_0003.jpg", "Bo/Bo_0002.jpg"]
    assert split.counts == {"gallery": 7, "people": 5, "mated": 8, "nonmated": 0}


@pytest.mark.parametrize("seed", range(5))
def test_open_set_enrols_half_of_those_with_several_images(seed: int) -> None:
    split = open_set(FACES, seed)
    enrolled = {face.subject for face in split.gallery}
    assert len(enrolled) == 2  # of five with several images
    assert all(IMAGES[name] > 1 for name in enrolled)
    assert all(face.name.endswith("_0001.jpg") for face in split.gallery)
    mated = sorted(face.name for face in FACES if face.subject in enrolled and not face.name.endswith("_0001.jpg"))
    strangers = sorted(f"{name}/{name}_0001.jpg" for name in IMAGES if name not in enrolled)
    assert [face.name for face in split.probes] == sorted(mated + strangers)
    assert split.counts == {"gallery": 2, "people": 7, "mated": len(mated), "nonmated": 5}


def test_open_set_is_drawn_by_the_seed_alone() -> None:
    assert open_set(FACES, 3) == open_set(FACES[::-1], 3)
    assert len({open_set(FACES, seed).gallery for seed in range(20)}) > 3


def test_matching_follows_the_order_of_the_split() -> None:
    split = open_set(FACES, 0)
    people = sorted(IMAGES)
    vectors = {face: np.eye(7)[people.index(face.subject)] for face in FACES}
    matches = split.match(
        np.array([vectors[face] for face in split.probes]), np.array([vectors[face] for face in split.gallery])
    )
    enrolled = {face.subject for face in split.gallery}
    assert matches.subjects.tolist() == [face.subject for face in split.probes]
    assert matches.ranks.tolist() == [int(face.subject in enrolled) for face in split.probes]
    assert matches.scores.tolist() == [float(face.subject in enrolled) for face in split.probes]


def test_images_of_one_stem_are_different_images() -> None:
    faces = [Face(f"{name}/a.{suffix}", name) for name in ("Ann", "Bo") for suffix in ("jpg", "png")]
    matches = closed_set(faces).match(np.eye(2), np.eye(2))
    assert matches.ranks.tolist() == [1, 1]


def test_limit_keeps_people_whole() -> None:
    assert some_people(FACES, None) == FACES
    kept = some_people(FACES, 3)
    assert [face.subject for face in kept] == ["Ann"] * 3 + ["Di"] * 2 + ["Gus"] * 2
    assert some_people(FACES, 99) == FACES
    with pytest.raises(UserError, match="--limit 1: expected at least 2"):
        some_people(FACES, 1)


def test_sets_with_nothing_to_measure_are_refused() -> None:
    with pytest.raises(UserError, match="Found 1 identity"):
        closed_set(FACES[:3])
    with pytest.raises(UserError, match="Each of the 2 people has a single image"):
        closed_set([Face("a.png", "a"), Face("b.png", "b")])
    with pytest.raises(UserError, match=r"Found 3 people with two or more images.*--sets closed"):
        open_set([face for face in FACES if face.subject in ("Ann", "Bo", "Cy", "Ed")], 0)


def test_lfw_has_the_published_numbers(shared: Path) -> None:
    faces = FaceSet(shared / "data" / "lfw" / "lfw_112.zip").faces
    assert closed_set(faces).counts == {"gallery": 5749, "people": 1680, "mated": 7484, "nonmated": 0}
    counts = open_set(faces, 0).counts
    assert (counts["gallery"], counts["people"], counts["nonmated"]) == (840, 5749, 4909)
