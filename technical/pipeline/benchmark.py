"""What the chain costs here: milliseconds and memory of detector, DSR, EdgeFace, chain and gallery, by runtime.

    python -m pipeline.benchmark --json runs/benchmark.json

Everything takes turns, round after round, and each one's median is given, beside its ratio to EdgeFace on onnxruntime
in the same rounds: the milliseconds belong to this machine, the ratios travel better. Noise for pixels: the time of a
network does not depend on what it is shown. Peak memory is that of a process of its own for each.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import cli
from common.device import select_device
from common.errors import UserError
from common.files import sha256_of, write_json
from dsr.checkpoint import load_dsr
from pipeline.benchmark_contenders import (
    FACE_SIZE,
    GROUPS,
    IN_PYTORCH,
    MAIN_SIZE,
    MODELS,
    REFERENCE,
    RUNTIMES,
    Contender,
    Files,
    Group,
    Runtime,
    Setting,
    contenders,
)
from pipeline.benchmark_files import prepare
from pipeline.benchmark_memory import can_measure, measure
from pipeline.benchmark_profile import operator_times, profile_table
from pipeline.benchmark_report import bound_table, bounds, compile_line, gallery_table, network_table
from pipeline.benchmark_timing import Row, limited, time_contenders, time_galleries
from pipeline.benchmark_training import training_rate
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE
from pipeline.provenance import command_of

FEWER = 5  # a batch takes a fifth of the rounds of one face
PROFILED = 30  # runs under the profiler
PACKAGES = ("torch", "onnxruntime", "opencv-python-headless", "numpy")


@dataclass(frozen=True)
class Config:
    """What to measure, and how long."""

    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too."""
    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace weights, looked up in checkpoints/ too."""
    models: Path | None = None
    """Folder with edgeface.onnx, dsr.onnx and chain.onnx of these weights (default: exported for the occasion)."""
    yunet: Path | None = None
    """YuNet's ONNX file (default: the one in checkpoints/, where there is one)."""
    parts: tuple[Group, ...] = GROUPS
    """Parts to measure; EdgeFace on onnxruntime, the reference, always is."""
    runtimes: tuple[Runtime, ...] = RUNTIMES
    """Runtimes of EdgeFace, DSR and chain; compile takes a minute for each."""
    threads: tuple[int, ...] = (1, 2)
    """CPU threads, one setting after the other."""
    batches: tuple[int, ...] = (1, 32)
    """Faces a call; 1 must be among them."""
    rounds: int = 50
    """How often each takes its turn; a fifth of it at larger batches."""
    memory: bool = True
    """Measure peak memory too, in a process for each."""
    gallery: tuple[int, ...] = (1000, 100_000)
    """Embeddings in the gallery that is searched, multiples of 4."""
    postgres: str | None = None
    """postgresql:// URL of an empty database with pgvector to search too; indexing 100,000 takes minutes."""
    training_steps: int = 6
    """DSR training steps to time, after two that are not counted; 0 leaves training out."""
    batch_size: int = 16
    """Faces in a training step."""
    profile: bool = False
    """Print onnxruntime's profile of EdgeFace, which is printed anyway where it is too slow."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps, for PyTorch; the rest runs on the CPU."""
    json: Path | None = None
    """File to write the figures to."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the tables, write `cfg.json` if given, and return what it holds."""
    check(cfg)
    device = select_device(cfg.device)
    with tempfile.TemporaryDirectory() as folder:
        files = prepare(cfg.edgeface, cfg.dsr, cfg.models, cfg.yunet, cfg.parts, Path(folder))
        settings = [Setting(files, threads, cfg.device) for threads in cfg.threads]
        result: dict[str, Any] = {"rows": [row for setting in settings for row in rows_of(cfg, setting)]}
        result["bounds"] = [asdict(one) for one in bounds(result["rows"])]
        too_slow = any("eager" in one["what"] and one["reached"] is False for one in result["bounds"])
        if cfg.profile or too_slow:
            result["operators_ms"] = operator_times(files.model("edgeface"), REFERENCE, cfg.threads[0], PROFILED)
        result |= about(cfg, files)
    if cfg.training_steps:
        if cfg.json is not None:
            write_json(cfg.json, result)  # what has been measured is not lost to what comes
        with limited(cfg.threads[0]):
            result["training_faces_a_second"] = training_rate(cfg.edgeface, cfg.batch_size, cfg.training_steps, device)
    print_result(result, cfg)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


