"""Pair lists: the order, the folds, and an error with a line number for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from common.images import ImageStore
from facial_rec.pairs import Pair, read_pairs

NAMES = [f"{person}/{person}_{photo:04d}.jpg" for person in ("Ann_Lee", "Bo", "Cy") for photo in (1, 2, 12)]
TWO_FOLDS = "2\t1\nAnn_Lee\t1\t12\nAnn_Lee\t1\tBo\t2\nBo\t1\t2\nBo\t1\tCy\t1\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    return path


def test_pairs_are_read_in_order(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, TWO_FOLDS), NAMES)
    assert pairs.folds == 2
    assert pairs.pairs[0] == Pair("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0012.jpg", "Ann_Lee", "Ann_Lee", 0, True)
    assert pairs.pairs[1] == Pair("Ann_Lee/Ann_Lee_0001.jpg", "Bo/Bo_0002.jpg", "Ann_Lee", "Bo", 0, False)
    assert pairs.genuine.tolist() == [True, False, True, False]
    assert pairs.fold_numbers.tolist() == [0, 0, 1, 1]
    assert pairs.first_images == ["Ann_Lee/Ann_Lee_0001.jpg", "Bo/Bo_0001.jpg"]
    assert len(pairs.images) == 5


def test_a_header_of_one_number_is_one_fold(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, "1\nBo\t1\t2\nBo\t1\tCy\t1\n\n"), NAMES)
    assert pairs.folds == 1
    assert len(pairs) == 2


def test_suffix_outer_folder_blanks_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    names = [f"set/lfw/{name.removesuffix('.jpg')}.png" for name in NAMES]
    pairs = read_pairs(written(tmp_path, TWO_FOLDS.replace("\t", "  ").replace("\n", "\r\n")), names)
    assert pairs.pairs[3].second == "set/lfw/Cy/Cy_0001.png"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("many\t1\n", "line 1: expected the numbers of folds"),
        ("1\t0\n", "line 1: expected the numbers"),
        ("1\t2\t3\n", "line 1: expected the numbers"),
        ("1\t1\nBo\t1\t2\n", "so 3 lines; found 2"),
        (TWO_FOLDS + "Bo\t1\t2\n", "so 5 lines; found 6"),
        ("1\t1\nBo\t1\nBo\t1\tCy\t1\n", r"line 2: expected a genuine pair .*, found 'Bo\t1'"),
        ("1\t1\nBo\t1\tCy\t1\nBo\t1\t2\n", "line 2: expected a genuine pair"),
        ("1\t1\nBo\t1\t2\nBo\t1\t2\n", "line 3: expected an impostor pair"),
        ("1\t1\nBo\tone\t2\nBo\t1\tCy\t1\n", "line 2: expected names and image numbers"),
        ("1\t1\nBo\t0\t2\nBo\t1\tCy\t1\n", "line 2: expected names and image numbers"),
        ("1\t1\nBo\t-1\t2\nBo\t1\tCy\t1\n", "line 2: expected names and image numbers"),
        ("1\t1\nBo\t1\t1\nBo\t1\tCy\t1\n", "line 2: expected two images"),
        ("1\t1\nBo\t1\t2\nBo\t1\tBo\t2\n", "line 3: expected two different people"),
        ("1\t1\nBo\t1\t3\nBo\t1\tCy\t1\n", r"line 2: no image Bo/Bo_0003\.\* among the images"),
        ("1\t1\nBo\t1\t2\nBo\t1\tDi\t1\n", r"line 3: no image Di/Di_0001\.\*"),
        ("1\t1\nBo\t1\t2\nBo\t1\t../../etc\t1\n", r"line 3: no image"),
    ],
)
def test_bad_lists_are_refused_with_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=words) as caught:
        read_pairs(path, NAMES)
    assert str(path) in str(caught.value)


def test_an_image_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 4: there are 2 images Bo/Bo_0001 \(Bo/Bo_0001.jpg, b/Bo/Bo_0001.png\)"):
        read_pairs(written(tmp_path, TWO_FOLDS), [*NAMES, "b/Bo/Bo_0001.png"])


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        read_pairs(tmp_path / "none.txt", NAMES)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not a readable text file"):
        read_pairs(tmp_path / "binary", NAMES)


@pytest.mark.parametrize(
    ("name", "folds", "pairs"), [("pairs.txt", 10, 6000), ("pairsDevTrain.txt", 1, 2200), ("pairsDevTest.txt", 1, 1000)]
)
def test_the_official_lists(shared: Path, name: str, folds: int, pairs: int) -> None:
    lfw = shared / "data" / "lfw"
    found = read_pairs(lfw / name, ImageStore(lfw / "lfw_112.zip").names)
    assert (found.folds, len(found), found.genuine.mean()) == (folds, pairs, 0.5)
