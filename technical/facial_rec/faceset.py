"""Faces with the name of their person: `<subject>_<n>.png` files, a folder per identity, or a zip of either.

Reads files only; no torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.errors import UserError
from common.images import ImageStore, RgbImage

HR_FOLDER = "hr_images"
VLR_FOLDER = "vlr_images"
HR_SIZE = 112


@dataclass(frozen=True)
class Face:
    """One image file and its person."""

    name: str
    """Path inside its store, with `/`."""
    subject: str
    """The person's name; the file's own stem where the layout gives no person."""

    @property
    def stem(self) -> str:
        """File name without folder and suffix: what an HR image and its VLR twin share."""
        return PurePosixPath(self.name).stem


class FaceSet:
    """All faces under a root, sorted by path.

    Read are: `<root>/hr_images/<subject>_<n>.png` (the processed layout), `<root>/<subject>_<n>.png`,
    `<root>/<subject>/<anything>.png` (a folder per identity), and a zip of any of these.
    Raises UserError for a root that is missing, empty or not a readable zip.
    """

    def __init__(self, root: Path | str) -> None:
        root = Path(root)
        if (root / HR_FOLDER).is_dir():
            root = root / HR_FOLDER
        self.store = ImageStore(root)
        inside_hr = [name for name in self.store.names if HR_FOLDER in PurePosixPath(name).parts[:-1]]
        names = inside_hr or self.store.names  # a zip of the processed layout holds vlr_images too
        self.faces = [Face(name, subject_of(name)) for name in names]

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def root(self) -> Path:
        return self.store.root

    @property
    def subjects(self) -> list[str]:
        """The distinct people, sorted."""
        return sorted({face.subject for face in self.faces})

    def read(self, face: Face, size: int | None = HR_SIZE) -> RgbImage:
        """RGB uint8 `(size, size, 3)`; `None` takes any size. Errors as in `common.images.decode_image`."""
        return self.store.read(face.name, None if size is None else (size, size))

    def require_identities(self, least: int = 2) -> None:
        """Raise UserError unless at least `least` people are present."""
        found = len(self.subjects)
        if found < least:
            raise UserError(
                f"{self.root} holds {len(self)} images of {found} identity: at least {least} are needed. "
                "Name files <subject>_<n>.png or use a folder per identity."
            )


def subject_of(name: str) -> str:
    """The person in `name`: its folder, unless that is a layout folder; else all before the last underscore.

    >>> subject_of("Ann_Lee/Ann_Lee_0001.jpg"), subject_of("hr_images/ann_lee_3.png"), subject_of("photo.png")
    ('Ann_Lee', 'ann_lee', 'photo')
    """
    path = PurePosixPath(name)
    if path.parent.name and path.parent.name not in (HR_FOLDER, VLR_FOLDER):
        return path.parent.name
    subject, _, number = path.stem.rpartition("_")
    return subject if subject and number else path.stem
