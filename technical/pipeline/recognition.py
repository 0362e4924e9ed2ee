"""What a recogniser answers: results that print as a line and are written as JSON. None holds an embedding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.decisions import Verdict
from pipeline.face_crops import Face

UNKNOWN, UNSURE = "unknown", "cannot tell"


@dataclass(frozen=True)
class Result:
    """Something to write as JSON."""

    def record(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Verification(Result):
    """Are two photos of one person?"""

    first: Face
    second: Face
    verdict: Verdict


@dataclass(frozen=True)
class Candidate:
    """Somebody enrolled, by the embedding of theirs that is most like the face."""

    name: str
    score: float
    embedding_id: int


@dataclass(frozen=True)
class Identification(Result):
    """Who is this?"""

    face: Face
    name: str | None
    """Of the best candidate where the verdict is `same`; None otherwise."""
    verdict: Verdict
    """For the face and the best candidate."""
    candidates: tuple[Candidate, ...]
    """The best first."""

    @property
    def label(self) -> str:
        """The name, `unknown`, or `cannot tell`."""
        return self.name or (UNSURE if self.verdict.answer == "cannot tell" else UNKNOWN)


@dataclass(frozen=True)
class Enrolment(Result):
    """Somebody's faces, kept in a gallery."""

    name: str
    faces: tuple[Face, ...]
    embedding_ids: tuple[int, ...]
    """By which the gallery knows them, in the order of `faces`."""


def describe(face: Face) -> str:
    """A line about a face."""
    way = ", by way of the DSR" if face.by_dsr else ""
    return f"{face.photo}, face {face.number}: {face.resolution} pixels{way}"
