"""What `pipeline.benchmark` times: the parts of the chain on the runtimes they have. Nothing heavy is imported here.

A process whose memory is measured imports only what its contender needs: see `opener_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Part = Literal["edgeface", "dsr", "chain", "bicubic", "mtcnn", "yunet", "recogniser", "gallery"]
Runtime = Literal["onnxruntime", "eager", "torchscript", "compile"]
Group = Literal["edgeface", "dsr", "chain", "detector", "recogniser", "gallery"]
Call = Callable[[], object]

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
IN_PYTORCH: tuple[Runtime, ...] = ("eager", "torchscript", "compile")
GROUPS: tuple[Group, ...] = get_args(Group)
SIZES = (8, 16, 24, 32, 64)
"""Sides in pixels at which the DSR is timed."""
CHAIN_SIZES = (16, 32)
MAIN_SIZE = 16
"""The one at which every runtime and batch is timed."""
FACE_SIZE = 112
MODELS: tuple[Part, ...] = ("edgeface", "dsr", "chain")


@dataclass(frozen=True)
class Contender:
    """One thing to time: a part of the chain on a runtime, for faces of one size, so many at once."""

    part: Part
    runtime: str
    """One of `RUNTIMES`; what a detector or a gallery runs on."""
    size: int
    """Side of its input in pixels; 0 for what takes a photo; for a gallery how many embeddings it holds."""
    batch: int = 1

    @property
    def name(self) -> str:
        """Such as `chain, 16 px`."""
        if self.part in ("dsr", "chain", "bicubic"):
            return f"{self.part}, {self.size} px"
        return f"{self.part}, {self.size:,}" if self.part == "gallery" else self.part


REFERENCE = Contender("edgeface", "onnxruntime", FACE_SIZE)
"""What every time is divided by."""


@dataclass(frozen=True)
class Files:
    """Where the contenders' files lie."""

    models: str
    """Folder of `edgeface.onnx`, `dsr.onnx` and `chain.onnx`."""
    folder: str
    """Folder of the TorchScripts `edgeface.pt`, `dsr.pt` and `chain.pt`, of `photo.npy` and of galleries."""
    edgeface: str
    """EdgeFace weights."""
    dsr: str
    """DSR checkpoint."""
    yunet: str | None = None
    """YuNet's file, where it is at hand."""

    def model(self, part: Part) -> Path:
        """The ONNX file of a part."""
        return Path(self.models, f"{part}.onnx")

    def script(self, part: Part) -> str:
        """The TorchScript of a part."""
        return str(Path(self.folder, f"{part}.pt"))

    @property
    def photo(self) -> Path:
        """A photo with one face, RGB uint8 `(H, W, 3)`."""
        return Path(self.folder, "photo.npy")

    def gallery(self, size: int) -> Path:
        """A gallery of so many embeddings."""
        return Path(self.folder, f"gallery_{size}.sqlite")


@dataclass(frozen=True)
class Setting:
    """How contenders run."""

    files: Files
    threads: int
    device: str = "cpu"
    """Of PyTorch; everything else runs on the CPU."""


def contenders(groups: Sequence[Group], runtimes: Sequence[Runtime], batch: int, yunet: bool) -> list[Contender]:
    """What is timed at one batch size; `REFERENCE` is always first.

    At batch 1 the DSR at every size and the chain at two, eagerly and on onnxruntime, and what takes a photo; all
    runtimes only at `MAIN_SIZE`, because compiling takes a minute each.
    """
    found = [REFERENCE]
    for runtime in runtimes:
        quick, one = runtime in ("onnxruntime", "eager"), batch == 1
        dsr_sizes = SIZES if quick and one else (MAIN_SIZE,)
        chain_sizes = CHAIN_SIZES if quick and one else (MAIN_SIZE,)
        found += [Contender("edgeface", runtime, FACE_SIZE, batch)] if "edgeface" in groups else []
        found += [Contender("dsr", runtime, size, batch) for size in dsr_sizes if "dsr" in groups]
        found += [Contender("chain", runtime, size, batch) for size in chain_sizes if "chain" in groups]
        if runtime == "eager" and one and "dsr" in groups:
            found.append(Contender("bicubic", runtime, MAIN_SIZE))
    if batch == 1 and "detector" in groups:
        found += [Contender("mtcnn", "onnxruntime", 0), *([Contender("yunet", "opencv", 0)] if yunet else [])]
    if batch == 1 and "recogniser" in groups:
        found.append(Contender("recogniser", "onnxruntime", 0))
    return list(dict.fromkeys(found))


def opener_of(contender: Contender) -> Callable[[Contender, Setting], Call]:
    """The function that readies a contender; only here is imported what it runs on."""
    module = "benchmark_torch"
    if contender.part in ("mtcnn", "yunet", "recogniser"):
        module = "benchmark_photo"
    elif contender.part == "gallery":
        module = "benchmark_gallery"
    elif contender.runtime == "onnxruntime":
        module = "benchmark_onnx"
    elif contender.runtime == "torchscript":
        module = "benchmark_script"
    found: Callable[[Contender, Setting], Call] = import_module(f"pipeline.{module}").opened
    return found


def pixels(contender: Contender) -> NDArray[np.uint8]:
    """Noise as the input of a network, `(N, 3, n, n)`: its time does not depend on what it is shown."""
    shape = (contender.batch, 3, contender.size, contender.size)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def as_input(contender: Contender) -> NDArray[Any]:
    """`pixels` in the type and range that the part takes: see `pipeline.model_metadata.BORDERS`."""
    levels = pixels(contender)
    if contender.part == "chain":
        return levels
    unit = levels.astype(np.float32) / 255
    return unit * 2 - 1 if contender.part == "edgeface" else unit
