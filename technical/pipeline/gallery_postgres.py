"""A gallery on a PostgreSQL server with pgvector, for when one machine is outgrown: one gallery a database.

The search goes through an HNSW index by inner product, which of unit vectors is the cosine. Such an index is
approximate: `EF_SEARCH` candidates are kept on the way (Yu. Malkov and D. Yashunin, "Efficient and robust approximate
nearest neighbor search using Hierarchical Navigable Small World graphs", TPAMI 42(4), 2020); more find more, and take
longer. Needs psycopg 3: `poetry install --extras postgres`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from pipeline.gallery import FORMAT, Gallery, Match, Person, Vectors, check_made_with

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise UserError(
        f"A gallery on PostgreSQL needs psycopg 3 ({error}). Install it with `poetry install --extras postgres`."
    ) from error

EF_SEARCH = 400
_MOST_CANDIDATES = 1000  # pgvector's own limit of hnsw.ef_search
_CONNECT_SECONDS = 10
_ONE_AT_A_TIME = 0x44534746  # an advisory lock, so that two processes do not make the tables at once
_SCHEMA = (
    "CREATE SCHEMA face_gallery",
    "CREATE TABLE face_gallery.gallery (format int NOT NULL, model_sha256 text NOT NULL, dim int NOT NULL)",
    "CREATE TABLE face_gallery.people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE)",
    # json, not jsonb, keeps the text as it was given, as SQLite does
    "CREATE TABLE face_gallery.embeddings (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person bigint NOT NULL "
    "REFERENCES face_gallery.people (id), vector vector({dim}) NOT NULL, metadata json NOT NULL)",
    "CREATE INDEX ON face_gallery.embeddings (person)",
    "CREATE INDEX embeddings_by_likeness ON face_gallery.embeddings USING hnsw (vector vector_ip_ops)",
)
# The nearest embeddings by the index; and, looking at all, the nearest embedding of each person.
_NEAREST = """
    SELECT id, person, metadata, vector <#> %(probe)s::vector AS distance FROM face_gallery.embeddings
    ORDER BY vector <#> %(probe)s::vector LIMIT %(count)s"""
_EXACT = """
    SELECT DISTINCT ON (person) id, person, metadata, vector <#> %(probe)s::vector AS distance
    FROM face_gallery.embeddings ORDER BY person, distance, id"""
_NAMED = """
    SELECT name, -distance, best.id, metadata, person FROM ({best}) AS best
    JOIN face_gallery.people ON people.id = person ORDER BY distance, person, best.id LIMIT %(count)s"""


