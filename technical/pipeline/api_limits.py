"""How much the API takes on, and the counters that hold it to that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from common.errors import UserError
from pipeline.api_errors import busy

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask for, and how many may ask at once."""

    max_bytes: int = 8 * MIB
    """Largest photo, in bytes of its file."""
    max_pixels: int = 25_000_000
    """Largest photo, in pixels: a small file can unpack to a huge picture."""
    max_faces: int = 32
    """Most faces in a photo."""
    queue: int = 64
    """Requests that wait or are worked on; more are answered 429."""
    senders: int = 64
    """Uploads that are received at a time; more are answered 429."""
    held_bytes: int = 256 * MIB
    """Bytes of uploads held in memory at a time; what comes on top is answered 429."""
    head_seconds: float = 10.0
    """Time for the head of a request."""
    upload_seconds: float = 15.0
    """Time for a whole upload."""
    answer_seconds: float = 30.0
    """Time from a whole upload to the answer, but for the keeping of an enrolment, which is waited for."""

    def check(self) -> None:
        """Raise UserError for a limit that would refuse everything."""
        for field in fields(Limits):
            value = getattr(self, field.name)
            if value <= 0:
                raise UserError(f"--{field.name.replace('_', '-')} {value}: expected more than 0.")


class Bound:
    """A counter that refuses to go above `most`. For one thread: that of the event loop."""

    def __init__(self, most: int, refusal: str) -> None:
        self.most, self.taken, self._refusal = most, 0, refusal

    def require_room(self) -> None:
        """Raise ApiError (429) where not one more would be taken."""
        if self.taken >= self.most:
            raise busy(self._refusal)

    def take(self, count: int = 1) -> None:
        """Count `count` more. Raises ApiError (429), and counts nothing, where that is above `most`."""
        if self.taken + count > self.most:
            raise busy(self._refusal)
        self.taken += count

    def give(self, count: int = 1) -> None:
        """Count `count` less."""
        self.taken -= count

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take one for the length of a `with` block."""
        self.take()
        try:
            yield
        finally:
            self.give()


class Held:
    """The bytes of one upload, as a part of what `bound` counts; given back by `release`."""

    def __init__(self, bound: Bound) -> None:
        self._bound, self._count = bound, 0

    def add(self, count: int) -> None:
        """Hold more. Raises ApiError (429) as `Bound.take`."""
        self._bound.take(count)
        self._count += count

    def release(self) -> None:
        """Hold nothing any more."""
        self._bound.give(self._count)
        self._count = 0
