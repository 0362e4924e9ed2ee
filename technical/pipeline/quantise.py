"""Is an EdgeFace in fewer bits smaller, faster, as good? Measured on this CPU, side by side, with a recommendation.

    python -m pipeline.quantise --faces dataset/train_processed --val-root dataset/val_processed \
        --out runs/quantised --json runs/quantised.json

float32, fp16 (weights only), static int8 (its ranges taken from faces, never from noise) and dynamic int8: size,
latency on one and two threads, cosine to float32, accuracy in high resolution and at 16 pixels.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto

from common import cli
from common.errors import UserError
from common.files import replacing, sha256_of, write_json
from common.paths import default_dataset
from dsr.checkpoint import load_dsr
from facial_rec.tables import format_table, number, percent
from facial_rec.timing import time_in_turns
from pipeline.degradations import check_size
from pipeline.development_set import refuse_lfw
from pipeline.export import metadata_of
from pipeline.export_check import LEAST_COSINE, Array, cosines_of
from pipeline.export_graphs import load_sources, onnx_graph
from pipeline.model_metadata import ModelMetadata, Precision
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, dsr_file
from pipeline.onnx_build import finished, read_model
from pipeline.onnx_models import OnnxModel, load_edgeface_onnx
from pipeline.onnx_precision import converted
from pipeline.precision_advice import Measured, advice
from pipeline.precision_cost import FIGURES, Trials, embed, views_of
from pipeline.provenance import command_of
from pipeline.sample_faces import Faces, sample_faces

PRECISIONS: tuple[Precision, ...] = ("float32", "fp16", "int8", "int8-dynamic")


@dataclass(frozen=True)
class Config:
    """What to quantise, and on which faces."""

    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace weights, or a float32 ONNX file of pipeline.export."""
    faces: Path | None = None
    """Folder or zip of aligned faces that static int8 is calibrated on (default: made-up ones)."""
    calibration_faces: int = 128
    """How many of them."""
    val_root: Path | None = None
    """Faces by identity to verify on (default: dataset/val_processed)."""
    dataset_root: Path | None = None
    """A test set, such as LFW, to report on beside them; nothing is chosen by it."""
    pairs: Path | None = None
    """Pair list of the test set (pairs.txt)."""
    dsr: str = DEFAULT_DSR
    """DSR that low-resolution faces go through, looked up in checkpoints/ too; none: bicubic."""
    vlr_size: int = 16
    """Side of the low-resolution faces in pixels."""
    rounds: int = 50
    """How often each model is timed; they take turns."""
    out: Path = Path("runs/quantised")
    """Folder for the models."""
    json: Path | None = None
    """File to write the figures to, as fractions."""
    seed: int = 0
    """Seed of the faces and of drawn pairs."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the table, write the models and `cfg.json`, and return what it holds."""
    check_size(cfg.vlr_size, "--vlr-size")
    if cfg.rounds < 1 or cfg.calibration_faces < 1:
        raise UserError("--rounds and --calibration-faces must be at least 1.")
    graph, metadata = read_edgeface(cfg.edgeface)
    faces, label = sample_faces(cfg.faces, cfg.calibration_faces, cfg.seed, chooses=True)
    if (val_root := cfg.val_root or default_dataset("val")) is not None:
        refuse_lfw(val_root, [], "--val-root")
    files = write_models(graph, metadata, faces, cfg.out)
    dsr = dsr_file(cfg.dsr)
    upscaler = load_dsr(dsr)[0] if dsr is not None else None
    result: dict[str, Any] = {
        "models": {name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in files.items()},
        "calibrated_on": {"faces": label, "count": len(faces)},
        "variant": metadata.variant,
        "source_sha256": dict(metadata.source_sha256),
        "machine": platform.processor() or platform.machine(),
        "onnxruntime": version("onnxruntime"),
        "rounds": cfg.rounds,
        "low_resolution": {"size": cfg.vlr_size, "through": dsr or "bicubic"},
        "command": command_of("pipeline.quantise", cfg),
    }
    for threads in (1, 2):
        for name, medians in latencies(files, threads, cfg.rounds).items():
            result["models"][name].setdefault("milliseconds", {})[str(threads)] = medians
    for which, root, pairs in (
        ("validation", val_root, None),
        ("test", cfg.dataset_root, cfg.pairs),
    ):
        if root is not None:
            trials = Trials.load(root, pairs, cfg.seed)
            if which == "validation":
                refuse_lfw(root, trials.people, "--val-root")
            result[which] = {"label": trials.label, "pairs": len(trials.pairs)}
            measure(files, trials, views_of("edgeface", trials.faces, cfg.vlr_size, upscaler), result["models"], which)
    result["advice"] = advice(
        {name: Measured.of(one, result["models"]["float32"]) for name, one in result["models"].items()}
    )
    print_result(result)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


