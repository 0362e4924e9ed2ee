"""EdgeFace, DSR, or the chain of both as one file for other programs: ONNX or TorchScript.

    python -m pipeline.export --to onnx --what chain --out chain.onnx

The chain takes faces of 8 to 64 pixels as uint8 RGB and gives embeddings of length 1; `pipeline.onnx_models` runs ONNX
files without torch. Every export is compared with PyTorch on faces, at batch 1, 3 and 32, before it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import ModelProto

from common import cli
from common.errors import UserError
from common.files import replacing, sha256_of
from common.paths import weights_places
from facial_rec.thresholds import Thresholds
from pipeline.export_check import Array, Rounding, compare
from pipeline.export_graphs import (
    Sources,
    load_sources,
    onnx_graph,
    open_torchscript,
    reference,
    rounding,
    torchscript,
)
from pipeline.model_metadata import Kind, ModelMetadata, Precision
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE
from pipeline.onnx_build import finished, levels_of
from pipeline.onnx_models import OnnxModel
from pipeline.onnx_precision import converted
from pipeline.onnx_session import session_of
from pipeline.precision_cost import print_cost
from pipeline.sample_faces import Faces, sample_faces

CALIBRATION = "thresholds.json"  # where pipeline.calibrate writes by default
LICENCES = {
    "edgeface": "EdgeFace weights: CC BY-NC-SA 4.0 (George et al., Idiap), also after fine-tuning",
    "dsr": "DSR weights: those of the faces and the recogniser it was trained with; with EdgeFace, research use",
}
LEAST_FACES = 32


@dataclass(frozen=True)
class Config:
    """What to export, and how."""

    what: Kind
    """edgeface: aligned faces to embeddings; dsr: small faces to 112x112; chain: small faces to embeddings."""
    to: Literal["onnx", "torchscript"] = "onnx"
    """onnx (onnxruntime, no torch needed) or torchscript."""
    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace weights, looked up in checkpoints/ too."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too."""
    calibration: Path | None = None
    """Threshold file of pipeline.calibrate to put inside (default: thresholds.json, here or in checkpoints/, if it
    is of these weights; for int8, whose scores are others, none)."""
    precision: Literal["float32", "fp16", "int8"] = "float32"
    """float32; fp16: half the file, computed in 32 bit; int8: static, ranges calibrated on faces."""
    faces: Path | None = None
    """Folder or zip of aligned 112x112 faces to compare and calibrate on (default: made-up ones)."""
    val_root: Path | None = None
    """Faces by identity that show what fp16 and int8 cost in accuracy (default: dataset/val_processed, if there)."""
    out: Path | None = None
    """File to write (default: <what>.onnx or <what>.pt)."""
    seed: int = 0
    """Seed of the faces."""


def main(cfg: Config) -> Path:
    """Write the file and return its path. Raises UserError, and writes nothing, where it disagrees with PyTorch."""
    if cfg.to == "torchscript" and cfg.precision != "float32":
        raise UserError(f"--precision {cfg.precision} is for --to onnx: a TorchScript is float32.")
    out = cfg.out or Path(f"{cfg.what}.{'onnx' if cfg.to == 'onnx' else 'pt'}")
    sources = load_sources(cfg.what, cfg.edgeface, cfg.dsr)
    int8 = cfg.precision == "int8"
    thresholds = None if int8 and cfg.calibration is None else read_thresholds(cfg.calibration, sources)
    metadata = metadata_of(cfg.what, cfg.precision, sources, thresholds)
    count = 4 * LEAST_FACES if int8 else LEAST_FACES
    faces, label = sample_faces(cfg.faces, count, cfg.seed, chooses=int8)
    faces, ranged = _parted(faces, label) if int8 else (faces, faces)
    if cfg.to == "torchscript":
        save_torchscript(cfg.what, sources, metadata, faces, out)
    else:
        graph = onnx_graph(cfg.what, sources)
        if cfg.precision != "float32":
            full = finished(_copy(graph), metadata_of(cfg.what, "float32", sources, None))
            graph = converted(graph, cfg.what, cfg.precision, ranged)
        save_onnx(finished(graph, metadata), metadata, sources, faces, out)
        if cfg.precision != "float32":
            print_cost(full, out, cfg.what, cfg.val_root, cfg.seed)
    print(f"[export] {metadata.variant}, {cfg.precision}, compared on {min(len(faces), LEAST_FACES)} of {label}")
    if int8:
        without = (
            "" if thresholds else "; no thresholds inside, for those of float32 do not hold: 0.35 is used, and said"
        )
        print(f"[export] ranges of numbers from {len(ranged)} others of them{without}")
    print(f"[export] written: {out} ({out.stat().st_size:,} bytes, sha256 {sha256_of(out)})")
    return out


