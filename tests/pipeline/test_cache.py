"""pipeline.cache: what is stored comes back, whoever else uses the file; damage is named."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from pipeline import cache as cache_module
from pipeline.cache import DEFAULT_CACHE, EmbeddingCache, key_of

TECHNICAL = Path(cache_module.__file__).parents[1]
REPOSITORY = TECHNICAL.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "cache.sqlite"


def keys(count: int, word: str = "image") -> list[bytes]:
    return [key_of(word, index) for index in range(count)]


def test_what_is_stored_comes_back_bitwise(path: Path) -> None:
    chance = np.random.default_rng(0)
    vectors = {key: chance.standard_normal(512).astype(np.float32) for key in keys(7)}
    figures = {key_of("psnr"): 24.123456789, key_of("flat"): float("inf")}
    with EmbeddingCache(path) as cache:
        cache.store(vectors, figures)
        asked = [*keys(9), key_of("unknown")]
        for _ in range(2):
            found = cache.vectors(asked)
            assert found.keys() == vectors.keys()
            assert all(found[key].tobytes() == vectors[key].tobytes() for key in vectors)
            assert cache.figures([key_of("psnr"), key_of("flat"), key_of("none")]) == figures
            cache.store({keys(7)[0]: np.zeros(512, dtype=np.float32)}, {})  # the first to come stays
    with EmbeddingCache(path) as again:
        assert len(again.vectors(keys(9))) == 7


def test_embeddings_are_for_their_owner_alone(path: Path) -> None:
    with EmbeddingCache(path) as cache:
        cache.store({key_of(1): np.ones(4, dtype=np.float32)}, {})
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_the_rights_of_a_folder_that_was_there_stay(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    EmbeddingCache(tmp_path / "x.sqlite").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_the_default_is_ignored_by_git() -> None:
    assert DEFAULT_CACHE.parent == REPOSITORY / ".cache"
    assert "/.cache/" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_all_of_lfw_view_2_is_fast(path: Path) -> None:
    chance = np.random.default_rng(0)
    rows = dict(zip(keys(7701), chance.standard_normal((7701, 512)).astype(np.float32), strict=True))
    with EmbeddingCache(path) as cache:
        start = time.perf_counter()
        cache.store(rows, {})
        stored = time.perf_counter() - start
        found = cache.vectors(list(rows))
        read = time.perf_counter() - start - stored
    assert len(found) == 7701
    assert stored + read < 4.0, "it takes a quarter of a second on an idle machine"


def test_nan_is_never_stored(path: Path) -> None:
    with EmbeddingCache(path) as cache:
        for bad in (np.nan, np.inf):
            with pytest.raises(ValueError, match="NaN or infinite"):
                cache.store({key_of(0): np.ones(4, np.float32), key_of(1): np.array([1.0, bad], np.float32)}, {})
        with pytest.raises(ValueError, match="figure that is NaN"):
            cache.store({key_of(0): np.ones(4, np.float32)}, {key_of(2): float("nan")})
        assert not cache.vectors([key_of(0), key_of(1)])


def spoil(path: Path, table: str, value: bytes) -> bytes:
    EmbeddingCache(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (key_of("bad"), value))
    connection.close()
    return key_of("bad")


@pytest.mark.parametrize(
    ("value", "words"),
    [(b"", "of 0 bytes"), (b"12345", "of 5 bytes"), (np.array([1, np.nan], "<f4").tobytes(), "with NaN")],
)
def test_a_wrong_embedding_is_refused(path: Path, value: bytes, words: str) -> None:
    key = spoil(path, "vectors", value)
    with EmbeddingCache(path) as cache, pytest.raises(UserError, match=rf"cache\.sqlite is damaged .*{words}.*Delete"):
        cache.vectors([key])


@pytest.mark.parametrize(("value", "words"), [(b"1234", "of 4 bytes"), (np.array(np.nan).tobytes(), "that is NaN")])
def test_a_wrong_figure_is_refused(path: Path, value: bytes, words: str) -> None:
    key = spoil(path, "figures", value)
    with EmbeddingCache(path) as cache, pytest.raises(UserError, match=rf"damaged .*{words}"):
        cache.figures([key])


@pytest.mark.parametrize("damage", ["garbage", "beginning", "middle", "version"])
def test_a_damaged_file_is_named(path: Path, damage: str) -> None:
    with EmbeddingCache(path) as cache:
        cache.store({key: np.ones(512, np.float32) for key in keys(300)}, {})
    content = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"not a database, but long enough to look at" * 10)
    elif damage == "beginning":
        path.write_bytes(content[: len(content) // 3])
    elif damage == "middle":
        path.write_bytes(content[:16384] + np.random.default_rng(0).bytes(len(content) - 16384))
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()

    def read() -> None:
        with EmbeddingCache(path) as cache:
            cache.vectors(keys(300))

    with pytest.raises(UserError, match=r"cache\.sqlite is damaged or another program's \(.*\)\. Delete it"):
        read()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/cache\.sqlite cannot be used"):
        EmbeddingCache(tmp_path / "file" / "cache.sqlite")
    with pytest.raises(UserError, match="cannot be used"):
        EmbeddingCache(tmp_path)


def test_a_file_that_stays_locked_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "BUSY_SECONDS", 0.1)
    with EmbeddingCache(path) as cache, sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"cannot be used \(database is locked\)"):
            cache.store({key_of(1): np.ones(4, np.float32)}, {})
        other.execute("ROLLBACK")
        cache.store({key_of(1): np.ones(4, np.float32)}, {})
    other.close()


WRITER = """
import sys
import numpy as np
from pathlib import Path
from pipeline.cache import EmbeddingCache, key_of
with EmbeddingCache(Path(sys.argv[1])) as cache:
    for batch in range(20):
        keys = [key_of(sys.argv[2], 50 * batch + index) for index in range(50)]
        assert not cache.vectors(keys)
        cache.store({key: np.full(512, batch, np.float32) for key in keys}, {keys[0]: 1.0})
        if batch == 10 and sys.argv[2] == "killed":
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
"""


def start_writer(path: Path, word: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(TECHNICAL)}
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), word], env=environment)


def test_two_processes_at_once_from_the_first_moment(path: Path) -> None:
    writers = [start_writer(path, word) for word in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with EmbeddingCache(path) as cache:
        for word in ("a", "b", "c"):
            assert len(cache.vectors(keys(1000, word))) == 1000


def test_a_killed_process_leaves_its_batches(path: Path) -> None:
    assert start_writer(path, "killed").wait(60) == -9
    with EmbeddingCache(path) as cache:
        found = cache.vectors(keys(1000, "killed"))
        assert len(found) == 550
        cache.store({key_of("more"): np.ones(512, np.float32)}, {})
