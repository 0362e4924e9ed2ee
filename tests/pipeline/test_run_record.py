"""What a result was made with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.files import sha256_of
from common.images import ImageStore, write_png
from facial_rec.sources import StoreSource
from pipeline.run_record import checksums, git_state, now, run_record, versions


@dataclass(frozen=True)
class Config:
    """A run."""

    size: int = 16
    seed: int = 0
    device: str = "cpu"


def test_record_holds_command_versions_and_seed() -> None:
    record = run_record("pipeline.made_up", Config(size=24), now(), {"a.pt": "1"}, {"b.zip": "2"})
    assert record["command"] == "python -m pipeline.made_up --size 24"
    assert (record["seed"], record["device"], record["weights"], record["data"]) == (
        0,
        "cpu",
        {"a.pt": "1"},
        {"b.zip": "2"},
    )
    assert record["seconds"] >= 0
    assert record["started"].endswith("+00:00")
    assert {"python", "torch", "numpy"} <= versions().keys()


def test_git_state_says_commit_and_changes(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("one")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    commit, dirty = git_state(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path) == (commit, True)


def test_checksums_of_a_folder_follow_its_images(tmp_path: Path) -> None:
    folder, pairs = tmp_path / "faces", tmp_path / "pairs.txt"
    for name in ("a", "b"):
        write_png(folder / name / "1.png", np.full((112, 112, 3), ord(name), np.uint8))
    pairs.write_text("1 1\n")
    first = checksums(StoreSource(ImageStore(folder)), pairs, None)
    assert first.keys() == {"faces", "pairs.txt"}
    assert first["pairs.txt"] == sha256_of(pairs)
    write_png(folder / "b" / "1.png", np.zeros((112, 112, 3), np.uint8))
    assert checksums(StoreSource(ImageStore(folder)), pairs)["faces"] != first["faces"]
