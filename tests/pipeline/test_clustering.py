"""pipeline.clustering: made-up people are told apart, and shown."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from common.errors import UserError
from facial_rec.clustering_metrics import bcubed, pairwise
from pipeline.clustering import check_threshold, cluster_embeddings, clusters_of, write_contact_sheet


def made_people(people: int, dim: int = 64, noise: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and whose they are: person p has p % 5 + 1 photos."""
    chance = np.random.default_rng(0)
    whose = np.repeat(np.arange(people), np.arange(people) % 5 + 1)
    return chance.standard_normal((people, dim))[whose] + noise * chance.standard_normal((len(whose), dim)), whose


def test_made_up_people_are_told_apart() -> None:
    rows, whose = made_people(40)
    labels = cluster_embeddings(rows, 0.35)
    assert pairwise(labels, whose).f > 0.99
    assert bcubed(labels, whose).f > 0.99
    sizes = np.bincount(labels)
    assert (np.diff(sizes) <= 0).all(), "the largest first"
    shuffled = np.random.default_rng(1).permutation(len(rows))
    assert pairwise(cluster_embeddings(7.0 * rows[shuffled], 0.35), labels[shuffled]).f == 1.0


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.2, 0.6, 0.99])
def test_it_is_average_linkage_on_cosine(threshold: float) -> None:
    rows, _ = made_people(15, noise=1.2)
    expected = fcluster(linkage(rows, "average", metric="cosine"), 1.0 - threshold, "distance")
    assert pairwise(cluster_embeddings(rows, threshold), expected).f == 1.0


def test_few_faces() -> None:
    assert cluster_embeddings(np.empty((0, 4))).tolist() == []
    assert cluster_embeddings(np.ones((1, 4))).tolist() == [0]
    assert cluster_embeddings([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]).tolist() == [1, 0, 0]


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cosine from -1 to 1"):
        cluster_embeddings(np.eye(3), 1.5)
    with pytest.raises(UserError, match="Embedding 1 is all zeros"):
        cluster_embeddings(np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(UserError, match="NaN"):
        cluster_embeddings(np.array([[1.0, 0.0], [np.nan, 0.0]]))
    with pytest.raises(UserError, match=r"\(N, D\)"):
        cluster_embeddings(np.ones(4))
    monkeypatch.setattr("pipeline.clustering.MOST_FACES", 2)
    with pytest.raises(UserError, match="at most 2 are compared"):
        cluster_embeddings(np.eye(3))


def test_a_contact_sheet_shows_each_face_once(tmp_path: Path) -> None:
    rows, _ = made_people(6)
    labels = cluster_embeddings(rows, 0.35)
    clusters = clusters_of(labels, rows)
    assert sorted(face for one in clusters for face in one.faces) == list(range(len(rows)))
    assert [len(one.faces) for one in clusters] == sorted((len(one.faces) for one in clusters), reverse=True)
    names = [f'<b>face "{index}"</b>' for index in range(len(rows))]
    path = tmp_path / "new" / "sheet.html"
    write_contact_sheet(path, clusters, lambda face: np.full((112, 112, 3), face, dtype=np.uint8), names)
    text = path.read_text()
    assert "<b>" not in text
    assert len(re.findall("<img ", text)) == len(rows)
    assert "Person 1: 5 faces" in text
    assert "Seen once" in text
    first = re.search(r"base64,([^\"]+)", text)
    assert first is not None
    assert base64.b64decode(first[1]).startswith(b"\xff\xd8")
    write_contact_sheet(path, clusters, lambda face: np.zeros((112, 112, 3), dtype=np.uint8), names, most=2)
    assert "(2 shown)" in path.read_text()


def test_scikit_learn_is_imported_only_to_cluster() -> None:
    code = "import sys, pipeline.clustering; print({'torch', 'sklearn', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_threshold_that_is_no_cosine_is_refused() -> None:
    with pytest.raises(UserError, match="a cosine from -1 to 1, found 25"):
        check_threshold(25)
