"""Fold a within-class covariance normalisation into a fine-tuned EdgeFace's last layer; the network stays as fast.

    python -m pipeline.normalise_head --edgeface runs/chain/edgeface_finetuned.pth --dsr runs/chain/dsr.pt

Embeds the training faces, true and restored by the DSR, measures what differs between photos of one person and between
the resolutions of one photo, and tries on the validation people how strongly to damp it; the formulas stand in
`facial_rec.head_normalisation`. Leaves in --out: edgeface_finetuned.pth, .json with every strength tried, and .pt.
"""

from __future__ import annotations

import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common import cli
from common.device import select_device
from common.errors import UserError
from common.files import read_json
from common.progress import progress_bar
from dsr.checkpoint import load_dsr
from dsr.data import FaceReader, SizeChoice
from dsr.restored import Restorer
from facial_rec import finetune_edgeface
from facial_rec.finetune_losses import NO_IDENTITY
from facial_rec.finetune_result import NAME, on_device, save_result, save_script
from facial_rec.finetune_student import load_start, load_teacher
from facial_rec.finetune_validation import Guard, Report, Verification, figures, score, summary
from facial_rec.head_normalisation import (
    damping,
    folded,
    head_rank,
    mean_of_people,
    residual_covariance,
    within_covariance,
)
from facial_rec.identities import UNLABELLED, identities_of
from facial_rec.metrics import unit_rows
from facial_rec.run_state import refuse_to_overwrite

BATCH = 64


@dataclass(frozen=True)
class Config:
    """Which network to normalise, and what to try."""

    edgeface: str = "edgeface_xxs_dsr.pth"
    """Fine-tuned EdgeFace: a state dict, a path or a name in checkpoints/."""
    original: str = "edgeface_xxs.pt"
    """The EdgeFace it came from, which high resolution is guarded against."""
    dsr: str = "dsr.pt"
    """DSR that restores low-resolution faces: a path, or a name in checkpoints/."""
    train_root: Path | None = None
    """Training faces: a folder or zip; default dataset/train_processed."""
    val_root: Path | None = None
    """Validation faces of other people; default the val_processed beside a train_processed, else a tenth of the
    training people."""
    vlr_size: tuple[str, ...] = ("16", "24", "32")
    """Low-resolution sizes to normalise for and to validate at."""
    photos: int = 8
    """Most photos of a person to measure with, so that nobody counts for much more than others."""
    centre: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Parts of the mean embedding to try taking off."""
    residual: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Strengths to try of damping what differs between restored and true faces."""
    within: tuple[float, ...] = (0.0, 0.5)
    """Strengths to try of damping what differs between photos of one person."""
    hr_drop: float = 0.02
    """Largest fall of the validation people's HR-HR TAR at FMR 1e-3, against the original's."""
    tar_drop: float = 1.0
    """Largest fall of any protocol's TAR at FMR 1e-3, at any size, against the network before."""
    val_limit: int = 1500
    """Validation faces to use, spread evenly; 0 for all."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1."""
    out: Path = Path("runs/normalised")
    """Folder of the result."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its choice."""
    seed: int = 0
    """Seed of the people held out where there is no validation set: that of the training."""
    cache_gb: float = 4.0
    """Faces are held in memory when they take no more than this."""


@dataclass(frozen=True)
class Strengths:
    """One way to normalise."""

    centre: float
    residual: float
    within: float


@dataclass(frozen=True)
class Measured:
    """The training faces as the network embeds them, of any length."""

    high: Tensor
    """`(N, D)` true faces."""
    low: tuple[Tensor, ...]
    """`(N, D)` the same faces restored, size by size."""
    people: Tensor
    """`(N,)`, -1 where unknown."""
    rank: int


