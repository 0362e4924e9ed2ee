"""pipeline.gallery_sqlite: what is enrolled is found, whoever else writes, dies or damages; what is deleted is gone."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from pipeline.gallery import Gallery, Vectors, check_embeddings, open_gallery

DIM = 32
SHA = "ab" * 32

KILLED = """
import sys, numpy as np
from pipeline.gallery import open_gallery
gallery = open_gallery(sys.argv[1], "ab" * 32, 32)
for person in range(100_000):
    rows = np.random.default_rng(person).standard_normal((40, 32))
    gallery.enrol(f"P{person}", rows)
    print(person, flush=True)
"""
ENROLS = """
import sys, numpy as np
from pipeline.gallery import open_gallery
gallery = open_gallery(sys.argv[1], "ab" * 32, 32)
for turn in range(12):
    gallery.enrol("both", np.eye(32)[turn], {"by": sys.argv[2]})
    gallery.enrol(f"{sys.argv[2]} {turn}", np.eye(32)[:2])
"""


def made(person: int, count: int = 1) -> Vectors:
    return check_embeddings(np.random.default_rng(person).standard_normal((count, DIM)), DIM)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "people.sqlite"


def opened(path: Path) -> Gallery:
    return open_gallery(path, SHA, DIM)


def test_what_is_enrolled_is_found(path: Path) -> None:
    with opened(path) as gallery:
        assert gallery.search(made(1)) == [[]]
        assert gallery.people() == []
        ids = gallery.enrol(" Ann ", made(1, 3), [{"file": f"{n}.jpg"} for n in range(3)])
        gallery.enrol("Zoë", 7.5 * made(2, 1))
        gallery.enrol("Ann", made(3)[0], {"later": True})
    with open_gallery(path, SHA, DIM, create=False) as gallery:
        assert len(gallery) == 5
        assert [(one.name, one.embeddings) for one in gallery.people()] == [("Ann", 4), ("Zoë", 1)]
        (best, second), *_ = found = gallery.search(np.concatenate([made(1, 3)[1:2], made(2)]))
        assert (best.name, best.embedding_id, best.metadata) == ("Ann", ids[1], {"file": "1.jpg"})
        assert best.score == pytest.approx(1.0, abs=1e-6)
        assert second.name == "Zoë"
        assert second.score < 0.9
        assert [one.name for one in found[1]] == ["Zoë", "Ann"]
        assert [len(one) for one in gallery.search(made(9, 4), top=1)] == [1] * 4
        assert gallery.search(np.empty((0, DIM))) == []
        assert [kept.metadata for kept in gallery.entries("Ann")][-1] == {"later": True}
        assert gallery.entries("nobody") == []


def test_a_gallery_is_for_its_owner_alone_and_one_file(path: Path) -> None:
    with opened(path) as gallery:
        gallery.enrol("Ann", made(1))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert [stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()] == [0o600]


def test_a_refused_enrolment_changes_nothing(path: Path) -> None:
    with opened(path) as gallery:
        gallery.enrol("Ann", made(1))
        for name, rows in (
            ("", made(2)),
            ("Bo", np.zeros(DIM)),
            ("Bo", np.ones(DIM + 1)),
            ("Bo", np.full(DIM, np.nan)),
        ):
            with pytest.raises(UserError):
                gallery.enrol(name, rows)
        with pytest.raises(UserError, match="top=0"):
            gallery.search(made(1), top=0)
        with pytest.raises(UserError, match="NaN"):
            gallery.search(np.full((1, DIM), np.nan))
        assert [(one.name, one.embeddings) for one in gallery.people()] == [("Ann", 1)]


def test_a_deleted_person_leaves_no_byte(path: Path) -> None:
    with opened(path) as gallery:
        for person in range(40):
            gallery.enrol(f"Person number {person}", made(person, 5), {"note": f"secret {person}"})
        assert gallery.search(made(7))[0][0].name == "Person number 7"
        held = path.read_bytes()
        assert b"Person number 7" in held
        assert made(7, 5)[0].tobytes() in held
        assert gallery.delete("Person number 7") == 5
        left = path.read_bytes()
        assert b"Person number 7" not in left
        assert b'secret 7"' not in left
        assert not any(row.tobytes()[start : start + 16] in left for row in made(7, 5) for start in range(0, 112, 4))
        assert gallery.search(made(7))[0][0].name != "Person number 7"
        assert list(path.parent.iterdir()) == [path]
        with pytest.raises(UserError, match="knows nobody called 'Person number 7'"):
            gallery.delete("Person number 7")
        for person in range(8, 40):
            gallery.delete(f"Person number {person}")
        gallery.compact()
        assert path.stat().st_size < len(left)
        assert gallery.search(made(3))[0][0].name == "Person number 3"


def test_a_transaction_is_kept_whole_or_not_at_all(path: Path) -> None:
    with opened(path) as gallery, opened(path) as other:
        gallery.enrol("Ann", made(1))
        with suppress(KeyError), gallery.transaction():
            gallery.enrol("Bo", made(2))
            gallery.delete("Ann")
            assert gallery.search(made(2))[0][0].name == "Bo"
            assert other.search(made(2))[0][0].name == "Ann"
            raise KeyError
        assert [one.name for one in gallery.search(made(2))[0]] == ["Ann"]
        with gallery.transaction():
            gallery.enrol("Cy", made(3))
            with suppress(KeyError), gallery.transaction():
                gallery.enrol("Di", made(4))
                raise KeyError
        assert [one.name for one in other.people()] == ["Ann", "Cy"]


def test_what_another_process_changes_is_seen(path: Path) -> None:
    with opened(path) as gallery, opened(path) as other:
        other.enrol("Ann", made(1))
        assert gallery.search(made(1))[0][0].name == "Ann"
        other.enrol("Bo", made(2))
        other.enrol("Ann", made(3))
        assert [gallery.search(made(n))[0][0].name for n in (2, 3)] == ["Bo", "Ann"]
        other.delete("Ann")
        assert [one.name for one in gallery.search(made(3))[0]] == ["Bo"]
        other.enrol("Ann", made(4))
        assert gallery.search(made(4))[0][0].score == pytest.approx(1.0, abs=1e-6)


def test_kill_9_during_enrolment_loses_nothing_committed(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(12)]
    os.kill(process.pid, signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    with opened(path) as gallery:
        kept = {one.name: one.embeddings for one in gallery.people()}
        assert set(kept) >= {f"P{person}" for person in told}
        assert len(kept) <= len(told) + 1
        assert set(kept.values()) == {40}, "a person is enrolled whole or not at all"
        for person in told:
            rows = np.random.default_rng(person).standard_normal((40, DIM))
            assert {found[0].name for found in gallery.search(rows, top=1)} == {f"P{person}"}
        gallery.enrol("after", made(1))


def test_a_journal_left_by_a_killed_process_is_rolled_back(path: Path) -> None:
    """Killed between writing pages and the commit: the state before is what counts."""
    code = """
