"""common.paths: the same names work from the repository root and from `technical/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import paths
from common.errors import UserError


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository, with the working directory at its root."""
    (tmp_path / "technical").mkdir()
    monkeypatch.setattr(paths, "REPOSITORY_ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_the_real_repository_is_found() -> None:
    assert (paths.REPOSITORY_ROOT / "pyproject.toml").is_file()
    assert (paths.SOURCE_ROOT / "common").is_dir()


@pytest.mark.parametrize("folder", ["dataset", "technical/dataset"])
@pytest.mark.parametrize("working_directory", [".", "technical"])
def test_default_dataset(
    repository: Path, monkeypatch: pytest.MonkeyPatch, folder: str, working_directory: str
) -> None:
    monkeypatch.chdir(repository / working_directory)
    assert paths.default_dataset("train") is None
    made = make_folder(repository / folder / "train_processed")
    assert paths.default_dataset("train") == made
    assert paths.default_dataset("val") is None


def test_the_folder_at_the_root_comes_first(repository: Path) -> None:
    make_folder(repository / "technical/dataset/test_processed")
    at_root = make_folder(repository / "dataset/test_processed")
    assert paths.default_dataset("test") == at_root


@pytest.mark.parametrize("made", ["dataset/test_processed", "technical/dataset/test_processed"])
@pytest.mark.parametrize("asked", ["dataset/test_processed", "technical/dataset/test_processed"])
@pytest.mark.parametrize("working_directory", [".", "technical"])
def test_find_dataset(
    repository: Path, monkeypatch: pytest.MonkeyPatch, made: str, asked: str, working_directory: str
) -> None:
    folder = make_folder(repository / made)
    monkeypatch.chdir(repository / working_directory)
    assert paths.find_dataset(Path(asked)).resolve() == folder


@pytest.mark.parametrize("asked", ["dataset/none", "/no/such/folder"])
def test_find_dataset_says_what_to_do(repository: Path, asked: str) -> None:
    with pytest.raises(UserError, match=rf"{asked} does not exist.*prepare_dataset"):
        paths.find_dataset(Path(asked))


def test_find_weights(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.find_weights("edgeface_xxs.pt") is None
    file = make_folder(repository / "checkpoints") / "edgeface_xxs.pt"
    file.write_bytes(b"x")
    monkeypatch.chdir(repository / "technical")
    assert paths.find_weights("edgeface_xxs.pt") == file
    assert paths.find_weights(file) == file
    assert paths.find_weights("./other/edgeface_xxs.pt") is None, "a name with a folder means that folder"
    Path("edgeface_xxs.pt").write_bytes(b"nearer")
    assert paths.find_weights("edgeface_xxs.pt") == Path("edgeface_xxs.pt")


def test_every_file_that_a_name_may_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is the repository here: its checkpoints/ counts once."""
    (tmp_path / "checkpoints").mkdir()
    for place in (tmp_path, tmp_path / "checkpoints"):
        (place / "a.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "REPOSITORY_ROOT", tmp_path)
    assert [place.resolve() for place in paths.weights_places("a.json")] == [
        tmp_path / "a.json",
        tmp_path / "checkpoints" / "a.json",
    ]
    assert paths.weights_places("b.json") == []
