"""Numbers for people, gaps in them, an order with pairs, and a split by person."""

from __future__ import annotations

import itertools

import pytest
import torch

from common.errors import UserError
from facial_rec.faceset import Face
from facial_rec.identities import grouped_order, identities_of, require_without_gaps, split_people


def faces(**photos: int) -> list[Face]:
    return [Face(f"{person}/{number}.png", person) for person, count in photos.items() for number in range(count)]


def test_people_and_classes() -> None:
    found = identities_of(faces(ben=1, ann=2, unlabelled=2, cem=3), unlabelled=("unlabelled",))
    assert found.people.tolist() == [1, 0, 0, -1, -1, 2, 2, 2]
    assert found.classes.tolist() == [-1, 0, 0, -1, -1, 1, 1, 1]
    assert found.names == ("ann", "cem")
    assert found.count == 3


def test_every_person_can_be_a_class() -> None:
    assert identities_of(faces(ben=1, ann=2), least_photos=1).classes.tolist() == [1, 0, 0]


def test_nobody_is_known() -> None:
    found = identities_of(faces(ben=2, ann=2), known=False)
    assert found.people.tolist() == [-1] * 4
    assert (found.names, found.count) == ((), 0)


def test_class_numbers_have_no_gaps() -> None:
    require_without_gaps(identities_of(faces(a=1, b=2, c=1, d=3)).classes)
    require_without_gaps(torch.tensor([-1, -1]))
    with pytest.raises(UserError, match=r"from 0 to 9, but 7 of these numbers have no face \(1, 3, 4, 5, 6, …"):
        require_without_gaps(torch.tensor([0, 9, 2, 0]))
    with pytest.raises(UserError, match="labels hold -7: expected numbers from 0, or -1"):
        require_without_gaps(torch.tensor([0, -7]))


@pytest.mark.parametrize("together", [1, 2, 3])
def test_order_has_every_face_once(together: int) -> None:
    people = torch.tensor([0] * 7 + [1] * 4 + [-1] * 5 + [2])
    order = grouped_order(people, 0, 0, together)
    assert sorted(order) == list(range(17))
    assert order == grouped_order(people, 0, 0, together)
    assert order != grouped_order(people, 0, 1, together)
    assert order != grouped_order(people, 1, 0, together)


def test_photos_of_a_person_come_in_pairs() -> None:
    people = torch.tensor([0] * 20 + [1] * 20 + [-1] * 20)
    order = people[grouped_order(people, 0, 0)].tolist()
    position, seen = 0, set()
    while position < len(order):
        if order[position] == -1:
            position += 1
            continue
        assert order[position] == order[position + 1]
        seen.add(position)
        position += 2
    assert len(seen) == 20
    runs = sum(a == b for a, b in itertools.pairwise(order))
    assert runs < 45, "pairs are dealt out, not a person at a time"


def test_people_are_held_out_whole() -> None:
    everyone = faces(a=3, b=2, c=4, d=1, unlabelled=9)
    kept, held = split_people(everyone, 0.25, 0, unlabelled=("unlabelled",))
    assert len(kept) + len(held) == len(everyone)
    assert len({face.subject for face in held}) == 2
    assert not {face.subject for face in held} & {face.subject for face in kept}
    assert "unlabelled" not in {face.subject for face in held}


def test_strangers_are_held_out_face_by_face() -> None:
    kept, held = split_people(faces(flat=10), 0.2, 0, known=False)
    assert (len(kept), len(held)) == (8, 2)


def test_one_person_cannot_be_split() -> None:
    with pytest.raises(UserError, match="5 images of 1 identity: at least 2 people are needed"):
        split_people(faces(ann=5), 0.1, 0)
