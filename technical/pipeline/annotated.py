"""Pictures with faces framed and named in them, written as a video or as a folder of pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.errors import UserError
from common.images import RgbImage, write_png
from pipeline.frames import Frame
from pipeline.recognition import UNKNOWN, UNSURE, Identification

CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
KNOWN_COLOUR = (0, 200, 80)
OTHER_COLOURS = {UNKNOWN: (220, 60, 40), UNSURE: (230, 180, 0)}

Write = Callable[[Frame, Sequence[Identification]], None]


def annotate(image: RgbImage, people: Sequence[Identification]) -> RgbImage:
    """A copy of RGB uint8 `(H, W, 3)` with a frame and a line of text for each face that has a box."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    height = max(10, round(max(image.shape[:2]) / 45))
    font = ImageFont.load_default(height)
    for one in people:
        if one.face.box is None:
            continue
        colour = KNOWN_COLOUR if one.name else OTHER_COLOURS[one.label]
        left, top, right, bottom = one.face.box
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=max(1, height // 8))
        words, place = f"{one.label} {one.verdict.score:.2f}", (left, max(0.0, top - 1.3 * height))
        draw.rectangle(draw.textbbox(place, words, font=font), fill=colour)
        draw.text(place, words, fill=(0, 0, 0), font=font)
    return np.array(picture)


@contextmanager
def annotated_output(out: Path | None, rate: float) -> Iterator[Write]:
    """A function that adds a picture to `out`: a video (.avi, .mp4), or a folder (no suffix); None writes nothing.

    A video appears when all is written, or at Ctrl-C, where none of that name was there, with what there is. Raises
    UserError for another suffix, for a folder that cannot be made, and where OpenCV cannot write the video.
    """
    if out is None:
        yield lambda frame, people: None
    elif out.suffix.lower() in CODECS:
        with _video(out, rate) as write:
            yield write
    elif out.suffix or out.is_file():
        raise UserError(f"--out {out}: expected a video ({' or '.join(CODECS)}) or the name of a folder.")
    else:
        yield lambda frame, people: write_png(out / f"frame_{frame.number:06d}.png", annotate(frame.image, people))


@contextmanager
def _video(out: Path, rate: float) -> Iterator[Write]:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: its folder cannot be made ({error.strerror}). Name another.") from error
    temporary = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix}")  # OpenCV goes by the suffix
    writer = cv2.VideoWriter()
    size: tuple[int, int] | None = None
    count = 0

    def write(frame: Frame, people: Sequence[Identification]) -> None:
        nonlocal size, count
        picture = cv2.cvtColor(annotate(frame.image, people), cv2.COLOR_RGB2BGR)
        if size is None:
            size = (picture.shape[1], picture.shape[0])
            if not writer.open(str(temporary), cv2.VideoWriter.fourcc(*CODECS[out.suffix.lower()]), rate, size):
                raise UserError(f"OpenCV cannot write {out}. Is there room, may you write there? Try an .avi.")
        if (picture.shape[1], picture.shape[0]) != size:  # frames of a folder may differ
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        writer.write(picture)
        count += 1

    interrupted: KeyboardInterrupt | None = None
    try:
        try:
            yield write
        except KeyboardInterrupt as stop:  # what was written stays
            interrupted = stop
        writer.release()
        if size is not None:
            found = _frames_in(temporary)
            if found < count:  # OpenCV says nothing of a full disk; after Ctrl-C there may be one that was not counted
                raise UserError(f"{out}: only {found} of {count} frames could be written. Is there room on the disk?")
            if interrupted is None or not out.exists():
                os.replace(temporary, out)
            else:
                print(f"{out} is left as it was: what was written of the new one is not whole.", file=sys.stderr)
        if interrupted is not None:
            raise interrupted
    finally:
        writer.release()
        temporary.unlink(missing_ok=True)


def _frames_in(video: Path) -> int:
    capture, found = cv2.VideoCapture(str(video)), 0
    while capture.grab():
        found += 1
    capture.release()
    return found
