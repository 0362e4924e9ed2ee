"""pipeline.gallery: what both stores refuse, and what they find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from pipeline.gallery import check_embeddings, check_metadata, check_name, open_gallery
from pipeline.gallery_search import best_people

SHA = "ab" * 32


@pytest.mark.parametrize(
    ("given", "kept"),
    [("  Ann Lee\n", "Ann Lee"), ("Zoe\u0308", "Zo\u00eb"), ("王芳", "王芳"), ("O'Neil; DROP TABLE people", None)],
)
def test_names_are_composed_and_trimmed(given: str, kept: str | None) -> None:
    assert check_name(given) == (kept or given)


@pytest.mark.parametrize(
    "name", ["", " \t", "a" * 201, "a\0b", "a\nb", "a\x1b[2Jb", "a\u202eb", "a\ud800b", "a\u2028b"]
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="name"):
        check_name(name)


def test_embeddings_are_scaled_to_length_1() -> None:
    rows = check_embeddings(np.array([[3.0, 4.0], [1e200, 0.0], [0.0, -1e-200]]), 2)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]], atol=1e-7)
    assert check_embeddings([3.0, 4.0], 2).shape == (1, 2)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((2, 3)), r"\(N, 4\), found shape \(2, 3\)"),
        (np.ones((0, 4)), "found shape"),
        (np.ones((1, 1, 4)), "found shape"),
        ([[1.0, 0, 0, 0], [np.nan, 0, 0, 0]], "Embedding 1 holds NaN"),
        ([np.inf, 0, 0, 0], "infinite"),
        ([[1.0, 0, 0, 0], [0.0, 0, 0, 0]], "Embedding 1 is all zeros"),
    ],
)
def test_embeddings_that_are_refused(bad: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_embeddings(bad, 4)


def test_metadata_is_one_object_for_all_or_one_each() -> None:
    assert check_metadata(None, 2) == ["{}", "{}"]
    assert check_metadata({"a": [1, None]}, 2) == ['{"a": [1, null]}'] * 2
    assert check_metadata([{"a": 1}, {}], 2) == ['{"a": 1}', "{}"]
    deep: dict[str, object] = {}
    deep["self"] = deep
    for bad in ([{}], ["text", {}], {"a": float("nan")}, {"a": object()}, {"a": "x" * 70_000}, deep):
        with pytest.raises(UserError, match=r"[Mm]etadata"):
            check_metadata(bad, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("sha", ["", "AB" * 32, "ab" * 31])
def test_a_model_is_named_by_its_sha256(tmp_path: Path, sha: str) -> None:
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        open_gallery(tmp_path / "g.sqlite", sha, 4)
    with pytest.raises(UserError, match=r"1 to 2,000 numbers"):
        open_gallery(tmp_path / "g.sqlite", SHA, 0)


def test_the_search_agrees_with_a_loop() -> None:
    chance = np.random.default_rng(0)
    vectors = check_embeddings(chance.standard_normal((60, 8)), 8)
    owners = np.sort(chance.integers(0, 12, 60))
    probes = check_embeddings(chance.standard_normal((7, 8)), 8)
    for top in (1, 5, 100):
        found = best_people(vectors, owners, probes, top)
        for probe, mine in zip(probes, found, strict=True):
            cosine = vectors @ probe
            best = {person: max(cosine[owners == person]) for person in np.unique(owners)}
            order = sorted(best, key=lambda person: -best[person])[:top]
            assert [owners[row] for row, _ in mine] == order
            np.testing.assert_allclose([score for _, score in mine], [best[person] for person in order], atol=1e-6)
            np.testing.assert_allclose([cosine[row] for row, _ in mine], [score for _, score in mine], atol=1e-6)


def test_of_equal_people_the_first_comes_first() -> None:
    vectors = np.ones((5, 1), dtype=np.float32)
    found = best_people(vectors, np.array([3, 3, 4, 7, 9]), vectors[:1], 2)
    assert found == [[(0, 1.0), (2, 1.0)]]


def test_no_torch_and_no_scikit_learn() -> None:
    code = (
        "import sys, pipeline.gallery, pipeline.gallery_sqlite, pipeline.gallery_search; "
        "print({'torch', 'sklearn', 'scipy', 'psycopg'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
