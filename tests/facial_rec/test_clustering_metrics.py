"""facial_rec.clustering_metrics against loops over pairs and faces, and scikit-learn."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import fowlkes_mallows_score
from sklearn.metrics.cluster import pair_confusion_matrix

from common.errors import UserError
from facial_rec.clustering_metrics import bcubed, pairwise

CASES = [(np.random.default_rng(seed).integers(0, top, (2, 40))) for seed, top in enumerate((3, 7, 20, 200))]


@pytest.mark.parametrize(("clusters", "people"), CASES)
def test_pairwise_agrees_with_a_loop_and_scikit_learn(clusters: np.ndarray, people: np.ndarray) -> None:
    pairs = [(clusters[a] == clusters[b], people[a] == people[b]) for a, b in combinations(range(len(people)), 2)]
    both = sum(first and second for first, second in pairs)
    in_cluster, of_person = sum(first for first, _ in pairs), sum(second for _, second in pairs)
    found = pairwise(clusters, people)
    assert found.precision == pytest.approx(both / in_cluster if in_cluster else 1.0)
    assert found.recall == pytest.approx(both / of_person if of_person else 1.0)
    (_, apart), (split, joined) = pair_confusion_matrix(people, clusters)
    if joined:
        assert found.precision == pytest.approx(joined / (joined + apart))
        assert found.recall == pytest.approx(joined / (joined + split))
        assert fowlkes_mallows_score(people, clusters) == pytest.approx(np.sqrt(found.precision * found.recall))


@pytest.mark.parametrize(("clusters", "people"), CASES)
def test_bcubed_agrees_with_a_loop(clusters: np.ndarray, people: np.ndarray) -> None:
    precision, recall = [], []
    for face in range(len(people)):
        in_cluster, of_person = clusters == clusters[face], people == people[face]
        shared = (in_cluster & of_person).sum()
        precision.append(shared / in_cluster.sum())
        recall.append(shared / of_person.sum())
    found = bcubed(clusters, people)
    assert (found.precision, found.recall) == pytest.approx((np.mean(precision), np.mean(recall)))
    assert found.f == pytest.approx(2 / (1 / found.precision + 1 / found.recall))


def test_by_hand() -> None:
    """Two clusters, a a a b and b b."""
    clusters, people = [0, 0, 0, 0, 1, 1], ["a", "a", "a", "b", "b", "b"]
    assert (pairwise(clusters, people).precision, pairwise(clusters, people).recall) == (4 / 7, 4 / 6)
    assert bcubed(clusters, people).precision == pytest.approx((3 * 3 / 4 + 1 / 4 + 2) / 6)
    assert bcubed(clusters, people).recall == pytest.approx((3 + 1 / 3 + 2 * 2 / 3) / 6)


def test_extremes() -> None:
    people = ["a", "a", "b", "b"]
    assert (pairwise([1, 1, 2, 2], people).f, bcubed([9, 9, 5, 5], people).f) == (1.0, 1.0)
    assert (pairwise([1, 2, 3, 4], people).precision, pairwise([1, 2, 3, 4], people).f) == (1.0, 0.0)
    assert (bcubed([1, 1, 1, 1], people).precision, bcubed([1, 1, 1, 1], people).recall) == (0.5, 1.0)
    assert pairwise([0], ["a"]).f == 1.0


def test_refusals() -> None:
    for clusters, people in (([], []), ([1, 2], ["a"]), ([[1]], [["a"]])):
        for figure in (pairwise, bcubed):
            with pytest.raises(UserError, match="a cluster and a person for each face"):
                figure(clusters, people)
