"""Error rates by group, against a plain loop; a planted difference is found, and none where there is none."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from facial_rec.pairs import Pair, PairList
from pipeline.attributes import Attributes
from pipeline.error_groups import DIFFERENT, UNKNOWN, group_errors, groups_text

PEOPLE, IMAGES = 60, 5
SEX = {f"p{n:02d}": "fm"[n % 2] if n < 56 else None for n in range(PEOPLE)}


def image(person: str, number: int) -> str:
    return f"{person}/{person}_{number}.png"


@pytest.fixture(scope="module")
def pairs() -> PairList:
    """All genuine pairs, and a few of every two people."""
    rng, found = np.random.default_rng(0), []
    for person in SEX:
        for a, b in combinations(range(IMAGES), 2):
            found.append(Pair(image(person, a), image(person, b), person, person, 0, True))
    for one, two in combinations(SEX, 2):
        a, b = rng.integers(IMAGES, size=2)
        found.append(Pair(image(one, a), image(two, b), one, two, 0, False))
    return PairList(tuple(found), 1)


@pytest.fixture(scope="module")
def by_sex() -> Attributes:
    return Attributes(Path("people.csv"), "subject", {"sex": SEX})


def scored(pairs: PairList, missed: dict[str | None, float], seed: int = 1) -> np.ndarray:
    """Errors at 0.5 with each group's own chance of a miss, and 10 % false matches."""
    rng = np.random.default_rng(seed)
    chance = np.array([missed[SEX[pair.first_subject]] if pair.genuine else 0.1 for pair in pairs.pairs])
    wrong = rng.random(len(pairs)) < chance
    return np.where(wrong != pairs.genuine, 0.9, 0.1)


def test_rates_equal_a_plain_loop(pairs: PairList, by_sex: Attributes) -> None:
    scores = scored(pairs, {"f": 0.3, "m": 0.1, None: 0.2})
    found = group_errors(scores, pairs, by_sex, "sex", 0.5, repetitions=50)
    assert [row["value"] for row in found["rows"]] == ["f", "m", DIFFERENT, UNKNOWN]
    for row in found["rows"]:
        tried, wrong = {True: 0, False: 0}, {True: 0, False: 0}
        for pair, score in zip(pairs.pairs, scores, strict=True):
            a, b = SEX[pair.first_subject], SEX[pair.second_subject]
            value = UNKNOWN if a is None or b is None else a if a == b else DIFFERENT
            if value == row["value"]:
                tried[pair.genuine] += 1
                wrong[pair.genuine] += (score >= 0.5) != pair.genuine
        assert (row["genuine"], row["impostor"]) == (tried[True], tried[False])
        assert row["fmr"] == pytest.approx(wrong[False] / tried[False])
        assert row["fnmr"] == (pytest.approx(wrong[True] / tried[True]) if tried[True] else None)
        assert row["fmr_ci95"][0] < row["fmr"] < row["fmr_ci95"][1]
    assert [row["people"] for row in found["rows"]] == [28, 28, 56, 60]
    assert found["matched"] == {"key": "subject", "known": 56, "of": 60}


def test_a_planted_difference_is_found(pairs: PairList, by_sex: Attributes) -> None:
    found = group_errors(scored(pairs, {"f": 0.4, "m": 0.15, None: 0.2}), pairs, by_sex, "sex", 0.5, repetitions=300)
    ratio = next(one for one in found["ratios"] if one["figure"] == "fnmr")
    assert (ratio["higher"], ratio["lower"], ratio["comparisons"]) == ("f", "m", 1)
    assert ratio["ratio"] == pytest.approx(found["rows"][0]["fnmr"] / found["rows"][1]["fnmr"])
    assert 1 < ratio["ratio_ci95"][0] < 0.4 / 0.15 < ratio["ratio_ci95"][1]
    assert "the interval excludes 1" in groups_text(found)


def test_equal_groups_are_not_told_apart(pairs: PairList, by_sex: Attributes) -> None:
    """Of ten worlds without a difference, at most two say otherwise."""
    excluded = 0
    for seed in range(10):
        scores = scored(pairs, {"f": 0.25, "m": 0.25, None: 0.25}, seed)
        (fnmr,) = [
            one for one in group_errors(scores, pairs, by_sex, "sex", 0.5, repetitions=200)["ratios"]
            if one["figure"] == "fnmr"
        ]  # fmt: skip
        excluded += fnmr["ratio_ci95"][0] > 1
    assert excluded <= 2


