"""common.files: a file is whole or absent."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import read_json, replacing, sha256_of, write_json, write_text, write_with


def test_a_new_file_is_written_and_its_folder_made(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "first" / "note.txt"
    write_text(target, "Grüße\n")
    assert target.read_text(encoding="utf-8") == "Grüße\n"


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    target.write_bytes(b"old")

    def write_half(path: Path) -> None:
        path.write_bytes(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_with(target, write_half)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_file_is_there_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    target.write_bytes(b"old")
    with replacing(target) as temporary:
        assert temporary.parent == target.parent, "a rename is atomic only within one file system"
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_kill_in_the_middle_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    target.write_bytes(b"old")
    program = (
        "import os, pathlib, signal, sys\n"
        "from common.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    assert result.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_json_survives_a_round_trip(tmp_path: Path) -> None:
    value = {"accuracy": 0.5, "auc": None, "weights": {"edgeface_xxs.pt": "ab12"}}
    write_json(tmp_path / "out.json", value)
    assert read_json(tmp_path / "out.json") == value


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_json_refuses_what_json_does_not_have(tmp_path: Path, number: float) -> None:
    target = tmp_path / "out.json"
    target.write_text("{}")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(target, {"accuracy": number})
    assert json.loads(target.read_text()) == {}


def test_a_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"meta\.json is missing"):
        read_json(tmp_path / "meta.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_a_malformed_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "meta.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"meta\.json is not valid JSON"):
        read_json(path)


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert os.listdir(tmp_path) == ["abc"]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for target, words in (
        (tmp_path / "folder", "folder is a folder: expected the name of a file"),
        (tmp_path / ("x" * 250), "x cannot be written .*too long"),
        (tmp_path / ("x" * 300), "x cannot be written .*too long"),
        (tmp_path / "file" / "inside.json", r"inside\.json cannot be written"),
    ):
        with pytest.raises(UserError, match=words):
            write_json(target, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_is_named_and_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def fail(number: int, name: str | None) -> None:
        with replacing(tmp_path / "out.bin"):
            raise OSError(number, os.strerror(number), name)

    with pytest.raises(UserError, match=r"out\.bin cannot be written \(No space left on device\)"):
        fail(errno.ENOSPC, None)
    with pytest.raises(UserError, match=r"out\.bin cannot be written \(Permission denied\)"):
        fail(errno.EACCES, str(tmp_path.parent))
    with pytest.raises(OSError, match=r"Permission denied: 'source\.png'"):
        fail(errno.EACCES, "source.png")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_text_is_written_as_an_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "out.txt", os.fsdecode(b"J\xfcrg.jpg"))
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "J\\udcfcrg.jpg"
