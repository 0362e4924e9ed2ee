"""The people a recogniser knows: names with embeddings, kept in one SQLite file or on a PostgreSQL server.

    with open_gallery("people.sqlite", recogniser.sha256, 512) as gallery:
        gallery.enrol("Ann Lee", embeddings, [{"file": "ann_1.jpg"}, {"file": "ann_2.jpg"}])
        best = gallery.search(probes, top=5)[0][0]  # name, score, embedding_id, metadata

Both stores keep the interface here, and check what they are given in the same way. Embeddings of people are biometric
data: see `delete` and `compact` for what deleting means in each store.
"""

from __future__ import annotations

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError

Vectors = NDArray[np.float32]
Metadata = Mapping[str, Any]

FORMAT = 1
LONGEST_NAME = 200
LONGEST_METADATA = 65_536  # characters of JSON
WIDEST = 2_000  # pgvector indexes no wider vector
SERVERS = ("postgresql://", "postgres://")
# Controls, halves of surrogate pairs, unassigned and private characters, separators of lines and paragraphs.
_NOT_IN_NAMES = ("Cc", "Cs", "Cn", "Co", "Zl", "Zp")
_TURNS_TEXT = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Match:
    """A person found, by the embedding of theirs that is most like the probe."""

    name: str
    score: float
    """Cosine similarity, -1 to 1."""
    embedding_id: int
    metadata: dict[str, Any]
    """What was given with that embedding."""


@dataclass(frozen=True)
class Person:
    """Somebody enrolled."""

    name: str
    embeddings: int
    """How many are kept of them."""


@dataclass(frozen=True)
class Kept:
    """One embedding of a person, without its numbers."""

    embedding_id: int
    metadata: dict[str, Any]


class Gallery(ABC):
    """Names with embeddings of one model. Usable as a context manager, and from several threads.

    Every method raises UserError, naming the gallery, when it is damaged, cannot be reached or stays locked.
    """

    where: str
    """The path or, without its password, the URL: what errors call it."""
    model_sha256: str
    dim: int
    keeps_deleted: bool
    """Whether the store still holds what was deleted, until `compact`."""

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def enrol(
        self, name: str, embeddings: ArrayLike, metadata: Metadata | Sequence[Metadata] | None = None
    ) -> list[int]:
        """Add embeddings `(N, D)` or `(D,)` to a person, new or known, all or none; the numbers by which they are kept.

        They are scaled to length 1. `metadata` is a JSON object for all of them, or one each. When this returns they
        are on the disk, unless within `transaction`. Raises UserError as `check_name`, `check_embeddings` and
        `check_metadata` do.
        """
        vectors = check_embeddings(embeddings, self.dim)
        return self._add(check_name(name), vectors, check_metadata(metadata, len(vectors)))

    def search(self, probes: ArrayLike, top: int = 5) -> list[list[Match]]:
        """For each probe of `(Q, D)` or `(D,)` the `top` people most like it, best first; fewer where fewer are known.

        A person counts once, with the highest cosine among their embeddings. Raises UserError as `check_embeddings`.
        """
        if top < 1:
            raise UserError(f"A search gives 1 person or more, found top={top}.")
        if np.ndim(probes) == 2 and not len(np.asarray(probes)):
            return []
        return self._search(check_embeddings(probes, self.dim), top)

    def delete(self, name: str) -> int:
        """Remove a person with all embeddings and metadata; the number of embeddings removed.

        In SQLite their bytes are overwritten at once, but for the journal's, which is removed. PostgreSQL finds them no
        more, but its pages hold them until `compact`, its log and backups until those are recycled. Raises UserError
        for a name that is not enrolled.
        """
        known = check_name(name)
        removed = self._delete(known)
        if removed is None:
            raise UserError(f"{self.where} knows nobody called '{known}'. `people` lists who is enrolled.")
        return removed

    def entries(self, name: str) -> list[Kept]:
        """The embeddings of a person by number, oldest first; empty for a name that is not enrolled."""
        return [Kept(number, json.loads(text)) for number, text in self._entries(check_name(name))]

    @abstractmethod
    def people(self) -> list[Person]:
        """Everybody enrolled, by name."""

    @abstractmethod
    def __len__(self) -> int:
        """How many embeddings there are."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A `with` block whose enrolments and deletions are all kept or, when it fails or the process dies, none."""

    @abstractmethod
    def compact(self) -> None:
        """Rewrite the store without what was deleted. Takes time, and keeps others waiting."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file or server; what was enrolled stays."""

    @abstractmethod
    def _add(self, name: str, vectors: Vectors, metadata: Sequence[str]) -> list[int]: ...

    @abstractmethod
    def _search(self, probes: Vectors, top: int) -> list[list[Match]]: ...

    @abstractmethod
    def _delete(self, name: str) -> int | None: ...

    @abstractmethod
    def _entries(self, name: str) -> list[tuple[int, str]]: ...