def test_the_largest_of_many_ratios_has_a_wider_interval(pairs: PairList) -> None:
    groups = {person: f"g{n % 4}" for n, person in enumerate(SEX)}
    many = Attributes(Path("people.csv"), "subject", {"group": groups})
    scores = scored(pairs, {"f": 0.3, "m": 0.3, None: 0.3})
    found = group_errors(scores, pairs, many, "group", 0.5, repetitions=300)
    ratio = next(one for one in found["ratios"] if one["figure"] == "fnmr")
    assert ratio["comparisons"] == 6
    assert ratio["ratio_ci95"][0] < 1 < ratio["ratio"] < ratio["ratio_ci95"][1]
    assert "the interval widened for 6 comparisons; the interval holds 1" in groups_text(found)


def test_images_can_have_their_own_values(pairs: PairList) -> None:
    cameras = {image(person, number): "xy"[number % 2] for person in SEX for number in range(IMAGES)}
    by_camera = Attributes(Path("images.csv"), "image", {"camera": cameras})
    found = group_errors(scored(pairs, {"f": 0.3, "m": 0.3, None: 0.3}), pairs, by_camera, "camera", 0.5, repetitions=0)
    rows = {row["value"]: row for row in found["rows"]}
    assert rows["x"]["genuine"] == PEOPLE * 3, "two of the images 0, 2, 4"
    assert rows["y"]["genuine"] == PEOPLE
    assert rows[DIFFERENT]["genuine"] == PEOPLE * 6
    assert rows["x"]["fnmr_ci95"] is None
    assert UNKNOWN not in rows


def test_few_errors_are_withheld_or_flagged(pairs: PairList, by_sex: Attributes) -> None:
    scores = np.where(pairs.genuine, 0.9, 0.1)
    genuine = np.flatnonzero(pairs.genuine)
    women = [n for n in genuine if SEX[pairs.pairs[n].first_subject] == "f"]
    scores[women[:5]] = 0.1
    found = group_errors(scores, pairs, by_sex, "sex", 0.5, repetitions=20)
    f, m = found["rows"][:2]
    assert f["few_errors"] == {"fnmr": 5}
    assert m["fnmr"] is None
    assert m["fnmr_ci95"] is None
    assert "0 false non-matches among 280 genuine pairs: fewer than 3" in m["withheld"]["fnmr"]["reason"]
    assert found["ratios"] == []
    text = groups_text(found)
    assert "No ratio: fewer than two groups" in text
    assert "1.79*" in text


def test_without_people_there_is_no_interval(pairs: PairList, by_sex: Attributes) -> None:
    unknown = replace(pairs, people_known=False)
    cameras = {image(person, number): "xy"[number % 2] for person in SEX for number in range(IMAGES)}
    by_camera = Attributes(Path("images.csv"), "image", {"camera": cameras})
    scores = scored(pairs, {"f": 0.5, "m": 0.5, None: 0.5})
    found = group_errors(scores, unknown, by_camera, "camera", 0.5)
    assert found["rows"][0]["people"] is None
    assert found["rows"][0]["fnmr_ci95"] is None
    assert found["ratios"][0]["ratio_ci95"] is None
    assert "no interval" in groups_text(found)
    with pytest.raises(UserError, match="do not say who is on an image"):
        group_errors(scores, unknown, by_sex, "sex", 0.5)


def test_a_group_of_few_people_has_no_interval_and_no_ratio(pairs: PairList) -> None:
    groups = {person: "many" if n >= 9 else "few" for n, person in enumerate(SEX)}
    attributes = Attributes(Path("people.csv"), "subject", {"group": groups})
    found = group_errors(scored(pairs, {"f": 0.5, "m": 0.5, None: 0.5}), pairs, attributes, "group", 0.5)
    few, many, _ = found["rows"]
    assert few["people"] == 9
    assert few["fnmr"] is not None
    assert few["fnmr_ci95"] is None
    assert many["fnmr_ci95"] is not None
    assert found["ratios"] == []
    assert "No interval for fewer than 10 people" in groups_text(found)


def test_bad_scores_are_refused(pairs: PairList, by_sex: Attributes) -> None:
    with pytest.raises(UserError, match="need as many scores"):
        group_errors([0.1, 0.2], pairs, by_sex, "sex", 0.5)
    with pytest.raises(UserError, match="none of them NaN"):
        group_errors(np.full(len(pairs), np.nan), pairs, by_sex, "sex", 0.5)
