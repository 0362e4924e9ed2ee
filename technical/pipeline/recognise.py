"""From photos to names: compare two photos, enrol people, say who is in a photo or a video, sort a folder by people.

    python -m pipeline.recognise verify a.jpg b.jpg
    python -m pipeline.recognise enrol "Ann Lee" ann_1.jpg ann_2.jpg --gallery people.sqlite
    python -m pipeline.recognise identify party.jpg --gallery people.sqlite --json found.json
    python -m pipeline.recognise cluster photos/ --out people.html
    python -m pipeline.recognise watch film.mp4 --every 5 --out seen.avi

`pipeline.export` makes the two ONNX models that all need: edgeface.onnx and chain.onnx. torch is not needed here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from common import cli
from common.errors import UserError
from common.files import write_json
from common.images import RgbImage
from common.progress import progress_bar
from facial_rec.alignment import align_face
from pipeline.annotated import annotated_output
from pipeline.clustering import DEFAULT_THRESHOLD, check_threshold, cluster_embeddings, clusters_of, write_contact_sheet
from pipeline.decisions import Verdict
from pipeline.face_crops import EmbeddedFace
from pipeline.folder_faces import Collected, collect
from pipeline.frames import open_frames
from pipeline.gallery import check_name
from pipeline.photos import NamedPhoto, photos_in
from pipeline.recogniser import Recogniser, RecogniserSettings, nobody
from pipeline.recognition import Identification, describe
from pipeline.watch import watch

GALLERY = "people.sqlite"
STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class _Common(RecogniserSettings):
    aligned: bool = False
    """The pictures are aligned faces, 112x112 or n x n: no detector is used."""
    json: Path | None = None
    """File to write the answer to, as JSON; - prints it instead of the lines."""


@dataclass(frozen=True, kw_only=True)
class Verify(_Common):
    """Say whether two photos show one person."""

    first: Annotated[Path, tyro.conf.Positional]
    """A photo."""
    second: Annotated[Path, tyro.conf.Positional]
    """Another."""
    largest: bool = False
    """Take the largest face of a photo that shows several."""


@dataclass(frozen=True, kw_only=True)
class Enrol(_Common):
    """Keep a person's faces under a name; photos without exactly one face are named and left out."""

    name: Annotated[str, tyro.conf.Positional]
    """Who it is."""
    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photos of this person alone, or folders or zips of them."""
    gallery: str = GALLERY
    """SQLite file, made if there is none, or postgresql:// URL."""
    largest: bool = False
    """Take the largest face of a photo that shows several."""


@dataclass(frozen=True, kw_only=True)
class Identify(_Common):
    """Say who is in photos, each face for itself."""

    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photos, or folders or zips of them."""
    gallery: str = GALLERY
    """SQLite file or postgresql:// URL."""
    top: int = 5
    """Candidates in the JSON."""


@dataclass(frozen=True, kw_only=True)
class Cluster(_Common):
    """Sort the faces of a folder into people, nobody being known, and write a page that shows them."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder or zip of photos."""
    out: Path = Path("people.html")
    """Page to write."""
    threshold: float = DEFAULT_THRESHOLD
    """Mean cosine above which two groups of faces are one person."""


@dataclass(frozen=True, kw_only=True)
class Watch(RecogniserSettings):
    """Say who is in a video or a folder of frames: a line of JSON for each picture."""

    source: Annotated[Path, tyro.conf.Positional]
    """Video, or folder or zip of frames."""
    gallery: str = GALLERY
    """SQLite file or postgresql:// URL."""
    every: int = 1
    """Look at every so many frames."""
    out: Path | None = None
    """Annotated copy to write: a video (.avi, .mp4), or a folder of pictures."""
    aligned: bool = False
    """The pictures are aligned faces, 112x112 or n x n: no detector is used."""


@tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
@dataclass(frozen=True)
class Config:
    """What to do."""

    what: Verify | Enrol | Identify | Cluster | Watch
    """The question."""


def main(cfg: Config) -> None:
    if isinstance(cfg.what, Verify):
        verify(cfg.what)
    elif isinstance(cfg.what, Enrol):
        enrol(cfg.what)
    elif isinstance(cfg.what, Identify):
        identify(cfg.what)
    elif isinstance(cfg.what, Cluster):
        cluster(cfg.what)
    else:
        watch_source(cfg.what)


def verify(cfg: Verify) -> None:
    """Print the answer for two photos. UserError for one without a face, or with several."""
    found = Recogniser(cfg).verify(cfg.first, cfg.second, cfg.aligned, cfg.largest)
    _answer(cfg, found.record(), [describe(found.first), describe(found.second), *_verdict(found.verdict)])


def enrol(cfg: Enrol) -> None:
    """Add the faces of the photos to the gallery. UserError where none gave exactly one face."""
    name, photos, recogniser = check_name(cfg.name), photos_in(cfg.photos), Recogniser(cfg)
    with recogniser.open_gallery(cfg.gallery) as gallery:  # first, because it may refuse
        found = collect(recogniser, photos, cfg.aligned, one_each=True, largest=cfg.largest)
        kept = recogniser.enrol_faces(gallery, name, found.faces)
        where = gallery.where
    lines = [f"{name}: {_faces(len(kept.faces))} enrolled in {where}", *(describe(face) for face in kept.faces)]
    _answer(cfg, {"gallery": where, **kept.record(), "skipped": found.problems}, lines, found)