def main(cfg: Config) -> Path:
    """Choose the strengths, fold them in, write the network; return its path. UserError for anything to mend."""
    _check_config(cfg)
    device = select_device(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    _, original = load_teacher(cfg.original, device)
    network, sha256 = load_start(cfg.edgeface, original)
    dsr, dsr_info = load_dsr(cfg.dsr, device)
    restorer = Restorer(dsr, SizeChoice.parse(cfg.vlr_size))
    faces, val_faces = finetune_edgeface.load_data(
        finetune_edgeface.Config(
            train_root=cfg.train_root,
            val_root=cfg.val_root,
            val_limit=cfg.val_limit,
            cache_gb=cfg.cache_gb,
            seed=cfg.seed,
        )
    )
    sizes = restorer.sizes.validation_sizes()
    people = identities_of(val_faces.faces, (UNLABELLED,)).people
    verification = Verification(val_faces.read(range(len(val_faces))), people, sizes, restorer.at, device)
    if verification.same_photo:
        raise UserError(
            "no validation person has two photos, so there is nothing to choose the strengths by: give --val-root a "
            "folder where somebody has."
        )
    guard = Guard(verification.run(on_device(original, original.state_dict(), device)), cfg.hr_drop)
    embed = embedding_with(on_device(original, network.state_dict(), device), device)
    measured = measure(embed, faces, cfg.photos, sizes, restorer, head_rank(network), device)
    best, tried = choose(cfg, measured, validation_views(embed, verification), verification, guard)
    matrix, offset = normalisation(measured, best)
    state = folded(network, matrix, offset).state_dict()
    report = verification.run(on_device(original, state, device))
    print(f"Chosen: {best}\n    before: {summary(verification.run(on_device(original, network.state_dict(), device)))}")
    print(f"    after:  {summary(report)}")
    metadata = {
        **_made_before(cfg),
        "normalisation": {"command": _command(), "chosen": vars(best), "tried": tried, "validation": report},
        "normalised_from_sha256": sha256,
        "dsr_sha256": dsr_info.sha256,
    }
    path = save_result(cfg.out, original, state, metadata)
    save_script(cfg.out, original, state, metadata)
    print(f"Weights: {path}")
    return path


def _check_config(cfg: Config) -> None:
    SizeChoice.parse(cfg.vlr_size)
    for name in ("centre", "residual", "within"):
        values = getattr(cfg, name)
        if not values or not all(0.0 <= value <= 2.0 for value in values):
            raise UserError(f"--{name} {' '.join(map(str, values))}: expected one or more numbers from 0 to 2.")
    if cfg.photos < 2:
        raise UserError(f"--photos must be at least 2, found {cfg.photos}: one photo differs from nothing.")
    for name in ("hr_drop", "tar_drop"):
        if not 0.0 <= getattr(cfg, name) <= 1.0:
            raise UserError(f"--{name.replace('_', '-')} must lie from 0 to 1, found {getattr(cfg, name)}.")
    read = {"--edgeface": (cfg.edgeface,), "--original": (cfg.original,)}
    refuse_to_overwrite(cfg.out, [f"{NAME}.pth", f"{NAME}.pt"], read)
    if cfg.out.exists() and not cfg.out.is_dir():
        raise UserError(f"--out {cfg.out} is a file: give the folder that the run is to make.")


def _made_before(cfg: Config) -> dict[str, Any]:
    """What the network's own metadata say of its training, where they lie beside it."""
    beside = Path(cfg.edgeface).with_suffix(".json")
    known = read_json(beside) if beside.is_file() else {}
    return {key: value for key, value in known.items() if key not in ("file", "sha256", "normalisation")}


def embedding_with(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Images `(N, 3, 112, 112)`, uint8, to embeddings `(N, D)` of any length, on CPU."""

    @torch.no_grad()
    def embed(pixels: Tensor) -> Tensor:
        parts = []
        for batch in pixels.split(BATCH):
            images = batch.to(device, memory_format=torch.channels_last).float().div(255.0)
            parts.append(network(images * 2.0 - 1.0).float().cpu())
        return torch.cat(parts)

    return embed


def measure(
    embed: Callable[[Tensor], Tensor],
    faces: FaceReader,
    photos: int,
    sizes: Sequence[int],
    restorer: Restorer,
    rank: int,
    device: torch.device,
) -> Measured:
    """Embed up to `photos` training faces of each person, true and restored from every size."""
    people = identities_of(faces.faces, (UNLABELLED,)).people
    seen: Counter[int] = Counter()
    chosen = []
    for index, person in enumerate(people.tolist()):
        seen[person] += 1
        if person == NO_IDENTITY or seen[person] <= photos:
            chosen.append(index)
    high: list[Tensor] = []
    low: dict[int, list[Tensor]] = {size: [] for size in sizes}
    with progress_bar(len(chosen), "embedding training faces", "face") as progress:
        for start in range(0, len(chosen), BATCH):
            pixels = faces.read(chosen[start : start + BATCH])
            high.append(embed(pixels))
            images = pixels.to(device).float().div(255.0)
            for size in sizes:
                low[size].append(embed(restorer.at(images, size).mul(255.0).round().to(torch.uint8)))
            progress.update(len(pixels))
    return Measured(torch.cat(high), tuple(torch.cat(part) for part in low.values()), people[chosen], rank)


def normalisation(measured: Measured, how: Strengths) -> tuple[Tensor, Tensor]:
    """The matrix `(D, D)` and the offset `(D,)` of `facial_rec.head_normalisation.folded`."""
    views = torch.cat([measured.high, *measured.low]).double()
    people = measured.people.repeat(1 + len(measured.low))
    offset = how.centre * mean_of_people(views, people)
    matrix = torch.eye(views.shape[1], dtype=torch.float64)
    if how.residual:
        parts = [residual_covariance(low - offset, measured.high - offset) for low in measured.low]
        matrix = damping(torch.stack(parts).mean(0), how.residual, measured.rank)
    if how.within:
        matrix = matrix @ damping(within_covariance((views - offset) @ matrix, people), how.within, measured.rank)
    return matrix * (views.norm() / (views @ matrix).norm()), offset


def validation_views(embed: Callable[[Tensor], Tensor], verification: Verification) -> dict[int | None, Tensor]:
    """The validation faces' embeddings `(N, D)` by size, None for the true ones."""
    return {size: embed(pixels) for size, pixels in verification.pixels.items()}


def choose(
    cfg: Config, measured: Measured, views: dict[int | None, Tensor], verification: Verification, guard: Guard
) -> tuple[Strengths, list[dict[str, Any]]]:
    """The strengths of the lowest mean EER with a restored face on one side or both, and all that were tried.

    Strengths of 0 leave the network as it is, and are chosen where no other helps or the guard admits none.
    """
    wanted = [Strengths(*values) for values in itertools.product(cfg.centre, cfg.residual, cfg.within)]
    nothing = Strengths(0.0, 0.0, 0.0)
    tried: list[dict[str, Any]] = []
    best, lowest = nothing, float("inf")
    before: Report | None = None
    for how in dict.fromkeys([nothing, *wanted]):
        matrix, offset = normalisation(measured, how)
        report = report_of({size: (view - offset) @ matrix for size, view in views.items()}, verification)
        before = report if before is None else before
        error, lost = mean_error(report), most_lost(before, report)
        figures_of = {"eer": error, "score": score(report), "hr_loss": guard.loss(report), "most_lost": lost}
        tried.append({**vars(how), **figures_of})
        print(f"    {how}: mean EER {100 * error:.3f} %, TAR {summary(report)}", flush=True)
        if error < lowest and (how == nothing or (guard.admits(report) and lost <= cfg.tar_drop)):
            best, lowest = how, error
    return best, tried


def report_of(views: dict[int | None, Tensor], verification: Verification) -> Report:
    """The figures of given embeddings of the validation faces, as `Verification.run` gives a network's."""
    rows = {size: unit_rows(view.numpy().astype(np.float32)) for size, view in views.items()}
    high = rows[None]
    report: Report = {"hr-hr": figures(high, high, verification.people, mirrored=True)}
    for size in verification.sizes:
        low = rows[size]
        report[f"lr-hr@{size}"] = figures(low, high, verification.people)
        report[f"lr-lr@{size}"] = figures(low, low, verification.people, mirrored=True)
    return report


def most_lost(before: Report, after: Report) -> float:
    """The largest fall of a protocol's TAR at FMR 1e-3; 0 where none fell."""
    return max(0.0, *(figure["tar"] - after[name]["tar"] for name, figure in before.items()))


def mean_error(report: Report) -> float:
    """Mean EER over the protocols with a restored face on one side or both."""
    errors = [figure["eer"] for name, figure in report.items() if name != "hr-hr"]
    return sum(errors) / len(errors)


def _command() -> str:
    return shlex.join(["python", "-m", "pipeline.normalise_head", *sys.argv[1:]])


if __name__ == "__main__":
    cli.run(main, Config)
