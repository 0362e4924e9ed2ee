"""Made-up faces, tiny networks, and a PostgreSQL server for the tests of the chain."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import onnx.helper
import onnx.parser
import psycopg
import pytest
import torch

from common.errors import UserError
from common.images import RgbImage, write_png
from dsr.checkpoint import save_dsr
from dsr.degradation import canonical_reduce
from dsr.model import Dsr, preset
from facial_rec.alignment import template
from facial_rec.detector import DetectedFace
from facial_rec.edgeface import get_model
from facial_rec.thresholds import Thresholds
from pipeline.degradations import to_tensor
from pipeline.gallery import open_gallery
from pipeline.model_metadata import Kind, ModelMetadata

NUMBERS = count()
USER = "postgres"  # made by Debian's package; initdb refuses root


def made_face(person: int, photo: int, size: int = 112) -> RgbImage:
    """A coarse pattern that is the person's, with noise that is the photo's."""
    pattern = np.random.default_rng(person).integers(30, 220, (7, 7, 3)).repeat(16, 0).repeat(16, 1)
    noise = np.random.default_rng(1000 * person + photo).normal(0, 12, pattern.shape)
    face = (pattern + noise).clip(0, 255).astype(np.uint8)
    if size == 112:
        return face
    low = canonical_reduce(to_tensor([face]), size)[0]
    return (low * 255).round().byte().permute(1, 2, 0).numpy()


def pooled(images: torch.Tensor) -> torch.Tensor:
    """A recogniser that works on made-up faces: mean colours of 7 x 7 cells around grey."""
    return torch.nn.functional.avg_pool2d(images - 0.5, 16).flatten(1)


@pytest.fixture
def face() -> Callable[..., RgbImage]:
    return made_face


@pytest.fixture
def recogniser() -> Callable[[torch.Tensor], torch.Tensor]:
    return pooled


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder per identity: P0 to P5 with three photos each, `P0/P0_0001.png`."""
    root = tmp_path / "people"
    for person in range(6):
        for photo in (1, 2, 3):
            write_png(root / f"P{person}" / f"P{person}_{photo:04d}.png", made_face(person, photo))
    return root


@pytest.fixture
def edgeface(tmp_path: Path) -> Path:
    """A tiny EdgeFace with random weights."""
    torch.manual_seed(0)
    path = tmp_path / "tiny_face.pt"
    torch.save(get_model("edgeface_tiny").state_dict(), path)
    return path


@pytest.fixture
def dsr(tmp_path: Path) -> Path:
    """A tiny DSR with random weights."""
    torch.manual_seed(1)
    path = tmp_path / "tiny_dsr.pt"
    save_dsr(path, Dsr(preset("tiny")), {"note": "random"})
    return path


@pytest.fixture(scope="session")
def active_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny EdgeFace and a tiny DSR that does something, with random weights: `edgeface` and `dsr`."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(get_model("edgeface_tiny").state_dict(), folder / "face.pt")
    dsr = Dsr(preset("tiny"))
    with torch.no_grad():
        for parameter in dsr.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_dsr(folder / "dsr.pt", dsr, {"note": "random"})
    return {"edgeface": folder / "face.pt", "dsr": folder / "dsr.pt"}


# As `pooled`, in 512 numbers. Of the chain, any size is enlarged first.
_POOL = """
    cells = AveragePool<kernel_shape = [16, 16], strides = [16, 16]>({images})
    flat = Flatten<axis = 1>(cells)
    room = Constant<value = int64[4] {{0, 0, 0, 365}}>()
    {result} = Pad(flat, room)
"""
_EDGEFACE = f"""
face (float[batch, 3, 112, 112] input) => (float[batch, 512] output)
{{{_POOL.format(images="input", result="output")}}}
"""
_CHAIN = f"""
chain (uint8[batch, 3, n, n] input) => (float[batch, 512] output)
{{
    levels = Cast<to = 1>(input)
    half = Constant<value = float {{127.5}}>()
    one = Constant<value = float {{1.0}}>()
    scaled = Div(levels, half)
    centred = Sub(scaled, one)
    first = Shape<start = 0, end = 2>(input)
    side = Constant<value = int64[2] {{112, 112}}>()
    sizes = Concat<axis = 0>(first, side)
    large = Resize<mode = "linear">(centred, , , sizes)
    {_POOL.format(images="large", result="pooled")}
    output = LpNormalization<axis = 1, p = 2>(pooled)
}}
"""
_DSR = """
dsr (float[batch, 3, n, n] input) => (float[batch, 3, 112, 112] output)
{
    first = Shape<start = 0, end = 2>(input)
    side = Constant<value = int64[2] {112, 112}>()
    sizes = Concat<axis = 0>(first, side)
    output = Resize<mode = "linear">(input, , , sizes)
}
"""