import os, signal, sys, numpy as np
from pipeline.gallery import open_gallery
gallery = open_gallery(sys.argv[1], "ab" * 32, 32)
gallery._connection.execute("PRAGMA cache_size = 1")  # pages go to the file before the commit
with gallery.transaction():
    gallery.enrol("Bo", np.random.default_rng(2).standard_normal((3000, 32)))
    gallery.delete("Ann")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with opened(path) as gallery:
        gallery.enrol("Ann", made(1))
    before = path.read_bytes()
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() != before, "the test shows nothing unless the file was written"
    with opened(path) as gallery:
        assert [(one.name, one.embeddings) for one in gallery.people()] == [("Ann", 1)]


def test_two_processes_enrol_at_the_same_time(path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", ENROLS, str(path), who]) for who in ("a", "b")]
    assert [process.wait() for process in processes] == [0, 0]
    with opened(path) as gallery:
        people = {one.name: one.embeddings for one in gallery.people()}
        assert people == {"both": 24} | {f"{who} {turn}": 2 for who in "ab" for turn in range(12)}
        assert sorted(kept.metadata["by"] for kept in gallery.entries("both")) == ["a"] * 12 + ["b"] * 12


def test_embeddings_of_another_model_are_refused(path: Path) -> None:
    with opened(path) as gallery:
        gallery.enrol("Ann", made(1))
    for sha, dim in (("cd" * 32, DIM), (SHA, DIM + 1)):
        with pytest.raises(UserError, match=r"people.sqlite holds embeddings of model abababababab.* \(32 numbers"):
            open_gallery(path, sha, dim)


def test_a_gallery_that_holds_nobody_takes_another_model(path: Path) -> None:
    with opened(path) as gallery:
        gallery.enrol("Ann", made(1))
        gallery.delete("Ann")
    with pytest.raises(UserError, match="holds embeddings of model abababababab"):
        open_gallery(path, "cd" * 32, DIM + 1, create=False)
    with open_gallery(path, "cd" * 32, DIM + 1) as gallery:
        gallery.enrol("Ben", np.eye(1, DIM + 1, dtype=np.float32))
    with pytest.raises(UserError, match="holds embeddings of model cdcdcdcdcdcd"):
        opened(path)


def test_a_process_that_had_it_open_does_not_mix_two_models(
    path: Path, mixes_no_models: Callable[[Path], None]
) -> None:
    mixes_no_models(path)


def test_without_create_there_must_be_one(path: Path) -> None:
    with pytest.raises(UserError, match="There is no gallery at"):
        open_gallery(path, SHA, DIM, create=False)
    assert not path.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(UserError, match="There is no gallery at"):
        open_gallery(path, SHA, DIM, create=False)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(path: Path, message: str) -> None:
    """Opening or searching says `message`, and the file stays as it was."""
    before = digest(path)
    with pytest.raises(UserError, match=message) as error, opened(path) as gallery:
        gallery.search(made(1))
    assert path.name in str(error.value)
    assert digest(path) == before


def test_what_is_no_gallery_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\xff\xd8\xff\xe0 a photo")
    refused(path, "is not an SQLite database")
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (name TEXT)")
    connection.close()
    refused(path, "database of another program")
    path.write_bytes(path.read_bytes()[:100])
    refused(path, "damaged|another program")
    with pytest.raises(UserError, match="is a folder"):
        opened(path.parent)


def test_a_newer_format_is_refused(path: Path) -> None:
    opened(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    refused(path, "format 9, expected 1")


@pytest.mark.parametrize("how", ["pages", "tail", "vector", "zeros"])
def test_damage_is_named(path: Path, how: str) -> None:
    with opened(path) as gallery, gallery.transaction():
        for person in range(200):
            gallery.enrol(f"P{person}", made(person, 4))
    data = bytearray(path.read_bytes())
    if how == "pages":
        data[16384 * 2 : 16384 * 3] = bytes(range(256)) * 64
    elif how == "tail":
        del data[len(data) // 2 :]
    elif how == "vector":
        at = data.index(made(5)[0].tobytes()[:16])
        data[at : at + 4] = np.float32(np.nan).tobytes()
    else:
        data[:100] = bytes(100)
    path.write_bytes(data)
    refused(path, "not an SQLite database" if how == "zeros" else r"is damaged \(.*restore a backup")


def test_a_gallery_that_stays_locked_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.gallery_sqlite.BUSY_SECONDS", 0.05)
    locked = pytest.raises(UserError, match=r"cannot be used \(database is locked\)")
    with opened(path) as gallery, opened(path) as other, other.transaction(), locked:
        gallery.enrol("Ann", made(1))


def test_a_full_disk_loses_nothing(path: Path) -> None:
    with opened(path) as gallery:
        gallery.enrol("Ann", made(1))
        gallery._connection.execute("PRAGMA max_page_count = 9")  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="is there room"):
            gallery.enrol("Bo", made(2, 5000))
        assert [(one.name, one.embeddings) for one in gallery.people()] == [("Ann", 1)]
        assert [one.name for one in gallery.search(made(2))[0]] == ["Ann"]
