"""Matching against a plain loop, and figures of cases whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from pipeline import identification
from pipeline.identification import Gallery, Matches, identify

INF = np.inf


def matches(*rows: tuple[str, str, float, float, int]) -> Matches:
    """Rows of (subject, best subject, score, own score, rank)."""
    subjects, best, scores, own, ranks = zip(*rows, strict=True)
    return Matches(np.array(subjects), np.array(best), np.array(scores), np.array(own), np.array(ranks))


CASES = matches(
    ("Ann", "Ann", 0.8, 0.8, 1),  # correct
    ("Ann", "Ann", 0.3, 0.3, 1),  # unknown though first
    ("Ann", "Bo", 0.6, 0.5, 2),  # wrong person
    ("Bo", "Cy", 0.2, 0.1, 7),  # unknown
    ("Di", "Bo", 0.4, -INF, 0),  # non-mated, accepted
    ("Di", "Bo", 0.35, -INF, 0),  # non-mated, accepted: the threshold itself is enough
    ("Di", "Ann", 0.34, -INF, 0),  # non-mated, rejected
)


def brute_force(vector: np.ndarray, key: tuple[str, str], gallery: Gallery) -> tuple[str, float, float, int]:
    best: dict[str, float] = {}
    for other, (subject, stem) in zip(gallery.vectors, gallery.keys, strict=True):
        if (subject, stem) != key:
            cosine = float(vector @ other / np.linalg.norm(vector) / np.linalg.norm(other))
            best[subject] = max(cosine, best.get(subject, -INF))
    winner = max(best, key=lambda subject: best[subject])
    if key[0] not in best:
        return winner, best[winner], -INF, 0
    rank = 1 + sum(score >= best[key[0]] for subject, score in best.items() if subject != key[0])
    return winner, best[winner], best[key[0]], rank


def test_matching_equals_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification, "CHUNK", 7)
    rng = np.random.default_rng(0)
    keys = [(f"P{rng.integers(8)}", f"image{index}") for index in range(30)] + [("Lone", "only")]
    gallery = Gallery(rng.normal(size=(31, 6)), keys)
    probes = [*keys, ("P1", "unseen"), ("Stranger", "image3")]
    vectors = np.concatenate([gallery.vectors, rng.normal(size=(2, 6))]) + 0.5 * rng.normal(size=(33, 6))
    found = identify(vectors, probes, gallery)
    for index, (vector, key) in enumerate(zip(vectors, probes, strict=True)):
        winner, score, own, rank = brute_force(vector, key, gallery)
        assert found.subjects[index] == key[0]
        assert found.best_subjects[index] == winner
        assert found.scores[index] == pytest.approx(score)
        assert found.own_scores[index] == pytest.approx(own)
        assert found.ranks[index] == rank
    assert found.ranks[30] == found.ranks[32] == 0  # nobody else's image of Lone; Stranger is not enrolled


def test_a_probe_never_meets_its_own_twin() -> None:
    gallery = Gallery(np.eye(3), [("Ann", "1"), ("Ann", "2"), ("Bo", "1")])
    found = identify(np.eye(3), gallery.keys, gallery)
    assert found.own_scores.tolist() == [0.0, 0.0, -INF]
    assert found.scores.max() == 0.0


def test_the_same_stem_of_another_person_is_no_twin() -> None:
    gallery = Gallery(np.eye(2), [("Ann", "1"), ("Bo", "1")])
    found = identify(np.array([[0.0, 1.0]]), [("Ann", "1")], gallery)
    assert found.best_subjects.tolist() == ["Bo"]
    assert found.scores.tolist() == [1.0]


def test_a_tie_goes_to_the_wrong_person() -> None:
    gallery = Gallery(np.ones((3, 2)), [("Ann", "1"), ("Bo", "1"), ("Cy", "1")])
    found = identify(np.ones((1, 2)), [("Ann", "probe")], gallery)
    assert found.ranks.tolist() == [3]
    assert found.best_subjects.tolist() == ["Bo"]
    assert found.decisions(0.35) == ["wrong_person"]


def test_one_identity_is_refused() -> None:
    with pytest.raises(UserError, match="1 identity"):
        identify(np.ones((1, 2)), [("Ann", "1")], Gallery(np.ones((2, 2)), [("Ann", "1"), ("Ann", "2")]))


def test_decisions() -> None:
    assert CASES.decisions(0.35) == [
        "correct",
        "unknown",
        "wrong_person",
        "unknown",
        "false_accept",
        "false_accept",
        "correct_rejection",
    ]


def test_figures_of_plain_cases() -> None:
    assert identification.identification_figures(CASES, 0.35) == pytest.approx(
        {
            "accuracy": 2 / 7,
            "unknown_rate": 3 / 7,
            "false_accept_rate": 3 / 7,
            "false_accept_rate_mated": 1 / 4,
            "false_accept_rate_nonmated": 2 / 3,
            "rank1": 2 / 4,
            "rank5": 3 / 4,
            "reject_all_accuracy": 3 / 7,
            "accept_all_accuracy": 2 / 7,
        }
    )
    assert identification.counts_of(CASES, 0.35) == {
        "probes": 7,
        "mated": 4,
        "nonmated": 3,
        "false_accepts_mated": 1,
        "false_accepts_nonmated": 2,
    }


@pytest.mark.parametrize(("threshold", "name"), [(9.0, "reject_all_accuracy"), (-9.0, "accept_all_accuracy")])
def test_baselines_are_the_accuracy_of_extreme_thresholds(threshold: float, name: str) -> None:
    figures = identification.identification_figures(CASES, threshold)
    assert figures["accuracy"] == figures[name]


def test_weights_are_repetitions() -> None:
    weights = np.array([2, 0, 1, 3, 1, 0, 2])
    repeated = Matches(
        *(column.repeat(weights) for column in (CASES.subjects, CASES.best_subjects, CASES.scores)),
        CASES.own_scores.repeat(weights),
        CASES.ranks.repeat(weights),
    )
    weighted = identification.identification_figures(CASES, 0.35, weights.astype(float))
    assert weighted == pytest.approx(identification.identification_figures(repeated, 0.35))


def test_without_mated_or_non_mated_probes_their_figures_are_none() -> None:
    only_mated = identification.identification_figures(matches(("Ann", "Ann", 0.8, 0.8, 1)), 0.35)
    assert only_mated["false_accept_rate_nonmated"] is None
    assert only_mated["accuracy"] == 1.0
    strangers = identification.identification_figures(matches(("Di", "Bo", 0.1, -INF, 0)), 0.35)
    assert strangers["rank1"] is strangers["rank5"] is strangers["false_accept_rate_mated"] is None
    assert strangers["accuracy"] == strangers["reject_all_accuracy"] == 1.0


def test_per_subject() -> None:
    table = identification.per_subject(CASES, 0.35)
    assert table["Ann"] == {"probes": 3, "correct": 1, "unknown": 1, "false_accepts": 1, "accuracy": 1 / 3}
    assert table["Bo"] == {"probes": 1, "correct": 0, "unknown": 1, "false_accepts": 0, "accuracy": 0.0}
    assert table["Di"] == {"probes": 3, "correct": 1, "unknown": 0, "false_accepts": 2, "accuracy": 1 / 3}
