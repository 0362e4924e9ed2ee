"""Exported models on onnxruntime, without torch: files of `pipeline.export`, called with numpy arrays.

>>> chain = load_chain_onnx("chain.onnx", threads=1)                   # doctest: +SKIP
>>> embeddings = chain(low)   # uint8 (N, 3, n, n) -> float32 (N, 512) # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from common.errors import UserError
from common.onnx_session import NOT_A_MODEL, open_session, session_options
from common.paths import find_weights
from common.shipped import restoring, weights_sha256
from pipeline.model_metadata import BORDERS, Kind, ModelMetadata

DEFAULT_BATCH = 32
INPUT, OUTPUT = "input", "output"

Array = NDArray[Any]
Outputs = NDArray[np.float32]


class OnnxModel:
    """One exported model: images in, embeddings or images out, `batch_size` at a time.

    Raises UserError, when it is made, for a missing, truncated or foreign file, and for one of another kind than
    `kind`; when it is called, for an array of another shape, type or range, and for NaN.
    """

    def __init__(self, path: str | Path, kind: Kind, threads: int = 1, batch_size: int = DEFAULT_BATCH) -> None:
        if threads < 0 or batch_size < 1:
            raise UserError(
                f"threads {threads}, batch size {batch_size}: expected 0 (all cores) or more, and 1 or more."
            )
        self.path = _found(path, kind)
        self.batch_size = batch_size
        self.sha256 = weights_sha256(self.path)
        """Of the ONNX file; those of the weights it was made from are in `metadata.source_sha256`."""
        self.session = _open(self.path, threads)
        properties = self.session.get_modelmeta().custom_metadata_map
        self.metadata = ModelMetadata.from_properties(properties, self.path)
        """What the file says about itself."""
        if self.metadata.kind != kind:
            raise UserError(
                f"{self.path} is a model of kind '{self.metadata.kind}', expected '{kind}'. Give the right file, or "
                f"make one: python -m pipeline.export --to onnx --what {kind}"
            )
        names = [one.name for one in (*self.session.get_inputs(), *self.session.get_outputs())]
        if names != [INPUT, OUTPUT]:
            raise UserError(f"{self.path} has the inputs and outputs {names}, expected ['{INPUT}', '{OUTPUT}'].")

    def __call__(self, images: Array) -> Outputs:
        """`(N, 3, n, n)` as the kind takes it -> `(N, 512)` or `(N, 3, 112, 112)`, float32; N may be 0."""
        checked = check_input(images, self.metadata.kind)
        if not len(checked):
            return np.empty((0, *self.metadata.border.result), np.float32)
        starts = range(0, len(checked), self.batch_size)
        return np.concatenate([self._run(checked[start : start + self.batch_size]) for start in starts])

    def _run(self, images: Array) -> Outputs:
        (found,) = self.session.run([OUTPUT], {INPUT: images})
        if found.shape != (len(images), *self.metadata.border.result) or not np.isfinite(found).all():
            raise UserError(
                f"{self.path} gave {found.shape} for {len(images)} images, or NaN: expected "
                f"{(len(images), *self.metadata.border.result)}, all finite. Is the file damaged? Make it again."
            )
        return found


def load_edgeface_onnx(path: str | Path, threads: int = 1, batch_size: int = DEFAULT_BATCH) -> OnnxModel:
    """EdgeFace: float32 `(N, 3, 112, 112)`, RGB in [-1, 1] -> `(N, 512)` of any length. Errors as `OnnxModel`."""
    return OnnxModel(path, "edgeface", threads, batch_size)


def load_dsr_onnx(path: str | Path, threads: int = 1, batch_size: int = DEFAULT_BATCH) -> OnnxModel:
    """DSR: float32 `(N, 3, n, n)`, RGB in [0, 1], n 8 to 64 -> `(N, 3, 112, 112)` in [0, 1]. Errors as `OnnxModel`."""
    return OnnxModel(path, "dsr", threads, batch_size)


def load_chain_onnx(path: str | Path, threads: int = 1, batch_size: int = DEFAULT_BATCH) -> OnnxModel:
    """DSR and EdgeFace: uint8 `(N, 3, n, n)`, RGB, n 8 to 64 -> `(N, 512)` of length 1. Errors as `OnnxModel`."""
    return OnnxModel(path, "chain", threads, batch_size)


def check_input(images: Array, kind: Kind) -> Array:
    """`images` as a model of `kind` takes them, in its type and contiguous. Raises UserError for anything else."""
    border = BORDERS[kind]
    found = np.asarray(images)
    smallest, largest = border.sizes
    shaped = found.ndim == 4 and found.shape[1] == 3 and found.shape[2] == found.shape[3]
    if not shaped or not smallest <= found.shape[2] <= largest:
        raise UserError(f"{kind}.onnx takes {border.input}, found shape {found.shape}. Crop and align the face first.")
    wanted = np.dtype(border.dtype)
    if found.dtype.kind != wanted.kind or (wanted.kind == "u" and found.dtype != wanted):
        raise UserError(f"{kind}.onnx takes {border.input}, found {found.dtype}. {border.preprocessing.capitalize()}.")
    if wanted.kind == "f" and len(found):
        low, high = float(found.min()), float(found.max())  # NaN where there is one
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UserError(f"{kind}.onnx was given NaN or infinite pixels: expected {border.input}.")
        if low < border.low - 1e-3 or high > border.high + 1e-3:
            raise UserError(
                f"{kind}.onnx takes {border.input}, found values from {low:g} to {high:g}. "
                f"Expected is: {border.preprocessing}."
            )
    return np.ascontiguousarray(found, wanted)


def _found(path: str | Path, kind: Kind) -> Path:
    found = find_weights(path)
    if found is None:
        raise UserError(
            f"{path} is missing: expected an ONNX model here or in checkpoints/. Make one: "
            f"python -m pipeline.export --to onnx --what {kind}{restoring(path)}"
        )
    return found


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    try:
        return open_session(str(path), session_options(threads))
    except NOT_A_MODEL as error:
        raise UserError(
            f"{path} is no ONNX model that onnxruntime {onnxruntime.__version__} can run "
            f"({str(error).strip().splitlines()[0][:200]}). Is it whole? Copy it again, or make it again with "
            "`python -m pipeline.export`."
        ) from error
