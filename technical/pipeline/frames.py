"""The pictures of a video or of a folder of frames, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from common.errors import UserError
from common.images import IMAGE_SUFFIXES, ImageStore, RgbImage
from pipeline.photos import decode_photo

FOLDER_RATE = 25.0
"""Pictures a second where frames in a folder become a video."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture."""

    number: int
    """From 0, those that are left out counted too."""
    seconds: float | None
    """Since the video's start, at its average rate; None in a folder."""
    name: str
    """File name in the folder; of a video its name and the frame's number."""
    image: RgbImage


@dataclass(frozen=True, eq=False)
class Frames:
    """The pictures of one source, to go through once."""

    total: int
    """How many there will be, as far as the file says; 0 where it does not."""
    rate: float
    """Of those given, a second."""
    from_video: bool
    pictures: Iterator[Frame]
    problems: list[str]
    """Grows while going through `pictures`: a sentence for each one that could not be read."""


def open_frames(path: Path, every: int = 1) -> Frames:
    """Every `every`-th picture of the video `path`, or of the images in a folder or zip by name.

    Raises UserError for what is missing or no video, now or when no picture of it can be read.
    """
    if every < 1:
        raise UserError(f"--every {every}: expected 1 or more.")
    if path.is_dir() or path.suffix.lower() == ".zip":
        store, problems = ImageStore(path), list[str]()
        if store.left_out:
            problems.append(f"{path} holds {store.not_read}")
        chosen = list(enumerate(store.names))[::every]
        return Frames(len(chosen), FOLDER_RATE, False, _stored(store, chosen, problems), problems)
    if not path.is_file():
        raise UserError(f"{path} does not exist: expected a video, or a folder of frames.")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise UserError(f"{path} is one picture: expected a video, or a folder of frames. `identify` takes photos.")
    return _open_video(path, every)


def _stored(store: ImageStore, chosen: list[tuple[int, str]], problems: list[str]) -> Iterator[Frame]:
    for number, name in chosen:
        try:
            image = decode_photo(store.read_bytes(name), f"{store.root}/{name}")
        except UserError as error:
            problems.append(str(error))
            continue
        yield Frame(number, None, name, image)


def _open_video(path: Path, every: int) -> Frames:
    # FFmpeg alone: with any backend, OpenCV takes numbered pictures and addresses for videos.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise _unreadable(path)
    count, rate = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), float(capture.get(cv2.CAP_PROP_FPS))
    rate = rate if 0 < rate < 10_000 else FOLDER_RATE
    problems: list[str] = []
    pictures = _filmed(capture, path, every, rate, max(count, 0), problems)
    return Frames(-(-max(count, 0) // every), rate / every, True, pictures, problems)


def _filmed(
    capture: cv2.VideoCapture, path: Path, every: int, rate: float, declared: int, problems: list[str]
) -> Iterator[Frame]:
    number = read = 0
    try:
        while capture.grab():
            if number % every == 0:
                good, picture = capture.retrieve()
                if good:
                    read += 1
                    image = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                    yield Frame(number, round(number / rate, 3), f"{path.name} frame {number}", image)
                else:
                    problems.append(f"{path}: frame {number} is damaged")
            number += 1
    finally:
        capture.release()
    if not read:
        raise _unreadable(path)
    if number < declared:
        problems.append(f"{path} says it has {declared} frames, and ends after {number}: is it cut off?")


def _unreadable(path: Path) -> UserError:
    return UserError(
        f"{path} is no video that OpenCV {cv2.__version__} can read: empty, damaged, or of an unknown kind. "
        "Copy it again, or convert it to MP4 or AVI."
    )