def _parted(faces: Faces, label: str) -> tuple[Faces, Faces]:
    """A quarter of the faces to compare int8 on, the others to take its ranges from. UserError for fewer than four.

    Every fourth is compared: of made-up people, whose four pictures lie a quarter apart, no person is in both.
    """
    if len(faces) < 4:
        raise UserError(f"{label} has {len(faces)} faces: int8 needs 4 at least, one of them to be compared on alone.")
    chosen = np.zeros(len(faces), dtype=bool)
    chosen[: len(faces) - len(faces) % 4 : 4] = True
    return faces[chosen][:LEAST_FACES], faces[~chosen]


def save_onnx(model: ModelProto, metadata: ModelMetadata, sources: Sources, faces: Faces, out: Path) -> None:
    """Write `model`, compare what was written with PyTorch, and keep it if they agree. UserError, and no file, else."""

    def write(path: Path) -> None:
        path.write_bytes(model.SerializeToString(deterministic=True))

    def run(path: Path) -> Callable[[torch.Tensor], Array]:
        loaded = OnnxModel(path, metadata.kind)
        return lambda images: loaded(images.numpy())

    between = None
    if metadata.kind == "chain" and metadata.precision == "float32":
        levels = session_of(levels_of(model))
        between = rounding(sources, lambda images: levels(images.numpy()))
    _keep_if_equal(metadata, sources, faces, out, write, run, between)


def save_torchscript(kind: Kind, sources: Sources, metadata: ModelMetadata, faces: Faces, out: Path) -> None:
    """As `save_onnx`, with the metadata in the file's `metadata.json`."""
    script = torchscript(kind, sources)

    def write(path: Path) -> None:
        with open(path, "wb") as file:  # by name, torch would write that name inside: another sha256 every time
            torch.jit.save(script, file, _extra_files={"metadata.json": json.dumps(metadata.properties())})

    def run(path: Path) -> Callable[[torch.Tensor], Array]:
        loaded = open_torchscript(path)
        return lambda images: loaded(images).numpy().astype(np.float32)

    _keep_if_equal(metadata, sources, faces, out, write, run)


def _keep_if_equal(
    metadata: ModelMetadata,
    sources: Sources,
    faces: Faces,
    out: Path,
    write: Callable[[Path], None],
    run: Callable[[Path], Callable[[torch.Tensor], Array]],
    between: Rounding | None = None,
) -> None:
    with replacing(out) as temporary:
        write(temporary)
        agreement = compare(metadata.kind, run(temporary), reference(metadata.kind, sources), faces, between)
        agreement.refuse_below(metadata.precision, metadata.kind)
    print(
        f"[export] against PyTorch at batch {', '.join(map(str, agreement.batches))}, input sides "
        f"{', '.join(map(str, agreement.sizes))}: "
        f"largest difference {agreement.largest_difference:.1e}, least cosine {agreement.least_cosine:.7f}"
    )
    if agreement.rounded_apart is not None:
        print(
            "[export] the difference is that after the same rounding; between DSR and EdgeFace at most "
            f"{1e6 * agreement.rounded_apart:.0f} of a million values lay on an edge and fell to the other side"
        )


def metadata_of(kind: Kind, precision: Precision, sources: Sources, thresholds: Thresholds | None) -> ModelMetadata:
    """What the file will say about itself."""
    packages = {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": version("onnxruntime")}
    return ModelMetadata(
        kind=kind,
        precision=precision,
        variant=sources.variant,
        source_sha256=sources.sha256,
        licence="; ".join(LICENCES[name] for name in sorted(sources.sha256, reverse=True)),
        versions=packages,
        thresholds=thresholds,
    )


def read_thresholds(given: Path | None, sources: Sources) -> Thresholds | None:
    """The calibration for these weights: `given`, or the first `thresholds.json` of them, here or in `checkpoints/`.

    What the file does not name is not asked for: an EdgeFace alone may carry the table of its chain. Raises UserError
    when `given` was made for other weights.
    """
    for path in [given] if given is not None else weights_places(CALIBRATION):
        try:
            found = Thresholds.load(path)
            made = found.made_for
            own: dict[str, Any] = {"edgeface": made.recogniser_sha256, "dsr": made.dsr_sha256} | sources.sha256
            found.check_made_for(own["edgeface"], own["dsr"])
        except UserError as error:
            if given is not None:
                raise
            print(f"[export] {path} was left out: {error}")
            continue
        print(f"[export] thresholds of {path}: {len(found.sizes)} resolutions")
        return found
    return None


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


if __name__ == "__main__":
    cli.run(main, Config)