@pytest.fixture(scope="session")
def write_onnx() -> Callable[..., Path]:
    """Writes a model for made-up faces that says which weights, by their SHA-256, and which thresholds are its."""

    def write(path: Path, kind: Kind, edgeface: str = "e" * 64, thresholds: Thresholds | None = None) -> Path:
        sources = {"edgeface": edgeface} if kind == "edgeface" else {"edgeface": edgeface, "dsr": "d" * 64}
        metadata = ModelMetadata(kind, "float32", "pooled", sources, "none", {"onnx": onnx.__version__}, thresholds)
        text = {"edgeface": _EDGEFACE, "chain": _CHAIN, "dsr": _DSR}[kind]
        model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]>{text}')
        onnx.helper.set_model_props(model, metadata.properties())
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory: pytest.TempPathFactory, write_onnx: Callable[..., Path]) -> dict[str, str]:
    """`edgeface` and `chain`, of the same weights."""
    folder = tmp_path_factory.mktemp("onnx")
    kinds: tuple[Kind, ...] = ("edgeface", "chain")
    return {kind: str(write_onnx(folder / f"{kind}.onnx", kind)) for kind in kinds}


class BlockDetector:
    """Finds squares that are not black, from left to right, and takes each for a face that fills its square."""

    name = "blocks"

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        _, _, boxes, _ = cv2.connectedComponentsWithStats((image.max(axis=2) > 24).astype(np.uint8))
        faces = []
        for left, top, width, height, _ in sorted(boxes[1:].tolist()):
            side = (width + height) / 2
            if side >= 6:
                box = np.array([left, top, left + width - 1, top + height - 1], np.float32)
                faces.append(DetectedFace(box, (template(round(side)) + np.array([left, top])).astype(np.float32), 0.9))
        return faces


@pytest.fixture
def blocks() -> BlockDetector:
    return BlockDetector()


@pytest.fixture(scope="session")
def photo_of() -> Callable[..., RgbImage]:
    """A black photo with faces in it: (person, photo, side in pixels) each, from left to right."""

    def paste(*faces: tuple[int, int, int], height: int = 160) -> RgbImage:
        image = np.zeros((height, 16 + sum(side + 16 for *_, side in faces), 3), np.uint8)
        left = 16
        for person, photo, side in faces:
            small = cv2.resize(made_face(person, photo), (side, side), interpolation=cv2.INTER_AREA)
            image[16 : 16 + side, left : left + side] = small.clip(30, 255)
            left += side + 16
        return image

    return paste


@contextmanager
def running_server(binaries: Path) -> Iterator[str]:
    """Start a server in a new folder; the URL of its database `postgres`. Stopped and removed at the end."""
    as_root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has at most 107 characters
    if as_root:
        shutil.chown(folder, USER)

    def run(*command: str) -> None:
        prefix = ["runuser", "-u", USER, "--"] if as_root else []
        subprocess.run([*prefix, *command], cwd="/", check=True, capture_output=True, text=True)

    data = str(folder / "data")
    settings = f"-k {folder} -c listen_addresses= -c fsync=off -c maintenance_work_mem=400MB"
    log = str(folder / "log")
    try:
        run(str(binaries / "initdb"), "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        run(str(binaries / "pg_ctl"), "-D", data, "-o", settings, "-l", log, "-w", "start")
        try:
            yield f"postgresql://{USER}@/postgres?host={folder}"
        finally:
            run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(pgvector: Path) -> Iterator[str]:
    """The URL of the database `postgres` of a PostgreSQL server; skips the test where there is none with pgvector."""
    with running_server(pgvector) as url:
        yield url


@pytest.fixture
def database(postgres: str) -> str:
    """The URL of a new database."""
    name = f"test_{next(NUMBERS)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres.replace("/postgres?", f"/{name}?")


@pytest.fixture
def mixes_no_models() -> Callable[[str | Path], None]:
    """Whether a gallery that another model took while it was open, empty, refuses its first model's embeddings."""

    def check(where: str | Path) -> None:
        ann, ben = np.eye(2, dtype=np.float32)[:, None]
        with open_gallery(where, "ab" * 32, 2) as before, open_gallery(where, "cd" * 32, 2) as after:
            with pytest.raises(UserError, match="holds embeddings of model cdcdcdcdcdcd"):
                before.enrol("Ann", ann)
            after.enrol("Ben", ben)
            with pytest.raises(UserError, match="holds embeddings of model cdcdcdcdcdcd"):
                before.search(ben)
            assert [person.name for person in after.people()] == ["Ben"]

    return check
