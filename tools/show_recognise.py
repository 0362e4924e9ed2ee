"""Run every command from a photo to a name, on a folder of photos and on a made-up video, and print what happened.

    python tools/show_recognise.py                        # made-up people, a recogniser of random weights
    python tools/show_recognise.py --photos photos.zip --edgeface edgeface.onnx --chain chain.onnx

Each person's first photo is enrolled; the others are reduced, so that their faces are small, and identified. What is
written goes into a temporary folder, which is removed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tiny_recogniser import Ran, export_tiny, run_here

from common import cli
from common.errors import UserError
from common.images import RgbImage, write_png
from dsr.synthetic import render_scene
from facial_rec.faceset import FaceSet
from pipeline import detect, recognise

MADE_UP = (4, 2)  # people, photos of each
FILMED = (7, 9)  # made-up people in the video, left and right; the left one is enrolled
FRAMES = 24


@dataclass(frozen=True)
class Config:
    """What to show it on."""

    photos: Path | None = None
    """Folder or zip of photos by person, Name/Name_0001.jpg, one face each (default: made-up people)."""
    edgeface: Path | None = None
    """EdgeFace as ONNX (default: random weights, with which no answer means anything)."""
    chain: Path | None = None
    """DSR and the same EdgeFace as ONNX."""
    calibration: Path | None = None
    """Threshold file of pipeline.calibrate, where the models do not hold a table."""
    reduce: int = 5
    """By how much the photos to identify are reduced."""


@dataclass(frozen=True)
class People:
    """Photos of known people, in folders."""

    enrolled: dict[str, Path]
    """The first photo of each."""
    others: dict[Path, str]
    """The other photos, reduced, and who is on them."""


def main(cfg: Config) -> None:
    """Print each command and what came of it. UserError for the first that fails."""
    if cfg.reduce < 1 or (cfg.edgeface is None) != (cfg.chain is None):
        raise UserError(f"--reduce {cfg.reduce}: expected 1 or more; --edgeface and --chain: expected both or none.")
    given = {"--edgeface": cfg.edgeface, "--chain": cfg.chain, "--calibration": cfg.calibration}
    files = {flag: str(path.resolve()) for flag, path in given.items() if path is not None}
    photos = None if cfg.photos is None else cfg.photos.resolve()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        people = make_people(photos or made_up(Path("made_up")), cfg.reduce)
        film = make_film(Path("film.avi"))
        models = files if cfg.edgeface is not None else files | export_tiny(Path("."))
        flags = [*(word for flag in models.items() for word in flag), "--threads", "1"]
        show_detect()
        show_verify(people, flags)
        show_identify(people, flags)
        show_cluster(flags)
        show_watch(film, flags)


def shown(words: list[str], flags: list[str]) -> Ran:
    """Run `pipeline.recognise`; UserError where it fails."""
    ran = run_here(recognise, [words[0], *flags, *words[1:]])
    if ran.status:
        raise UserError(f"recognise {' '.join(words)}: {ran.error}")
    return ran


def show_detect() -> None:
    """Faces in the photos as they are, and reduced."""
    for folder in ("enrolled", "others"):
        ran = run_here(detect, [folder, "--out", f"found_{folder}", "--threads", "1"])
        lines = [line for line in ran.out.splitlines() if line.startswith(("skipped", f"{len(os.listdir(folder))} "))]
        print(f"detect {folder}/", *lines, sep="\n  ")


def show_verify(people: People, flags: list[str]) -> None:
    """Each reduced photo against the same person's first one, and against the next person's."""
    names = list(people.enrolled)
    for what, step in (("the same person", 0), ("another person", 1)):
        answers, line = Counter[str](), ""
        for photo, name in people.others.items():
            other = people.enrolled[names[(names.index(name) + step) % len(names)]]
            ran = run_here(recognise, ["verify", *flags, "--largest", "--json", "-", str(other), str(photo)])
            verdict = json.loads(ran.out)["verdict"] if not ran.status else {"answer": "refused"}
            answers[verdict["answer"]] += 1
            if not ran.status and not line:
                line = f"e.g. score {verdict['score']:.3f} at {verdict['resolution']} pixels: {verdict['reason']}"
        print(f"verify, {what}, the second photo reduced: {_counts(answers)}\n  {line}")


def show_identify(people: People, flags: list[str]) -> None:
    """The reduced photos against everybody enrolled."""
    for name, photo in people.enrolled.items():
        shown(["enrol", name, str(photo), "--largest"], flags)
    print(f"enrol: {len(people.enrolled)} people, one photo each")
    found = json.loads(shown(["identify", "others", "--json", "-"], flags).out)
    answers, sizes, firsts = Counter[str](), [], 0
    for one in found["faces"]:
        right = people.others[Path(one["face"]["photo"])]
        answers["right" if one["name"] == right else "wrong" if one["name"] else one["verdict"]["answer"]] += 1
        firsts += one["candidates"][0]["name"] == right
        sizes.append(one["face"]["resolution"])
    print(
        f"identify, photos reduced, faces of {min(sizes)} to {max(sizes)} pixels, median {np.median(sizes):.0f}: "
        f"{_counts(answers)}; the best candidate is right for {firsts} of {len(sizes)}; "
        f"{len(found['skipped'])} photos without a face"
    )


def show_cluster(flags: list[str]) -> None:
    """All photos as they are, nobody being known."""
    found = json.loads(shown(["cluster", "both", "--out", "people.html", "--json", "-"], flags).out)
    groups = [[Path(face["photo"]).name.rpartition("_")[0] for face in person] for person in found["people"]]
    pure = sum(len(set(names)) == 1 for names in groups)
    everybody = len({name for names in groups for name in names})
    print(
        f"cluster: {sum(map(len, groups))} faces of {everybody} people into {len(groups)} groups, {pure} of one person "
        f"alone; page of {Path('people.html').stat().st_size:,} bytes"
    )


def show_watch(film: Path, flags: list[str]) -> None:
    """A made-up video with two people, one of them enrolled."""
    Path("still").mkdir()
    write_png(Path("still/filmed.png"), render_scene(0, FILMED[0], 0)[0])
    shown(["enrol", "Filmed", "still/filmed.png"], flags)
    ran = shown(["watch", str(film), "--every", "3", "--out", "seen.avi"], flags)
    frames = [json.loads(line) for line in ran.out.splitlines()]
    labels = Counter(face["label"] for frame in frames for face in frame["faces"])
    sizes = sorted(face["resolution"] for frame in frames for face in frame["faces"])
    print(
        f"watch {film}: {len(frames)} of {FRAMES} frames, faces of {sizes[0]} to {sizes[-1]} pixels: "
        f"{_counts(labels)}; an annotated copy of {Path('seen.avi').stat().st_size:,} bytes"
    )
    print(f"  {json.dumps(frames[0])}")
    ran = shown(["watch", "others"], flags)
    frames = [json.loads(line) for line in ran.out.splitlines()]
    print(f"watch others/, a folder as frames: {len(frames)} pictures, {sum(len(f['faces']) for f in frames)} faces")


def made_up(folder: Path) -> Path:
    """Photos of made-up people, a folder each."""
    for person in range(MADE_UP[0]):
        for shot in range(MADE_UP[1]):
            write_png(folder / f"P{person}" / f"P{person}_{shot:04d}.png", render_scene(0, person, shot)[0])
    return folder


def make_people(photos: Path, reduce: int) -> People:
    """Write `enrolled/`, `others/` (reduced) and `both/`. UserError where nobody has two photos."""
    faces = FaceSet(photos)
    enrolled, others = dict[str, Path](), dict[Path, str]()
    for face in faces.faces:
        image, name = faces.store.read(face.name), f"{Path(face.name).stem}.png"
        write_png(Path("both", name), image)
        if face.subject not in enrolled:
            enrolled[face.subject] = Path("enrolled", name)
            write_png(enrolled[face.subject], image)
        else:
            others[Path("others", name)] = face.subject
            write_png(Path("others", name), reduced(image, reduce))
    if not others:
        raise UserError(f"{photos}: nobody has two photos. Expected Name/Name_0001.jpg, Name/Name_0002.jpg, ….")
    return People(enrolled, others)


def reduced(image: RgbImage, by: int) -> RgbImage:
    """`image` of a `by`-th of the width and height."""
    size = (max(1, image.shape[1] // by), max(1, image.shape[0] // by))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def make_film(path: Path) -> Path:
    """Two made-up people who move towards each other, in front of a grey wall."""
    stills = [reduced(render_scene(0, person, 0)[0], 2) for person in FILMED]
    side = stills[0].shape[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (480, 240))
    for number in range(FRAMES):
        picture = np.full((240, 480, 3), 110, np.uint8)
        for still, left in zip(stills, (10 + 4 * number, 480 - side - 10 - 4 * number), strict=True):
            picture[50 + number : 50 + number + side, left : left + side] = still
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{label} {count}" for label, count in sorted(found.items()))


if __name__ == "__main__":
    cli.run(main, Config)
