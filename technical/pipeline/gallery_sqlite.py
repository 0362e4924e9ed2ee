"""A gallery in one SQLite file: names, metadata and float32 vectors; the search is exact, by a matrix product.

The vectors are read once and kept in memory (2 KB each at 512 numbers); what another process has added or deleted
since is noticed at the next search. A rollback journal rather than a write-ahead log: at rest the gallery is one file
that can be copied, and a deleted person's bytes stay in no second one. Each commit is synced to the disk.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common.errors import UserError
from pipeline.gallery import FORMAT, Gallery, Match, Person, Vectors, check_made_with
from pipeline.gallery_search import Rows, best_people, joined, no_rows

BUSY_SECONDS = 60.0
APPLICATION = 0x44534746  # "DSGF": in the file's header, it says whose database this is
_PAGE_BYTES = 16384  # seven embeddings of 512 numbers; the usual page would hold one
# How it begins, is kept, and is undone: by itself, and as part of a larger one.
_MAGIC_BYTES = 16  # "SQLite format 3" and a zero, with which every database begins
_TRANSACTION = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_SAVEPOINT = ("SAVEPOINT part", "RELEASE part", ("ROLLBACK TO part", "RELEASE part"))
_SCHEMA = (
    "CREATE TABLE gallery (model_sha256 TEXT NOT NULL, dim INTEGER NOT NULL, deletions INTEGER NOT NULL)",
    "CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE embeddings (id INTEGER PRIMARY KEY AUTOINCREMENT, person INTEGER NOT NULL REFERENCES people (id), "
    "vector BLOB NOT NULL, metadata TEXT NOT NULL)",
    "CREATE INDEX embeddings_of_person ON embeddings (person)",
)


class SqliteGallery(Gallery):
    """See `pipeline.gallery.Gallery` and `open_gallery`, which makes one."""

    keeps_deleted = False

    def __init__(self, path: Path, model_sha256: str, dim: int, create: bool = True) -> None:
        self.path, self.where = path, str(path)
        self.model_sha256, self.dim = model_sha256, dim
        self._rows: Rows | None = None
        self._version = -1
        self._lock = threading.RLock()
        with self._named_errors():
            self._look_at_file(create)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(create)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        self._connection.close()

    def people(self) -> list[Person]:
        with self._lock, self._named_errors():
            found = self._connection.execute(
                "SELECT name, COUNT(*) FROM people JOIN embeddings ON person = people.id GROUP BY people.id"
            ).fetchall()
        return [Person(name, count) for name, count in sorted(found)]

    def __len__(self) -> int:
        with self._lock, self._named_errors():
            (count,) = self._connection.execute("SELECT COUNT(*) FROM embeddings").fetchone()
        return int(count)

    def compact(self) -> None:
        with self._lock, self._named_errors():
            self._connection.execute("VACUUM")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            inner = self._connection.in_transaction
            begin, keep, undo = _SAVEPOINT if inner else _TRANSACTION
            with self._named_errors():
                self._connection.execute(begin)
            try:
                yield
                with self._named_errors():
                    self._connection.execute(keep)
            except BaseException:
                self._rows = None  # it may hold what is now taken back
                if self._connection.in_transaction:  # some errors have ended it already
                    for statement in undo:
                        self._connection.execute(statement)
                raise

    def _add(self, name: str, vectors: Vectors, metadata: Sequence[str]) -> list[int]:
        rows = zip(np.ascontiguousarray(vectors, "<f4"), metadata, strict=True)
        with self.transaction(), self._named_errors():
            run = self._connection.execute
            self._check_model()
            run("INSERT OR IGNORE INTO people (name) VALUES (?)", [name])
            (person,) = run("SELECT id FROM people WHERE name = ?", [name]).fetchone()
            insert = "INSERT INTO embeddings (person, vector, metadata) VALUES (?, ?, ?)"
            added = [run(insert, [person, row.tobytes(), text]).lastrowid for row, text in rows]
        self._version = -1
        return [int(number) for number in added if number is not None]

    def _delete(self, name: str) -> int | None:
        with self.transaction(), self._named_errors():
            run = self._connection.execute
            found = run("SELECT id FROM people WHERE name = ?", [name]).fetchone()
            if found is None:
                return None
            removed = run("DELETE FROM embeddings WHERE person = ?", found).rowcount
            run("DELETE FROM people WHERE id = ?", found)
            run("UPDATE gallery SET deletions = deletions + 1")
        self._rows = None  # its memory too
        self._version = -1
        return removed

    def _entries(self, name: str) -> list[tuple[int, str]]:
        query = (
            "SELECT embeddings.id, metadata FROM embeddings JOIN people ON person = people.id "
            "WHERE name = ? ORDER BY embeddings.id"
        )
        with self._lock, self._named_errors():
            return [(int(number), str(text)) for number, text in self._connection.execute(query, [name])]

    def _search(self, probes: Vectors, top: int) -> list[list[Match]]:
        with self._lock, self._named_errors():
            rows = self._refreshed()
        found = best_people(rows.vectors, rows.owners, probes, top)
        return [[rows.match(row, score) for row, score in one] for one in found]

    def _refreshed(self) -> Rows:
        """The rows as they are in the file now; only what is new is read."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if self._rows is None or version != self._version:
            with self._reading():
                self._rows = self._read_rows(self._rows)
            self._version = version
        return self._rows

    def _read_rows(self, known: Rows | None) -> Rows:
        run = self._connection.execute
        self._check_model()
        (deletions,) = run("SELECT deletions FROM gallery").fetchone()
        if known is None or known.deletions != deletions:
            known = no_rows(self.dim, deletions)
        newest = int(known.ids.max(initial=0))  # numbers are never given twice, and grow
        (count,) = run("SELECT COUNT(*) FROM embeddings WHERE id > ?", [newest]).fetchone()
        vectors = np.empty((count, self.dim), dtype=np.float32)
        owners, ids, metadata = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64), []
        query = "SELECT id, person, vector, metadata FROM embeddings WHERE id > ? ORDER BY id"
        for row, (number, person, blob, text) in enumerate(run(query, [newest])):
            if len(blob) != 4 * self.dim:
                raise self._damage(f"embedding {number} has {len(blob)} bytes, expected {4 * self.dim}")
            vectors[row], owners[row], ids[row] = np.frombuffer(blob, "<f4"), person, number
            metadata.append(str(text))
        lengths = np.einsum("nd,nd->n", vectors, vectors)
        wrong = np.flatnonzero(~(np.abs(lengths - 1.0) < 1e-3))  # NaN is wrong too
        if len(wrong):
            raise self._damage(f"embedding {ids[wrong[0]]} is not of length 1")
        last_person = max(known.names, default=0)
        names = known.names | dict(run("SELECT id, name FROM people WHERE id > ?", [last_person]))
        return joined(known, Rows(vectors, owners, ids, metadata, names, deletions))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One state of the file for several queries."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def _look_at_file(self, create: bool) -> None:
        """Refuse what SQLite would take for a new or a broken database, and make a missing file."""
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder: expected the file of a gallery. Give a file's name in it.")
        if not self.path.exists():
            if not create:
                raise self._nobody()
            if not self.path.parent.is_dir():
                self.path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        if 0 < self.path.stat().st_size < _MAGIC_BYTES:
            raise self._no_database()

    def _prepare(self, create: bool) -> None:
        run = self._connection.execute
        run("PRAGMA secure_delete = ON")  # deleted bytes are overwritten with zeros
        run("PRAGMA synchronous = EXTRA")  # a commit outlives a power cut
        if self._is_new():
            if not create:
                raise self._nobody()
            run(f"PRAGMA page_size = {_PAGE_BYTES}")
            self._create()
        (application,), (version,) = run("PRAGMA application_id").fetchone(), run("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise UserError(
                f"{self.path} is the database of another program, not a gallery. It was left as it is: give another."
            )
        if version != FORMAT:
            raise UserError(
                f"{self.path} is a gallery of format {version}, expected {FORMAT}: it is a newer version's. Update."
            )
        (health,) = run("PRAGMA quick_check(1)").fetchone()
        if health != "ok":
            raise self._damage(health)
        if create:
            self._adopt_empty()
        self._check_model()

    def _check_model(self) -> None:
        """UserError where the gallery is of another model, which an empty one may have become since it was opened."""
        found = self._connection.execute("SELECT model_sha256, dim FROM gallery").fetchone()
        check_made_with(self.where, tuple(found), self._made_with)

    def _adopt_empty(self) -> None:
        """A gallery that holds nobody is of no model: it becomes one of this model."""
        run = self._connection.execute
        if tuple(run("SELECT model_sha256, dim FROM gallery").fetchone()) == self._made_with:
            return
        with self.transaction():
            (holds,) = run("SELECT EXISTS (SELECT 1 FROM embeddings)").fetchone()
            if not holds:
                run("UPDATE gallery SET model_sha256 = ?, dim = ?", self._made_with)

    def _is_new(self) -> bool:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (tables,) = self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        return application == 0 and tables == 0

    def _create(self) -> None:
        with self.transaction():
            if not self._is_new():  # another process was quicker
                return
            for statement in _SCHEMA:
                self._connection.execute(statement)
            self._connection.execute("INSERT INTO gallery VALUES (?, ?, 0)", self._made_with)
            self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
            self._connection.execute(f"PRAGMA user_version = {FORMAT}")

    @property
    def _made_with(self) -> tuple[str, int]:
        return self.model_sha256, self.dim

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise UserError(
                f"The gallery {self.path} cannot be used ({error}). Is it writable, is there room, does another "
                "process hold it? What was enrolled before is kept."
            ) from error
        except sqlite3.ProgrammingError:
            raise  # the caller's mistake, such as using a gallery that is closed
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise self._no_database() from error
            raise self._damage(str(error)) from error

    def _no_database(self) -> UserError:
        """Found by SQLite itself: a file read and closed beside it would let go of the locks of this process."""
        return UserError(f"{self.path} is not an SQLite database, so no gallery. It was left as it is: give another.")

    def _nobody(self) -> UserError:
        return UserError(f"There is no gallery at {self.path}. Enrol somebody first, or give the path of one.")

    def _damage(self, found: str) -> UserError:
        return UserError(
            f"The gallery {self.path} is damaged ({' '.join(found.split())}). It was left as it is: restore a backup, "
            f"or save what is readable with `sqlite3 {self.path.name} .recover`, and enrol the others again."
        )
