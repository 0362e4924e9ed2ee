"""The built page in Chromium, on made-up photos: the same faces and embeddings as Python, and every step by hand."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from common.images import ImageStore, RgbImage, write_png
from dsr.synthetic import render_scene
from facial_rec.thresholds import SizeThresholds, Thresholds
from pipeline import Recogniser, RecogniserSettings, web_models
from pipeline.onnx_models import load_chain_onnx

TURNED = 6  # EXIF orientation: shown a quarter turn clockwise from how it is stored


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the page are put: `$DSR_WEB_SHOTS`, else a folder of the test run."""
    folder = Path(os.environ.get("DSR_WEB_SHOTS") or tmp_path_factory.mktemp("shots")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def dist(node: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, built."""
    folder = tmp_path_factory.mktemp("dist")
    print(node("vite", "build", "--outDir", str(folder), "--emptyOutDir"))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two made-up people, `a` and `b`: stored upright and turned, large and small, together, and aligned."""
    folder = tmp_path_factory.mktemp("photos")
    scenes = {(person, shot): render_scene(0, 2 * "ab".index(person), shot)[0] for person in "ab" for shot in (0, 1)}
    Image.fromarray(scenes["a", 0]).save(folder / "a_1.jpg", quality=92)
    exif = Image.Exif()
    exif[0x0112] = TURNED
    Image.fromarray(np.rot90(scenes["a", 1])).save(folder / "a_2.jpg", quality=92, exif=exif)
    Image.fromarray(scenes["b", 0]).save(folder / "b_1.png")
    Image.fromarray(scenes["b", 1]).convert("L").save(folder / "b_2.webp", quality=90)
    large = cv2.resize(scenes["b", 0], (1400, 1400), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(large).save(folder / "b_3.jpg", quality=85, subsampling=2)
    write_png(folder / "group.png", np.hstack([scenes["a", 1], scenes["b", 0]]))
    write_png(folder / "a_small.png", small(scenes["a", 0], 56))
    write_png(folder / "nobody.png", np.full((80, 120, 3), 128, np.uint8))
    write_webcam(folder / "webcam.mjpeg", scenes["a", 0])
    return folder


def small(image: RgbImage, side: int) -> RgbImage:
    """`image` with `side` pixels, in a grey surrounding."""
    whole = np.full((120, 160, 3), 110, np.uint8)
    whole[30 : 30 + side, 40 : 40 + side] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return whole


def write_webcam(path: Path, scene: RgbImage) -> None:
    """A film of one picture, for Chromium's webcam that is none."""
    whole = np.full((480, 640, 3), 60, np.uint8)
    whole[100:350, 200:450] = scene
    Image.fromarray(whole).save(path, format="JPEG", quality=90)
    path.write_bytes(3 * path.read_bytes())


def settings_of(folder: Path) -> RecogniserSettings:
    return RecogniserSettings(edgeface=str(folder / "edgeface.onnx"), chain=str(folder / "chain.onnx"), threads=1)


def photos_in(folder: Path) -> list[Path]:
    single = [*folder.glob("[ab]_[123].*"), *folder.glob("raw_?.*")]
    return [*sorted(single), folder / "group.png", folder / "a_small.png"]


def write_expected(recogniser: Recogniser, photos: Path, pairs: list[dict[str, Any]]) -> int:
    """Python's faces and embeddings of all photos, and of their aligned crops, beside them; how many there are."""
    found = []
    for path in photos_in(photos):
        crops = recogniser.find(path)
        found.append({"file": path.name, "aligned": False, "crops": crops})
        aligned = photos / f"{path.stem}_aligned.png"
        write_png(aligned, crops[0].pixels)
        found.append({"file": aligned.name, "aligned": True, "crops": recogniser.find(aligned, aligned=True)})
    for one in found:
        faces = recogniser.embed(one.pop("crops"))
        one["faces"] = [
            {"resolution": face.face.resolution, "by_dsr": face.face.by_dsr, "embedding": face.embedding.tolist()}
            for face in faces
        ]
    (photos / "expected.json").write_text(json.dumps({"photos": found, "pairs": pairs}))
    return len(found)


@pytest.fixture(scope="module")
def models(
    onnx_folder: Path,
    photos: Path,
    table: Callable[..., Thresholds],
    write_record: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The page's models, with thresholds that tell a from b; `expected.json` is written beside the photos."""
    folder = tmp_path_factory.mktemp("models")
    recogniser = Recogniser(settings_of(onnx_folder))
    scores = [recogniser.verify(photos / "a_1.jpg", photos / other).verdict.score for other in ("a_2.jpg", "b_1.png")]
    assert scores[0] > scores[1] + 0.1, "the tiny recogniser does not tell these two people apart"
    middle = sum(scores) / 2
    weights = dict(load_chain_onnx(onnx_folder / "chain.onnx").metadata.source_sha256)
    low = (SizeThresholds(16, "dsr", middle, middle - 0.2), SizeThresholds(32, "dsr", middle, middle - 0.1))
    calibrated = table(**weights, sizes=(*low, SizeThresholds(None, "hr", middle + 0.02, middle - 0.02)))
    calibrated.save(folder / "thresholds.json")
    recogniser = Recogniser(replace(settings_of(onnx_folder), calibration=folder / "thresholds.json"))
    pairs = []
    for other in ("a_2.jpg", "b_1.png"):
        verdict = recogniser.verify(photos / "a_1.jpg", photos / other).verdict
        pairs.append({"files": ["a_1.jpg", other], "score": verdict.score, "answer": verdict.answer})
    assert [pair["answer"] for pair in pairs] == ["same", "different"]
    assert write_expected(recogniser, photos, pairs) == 14
    web_models.main(
        web_models.Config(
            **{kind: str(onnx_folder / f"{kind}.onnx") for kind in ("edgeface", "dsr", "chain")},
            out=folder,
            calibration=folder / "thresholds.json",
            results=write_record(folder / "record.json", weights),
        )
    )
    return folder


def run(
    node: Callable[..., str], tests: str, dist: Path, models: Path, photos: Path, shots: Path, **further: str
) -> str:
    folders = {"DIST": dist, "MODELS": models, "PHOTOS": photos, "SHOTS": shots}
    variables = {f"DSR_WEB_{name}": folder for name, folder in folders.items()}
    return node("vitest", "run", "--config", "vitest.e2e.config.ts", f"e2e/{tests}.e2e", **variables, **further)


@pytest.fixture
def served(dist: Path, models: Path, onnx_folder: Path, tmp_path: Path) -> Iterator[str]:
    """The address of the page as `pipeline.api` serves it."""
    page = shutil.copytree(dist, tmp_path / "page")
    shutil.copytree(models, page / "models", dirs_exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = [flag for kind in ("edgeface", "chain", "dsr") for flag in (f"--{kind}", str(onnx_folder / f"{kind}.onnx"))]
    command = [sys.executable, "-m", "pipeline.api", "--port", str(port), "--ui", str(page), "--threads", "1", *names]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/healthz", process, tmp_path / "server.log")
        yield f"http://127.0.0.1:{port}/ui/"
    finally:
        process.kill()
        process.wait()


def wait_until_up(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 100
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10):
            return
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text()}")


def test_page_by_hand(
    node: Callable[..., str], served: str, dist: Path, models: Path, photos: Path, shots: Path
) -> None:
    """As the API serves it, with its headers."""
    print(run(node, "page", dist, models, photos, shots, DSR_WEB_ADDRESS=served))
    assert {f"page_{width}_{scheme}.png" for width in (390, 1400) for scheme in ("light", "dark")} <= {
        path.name for path in shots.iterdir()
    }


def test_failures_to_start(node: Callable[..., str], dist: Path, models: Path, photos: Path, shots: Path) -> None:
    print(run(node, "failures", dist, models, photos, shots))


def test_webgpu(node: Callable[..., str], dist: Path, models: Path, photos: Path, shots: Path) -> None:
    print(run(node, "webgpu", dist, models, photos, shots))


def test_embeddings_as_in_python(node: Callable[..., str], dist: Path, models: Path, photos: Path, shots: Path) -> None:
    print(run(node, "embeddings", dist, models, photos, shots))


@pytest.fixture
def compare(
    node: Callable[..., str], dist: Path, photos: Path, shots: Path, tmp_path: Path
) -> Callable[..., tuple[Path, ...]]:
    """Embeddings in the page and in Python, by the models in a folder, of made-up photos and of `further`.

    The arguments of `run` from `dist` on.
    """

    def compared(folder: Path, further: dict[str, bytes] | None = None) -> tuple[Path, ...]:
        taken = Path(shutil.copytree(photos, tmp_path / "photos"))
        for name, content in (further or {}).items():
            (taken / name).write_bytes(content)
        write_expected(Recogniser(settings_of(folder)), taken, [])
        names = {kind: str(folder / f"{kind}.onnx") for kind in ("edgeface", "dsr", "chain")}
        web_models.main(web_models.Config(**names, out=tmp_path / "models"))
        print(run(node, "embeddings", dist, tmp_path / "models", taken, shots))
        return dist, tmp_path / "models", taken, shots

    return compared


def test_embeddings_of_fp16_models(
    compare: Callable[..., object], export: Callable[..., None], active_weights: dict[str, Path], tmp_path: Path
) -> None:
    export(tmp_path, str(active_weights["edgeface"]), str(active_weights["dsr"]), "fp16")
    compare(tmp_path)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_embeddings_of_real_weights_and_photos(
    compare: Callable[..., object],
    export: Callable[..., None],
    active_weights: dict[str, Path],
    shared: Path,
    tmp_path: Path,
    precision: str,
) -> None:
    """EdgeFace-XXS, on the made-up photos and on eight raw ones of LFW."""
    export(tmp_path, str(shared / "weights" / "edgeface_xxs_q.pt"), str(active_weights["dsr"]), precision)
    raw = ImageStore(shared / "data" / "lfw" / "lfw_raw250_sample.zip")
    names = enumerate(raw.names[:8], start=1)
    compare(tmp_path, {f"raw_{number}{Path(name).suffix}": raw.read_bytes(name) for number, name in names})


def test_models_in_checkpoints(
    node: Callable[..., str], compare: Callable[..., tuple[Path, ...]], exports: Path, shots: Path
) -> None:
    """As in Python; and the picture of the page that is in the README."""
    print(run(node, "screenshot", *compare(exports)))
    path = shots / "screenshot.png"
    with Image.open(path) as taken:
        reduced = taken.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)
