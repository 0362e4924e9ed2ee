"""What was computed of an image, kept in one SQLite file, so that no network sees the same picture twice.

An entry is found by a SHA-256 over everything that its numbers depend on (see `pipeline.embedding`); nothing is ever
out of date, and a file of other weights or images is merely not found. Embeddings are biometric data: the folder is
made readable by its owner alone, and deleting the file deletes them.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.paths import REPOSITORY_ROOT

DEFAULT_CACHE = REPOSITORY_ROOT / ".cache" / "embeddings.sqlite"
BUSY_SECONDS = 60.0
FORMAT = 1
_ASKED_AT_ONCE = 500  # SQLite takes at least 999 parameters in a query
_TABLES = ("vectors", "figures")
_PAGE_BYTES = 16384  # seven embeddings of 512 numbers; the usual page would hold one

Vector = NDArray[np.float32]
Found = TypeVar("Found")


def default_cache() -> Path:
    """`$DSR_CACHE`, else `.cache/embeddings.sqlite` in the repository."""
    return Path(os.environ.get("DSR_CACHE") or DEFAULT_CACHE)


def open_cache(use: bool) -> AbstractContextManager[EmbeddingCache | None]:
    """The default cache for a `with` statement; None without `use`, as `--no-cache` wants it."""
    return EmbeddingCache() if use else nullcontext()


def key_of(*parts: object) -> bytes:
    """The SHA-256 over `parts`, whose words tell all that an entry depends on."""
    return sha256("\n".join(map(str, parts)).encode(errors="surrogateescape")).digest()


class EmbeddingCache:
    """Embeddings (float32 vectors) and image figures (numbers) by key, in one file that several processes may share.

    `path` None is `default_cache()`. Usable as a context manager. Every method raises
    UserError, naming the file, when it is damaged, cannot be written, or stays locked by another process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_cache()
        with self._named_errors():
            self._make_file()
            self._connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._prepare()

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was stored stays."""
        self._connection.close()

    def vectors(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """The embeddings that are there, `(D,)` each, by key."""
        return self._get("vectors", keys, self._vector)

    def figures(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """The numbers that are there, by key."""
        return self._get("figures", keys, self._figure)

    def store(self, vectors: Mapping[bytes, Vector], figures: Mapping[bytes, float]) -> None:
        """Add entries, all or, if the process dies, none; those already there stay as they are.

        Raises ValueError for a vector with NaN or an infinity and for a figure that is NaN.
        """
        if not all(np.isfinite(vector).all() for vector in vectors.values()):
            raise ValueError("a vector with NaN or infinite numbers is not stored")
        if any(np.isnan(figure) for figure in figures.values()):
            raise ValueError("a figure that is NaN is not stored")
        rows = {
            "vectors": [(key, np.asarray(vector, "<f4").tobytes()) for key, vector in vectors.items()],
            "figures": [(key, struct.pack("<d", figure)) for key, figure in figures.items()],
        }
        with self._named_errors(), self._transaction():
            for table, entries in rows.items():
                self._connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", entries)

    def _get(self, table: str, keys: Sequence[bytes], read: Callable[[bytes], Found]) -> dict[bytes, Found]:
        found: dict[bytes, Found] = {}
        with self._named_errors():
            for start in range(0, len(keys), _ASKED_AT_ONCE):
                asked = keys[start : start + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(asked))
                rows = self._connection.execute(f"SELECT key, value FROM {table} WHERE key IN ({marks})", asked)
                found |= {key: read(value) for key, value in rows}
        return found

    def _vector(self, value: bytes) -> Vector:
        if not value or len(value) % 4:
            raise self._damage(f"an embedding of {len(value)} bytes, expected float32 numbers")
        vector = np.frombuffer(value, "<f4")
        if not np.isfinite(vector).all():
            raise self._damage("an embedding with NaN or infinite numbers")
        return vector

    def _figure(self, value: bytes) -> float:
        if len(value) != 8:
            raise self._damage(f"a figure of {len(value)} bytes, expected 8")
        figure: float = struct.unpack("<d", value)[0]
        if np.isnan(figure):
            raise self._damage("a figure that is NaN")
        return figure

    def _make_file(self) -> None:
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            self.path.parent.chmod(0o700)
        # SQLite gives its two neighbours (-wal, -shm) the rights of the file itself.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))

    def _prepare(self) -> None:
        run = self._connection.execute
        run(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._use_write_ahead_log()
        run("PRAGMA synchronous = NORMAL")  # a power cut may lose the last batches, never damage the file
        with self._transaction():
            (version,) = run("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise self._damage(f"format {version}, expected {FORMAT}")
            for table in _TABLES:
                run(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
            run(f"PRAGMA user_version = {FORMAT}")

    def _use_write_ahead_log(self) -> None:
        # While another process switches, SQLite refuses at once instead of waiting its time.
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # some errors have ended it already
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise UserError(
                f"The cache {self.path} cannot be used ({error}). Is it writable, is there room, does another process "
                "hold it? Set DSR_CACHE to another file (pipeline.calibrate: --cache)."
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damage(str(error)) from error

    def _damage(self, found: str) -> UserError:
        return UserError(
            f"The cache {self.path} is damaged or another program's ({found}). Delete it if it is this project's: "
            "all in it can be computed again."
        )
