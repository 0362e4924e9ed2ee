"""Pooling against a plain loop and by hand; lists of templates, and every way in which they may be wrong."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from facial_rec.metrics import cosine_pairs
from pipeline import templates as module
from pipeline.templates import Templates, pool, read_template_pairs, read_templates, template_scores

IMAGES = ["crop/1.jpg", "crop/2.jpg", "crop/3.jpg", "crop/4.jpg", "crop/5.jpg"]


def plain_pool(vectors: np.ndarray, numbers: np.ndarray, media: np.ndarray, by_medium: bool, keep: bool) -> np.ndarray:
    found = []
    for template in range(numbers.max() + 1):
        groups: dict[int, list[np.ndarray]] = {}
        for vector, number, medium in zip(vectors, numbers, media, strict=True):
            if number == template:
                one = vector if keep else vector / np.linalg.norm(vector)
                groups.setdefault(int(medium) if by_medium else 0, []).append(one)
        mean = np.mean([np.mean(group, axis=0) for group in groups.values()], axis=0)
        found.append(mean / np.linalg.norm(mean))
    return np.array(found)


@pytest.mark.parametrize("by_medium", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_pooling_is_a_plain_loop(by_medium: bool, keep: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.append(np.arange(6), rng.integers(0, 6, 54))
    media = rng.integers(0, 4, 60)  # media of the same number in several templates
    vectors = rng.normal(size=(60, 7)) * rng.uniform(0.1, 5, (60, 1))
    found = pool(vectors, numbers, media, by_medium, keep)
    np.testing.assert_allclose(found, plain_pool(vectors, numbers, media, by_medium, keep))


def test_pooling_by_hand() -> None:
    """A video of two frames along x and a photo along y: equal shares by medium, two to one by image."""
    vectors, numbers, media = [[2.0, 0.0], [5.0, 0.0], [0.0, 3.0], [0.0, 1.0]], [0, 0, 0, 1], [7, 7, 8, 7]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(pool(vectors, numbers, media), [[half, half], [0, 1]])
    np.testing.assert_allclose(pool(vectors, numbers, media, by_medium=False), [[2 / 5**0.5, 1 / 5**0.5], [0, 1]])
    length = np.hypot(3.5, 3.0)
    np.testing.assert_allclose(pool(vectors, numbers, media, keep_lengths=True), [[3.5 / length, 3 / length], [0, 1]])


@pytest.mark.parametrize(
    ("vectors", "numbers", "media", "words"),
    [
        ([[1.0, 0.0]], [1], [0], "1 of 2 templates have no image"),
        ([[1.0, 0.0]], [0, 0], [0], "found shapes"),
        (np.empty((0, 2)), [], [], "found shapes"),
        ([[1.0, np.nan]], [0], [0], "NaN"),
        ([[1.0, 0.0], [-1.0, 0.0]], [0, 0], [0, 0], "length zero"),
    ],
)
def test_pooling_refuses(vectors: list, numbers: list, media: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        pool(vectors, numbers, media)


def test_scores_are_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIR_CHUNK", 7)
    rng = np.random.default_rng(0)
    vectors, first, second = rng.normal(size=(9, 5)), rng.integers(0, 9, 40), rng.integers(0, 9, 40)
    np.testing.assert_allclose(template_scores(vectors, first, second), cosine_pairs(vectors[first], vectors[second]))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    lines = ("3.jpg 20 1", "1.jpg 10 5", "crop/2.jpg 10 5", "", "4.jpg 30 2", "5.jpg 40 3", "1.jpg 30 9")
    return read_templates(write(tmp_path / "tid_mid.txt", *lines), IMAGES)


def test_templates_are_read(templates: Templates) -> None:
    assert templates.ids.tolist() == [10, 20, 30, 40]
    assert templates.images == ("crop/1.jpg", "crop/2.jpg", "crop/3.jpg", "crop/4.jpg", "crop/1.jpg", "crop/5.jpg")
    assert templates.numbers.tolist() == [0, 0, 1, 2, 2, 3]
    assert templates.media.tolist() == [5, 5, 1, 2, 9, 3]


@pytest.mark.parametrize("images", [1, 2, 3, 4, 100])
def test_chunks_hold_whole_templates(templates: Templates, images: int) -> None:
    parts = templates.chunk(images)
    assert [row for rows, _ in parts for row in range(rows.start, rows.stop)] == [0, 1, 2, 3]
    assert [line for _, lines in parts for line in range(lines.start, lines.stop)] == list(range(6))
    for rows, lines in parts:
        assert set(templates.numbers[lines]) == set(range(rows.start, rows.stop))
        assert lines.stop - lines.start <= images or rows.stop - rows.start == 1


def test_pairs_are_read_and_people_recovered(templates: Templates, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.txt", "10 20 1", "20 30 1", "10\t40\t0", "", "40 30 0")
    pairs = read_template_pairs(path, templates)
    assert pairs.first.tolist() == [0, 1, 0, 3]
    assert pairs.second.tolist() == [1, 2, 3, 2]
    assert pairs.genuine.tolist() == [True, True, False, False]
    assert len(set(pairs.people[:3])) == 1  # 10 and 30 are never compared, 20 joins them
    assert pairs.people[3] != pairs.people[0]


def test_people_are_the_connected_components(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = rng.integers(0, 12, 60)
    listed = Templates(("crop/1.jpg",) * 60, np.arange(60), np.arange(60), np.arange(60))
    chains = [(a, b) for person in range(12) for own in [np.flatnonzero(people == person)] for a, b in pairwise(own)]
    impostors = [(a, b) for a, b in rng.integers(0, 60, (200, 2)) if people[a] != people[b]]
    lines = [f"{a} {b} 1" for a, b in chains] + [f"{a} {b} 0" for a, b in impostors]
    rng.shuffle(lines)
    found = read_template_pairs(write(tmp_path / "pairs.txt", *lines), listed).people
    assert ((found[:, None] == found) == (people[:, None] == people)).all()
    assert sorted(set(found)) == list(range(len(set(people))))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1.jpg 10", "expected an image, the number of its template and the number of its medium, found '1.jpg 10'"),
        ("1.jpg 10 5 7", "expected an image"),
        ("1.jpg ten 5", "expected an image"),
        ("1.jpg 10 -5", "expected an image"),
        ("10 5", "expected an image"),
        ("9.jpg 10 5", "no image 9.jpg among the images"),
        ("other/1.jpg 10 5", "no image other/1.jpg"),
        ("6.jpg 10 5", "there are 2 images 6.jpg"),
    ],
)
def test_bad_lists_of_templates_are_refused_by_line(tmp_path: Path, line: str, words: str) -> None:
    path = write(tmp_path / "tid.txt", "1.jpg 10 5", "", line)
    with pytest.raises(UserError, match=r"tid\.txt, line 3: ") as caught:
        read_templates(path, [*IMAGES, "a/6.jpg", "b/6.jpg"])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("10 20", "expected two template numbers and a label, found '10 20'"),
        ("10 20 1 1", "expected two template numbers"),
        ("10 twenty 1", "expected two template numbers"),
        ("10 20 1.0", "expected two template numbers"),
        ("10 20 0.5", "expected two template numbers"),
        ("10 20 99999999999999999999", "expected two template numbers"),
        ("10 50 1", "expected templates with images"),
        ("-10 20 1", "expected templates with images"),
        ("10 20 2", "expected a label of 1 (one person) or 0 (two people)"),
        ("10 20 -1", "expected a label"),
        ("10 10 1", "expected two different templates"),
        ("30 10 0", "expected a genuine pair, for other genuine pairs of the list join these two templates"),
    ],
)
def test_bad_lists_of_pairs_are_refused_by_line(templates: Templates, tmp_path: Path, line: str, words: str) -> None:
    path = write(tmp_path / "label.txt", "10 20 1", "", "20 30 1", "10 40 0", line)
    with pytest.raises(UserError, match=r"label\.txt, line 5: ") as caught:
        read_template_pairs(path, templates)
    assert words in str(caught.value)


@pytest.mark.parametrize(("label", "kind"), [("0", "impostor"), ("1", "genuine")])
def test_one_kind_of_pair_is_refused(templates: Templates, tmp_path: Path, label: str, kind: str) -> None:
    with pytest.raises(UserError, match=f"label.txt: all 2 pairs are {kind} pairs; expected labels of both kinds"):
        read_template_pairs(write(tmp_path / "label.txt", f"10 20 {label}", f"30 40 {label}"), templates)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is missing"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xff\xfe1 2 1\n", "is not a readable text file"),
    ],
)
def test_files_that_cannot_be_read_are_refused(
    templates: Templates, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"list.txt {words}"):
        read_templates(path, IMAGES)
    with pytest.raises(UserError, match=f"list.txt {words}"):
        read_template_pairs(path, templates)


def test_many_pairs_are_read(templates: Templates, tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("10 20 1\n10 30 0\n20 40 0\n30 40 0\n" * 50_000)
    assert len(read_template_pairs(path, templates).first) == 200_000