def identify(cfg: Identify) -> None:
    """Print who each face is. UserError where no photo gave a face, and without a gallery."""
    if cfg.top < 1:
        raise UserError(f"--top {cfg.top}: expected 1 or more.")
    recogniser = Recogniser(cfg)
    with recogniser.open_gallery(cfg.gallery, create=False) as gallery:
        if not len(gallery):
            raise nobody(gallery)
        found = collect(recogniser, photos_in(cfg.photos), cfg.aligned)
        answers = recogniser.identify_faces(gallery, found.faces, cfg.top)
        where = gallery.where
    record = {"gallery": where, "faces": [one.record() for one in answers], "skipped": found.problems}
    _answer(cfg, record, [line for one in answers for line in _identified(one)], found)


def cluster(cfg: Cluster) -> None:
    """Print the groups and write the page. UserError where no photo gave a face."""
    check_threshold(cfg.threshold)
    if cfg.out.is_dir():
        raise UserError(f"--out {cfg.out} is a folder: expected the page to write, such as {cfg.out / 'people.html'}.")
    recogniser = Recogniser(cfg)
    photos = photos_in([cfg.folder])
    found = collect(recogniser, photos, cfg.aligned)
    embeddings = np.stack([one.embedding for one in found.faces])
    groups = clusters_of(cluster_embeddings(embeddings, cfg.threshold), embeddings)
    names = [describe(one.face) for one in found.faces]
    sheet = _Pictures(found.faces, photos)
    write_contact_sheet(cfg.out, groups, sheet.read, names)
    people = [[found.faces[place].face for place in group.faces] for group in groups]
    lines = [
        f"person {number}: {_faces(len(faces))}: {', '.join(dict.fromkeys(face.photo for face in faces))}"
        for number, faces in enumerate(people, start=1)
    ]
    record = {
        "threshold": cfg.threshold,
        "people": [[asdict(face) for face in faces] for faces in people],
        "skipped": found.problems,
    }
    _answer(cfg, record, [*lines, f"written: {cfg.out}"], found)


def watch_source(cfg: Watch) -> None:
    """Print a line of JSON a picture, and write the annotated copy. UserError for what is no video or folder."""
    recogniser, frames = Recogniser(cfg), open_frames(cfg.source, cfg.every)
    faces = pictures = 0
    with (
        recogniser.open_gallery(cfg.gallery, create=False) as gallery,
        annotated_output(cfg.out, frames.rate) as write,
        progress_bar(frames.total, "watching", "frame") as progress,
    ):
        if not len(gallery):
            raise nobody(gallery)
        for seen in watch(recogniser, gallery, frames, cfg.aligned):
            print(json.dumps(seen.record()), flush=True)
            write(seen.frame, seen.people)
            pictures, faces = pictures + 1, faces + len(seen.people)
            progress.update()
    _complain(frames.problems)
    if not pictures:
        raise UserError(f"{cfg.source}: no frame could be read.")
    print(f"{pictures} frames: {faces} faces, {len(frames.problems)} problems", file=sys.stderr)


class _Pictures:
    """The pictures for the page, read again: thousands of faces would fill the memory."""

    def __init__(self, faces: Sequence[EmbeddedFace], photos: Sequence[NamedPhoto]) -> None:
        self._faces = faces
        self._photos = {photo.name: photo for photo in photos}

    def read(self, place: int) -> RgbImage:
        face = self._faces[place].face
        image = self._photos[face.photo].read()
        return image if face.landmarks is None else align_face(image, face.landmarks)


def _faces(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"


def _verdict(verdict: Verdict) -> list[str]:
    limits = "no threshold" if verdict.threshold is None else f"threshold {verdict.threshold:.3f}"
    if verdict.reject is not None and verdict.reject != verdict.threshold:
        limits += f", different below {verdict.reject:.3f}"
    line = f"{verdict.answer}: score {verdict.score:.3f}, {limits}, at {verdict.resolution} pixels"
    why = [f"note: {verdict.reason}"] if verdict.reject is None else []  # else the numbers say it
    return [line, *why, *(f"note: {note}" for note in verdict.notes)]


def _identified(one: Identification) -> list[str]:
    best = one.candidates[0].name
    first, *notes = _verdict(one.verdict)
    who = one.label if one.name else f"{one.label} (most like {best})"
    return [f"{describe(one.face)}: {who}; {first}", *notes]


def _answer(cfg: _Common, record: dict[str, Any], lines: list[str], found: Collected | None = None) -> None:
    """Lines, or JSON; what was left out goes to the standard error either way."""
    if cfg.json == STDOUT:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        print("\n".join(dict.fromkeys(lines)))  # a note that holds for all is said once
        if cfg.json is not None:
            write_json(cfg.json, record)
            print(f"written: {cfg.json}")
    if found is not None:
        _complain(found.problems)
        if found.photos > 1:
            print(found.summary(), file=sys.stderr)


def _complain(problems: Sequence[str]) -> None:
    for problem in problems:
        print(f"skipped: {problem}", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main, Config)
