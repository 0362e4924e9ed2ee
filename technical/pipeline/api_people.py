"""The gallery behind the API: opened when there is one, made when somebody is first enrolled."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from pipeline.api_errors import ApiError
from pipeline.face_crops import EmbeddedFace
from pipeline.gallery import SERVERS, Gallery, Person, check_name
from pipeline.recogniser import Recogniser
from pipeline.recognition import Enrolment, Identification

NOT_OVERWRITTEN = (
    "The person is deleted, but the database still holds the bytes, which could not be overwritten. The next deletion "
    "overwrites them, or `VACUUM (FULL) face_gallery.embeddings, face_gallery.people` on the server."
)
NOBODY = "Nobody is enrolled. Enrol somebody first: POST /people."


class People:
    """Who is enrolled. Safe to use from several threads. A UserError from any method means the gallery is out of use.

    Raises UserError, when it is made, for a gallery that is there and cannot be used.
    """

    def __init__(self, recogniser: Recogniser, where: str) -> None:
        self._recogniser, self._where = recogniser, where
        self._opening = threading.Lock()
        self._gallery: Gallery | None = None
        self._opened()

    def _opened(self) -> Gallery | None:
        """The gallery, where there is one by now: another process may have made it."""
        with self._opening:
            if self._gallery is None and (self._where.startswith(SERVERS) or is_there(Path(self._where))):
                self._gallery = self._recogniser.open_gallery(self._where)
            return self._gallery

    def known(self) -> list[Person]:
        """Everybody, by name."""
        gallery = self._opened()
        return [] if gallery is None else gallery.people()

    def enrol(self, name: str, faces: Sequence[EmbeddedFace]) -> Enrolment:
        """Keep a person's faces, all or none."""
        with self._opening:
            if self._gallery is None:
                self._gallery = self._recogniser.open_gallery(self._where)
        return self._recogniser.enrol_faces(self._gallery, name, faces)

    def identify(self, faces: Sequence[EmbeddedFace], top: int) -> list[Identification]:
        """Who each face is. Raises ApiError (404) where nobody is enrolled."""
        gallery = self._opened()
        if gallery is None or not len(gallery):
            raise ApiError(404, "nobody_enrolled", NOBODY)
        try:
            return self._recogniser.identify_faces(gallery, faces, top)
        except UserError as error:
            if len(gallery):
                raise
            raise ApiError(404, "nobody_enrolled", NOBODY) from error  # emptied meanwhile

    def delete(self, name: str) -> int:
        """Remove a person completely; how many embeddings there were.

        Raises ApiError for an unknown name (404), and where what was deleted could not be overwritten (503).
        """
        gallery = self._opened()
        unknown = ApiError(404, "unknown_person", "Nobody of that name is enrolled. GET /people lists who is.")
        if gallery is None or not is_kept(gallery, name):
            raise unknown
        try:
            removed = gallery.delete(name)
        except UserError as error:
            if is_kept(gallery, name):
                raise
            raise unknown from error  # deleted meanwhile
        if gallery.keeps_deleted:
            try:
                gallery.compact()
            except UserError as error:
                raise ApiError(503, "not_overwritten", NOT_OVERWRITTEN) from error
        return removed

    def close(self) -> None:
        """Let go of the gallery."""
        if self._gallery is not None:
            self._gallery.close()


def is_there(path: Path) -> bool:
    """Whether the file exists. Raises UserError where that cannot be seen."""
    try:
        return path.exists()
    except OSError as error:
        raise UserError(f"--gallery {path} cannot be looked at ({error.strerror}): name another file.") from error


def checked(name: str) -> str:
    """The name as it is kept. Raises ApiError (422) as `check_name`, and for one that no URL can hold."""
    try:
        found = check_name(name)
    except UserError as error:
        raise ApiError(422, "invalid", f"name: {error}") from error
    if found in (".", ".."):
        raise ApiError(422, "invalid", f"name: '{found}' means a folder in a URL. Use another.")
    return found


def is_kept(gallery: Gallery, name: str) -> bool:
    """Whether somebody of this name is enrolled; nobody is by one that cannot be kept."""
    try:
        known = check_name(name)
    except UserError:
        return False
    return bool(gallery.entries(known))
