"""common.shipped: the list of shipped weights, the hint to an absent one, the warning of another file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from common import paths, shipped
from common.errors import UserError
from common.files import sha256_of


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoints/ of an otherwise empty repository, with `a.pt` in it and in the list."""
    monkeypatch.setattr(paths, "REPOSITORY_ROOT", tmp_path)
    shipped._warn.cache_clear()
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "a.pt").write_bytes(b"weights")
    with open(folder / shipped.LIST, "w") as file:
        subprocess.run(["sha256sum", "a.pt"], cwd=folder, stdout=file, check=True)
    return folder


def test_the_list_is_as_sha256sum_writes_it(checkpoints: Path) -> None:
    assert shipped.shipped_files() == {"a.pt": sha256_of(checkpoints / "a.pt")}
    (checkpoints / shipped.LIST).write_text(f"{'0' * 64} *b.onnx\n")
    assert shipped.shipped_files() == {"b.onnx": "0" * 64}
    (checkpoints / shipped.LIST).unlink()
    assert shipped.shipped_files() == {}


@pytest.mark.parametrize("line", ["a.pt", f"{'0' * 63}  a.pt", f"{'0' * 64}  folder/a.pt", ""])
def test_a_line_that_is_no_checksum_is_named(checkpoints: Path, line: str) -> None:
    (checkpoints / shipped.LIST).write_text(f"{line}\n{'0' * 64}  b.pt\n")
    with pytest.raises(UserError, match=r"SHA256SUMS holds '.*': expected a SHA-256"):
        shipped.shipped_files()


@pytest.mark.parametrize("name", ["a.pt", "checkpoints/a.pt", Path("a.pt")])
def test_how_a_shipped_file_comes_back(checkpoints: Path, name: str | Path) -> None:
    assert "`git checkout checkpoints/a.pt`" in shipped.restoring(name)


@pytest.mark.parametrize("name", ["b.pt", "runs/a.pt", "SHA256SUMS"])
def test_of_other_files_nothing_is_said(checkpoints: Path, name: str) -> None:
    assert shipped.restoring(name) == ""


def test_another_file_under_a_shipped_name_is_warned_of_once(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shipped.weights_sha256(checkpoints / "a.pt") == sha256_of(checkpoints / "a.pt")
    assert capsys.readouterr().err == "", "the shipped file itself"
    for elsewhere in (tmp_path / "a.pt", checkpoints / "b.pt"):
        elsewhere.write_bytes(b"mine")
        shipped.weights_sha256(elsewhere)
    assert capsys.readouterr().err == "", "other folders and names"
    (checkpoints / "a.pt").write_bytes(b"mine")
    assert shipped.weights_sha256(checkpoints / "a.pt") == sha256_of(tmp_path / "a.pt")
    warning = capsys.readouterr().err
    for words in ("a.pt is not the file that SHA256SUMS lists", "git checkout checkpoints/a.pt", "remove its line"):
        assert words in warning
    shipped.weights_sha256(checkpoints / "a.pt")
    assert capsys.readouterr().err == ""
