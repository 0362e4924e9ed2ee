"""facial_rec.drawn_pairs: genuine and impostor pairs from names alone."""

from __future__ import annotations

from collections import Counter

import pytest

from common.errors import UserError
from facial_rec.drawn_pairs import pairs_from_people
from facial_rec.pairs import PairList


def folder(**photos: int) -> list[str]:
    return [f"{person}/{person}_{photo:04d}.jpg" for person, count in photos.items() for photo in range(1, count + 1)]


MANY = folder(**{f"P{index:02d}": 1 + index % 4 for index in range(60)}, Famous=40)


def duos(pairs: PairList) -> list[tuple[str, str]]:
    return [(pair.first, pair.second) for pair in pairs.pairs]


def test_ten_folds_share_no_person_and_no_pair_twice() -> None:
    pairs = pairs_from_people(MANY)
    assert pairs.people_known
    assert pairs.folds == 10
    of_fold = [
        {s for p in pairs.pairs if p.fold == fold for s in (p.first_subject, p.second_subject)} for fold in range(10)
    ]
    assert sum(len(people) for people in of_fold) == len(set().union(*of_fold))
    assert len({frozenset(duo) for duo in duos(pairs)}) == len(pairs)
    for pair in pairs.pairs:
        assert pair.genuine == (pair.first_subject == pair.second_subject)
        assert pair.first != pair.second
        assert pair.first.startswith(f"{pair.first_subject}/")


def test_counts() -> None:
    pairs = pairs_from_people(MANY, genuine_per_person=5)
    # Of 60 people a quarter each has 1 to 4 photos: 0, 1, 3 and 6 pairs, the last cut to 5; and one has 40 photos.
    assert int(pairs.genuine.sum()) == int((~pairs.genuine).sum()) == 15 * (0 + 1 + 3 + 5) + 5
    per_person = Counter(pair.first_subject for pair in pairs.pairs if pair.genuine)
    assert max(per_person.values()) == 5
    for fold in range(10):
        labels = [pair.genuine for pair in pairs.pairs if pair.fold == fold]
        assert labels == sorted(labels, reverse=True), "genuine pairs first, as in LFW's list"
        assert 2 * sum(labels) == len(labels)
        assert abs(sum(labels) - 14) <= 3


@pytest.mark.parametrize("people", [{"many": 8, "few": 12, "single": 0}, {"many": 9, "few": 1, "single": 10}])
def test_no_fold_is_left_without_impostors(people: dict[str, int]) -> None:
    photos = {"many": 5, "few": 2, "single": 1}
    names = folder(**{f"{kind}{index:02d}": photos[kind] for kind, n in people.items() for index in range(n)})
    pairs = pairs_from_people(names)
    impostors = Counter(pair.fold for pair in pairs.pairs if not pair.genuine)
    assert sorted(impostors) == list(range(10))
    of_fold = [
        {s for p in pairs.pairs if p.fold == fold for s in (p.first_subject, p.second_subject)} for fold in range(10)
    ]
    assert all(len(group) == 2 for group in of_fold)


@pytest.mark.parametrize("wanted", [1, 37, 400])
def test_the_number_of_impostors_can_be_chosen(wanted: int) -> None:
    assert int((~pairs_from_people(MANY, impostors=wanted).genuine).sum()) == wanted


def test_all_impostors_there_are() -> None:
    names = folder(A=2, B=1, C=1)
    pairs = pairs_from_people(names, impostors=1000)
    assert pairs.folds == 1
    assert duos(pairs)[0] == ("A/A_0001.jpg", "A/A_0002.jpg")
    assert len(pairs) == 1 + 5


def test_the_seed_decides_and_the_order_does_not() -> None:
    assert pairs_from_people(MANY, seed=3) == pairs_from_people(MANY[::-1] + MANY[:7], seed=3)
    assert pairs_from_people(MANY, seed=3) != pairs_from_people(MANY, seed=4)


def test_flat_names() -> None:
    pairs = pairs_from_people(["ann_1.png", "ann_2.png", "bo_1.png"])
    assert duos(pairs)[0] == ("ann_1.png", "ann_2.png")
    assert pairs.pairs[0].first_subject == "ann"
    assert len(pairs) == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [([], "found 0 people in 0 images"), (folder(A=3), "found 1 people in 3"), (folder(A=1, B=1), "found 2 people")],
)
def test_too_few_people_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        pairs_from_people(names)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="found 0 genuine a person"):
        pairs_from_people(MANY, genuine_per_person=0)
    with pytest.raises(UserError, match="0 impostor"):
        pairs_from_people(MANY, impostors=0)