def open_gallery(where: str | Path, model_sha256: str, dim: int, create: bool = True) -> Gallery:
    """The gallery in the SQLite file `where`, or on the server of a `postgresql://` URL; made if there is none.

    `model_sha256` is the checksum of the weights whose embeddings, `dim` numbers each, are compared; with `create`, a
    gallery that holds nobody becomes one of this model. Raises UserError for a gallery of another model, a file that is
    no gallery or is damaged, a server that cannot be reached and, with `create` false, for one that does not exist.
    """
    if not re.fullmatch("[0-9a-f]{64}", model_sha256):
        raise UserError(f"A model's SHA-256 is 64 hexadecimal digits, found '{model_sha256}'.")
    if not 1 <= dim <= WIDEST:
        raise UserError(f"Embeddings of 1 to {WIDEST:,} numbers can be kept, found {dim:,}.")
    if str(where).startswith(SERVERS):
        from pipeline.gallery_postgres import PostgresGallery  # psycopg is an extra

        return PostgresGallery(str(where), model_sha256, dim, create)
    from pipeline.gallery_sqlite import SqliteGallery

    return SqliteGallery(Path(where), model_sha256, dim, create)


def check_name(name: str) -> str:
    """`name` in Unicode's composed form (NFC), without white space at its ends.

    Raises UserError for one that is empty, longer than 200 characters, or holds control characters or others that
    change how the text around them reads.
    """
    composed = unicodedata.normalize("NFC", name).strip()
    if not composed or len(composed) > LONGEST_NAME:
        raise UserError(f"A name has 1 to {LONGEST_NAME} characters, found {len(composed)}: {composed[:40]!r}.")
    wrong = [one for one in composed if unicodedata.category(one) in _NOT_IN_NAMES or one in _TURNS_TEXT]
    if wrong:
        raise UserError(f"The name {composed!r} holds the control character {wrong[0]!r}. Write it without.")
    return composed


def check_embeddings(embeddings: ArrayLike, dim: int) -> Vectors:
    """`(N, dim)` float32 rows of length 1 from `(N, dim)` or `(dim,)`, N at least 1.

    Raises UserError for another width, for NaN and infinities, and for a row of zeros, which has no direction.
    """
    rows = np.atleast_2d(np.asarray(embeddings, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != dim or not len(rows):
        raise UserError(f"Expected embeddings (N, {dim}), found shape {np.shape(embeddings)}: are they of this model?")
    if not np.isfinite(rows).all():
        broken = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise UserError(f"Embedding {broken} holds NaN or infinite numbers. Look at the image it was made from.")
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        raise UserError(f"Embedding {int(np.argmin(largest))} is all zeros: it is like nobody, and cannot be compared.")
    rows = rows / largest  # no square under- or overflows
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def check_metadata(metadata: Metadata | Sequence[Metadata] | None, count: int) -> list[str]:
    """JSON text for each of `count` embeddings, from one object for all, one each, or None.

    Raises UserError for what JSON cannot hold, for more than 65,536 characters, and for another number of objects.
    """
    objects = [metadata or {}] * count if metadata is None or isinstance(metadata, Mapping) else list(metadata)
    if len(objects) != count or not all(isinstance(one, Mapping) for one in objects):
        raise UserError(f"Expected metadata as one JSON object, or one for each of {count} embeddings.")
    try:
        texts = [json.dumps(dict(one), allow_nan=False) for one in objects]
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"Metadata must be what JSON can hold: {error}.") from error
    longest = max(map(len, texts))
    if longest > LONGEST_METADATA:
        raise UserError(f"Metadata of {longest:,} characters: at most {LONGEST_METADATA:,} are kept an embedding.")
    return texts


def check_made_with(where: str, found: tuple[str, int], wanted: tuple[str, int]) -> None:
    """Raise UserError unless the gallery's model checksum and embedding width, `found`, are those `wanted`."""
    if found == wanted:
        return
    made, asked = (f"model {sha256[:12]}… ({dim} numbers an embedding)" for sha256, dim in (found, wanted))
    raise UserError(
        f"{where} holds embeddings of {made}, and this recogniser is {asked}: they cannot be compared. "
        "Load the weights it was made with, or enrol everybody again in another gallery."
    )
