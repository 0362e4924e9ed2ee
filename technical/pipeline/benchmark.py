"""How fast the chain is here: milliseconds a face for DSR and EdgeFace, and faces a second in training.

    python -m pipeline.benchmark --dsr dsr.pt --edgeface edgeface_xxs.pt --json runs/benchmark.json

Networks take turns, round after round, and each one's median is given, beside its ratio to EdgeFace in the same run:
the milliseconds belong to this machine, the ratios travel better. Random pixels: the time does not depend on content.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common import cli
from common.device import select_device
from common.errors import UserError
from common.files import write_json
from common.paths import find_weights
from dsr.checkpoint import load_dsr
from dsr.data import SizeChoice
from dsr.degradation import bicubic_enlarge
from dsr.losses import DsrLoss
from dsr.model import Dsr, preset
from dsr.training import RunState, average_of, reduce_batch, reduction_named, train_step
from facial_rec.distributed import Place
from facial_rec.edgeface import normalise
from facial_rec.embedder import load_embedder
from facial_rec.tables import format_table
from facial_rec.timing import seconds_of, time_in_turns
from facial_rec.weights import load_strictly, read_edgeface_state, recognise
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, set_threads
from pipeline.provenance import command_of

SIZES = (8, 16, 24, 32, 64)
REFERENCE = "EdgeFace, eager"


@dataclass(frozen=True)
class Config:
    """What to time, and how long."""

    dsr: str | None = None
    """DSR checkpoint; default checkpoints/dsr.pt, else the default network untrained, which takes as long."""
    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace weights."""
    threads: int = 1
    """CPU threads."""
    rounds: int = 30
    """How often each network takes its turn."""
    training_steps: int = 6
    """Training steps to time, after two that are not counted; 0 leaves training out."""
    batch_size: int = 16
    """Faces in a training step."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    json: Path | None = None
    """File to write the figures to."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the table, write `cfg.json` if given, and return what it holds."""
    if cfg.rounds < 1 or cfg.training_steps < 0 or cfg.batch_size < 1:
        raise UserError("--rounds and --batch-size must be at least 1, --training-steps at least 0.")
    device = select_device(cfg.device)
    set_threads(cfg.threads)
    dsr = _dsr(cfg.dsr, device)
    medians = time_in_turns(contenders(dsr, cfg.edgeface, device), cfg.rounds, device)
    result: dict[str, Any] = {
        "milliseconds_a_face": medians,
        "ratio_to_edgeface": {name: value / medians[REFERENCE] for name, value in medians.items()},
        "dsr_parameters": sum(parameter.numel() for parameter in dsr.parameters()),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "command": command_of("pipeline.benchmark", cfg),
    }
    if cfg.training_steps:
        result["training_faces_a_second"] = training_rate(cfg, device)
    print_result(result, cfg)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


def _dsr(given: str | None, device: torch.device) -> Dsr:
    if given is not None or find_weights(DEFAULT_DSR) is not None:
        return load_dsr(given or DEFAULT_DSR, device)[0]
    print("No checkpoints/dsr.pt: timing the default DSR with random weights.")
    return Dsr(preset("default")).eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def contenders(dsr: Dsr, edgeface: str, device: torch.device) -> dict[str, Callable[[], object]]:
    """Each network on one face, as it is called in use."""
    embedder = load_embedder(edgeface, device)
    eager = _eager(embedder.source.path).to(device)
    face = torch.rand(1, 3, 112, 112, device=device)
    low = {size: torch.rand(1, 3, size, size, device=device) for size in SIZES}
    calls: dict[str, Callable[[], object]] = {REFERENCE: lambda: eager(normalise(face))}
    if embedder.source.kind == "torchscript":
        calls["EdgeFace, TorchScript"] = lambda: embedder(face)
    calls["bicubic, 16 to 112"] = lambda: bicubic_enlarge(low[16])
    for size in SIZES:
        calls[f"DSR, {size} to 112, eager"] = lambda size=size: dsr(low[size])  # type: ignore[misc]
    traced = _traced(dsr, low[16])
    calls["DSR, 16 to 112, TorchScript"] = lambda: traced(low[16])
    calls["chain at 16: DSR then EdgeFace, eager"] = lambda: eager(normalise(dsr(low[16])))
    return calls


def _traced(dsr: Dsr, low: Tensor) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; it is how the recogniser beside it is timed
        return torch.jit.freeze(torch.jit.trace(dsr, low))


def _eager(path: Path) -> nn.Module:
    state = read_edgeface_state(path)
    _, model = recognise(state, path)
    load_strictly(model, state, path)
    return model.eval().requires_grad_(False)


def training_rate(cfg: Config, device: torch.device) -> float:
    """Faces a second of whole training steps with the identity loss, sizes 8 to 64."""
    embedder = load_embedder(cfg.edgeface, device)
    model = Dsr(preset("default")).to(device).to(memory_format=torch.channels_last)
    state = RunState(model, model, average_of(model, 0.999), torch.optim.AdamW(model.parameters(), lr=1e-4))
    loss, place = DsrLoss(embedder), Place(device)
    sizes, reduction = SizeChoice.parse(["8-64"]), reduction_named("canonical")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (cfg.batch_size, 3, 112, 112), dtype=torch.uint8, generator=generator)

    def step() -> None:
        high, low = reduce_batch(pixels, generator, sizes, reduction, place.device)
        train_step(state, loss, high, low, 1e-4, mixed_precision=device.type == "cuda")

    for _ in range(2):
        step()
    return cfg.batch_size * cfg.training_steps / sum(seconds_of(step, device) for _ in range(cfg.training_steps))


def print_result(result: dict[str, Any], cfg: Config) -> None:
    """The table, then the training rate."""
    ratios = result["ratio_to_edgeface"]
    rows = [[name, f"{ms:.2f}", f"{ratios[name]:.2f}"] for name, ms in result["milliseconds_a_face"].items()]
    print("\n" + format_table(["one face", "ms (median)", "x EdgeFace"], rows))
    print(
        f"\n{result['threads']} thread(s) of {result['machine']}, torch {result['torch']}, {cfg.rounds} rounds; "
        f"DSR has {result['dsr_parameters']:,} parameters."
    )
    if "training_faces_a_second" in result:
        rate = result["training_faces_a_second"]
        print(f"Training step with identity loss, batch {cfg.batch_size}: {rate:.1f} faces a second.")


if __name__ == "__main__":
    cli.run(main, Config)
