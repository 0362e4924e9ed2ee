"""Find the faces in photos, and write them aligned: `crops/`, `faces.csv`, `faces.json`, and `boxes/` to look at.

    python -m pipeline.detect photo.jpg --out faces
    python -m pipeline.detect photos/ --out faces --detector yunet

A folder or zip is read with everything in it. A file that cannot be read or shows no face is named at the end; that is
an error only where no photo gave a face.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import cv2
import tyro

from common import cli
from common.errors import UserError
from common.files import write_json, write_text
from common.images import ImageStore, RgbImage, write_png
from common.progress import progress_bar
from facial_rec.alignment import TEMPLATE_SIZE, align_face, native_size
from pipeline.aligned_face import no_face
from pipeline.detector import DetectedFace, Detector, DetectorName, load_detector
from pipeline.photos import decode_photo, read_photo

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")  # left and right as seen in the photo
COLUMNS = ["photo", "crop", "score", "native_size", "left", "top", "right", "bottom"]
COLUMNS += [f"{landmark}_{axis}" for landmark in LANDMARKS for axis in "xy"]


@dataclass(frozen=True)
class Config:
    """Which photos, and how."""

    photos: Annotated[Path, tyro.conf.Positional]
    """Photo, or folder or zip of photos."""
    out: Path
    """Folder to write into; files of the same name are replaced."""
    detector: DetectorName = "mtcnn"
    """mtcnn works straight after installation; yunet is faster, and its file is downloaded the first time."""
    weights: Path | None = None
    """YuNet's ONNX file, where it is not in checkpoints/."""
    threads: int = 0
    """Threads of MTCNN; 0 lets onnxruntime choose."""
    size: int = TEMPLATE_SIZE
    """Side of the aligned faces in pixels."""


@dataclass
class Found:
    """What a run found: a row a face, and why other photos gave none."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    photos: int = 0


def main(cfg: Config) -> None:
    """Write crops, tables and pictures. UserError when no photo gave a face, and for unusable options."""
    if cfg.size < 8:
        raise UserError(f"--size {cfg.size}: expected at least 8 pixels.")
    detector = load_detector(cfg.detector, cfg.weights, cfg.threads)
    found = find_faces(cfg, detector)
    for problem in found.problems:
        print(f"skipped: {problem}")
    with_faces = len({row["photo"] for row in found.rows})
    print(f"{found.photos} photos: {len(found.rows)} faces in {with_faces}, {len(found.problems)} skipped")
    if not found.rows:
        raise UserError(f"{cfg.photos}: no photo gave a face; the lines above say why.")
    _write_tables(cfg.out, found.rows, detector)
    print(f"written: {cfg.out}/crops, {cfg.out}/boxes, {cfg.out}/faces.csv and faces.json")


def find_faces(cfg: Config, detector: Detector) -> Found:
    """Look at every photo, write its crops and its picture, and collect rows and problems."""
    found = Found()
    total, photos = _photos(cfg.photos)
    with progress_bar(total, "detecting", "photo") as progress:
        for name, read in photos:
            found.photos += 1
            try:
                found.rows += _one_photo(cfg, detector, name, read())
            except UserError as error:
                found.problems.append(str(error))
            progress.update()
    return found


def _one_photo(cfg: Config, detector: Detector, name: str, image: RgbImage) -> list[dict[str, Any]]:
    faces = detector.detect(image)
    if not faces:
        raise UserError(no_face(name, detector))
    rows = []
    for number, face in enumerate(faces, start=1):
        crop = f"{name}_{number}.png"  # with the suffix: photos that differ by it alone stay apart
        write_png(cfg.out / "crops" / crop, align_face(image, face.landmarks, cfg.size))
        rows.append(_row(name, crop, face))
    write_png(cfg.out / "boxes" / f"{name}.png", drawn(image, faces))
    return rows


def _row(name: str, crop: str, face: DetectedFace) -> dict[str, Any]:
    numbers = [round(float(value), 2) for value in (*face.box, *face.landmarks.ravel())]
    first = [name, crop, round(face.score, 4), round(native_size(face.landmarks), 1)]
    return dict(zip(COLUMNS, [*first, *numbers], strict=True))


def drawn(image: RgbImage, faces: list[DetectedFace]) -> RgbImage:
    """A copy of the photo with boxes and landmarks in it."""
    picture = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 400))
    for face in faces:
        left, top, right, bottom = (round(float(value)) for value in face.box)
        cv2.rectangle(picture, (left, top), (right, bottom), (0, 220, 0), thickness)
        for x, y in face.landmarks.round().astype(int).tolist():
            cv2.circle(picture, (x, y), thickness, (255, 40, 40), cv2.FILLED)
    return picture


def _photos(path: Path) -> tuple[int, Iterator[tuple[str, Any]]]:
    """How many photos there are, and for each its name and a function that reads it."""
    if path.is_file() and path.suffix.lower() != ".zip":
        return 1, iter([(path.name, lambda: read_photo(path)[1])])
    store = ImageStore(path)
    if store.left_out:
        print(f"skipped: {path} holds {store.not_read}")
    names = [name for name in store.names if _stays_inside(name)]
    return len(names), (
        (name, lambda name=name: decode_photo(store.read_bytes(name), f"{path}/{name}")) for name in names
    )


def _stays_inside(name: str) -> bool:
    """Whether a name, which a zip may have made up, names a file below the folder that it is written into."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _write_tables(out: Path, rows: list[dict[str, Any]], detector: Detector) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "faces.csv", table.getvalue())
    write_json(out / "faces.json", {"detector": detector.name, "faces": rows})


if __name__ == "__main__":
    cli.run(main, Config)