class PostgresGallery(Gallery):
    """See `pipeline.gallery.Gallery` and `open_gallery`, which makes one."""

    keeps_deleted = True

    def __init__(self, url: str, model_sha256: str, dim: int, create: bool = True) -> None:
        self.where, self._url = _shown(url), url
        self.model_sha256, self.dim = model_sha256, dim
        self._lock = threading.RLock()
        self._depth, self._ended = 0, False  # transactions that are open; whether close() was called
        self._connect(create)

    def _connect(self, create: bool) -> None:
        with self._named_errors():
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS)
            try:
                self._prepare(create)
            except BaseException:
                self._connection.close()
                raise

    def _reconnect(self) -> None:
        """Connect again where the server ended the connection; not within a transaction, which is lost with it."""
        if self._connection.closed and not self._ended and self._depth == 0:
            self._connect(create=False)

    def close(self) -> None:
        self._ended = True
        self._connection.close()

    def people(self) -> list[Person]:
        query = (
            "SELECT name, count(*) FROM face_gallery.people JOIN face_gallery.embeddings ON person = people.id "
            "GROUP BY people.id"
        )
        return [Person(name, count) for name, count in sorted(self._rows(query))]

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM face_gallery.embeddings")[0][0])

    def compact(self) -> None:
        with self._lock, self._named_errors():
            self._reconnect()
            for table in ("embeddings", "people"):
                self._connection.execute(f"VACUUM (FULL, ANALYZE) face_gallery.{table}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock, self._named_errors():
            self._reconnect()
            self._depth += 1
            try:
                with self._connection.transaction():
                    yield
            finally:
                self._depth -= 1

    def _add(self, name: str, vectors: Vectors, metadata: Sequence[str]) -> list[int]:
        person = (
            "INSERT INTO face_gallery.people (name) VALUES (%s) "
            "ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id"
        )
        embedding = (
            "INSERT INTO face_gallery.embeddings (person, vector, metadata) VALUES (%s, %s::vector, %s::json) "
            "RETURNING id"
        )
        with self.transaction():
            self._check_model(" FOR SHARE")  # so that nobody makes it another model's meanwhile
            ((owner,),) = self._rows(person, [name])
            with self._connection.cursor() as cursor:
                rows = [(owner, _text(row), text) for row, text in zip(vectors, metadata, strict=True)]
                cursor.executemany(embedding, rows, returning=True)
                return _numbers(cursor)

    def _delete(self, name: str) -> int | None:
        with self.transaction():
            found = self._rows("SELECT id FROM face_gallery.people WHERE name = %s FOR UPDATE", [name])
            if not found:
                return None
            removed = self._connection.execute("DELETE FROM face_gallery.embeddings WHERE person = %s", found[0])
            self._connection.execute("DELETE FROM face_gallery.people WHERE id = %s", found[0])
            return removed.rowcount

    def _entries(self, name: str) -> list[tuple[int, str]]:
        query = (
            "SELECT embeddings.id, metadata::text FROM face_gallery.embeddings "
            "JOIN face_gallery.people ON person = people.id WHERE name = %s ORDER BY embeddings.id"
        )
        return self._rows(query, [name])

    def _search(self, probes: Vectors, top: int) -> list[list[Match]]:
        with self.transaction():
            self._check_model()
            ((people,),) = self._rows("SELECT count(*) FROM face_gallery.people")
            return [self._nearest(_text(probe), min(top, people)) for probe in probes]

    def _nearest(self, probe: str, top: int) -> list[Match]:
        """The `top` people of one probe. More rows are asked for until there are people enough among them."""
        count = 4 * top
        while count <= _MOST_CANDIDATES and top:
            self._rows("SELECT set_config('hnsw.ef_search', %s, true)", [str(max(EF_SEARCH, count))])
            rows = self._rows(_NAMED.format(best=_NEAREST), {"probe": probe, "count": count})
            best = {row[-1]: row for row in reversed(rows)}  # the nearest of a person comes last, and stays
            if len(best) >= top:
                return [Match(*row[:-1]) for row in rows if best[row[-1]] is row][:top]
            count *= 4
        rows = self._rows(_NAMED.format(best=_EXACT), {"probe": probe, "count": top})
        return [Match(*row[:-1]) for row in rows]

    def _rows(self, query: str, values: Sequence[Any] | dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._lock, self._named_errors():
            self._reconnect()
            return self._connection.execute(query.encode(), values).fetchall()

    def _prepare(self, create: bool) -> None:
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
            ((there,),) = self._rows("SELECT to_regclass('face_gallery.gallery') IS NOT NULL")
            if not there and not create:
                raise UserError(f"There is no gallery in {self.where}. Enrol somebody first, or name another database.")
            if not there:
                self._create()
            elif create:
                self._adopt_empty()
        ((version,),) = self._rows("SELECT format FROM face_gallery.gallery")
        if version != FORMAT:
            raise UserError(
                f"{self.where} is a gallery of format {version}, expected {FORMAT}: a newer version's. Update."
            )
        self._check_model()

    def _check_model(self, lock: str = "") -> None:
        """UserError where the gallery is of another model, which an empty one may have become since it was opened."""
        (found,) = self._rows(f"SELECT model_sha256, dim FROM face_gallery.gallery{lock}")
        check_made_with(self.where, (found[0], found[1]), (self.model_sha256, self.dim))

    def _adopt_empty(self) -> None:
        """A gallery that holds nobody is of no model: it becomes one of this model."""
        ((format_, *made_with),) = self._rows("SELECT format, model_sha256, dim FROM face_gallery.gallery FOR UPDATE")
        ((holds,),) = self._rows("SELECT EXISTS (SELECT 1 FROM face_gallery.embeddings)")
        if holds or format_ != FORMAT or tuple(made_with) == (self.model_sha256, self.dim):
            return
        if made_with[1] != self.dim:
            change = "ALTER TABLE face_gallery.embeddings ALTER COLUMN vector TYPE vector({dim})"
            self._connection.execute(change.format(dim=int(self.dim)).encode())
        update = "UPDATE face_gallery.gallery SET model_sha256 = %s, dim = %s"
        self._connection.execute(update, [self.model_sha256, self.dim])

    def _create(self) -> None:
        try:
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            raise UserError(
                f"{self.where} has no pgvector ({_first_line(error)}). Install it on the server (Debian: "
                "postgresql-NN-pgvector), and say CREATE EXTENSION vector there as a superuser."
            ) from error
        for statement in _SCHEMA:
            self._connection.execute(statement.format(dim=self.dim).encode())
        insert = "INSERT INTO face_gallery.gallery VALUES (%s, %s, %s)"
        self._connection.execute(insert, [FORMAT, self.model_sha256, self.dim])

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise UserError(
                f"The gallery {self.where} cannot be used ({_first_line(error)}). Does the server run, and may this "
                "user read and write there? What was enrolled before is kept."
            ) from error


def _shown(url: str) -> str:
    """What may be printed of a URL: everything but the password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise UserError(
            "The gallery's URL cannot be read: expected postgresql://user:password@host:port/database "
            "(special characters as %XX)."
        ) from error
    return f"PostgreSQL database '{parts.get('dbname', '')}' on {parts.get('host', 'this machine')}"


def _text(vector: NDArray[np.float32]) -> str:
    """pgvector's notation; nine digits give every float32 back exactly."""
    return "[" + ",".join(f"{number:.9g}" for number in vector.tolist()) + "]"


def _numbers(cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[int]:
    """What each statement of an `executemany` returned."""
    numbers = [int(row[0]) for row in cursor.fetchall()]
    while cursor.nextset():
        numbers += [int(row[0]) for row in cursor.fetchall()]
    return numbers


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().split("\n")[0]