def read_edgeface(file: str) -> tuple[ModelProto, ModelMetadata]:
    """The float32 graph of an EdgeFace, exported from weights or read from an ONNX file, and what it is."""
    if Path(file).suffix == ".onnx":
        loaded = load_edgeface_onnx(file)
        if loaded.metadata.precision != "float32":
            raise UserError(f"{file} is in {loaded.metadata.precision} already: give a float32 export or the weights.")
        return read_model(loaded.path), loaded.metadata
    sources = load_sources("edgeface", file, "")
    return onnx_graph("edgeface", sources), metadata_of("edgeface", "float32", sources, None)


def write_models(graph: ModelProto, metadata: ModelMetadata, faces: Faces, folder: Path) -> dict[Precision, Path]:
    """Write the model in every precision, `<variant>_<precision>.onnx`."""
    files: dict[Precision, Path] = {}
    for precision in PRECISIONS:
        copy = ModelProto()
        copy.CopyFrom(graph)
        about = replace(metadata, precision=precision)
        if precision.startswith("int8"):
            about = replace(about, thresholds=None)  # which were chosen for other scores
        model = finished(converted(copy, "edgeface", precision, faces), about)
        files[precision] = folder / f"{metadata.variant}_{precision}.onnx"
        with replacing(files[precision]) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
    return files


def latencies(files: Mapping[Precision, Path], threads: int, rounds: int) -> dict[Precision, float]:
    """Median milliseconds of one face, by precision; the models take turns."""
    face = np.zeros((1, 3, 112, 112), np.float32)
    models = {precision: OnnxModel(path, "edgeface", threads) for precision, path in files.items()}
    calls = {name: (lambda model=model: model(face)) for name, model in models.items()}
    return time_in_turns(calls, rounds, torch.device("cpu"))


def measure(
    files: Mapping[Precision, Path],
    trials: Trials,
    views: Mapping[str, Any],
    models: dict[str, Any],
    which: str,
) -> None:
    """Put into each of `models` its cosine to float32 and its figures on `trials`, under `which`, by view."""
    for view, images in views.items():
        reference: Array | None = None
        for precision, path in files.items():
            vectors = embed(OnnxModel(path, "edgeface"), "edgeface", images)
            reference = vectors if reference is None else reference
            cosines = cosines_of("edgeface", vectors, reference)
            found = {"cosine_mean": float(cosines.mean()), "cosine_least": float(cosines.min())}
            models[precision].setdefault(which, {})[view] = found | trials.figures(vectors)


def print_result(result: dict[str, Any]) -> None:
    """The table and the advice."""
    models = result["models"]
    full = models["float32"]
    low = str(result["low_resolution"]["size"])
    header = ["", "MB", "1 thread", "2 threads"]
    sets = [which for which in ("validation", "test") if which in result]
    for which in sets:
        header += [
            f"{which}: {'HR' if view == 'hr' else view} {what}"
            for view in ("hr", low)
            for what in ("cosine", "accuracy, %")
        ]
    rows = []
    for name, one in models.items():
        row = [name, f"{one['bytes'] / 1e6:.2f}"]
        row += [f"{one['milliseconds'][threads] / full['milliseconds'][threads]:.2f} x" for threads in ("1", "2")]
        for which in sets:
            for view in ("hr", low):
                figures = one[which][view]
                row += [number(figures["cosine_mean"], decimals=4), percent(figures["accuracy"])]
        rows.append(row)
    print("\n" + format_table(header, rows))
    calibrated, through = result["calibrated_on"], result["low_resolution"]["through"]
    print(
        f"\n{result['variant']}; static int8 calibrated on {calibrated['count']} of {calibrated['faces']}; faces of "
        f"{low} pixels through {through}. Latency: median of {result['rounds']} turns, one face, as a ratio to float32 "
        f"({full['milliseconds']['1']:.1f} and {full['milliseconds']['2']:.1f} ms) on {result['machine']}."
    )
    for which in sets:
        print(
            f"{which}: {result[which]['pairs']:,} pairs of {result[which]['label']}; figures in JSON: "
            f"{', '.join(FIGURES)}. Cosine: mean to float32, expected above {LEAST_COSINE['int8']} for int8."
        )
    print("\n".join(result["advice"]))


if __name__ == "__main__":
    cli.run(main, Config)
