"""facial_rec.trials and facial_rec.sources: one way to images and pairs, whatever the files."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.images import ImageStore, RgbImage, write_png
from facial_rec.bin_sets import write_bin
from facial_rec.sources import StoreSource
from facial_rec.trials import load_trials


@pytest.fixture
def pair_list(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text("1\nP0\t1\t2\nP0\t1\tP1\t1\n")
    return path


def test_a_list_over_a_folder_and_a_zip(people: Path, pair_list: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "people.zip", "w") as archive:
        for path in people.rglob("*.png"):
            archive.write(path, path.relative_to(people))
    source, pairs = load_trials(people, pair_list)
    zipped, same = load_trials(tmp_path / "people.zip", pair_list)
    assert pairs == same
    assert list(source.names) == list(zipped.names)
    assert source.label == str(people)
    for name in source.names:
        assert source.fingerprint(name) == zipped.fingerprint(name)
        np.testing.assert_array_equal(source.read(name), zipped.read(name))


def test_a_folder_alone(people: Path) -> None:
    source, pairs = load_trials(people, None, seed=1)
    assert set(pairs.images) <= set(source.names)
    assert pairs.people_known
    assert int(pairs.genuine.sum()) == 18
    assert (
        load_trials(people, seed=2, genuine_per_person=1, impostors=4)[1].genuine.tolist() == [True] * 6 + [False] * 4
    )


def test_the_processed_layout_leaves_the_small_images_out(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    for person in range(3):
        for photo in range(2):
            write_png(tmp_path / "set" / "hr_images" / f"p{person}_{photo}.png", face(person, photo))
            write_png(tmp_path / "set" / "vlr_images" / f"p{person}_{photo}.png", face(person, photo, 16))
    source, pairs = load_trials(tmp_path / "set")
    assert len(source.names) == 6
    assert pairs.pairs[0].first_subject == "p0"
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in (tmp_path / "set").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path / "set"))
    assert len(load_trials(tmp_path / "set.zip")[0].names) == 6


def test_a_bin_brings_its_pairs(people: Path, pair_list: Path, tmp_path: Path) -> None:
    store = ImageStore(people)
    names = ["P0/P0_0001.png", "P0/P0_0002.png", "P0/P0_0001.png", "P1/P1_0001.png"]
    write_bin(tmp_path / "x.bin", [store.read_bytes(name) for name in names], [True, False])
    source, pairs = load_trials(tmp_path / "x.bin")
    assert pairs.genuine.tolist() == [True, False]
    assert not pairs.people_known
    assert [source.fingerprint(name) for name in source.names] == [
        StoreSource(store).fingerprint(name) for name in (names[0], names[1], names[3])
    ]
    with pytest.raises(UserError, match=r"x\.bin brings its own pairs: leave out --pairs .*pairs\.txt"):
        load_trials(tmp_path / "x.bin", pair_list)


def test_fingerprint_is_the_sha256_of_the_file_read_once(people: Path) -> None:
    source = StoreSource(ImageStore(people))
    path = people / "P2" / "P2_0003.png"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.fingerprint("P2/P2_0003.png") == expected
    path.unlink()
    assert source.fingerprint("P2/P2_0003.png") == expected
    with pytest.raises(UserError, match=r"P2/P2_0003\.png is missing"):
        source.read("P2/P2_0003.png")


def test_another_size_is_refused(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    write_png(tmp_path / "A" / "A_0001.png", face(1, 1, 32))
    with pytest.raises(UserError, match=r"A/A_0001\.png is 32x32, expected 112x112"):
        StoreSource(ImageStore(tmp_path)).read("A/A_0001.png")


def test_missing_files_are_refused(people: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        load_trials(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"nowhere\.txt is missing"):
        load_trials(people, tmp_path / "nowhere.txt")


def test_people_can_be_left_out(people: Path) -> None:
    _, pairs = load_trials(people, left_out=("P0",))
    assert not any("P0" in (pair.first_subject, pair.second_subject) for pair in pairs.pairs)
    assert any("P0" in (pair.first_subject, pair.second_subject) for pair in load_trials(people)[1].pairs)
