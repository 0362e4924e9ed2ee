"""Losses of the first steps of a training by one and by two processes, with the same faces in each step.

    python benchmarks/processes.py --train-root dataset/train_processed --variant edgeface_xxs

Starts `facial_rec.train_edgeface` twice on the same few hundred faces, the second time under torchrun (gloo, on the
CPU) with half the faces a process, and prints both losses of every step and how far apart they are. Sampling is 1.0:
with less, each process draws from its own share of the classes, and the losses differ by the draw.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import cli
from common.errors import UserError
from common.paths import default_dataset, find_dataset
from common.runlog import read_records
from facial_rec.labelled_faces import LabelledFaces, load_faces
from facial_rec.tables import format_table


@dataclass(frozen=True)
class Config:
    """What to train, and for how long."""

    train_root: Path | None = None
    """Faces, a folder or zip with a folder per identity (default: dataset/train_processed)."""
    unlabelled: str = "unlabelled"
    """Folder of faces without identity, which is left out."""
    variant: str = "edgeface_xxs"
    """Network."""
    loss: str = "cosface"
    """Loss."""
    steps: int = 20
    """Steps to compare."""
    batch_size: int = 32
    """Faces a step, in all processes together; an even number."""


def main(cfg: Config) -> float:
    """Print the table, and return the largest difference between two losses of a step."""
    if cfg.batch_size < 2 or cfg.batch_size % 2 or cfg.steps < 1:
        raise UserError("--batch-size must be even and at least 2, --steps at least 1.")
    root = cfg.train_root or default_dataset("train")
    if root is None:
        raise UserError("no training faces: give --train-root, or make some with `python -m dsr.prepare_dataset`.")
    with tempfile.TemporaryDirectory() as name:
        faces = _copied(load_faces(find_dataset(root), (cfg.unlabelled,)), cfg, Path(name) / "faces")
        one, two = (losses_of(cfg, faces, Path(name) / f"run{count}", count) for count in (1, 2))
    apart = [abs(a - b) for a, b in zip(one, two, strict=True)]
    steps = enumerate(zip(one, two, strict=True), 1)
    rows = [[str(step), f"{a:.6f}", f"{b:.6f}", f"{abs(a - b):.1e}"] for step, (a, b) in steps]
    print("\n" + format_table(["step", "loss, 1 process", "loss, 2 processes", "apart"], rows))
    print(f"\n{cfg.variant}, {cfg.loss}, {cfg.batch_size} faces a step: at most {max(apart):.1e} apart")
    return max(apart)


def _copied(faces: LabelledFaces, cfg: Config, target: Path) -> Path:
    """As many faces as the steps need, spread over the people, and some more, as a tenth of the people is held out."""
    needed = int(1.5 * cfg.steps * cfg.batch_size)
    if len(faces.labels) < needed:
        raise UserError(
            f"{faces.label} has {len(faces.labels)} faces of known people, expected {needed}: lower --steps."
        )
    for index in range(0, len(faces.labels) // needed * needed, len(faces.labels) // needed):
        name = faces.name(index)
        file = target / str(faces.labels[index]) / f"{index}{Path(name).suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(faces.read_bytes(name))
    return target


def losses_of(cfg: Config, faces: Path, out: Path, processes: int) -> Sequence[float]:
    """The loss of every step. Raises UserError when the training fails."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    settings = {
        "train-root": faces,
        "variant": cfg.variant,
        "loss": cfg.loss,
        "batch-size": cfg.batch_size // processes,
        "epochs": 1,
        "warmup-epochs": 0.5,
        "log-every": 1,
        "val-every": 10**9,
        "threads": 1,
        "out": out,
    }
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "facial_rec.train_edgeface", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"the training with {processes} process(es) failed:\n{done.stdout}\n{done.stderr}")
    return [record["loss"] for record in read_records(out / "losses.jsonl")][: cfg.steps]


if __name__ == "__main__":
    cli.run(main, Config)
