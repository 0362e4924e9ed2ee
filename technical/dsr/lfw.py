"""LFW as a test split: fetched through scikit-learn, aligned with a detector. Never for training or tuning.

G. B. Huang, M. Ramesh, T. Berg, E. Learned-Miller, "Labeled Faces in the Wild", University of Massachusetts, Amherst,
Technical Report 07-49, 2007.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.images import ImageStore, RgbImage, write_png
from common.progress import progress_bar
from facial_rec.alignment import align_face, template
from facial_rec.detector import DetectedFace, Detector

ALIGNED = ".lfw_"  # folders of aligned faces, of runs that have not ended, begin so
CENTRED = "centred.txt"
_NOBODY_HAS_SO_MANY = 10_000  # photos of one person: the fetcher then loads none into memory
_CENTRED_SIDE, _CENTRED_AT = 0.58, (0.49, 0.46)  # of the photo; the collection's own detector centred every face


def fetch_lfw(data_home: Path | None = None) -> Path:
    """The folder of LFW's original photos, `Name/Name_0001.jpg`, downloaded by scikit-learn's fetcher where it is not.

    Raises UserError when it cannot be downloaded, and where it may have been unpacked in part.
    """
    from sklearn.datasets import fetch_lfw_people, get_data_home  # the one use here, and slow to import

    home = Path(get_data_home(data_home))
    photos = home / "lfw_home" / "lfw"
    if not photos.is_dir():
        print(f"LFW is not in {home}: scikit-learn downloads it (about 180 MB).")
        try:
            fetch_lfw_people(data_home=home, funneled=False, min_faces_per_person=_NOBODY_HAS_SO_MANY)
        except OSError as error:
            raise UserError(
                f"LFW could not be downloaded ({error}). Where you have its photos, give --source folder-or-zip; or "
                f"put lfw.tgz and its three pairs lists into {home / 'lfw_home'}."
            ) from error
        except ValueError as error:  # nobody has so many photos; by then all are unpacked
            if not photos.is_dir():
                raise UserError(f"scikit-learn could not fetch LFW into {home} ({error}).") from error
    elif (archive := photos.with_name("lfw.tgz")).is_file():  # the fetcher removes it when all is unpacked
        raise UserError(
            f"{photos} may hold a part of LFW only: {archive}, from which it is unpacked, is still there. If the "
            "folder is whole, move the archive away; else remove the folder, and it is unpacked again."
        )
    return photos


def photos_mark(store: ImageStore) -> str:
    """Ten hex digits that change with the photos: where they lie, their names, sizes and times."""
    names = [""] if store.root.is_file() else store.names
    found = [(store.root / name).stat() for name in names]
    parts = [str(store.root.resolve()), *store.names, *(f"{one.st_size} {one.st_mtime_ns}" for one in found)]
    return sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:10]


def align_photos(store: ImageStore, folder: Path, detector: Detector) -> list[str]:
    """Align the face nearest the centre of every photo and write it to `folder` under its name, as PNG.

    Faces already there are left: a run that was killed goes on. Returns the photos in which no face was found, which
    are cut out where LFW's faces are.
    """
    notes = folder / CENTRED
    with progress_bar(len(store), "aligning", "photo") as progress:
        for name in store.names:
            target = (folder / name).with_suffix(".png")
            if not target.is_file():
                image = store.read(name)
                faces = detector.detect(image)
                if not faces:
                    folder.mkdir(parents=True, exist_ok=True)
                    with open(notes, "a", encoding="utf-8", errors="surrogateescape") as file:
                        file.write(f"{name}\n")
                landmarks = central(faces, image).landmarks if faces else centred_landmarks(image)
                write_png(target, align_face(image, landmarks))
            progress.update()
    return (
        sorted(set(notes.read_text(encoding="utf-8", errors="surrogateescape").splitlines())) if notes.is_file() else []
    )


def remove_aligned(folder: Path) -> None:
    """Remove what `align_photos` wrote, once the split is complete."""
    shutil.rmtree(folder, ignore_errors=True)


def central(faces: Sequence[DetectedFace], image: RgbImage) -> DetectedFace:
    """The face whose box has its centre nearest the photo's: the person after whom an LFW photo is named."""
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    return min(faces, key=lambda face: float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - middle)))


def centred_landmarks(image: RgbImage) -> NDArray[np.float64]:
    """Where the landmarks of an LFW photo are, about, `(5, 2)`."""
    height, width = image.shape[:2]
    size = round(_CENTRED_SIDE * min(height, width))
    return template(size) - size / 2 + np.array(_CENTRED_AT) * (width, height)
