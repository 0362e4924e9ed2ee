"""The development set: all pairs, each once; a seeded part of too many; LFW is refused."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from pipeline.development_set import (
    LFW_NAMES,
    DevelopmentPairs,
    development_pairs,
    plain_name,
    refuse_lfw,
    says_training,
)

SUBJECTS = ["b", "a", "a", "c", "b", "a", "d"]


def as_set(pairs: DevelopmentPairs) -> set[frozenset[int]]:
    return {frozenset((int(a), int(b))) for a, b in zip(pairs.first, pairs.second, strict=True)}


def test_every_pair_stands_there_once() -> None:
    pairs = development_pairs(SUBJECTS)
    assert len(pairs) == len(as_set(pairs)) == 21
    assert as_set(pairs) == {frozenset(pair) for pair in combinations(range(7), 2)}
    assert pairs.genuine.sum() == 3 + 1
    for a, b, genuine in zip(pairs.first, pairs.second, pairs.genuine, strict=True):
        assert genuine == (SUBJECTS[a] == SUBJECTS[b])


def test_either_image_can_be_the_probe() -> None:
    pairs = development_pairs([f"p{n // 4}" for n in range(40)])
    assert 0.4 < (pairs.first < pairs.second).mean() < 0.6


@pytest.mark.parametrize("images", [60, 400])  # all pairs listed and cut; drawn at random
def test_of_too_many_impostors_a_seeded_part_is_drawn(images: int) -> None:
    subjects = [f"p{n // 4}" for n in range(images)]
    pairs, again = development_pairs(subjects, 500, seed=3), development_pairs(subjects, 500, seed=3)
    assert (pairs.first == again.first).all()
    assert (pairs.second == again.second).all()
    assert as_set(pairs) != as_set(development_pairs(subjects, 500, seed=4))
    assert (~pairs.genuine).sum() == 500 == len(as_set(pairs)) - pairs.genuine.sum()
    assert pairs.genuine.sum() == images // 4 * 6, "all genuine pairs stay"


@pytest.mark.parametrize("subjects", [["a", "a"], ["a", "b", "c"], []])
def test_too_few_people_or_images_are_refused(subjects: list[str]) -> None:
    with pytest.raises(UserError, match="at least two people, and two images of one"):
        development_pairs(subjects)


def test_counts_by_the_two_people_compared() -> None:
    pairs = development_pairs(SUBJECTS)
    first, second = pairs.cell_people
    trials = dict(zip(zip(first.tolist(), second.tolist(), strict=True), pairs.by_cell(np.ones(21)), strict=True))
    assert trials == {
        (0, 0): 3, (0, 1): 6, (0, 2): 3, (0, 3): 3, (1, 1): 1, (1, 2): 2, (1, 3): 2, (2, 3): 1,
    }  # fmt: skip


def test_scores_are_the_cosines_of_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.development_set.BLOCK", 3)
    rng = np.random.default_rng(0)
    probes, others = rng.normal(size=(7, 5)), rng.normal(size=(7, 5))
    pairs = development_pairs(SUBJECTS)
    for a, b, score in zip(pairs.first, pairs.second, pairs.scores(probes, others), strict=True):
        expected = probes[a] @ others[b] / np.linalg.norm(probes[a]) / np.linalg.norm(others[b])
        assert score == pytest.approx(expected)


@pytest.mark.parametrize("path", ["data/lfw/faces.zip", "LFW_112.zip", "x/lfw-deepfunneled", "my_lfw"])
def test_lfw_is_refused_by_its_path(path: str) -> None:
    with pytest.raises(UserError, match=r"looks like LFW .its path says so.*test set"):
        refuse_lfw(Path(path), ["a"])


def test_lfw_is_refused_by_its_people() -> None:
    assert len(LFW_NAMES) == 20
    names = ["Tony_Blair", "hans blix", "Colin-Powell", "Ann"]
    assert plain_name("Colin-Powell") == "colin_powell"
    with pytest.raises(UserError, match="3 of its people"):
        refuse_lfw(Path("faces.zip"), names)
    refuse_lfw(Path("faces.zip"), names[1:])  # two may be chance
    refuse_lfw(Path("selfwork/val_processed"), ["a"])


def test_real_lfw_is_refused_under_another_name(shared: Path) -> None:
    lines = (shared / "data" / "lfw" / "pairs.txt").read_text().splitlines()
    with pytest.raises(UserError, match="of its people"):
        refuse_lfw(Path("faces.zip"), [line.split("\t")[0] for line in lines[1:]])


def test_the_training_split_is_noticed(tmp_path: Path) -> None:
    assert says_training(tmp_path / "train_processed" / "hr_images")
    assert not says_training(Path("/data/val_processed"))
