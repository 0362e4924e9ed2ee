"""Pairs for images that come without a pair list: drawn from the people's names, in subject-disjoint folds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, pairwise

from common.errors import UserError
from facial_rec.faceset import subject_of
from facial_rec.pairs import Pair, PairList

FOLDS = 10
GENUINE_PER_PERSON = 10
_Duo = tuple[str, str]


def pairs_from_people(
    names: Sequence[str], seed: int = 0, genuine_per_person: int = GENUINE_PER_PERSON, impostors: int | None = None
) -> PairList:
    """Genuine and impostor pairs among images named `<subject>/<anything>` or `<subject>_<n>`.

    Of each person at most `genuine_per_person` of the possible genuine pairs are drawn, so that nobody with hundreds of
    photos decides the result, and `impostors` pairs of two people (None: as many as genuine ones; fewer where there
    are not so many). With ten people who have two photos, and twenty people in all, there are ten folds that share no
    person; else one. The same names and seed give the same pairs, whatever the names' order.

    Raises UserError for fewer than two people, nobody with two images, and numbers below 1.
    """
    if genuine_per_person < 1 or (impostors is not None and impostors < 1):
        raise UserError(
            f"Pairs: expected 1 or more, found {genuine_per_person} genuine a person, {impostors} impostor."
        )
    people: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        people.setdefault(subject_of(name), []).append(name)
    if len(people) < 2 or all(len(images) < 2 for images in people.values()):
        raise UserError(
            f"Pairs need two people, one of them with two images: found {len(people)} people in {len(names)} images, "
            f"such as {next(iter(people), 'none')}. Name files <subject>_<n>.png or use a folder per identity, or give "
            "--pairs a list."
        )
    chance = random.Random(seed)
    groups = _folds_of(people, genuine_per_person, chance)
    genuine = [_genuine(people, group, genuine_per_person, chance) for group in groups]
    wanted = _shares(impostors, [len(drawn) for drawn in genuine])
    pairs: list[Pair] = []
    for fold, (group, drawn, count) in enumerate(zip(groups, genuine, wanted, strict=True)):
        pairs += [_pair(duo, fold) for duo in drawn]
        pairs += [_pair(duo, fold) for duo in _impostors(people, group, count, chance)]
    return PairList(tuple(pairs), len(groups))


def _folds_of(people: dict[str, list[str]], genuine_per_person: int, chance: random.Random) -> list[list[str]]:
    """The people of each fold: those with most genuine pairs first, each to the fold that has the fewest so far."""
    repeated = [subject for subject, images in people.items() if len(images) > 1]
    single = [subject for subject, images in people.items() if len(images) == 1]
    if len(repeated) < FOLDS or len(people) < 2 * FOLDS:
        return [list(people)]
    chance.shuffle(repeated)
    chance.shuffle(single)
    counts = {s: min(genuine_per_person, len(people[s]) * (len(people[s]) - 1) // 2) for s in repeated}
    folds = _dealt(counts, single, least=0)
    if min(map(len, folds)) < 2:  # a person alone makes no impostor pair
        folds = _dealt(counts, single, least=2)
    return folds


def _dealt(counts: dict[str, int], single: Sequence[str], least: int) -> list[list[str]]:
    """Folds: each person to that with the fewest genuine pairs, first to those with fewer than `least` people."""
    folds: list[list[str]] = [[] for _ in range(FOLDS)]
    loads = [0] * FOLDS
    for subject in sorted(counts, key=lambda subject: -counts[subject]):
        lightest = min(range(FOLDS), key=lambda fold: (len(folds[fold]) >= least, loads[fold], len(folds[fold])))
        folds[lightest].append(subject)
        loads[lightest] += counts[subject]
    for subject in single:
        min(folds, key=len).append(subject)
    return folds


def _genuine(people: dict[str, list[str]], group: Sequence[str], most: int, chance: random.Random) -> list[_Duo]:
    drawn: list[_Duo] = []
    for subject in sorted(group):
        possible = list(combinations(people[subject], 2))
        drawn += sorted(chance.sample(possible, min(most, len(possible))))
    return drawn


def _impostors(people: dict[str, list[str]], group: Sequence[str], count: int, chance: random.Random) -> list[_Duo]:
    """`count` distinct pairs of images of two people, each such pair equally likely; all of them if there are fewer."""
    owner = {name: subject for subject in group for name in people[subject]}
    images = sorted(owner)
    possible = (len(images) ** 2 - sum(len(people[subject]) ** 2 for subject in group)) // 2
    if 2 * count > possible:
        every = [duo for duo in combinations(images, 2) if owner[duo[0]] != owner[duo[1]]]
        return chance.sample(every, min(count, len(every)))
    drawn: dict[_Duo, None] = {}
    while len(drawn) < count:
        first, second = chance.choice(images), chance.choice(images)
        if owner[first] != owner[second]:
            drawn[min(first, second), max(first, second)] = None
    return list(drawn)


def _shares(total: int | None, sizes: Sequence[int]) -> list[int]:
    """`total` split in the proportion of `sizes`, in whole numbers; None is the sizes themselves."""
    if total is None:
        return list(sizes)
    ends = [round(total * sum(sizes[: index + 1]) / sum(sizes)) for index in range(len(sizes))]
    return [end - start for start, end in pairwise([0, *ends])]


def _pair(duo: _Duo, fold: int) -> Pair:
    subjects = subject_of(duo[0]), subject_of(duo[1])
    return Pair(*duo, *subjects, fold, genuine=subjects[0] == subjects[1])