def check(cfg: Config) -> None:
    """Raise UserError for numbers that make no measurement."""
    if min(cfg.rounds, cfg.batch_size, *cfg.threads, *cfg.batches) < 1 or cfg.training_steps < 0:
        raise UserError(
            "--rounds, --batch-size, --threads and --batches must be at least 1, --training-steps at least 0."
        )
    if not cfg.threads or 1 not in cfg.batches:
        raise UserError("--threads must name a number, and --batches 1: ratios are to one face.")
    if "gallery" in cfg.parts and any(size < 4 or size % 4 for size in cfg.gallery):
        raise UserError(f"--gallery {' '.join(map(str, cfg.gallery))}: expected multiples of 4, four a person.")


def rows_of(cfg: Config, setting: Setting) -> list[dict[str, Any]]:
    """Everything on one number of threads."""
    rows: list[Row] = []
    with limited(setting.threads):
        for batch in cfg.batches:
            found = contenders(cfg.parts, cfg.runtimes, batch, setting.files.yunet is not None)
            measured = time_contenders(found, setting, cfg.rounds if batch == 1 else max(1, cfg.rounds // FEWER))
            rows += measured if batch == 1 else measured[1:]  # the reference once
        if "gallery" in cfg.parts:
            for size in cfg.gallery:
                rows += time_galleries(size, setting, cfg.rounds, cfg.postgres)
    memory = measure(_in_memory(rows), setting) if cfg.memory and can_measure() else {}
    return [{**row.record(), **memory.get(row.contender, {})} for row in rows]


def _in_memory(rows: Sequence[Row]) -> list[Contender]:
    """What runs here, but a server, whose memory is its own; of PyTorch one size, for it takes seconds to import."""
    sizes = (FACE_SIZE, MAIN_SIZE)
    return [
        row.contender
        for row in rows
        if row.ms is not None
        and row.contender.runtime != "postgresql"
        and (row.contender.runtime not in IN_PYTORCH or row.contender.size in sizes)
    ]


def about(cfg: Config, files: Files) -> dict[str, Any]:
    """What was measured, where, and how."""
    models = {part: files.model(part) for part in MODELS}
    return {
        "models": {
            name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for name, path in models.items()
            if path.is_file()
        },
        "dsr_parameters": sum(one.numel() for one in load_dsr(files.dsr)[0].parameters()),
        "rounds": cfg.rounds,
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "system": sys.platform,
        **{name: version(name) for name in PACKAGES},
        "command": command_of("pipeline.benchmark", replace(cfg, postgres=cfg.postgres and "URL")),
    }


def print_result(result: dict[str, Any], cfg: Config) -> None:
    """The tables, the bounds, the training rate."""
    galleries = [row for row in result["rows"] if row["part"] == "gallery"]
    networks = [row for row in result["rows"] if row["part"] != "gallery"]
    print("\n" + network_table(networks))
    if galleries:
        print("\n" + gallery_table(galleries))
    if (line := compile_line(networks)) is not None:
        print("\n" + line)
    if cfg.memory and not can_measure():
        print("\nMemory was not measured: this system has no /proc/self/status.")
    print("\n" + bound_table(bounds(result["rows"])))
    if "operators_ms" in result:
        print("\n" + profile_table(result["operators_ms"]))
    print(
        f"\n{result['machine']}, torch {result['torch']}, onnxruntime {result['onnxruntime']}; {cfg.rounds} rounds; "
        f"DSR has {result['dsr_parameters']:,} parameters."
    )
    if "training_faces_a_second" in result:
        rate = result["training_faces_a_second"]
        print(
            f"Training step with identity loss, batch {cfg.batch_size}, {cfg.threads[0]} thread(s): {rate:.1f} faces a "
            "second."
        )


if __name__ == "__main__":
    cli.run(main, Config)
