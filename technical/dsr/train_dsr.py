"""Train the DSR generator against a frozen EdgeFace.

    python -m dsr.train_dsr --device cuda --epochs 100 --edgeface edgeface_xxs.pt

Reads aligned 112x112 faces from dataset/train_processed and dataset/val_processed (or --train-root, --val-root), makes
their low-resolution versions as it goes, and leaves in --out: dsr.pt (best averaged weights), last.pt (to resume from),
config.json, metrics.jsonl, curves.png, and a grid of samples for every epoch. Several processes:
torchrun --nproc_per_node=2 -m dsr.train_dsr …
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from common import cli
from common.device import Precision, in_bf16, select_device
from common.errors import UserError
from common.files import write_json
from common.paths import default_dataset, find_dataset
from common.progress import progress_bar
from common.runlog import append_record, keep_records, read_records, wandb_logger
from dsr.checkpoint import load_dsr, save_dsr
from dsr.curves import save_curves, save_picture
from dsr.data import FaceReader, SizeChoice, evenly_spaced, split_identities
from dsr.grow import grow
from dsr.losses import DsrLoss, LpipsLoss
from dsr.model import Dsr, preset
from dsr.prepare_dataset import ensure_training_data
from dsr.training import (
    AugmentationName,
    OptimizerName,
    Reduction,
    RunState,
    Validation,
    average_of,
    averaged_dsr,
    epoch_batches,
    learning_rate,
    make_optimizer,
    reduce_batch,
    reduction_named,
    restore_state,
    save_state,
    selection_loss,
    steps_per_epoch,
    train_step,
)
from facial_rec.distributed import Place, joined_processes
from facial_rec.embedder import check_gradient, load_embedder
from facial_rec.faceset import FaceSet
from facial_rec.identities import require_disjoint
from facial_rec.run_state import check_run_folder, refuse_to_overwrite
from facial_rec.weight_average import interpolate

HELD_OUT_FRACTION = 0.1
MIXTURES = "mixtures.json"


@dataclass(frozen=True)
class Config:
    """Train a DSR."""

    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1."""
    epochs: int = 100
    """Passes over the training faces."""
    stop_after: int = 0
    """Epochs after which to stop as if killed, --resume going on to --epochs; 0: no stop."""
    edgeface: str = "edgeface_xxs.pt"
    """Frozen recogniser of the identity loss: a path, or a name in checkpoints/."""
    second_edgeface: str | None = None
    """A second frozen recogniser of the identity loss, which then sees every other face in place of the first."""
    second_share: float = 0.5
    """The part of the faces that the second recogniser sees."""
    train_root: Path | None = None
    """Training faces: a folder or zip; default dataset/train_processed, else a synthetic set is made."""
    val_root: Path | None = None
    """Validation faces of other people; default the val_processed beside a train_processed, else a tenth of the
    training people."""
    vlr_size: tuple[str, ...] = ("8-64",)
    """Low-resolution sizes to train at: one (16), several (16 24 32), ranges (8-64); one given twice counts twice."""
    batch_size: int = 16
    """Faces a step and process."""
    out: Path = Path("runs/dsr")
    """Folder of the run."""
    resume: bool = False
    """Go on from <out>/last.pt."""
    seed: int = 0
    """Seed of weights, order, mirroring, sizes and degradation."""
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    """Whether to log to Weights & Biases as well."""
    preset: str = "default"
    """Network: default (under 1 M parameters), large, tiny (for trials), separate (default without overlap), or
    mirrored (default, averaged over both mirror images: twice the time)."""
    start_from: str | None = None
    """Trained DSR to start from: of the same preset, or of a smaller one, which is grown; a path or a name in
    checkpoints/."""
    alphas: tuple[float, ...] = ()
    """Mixtures to choose from at the end of a run with --start-from: (1 - alpha) start + alpha trained."""
    pixel_loss: Literal["charbonnier", "l1", "psnr"] = "charbonnier"
    """Which pixel loss."""
    pixel_weight: float = 8.0
    """Weight of the pixel loss."""
    identity_weight: float = 0.60
    """Weight of the identity loss, 1 - cosine between embeddings of output and true image."""
    identity_size_power: float = 0.0
    """The identity loss of a face of n pixels counts (min(n, 32) / 16) to this power: 1 doubles it at 32."""
    lpips_weight: float = 0.0
    """Weight of LPIPS; above 0 it needs --lpips-backbone."""
    lpips_backbone: Path | None = None
    """torchvision's AlexNet weights, alexnet-owt-7be5be79.pth."""
    tv_weight: float = 0.0
    """Weight of the total variation of the output."""
    texture_weight: float = 0.0
    """Weight of the texture that the DSR's cells repeat, and of the seams between them."""
    degradation: Literal["canonical", "realistic", "mixed"] = "canonical"
    """How training faces are reduced; validation is always canonical."""
    realistic_share: float = 0.5
    """With mixed degradation, the part of the batches that is degraded as by a far camera."""
    augmentation: AugmentationName = "flip"
    """Changes of the faces before they are reduced: mirrored; scene also moves, resizes, relights and softens.
    strangers is scene, and three faces of five become nobody's: parts of two people, features moved."""
    optimizer: OptimizerName = "adamw"
    """adamw, or muon: Muon for matrices and kernels, AdamW for the rest. muon learns more of as many faces; with
    16 a step a rate of 5e-4 was its best."""
    learning_rate: float = 1e-3
    """Peak learning rate; with muon that of what is no matrix, and matrices move three times as far."""
    weight_decay: float = 1e-4
    """Weight decay."""
    warmup_steps: int = 200
    """Steps of linear warm-up, before the cosine."""
    ema_decay: float = 0.999
    """Decay of the weight average that is validated and saved."""
    val_limit: int = 512
    """Validation faces to use, spread evenly; 0 for all."""
    cache_gb: float = 4.0
    """Training faces are held in memory when they take no more than this."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its choice."""
    precision: Precision = "auto"
    """Of both networks while training; auto: bf16 on CUDA, fp32 on the CPU. bf16 helps CPUs with AVX512-BF16 or AMX."""


def main(cfg: Config) -> Path:
    """Train, and return the path of the best weights. See `Config`; raises UserError for anything the user can mend."""
    _check_config(cfg)
    with joined_processes(select_device(cfg.device)) as place:
        if cfg.threads:
            torch.set_num_threads(cfg.threads)
        return _train(cfg, place)


def _check_config(cfg: Config) -> None:
    SizeChoice.parse(cfg.vlr_size)
    preset(cfg.preset)
    for name in ("epochs", "batch_size"):
        if getattr(cfg, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, found {getattr(cfg, name)}.")
    for name in ("seed", "warmup_steps", "threads", "stop_after", "weight_decay"):
        if not getattr(cfg, name) >= 0:  # so NaN is refused too
            raise UserError(f"--{name.replace('_', '-')} must be at least 0, found {getattr(cfg, name)}.")
    if not all(0.0 < alpha <= 1.0 for alpha in cfg.alphas):
        raise UserError(f"--alphas {' '.join(map(str, cfg.alphas))}: expected numbers above 0 and at most 1.")
    if cfg.alphas and cfg.start_from is None:
        raise UserError("--alphas mixes with the weights that a run starts from: give --start-from too.")
    if not 0.0 < cfg.learning_rate < 1.0:
        raise UserError(f"--learning-rate must lie between 0 and 1, found {cfg.learning_rate}.")
    if not 0.0 <= cfg.realistic_share <= 1.0:
        raise UserError(f"--realistic-share must lie between 0 and 1, found {cfg.realistic_share}.")
    if not 0.0 < cfg.second_share < 1.0:
        raise UserError(f"--second-share must lie between 0 and 1, found {cfg.second_share}.")
    if cfg.second_edgeface is not None and int(cfg.batch_size * cfg.second_share + 1e-9) == 0:
        raise UserError(
            f"--second-share {cfg.second_share} of --batch-size {cfg.batch_size} is less than a face: "
            "--second-edgeface would see none. Give larger batches, or a larger share."
        )
    if not 0.0 <= cfg.identity_size_power < math.inf:
        raise UserError(f"--identity-size-power must be 0 or more, found {cfg.identity_size_power}.")
    if not 0.0 <= cfg.ema_decay < 1.0:
        raise UserError(f"--ema-decay must be at least 0 and below 1, found {cfg.ema_decay}.")
    weights = ("pixel_weight", "identity_weight", "lpips_weight", "tv_weight", "texture_weight")
    if not all(0 <= getattr(cfg, name) < math.inf for name in weights) or not any(
        getattr(cfg, name) for name in weights
    ):
        raise UserError("loss weights must be 0 or more, and at least one of them above 0.")
    check_run_folder(cfg.out, cfg.resume)


def _train(cfg: Config, place: Place) -> Path:
    embedder = load_embedder(cfg.edgeface, place.device)
    check_gradient(embedder, place.device)
    second = load_embedder(cfg.second_edgeface, place.device) if cfg.second_edgeface is not None else None
    if second is not None:
        check_gradient(second, place.device)
    lpips = LpipsLoss(cfg.lpips_backbone).to(place.device) if cfg.lpips_weight > 0 else None
    loss = DsrLoss(
        embedder,
        cfg.pixel_loss,
        cfg.pixel_weight,
        cfg.identity_weight,
        lpips,
        cfg.lpips_weight,
        cfg.tv_weight,
        second,
        cfg.texture_weight,
        preset(cfg.preset).cell,
        cfg.second_share,
        cfg.identity_size_power,
    )
    train_faces, val_faces = load_data(cfg, place)
    if len(train_faces) < place.world:
        raise UserError(f"{len(train_faces)} training faces cannot be shared by {place.world} processes: use fewer.")
    start, start_info = load_dsr(cfg.start_from, option="--start-from") if cfg.start_from is not None else (None, None)
    if start_info is not None:
        refuse_to_overwrite(cfg.out, ["dsr.pt"], {"--start-from": (cfg.start_from,)})
    state = _fresh_state(cfg, place, start)
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    checksums = {
        "edgeface_sha256": embedder.source.sha256,
        "second_edgeface_sha256": second.source.sha256 if second is not None else None,
        "start_sha256": start_info.sha256 if start_info is not None else None,
    }
    settings = _settings(cfg, train_faces, val_faces, place.world, checksums)
    if cfg.resume:
        restore_state(cfg.out / "last.pt", state, settings)
        if place.leads:
            keep_records(cfg.out / "metrics.jsonl", state.epoch)
    sizes = SizeChoice.parse(cfg.vlr_size)
    reduction = reduction_named(cfg.degradation, cfg.realistic_share)
    total_steps = cfg.epochs * steps_per_epoch(len(train_faces), cfg.batch_size, place.world)
    validation = Validation(val_faces, sizes.validation_sizes(), embedder, place.device) if place.leads else None
    if place.leads:
        cfg.out.mkdir(parents=True, exist_ok=True)
        write_json(cfg.out / "config.json", {"command": _command(), **settings, "out": str(cfg.out)})
        _announce(cfg, state, len(train_faces), len(val_faces), total_steps, place)
    logger = wandb_logger(cfg.wandb if place.leads else "disabled", "dsr-edgeface", cfg.out, settings)
    while state.epoch < min(cfg.epochs, cfg.stop_after or cfg.epochs):
        started = time.monotonic()
        losses = train_one_epoch(cfg, state, loss, train_faces, sizes, reduction, total_steps, place)
        state.epoch += 1
        if validation is not None:
            record = {"epoch": state.epoch, "step": state.step, "train": losses, "seconds": time.monotonic() - started}
            logger.log(_finish_epoch(cfg, state, validation, settings, record))
        place.wait()
    logger.close()
    if validation is not None and cfg.alphas and state.epoch == cfg.epochs:
        _choose_mixture(cfg, validation, before)
    if place.leads:
        best = cfg.out / "dsr.pt"
        print(f"Best weights: {best}. Try them: python -m pipeline.evaluate_dataset --dsr {best}")
    return cfg.out / "dsr.pt"


def load_data(cfg: Config, place: Place) -> tuple[FaceReader, FaceReader]:
    """Training and validation faces, of different people. With no training data the synthetic set is made first."""
    train_root = cfg.train_root or default_dataset("train")
    if train_root is None:
        if place.leads:
            train_root = ensure_training_data(0)
        place.wait()
        train_root = train_root or default_dataset("train")
        assert train_root is not None
    train_root = find_dataset(train_root)
    train = FaceSet(train_root)
    val_root = cfg.val_root or _validation_beside(train_root, given=cfg.train_root is not None)
    if val_root is None:
        kept, held = split_identities(train, HELD_OUT_FRACTION, cfg.seed)
        held = evenly_spaced(held, cfg.val_limit)
        if place.leads:
            print(f"[data] no validation set: {len({f.subject for f in held})} people of {train.root} are held out")
        return FaceReader(train, kept, cfg.cache_gb), FaceReader(train, held, cfg.cache_gb)
    val = FaceSet(find_dataset(val_root))
    require_disjoint(train.root, val.root, train.subjects, val.subjects)
    return FaceReader(train, None, cfg.cache_gb), FaceReader(val, evenly_spaced(val.faces, cfg.val_limit), cfg.cache_gb)


def _validation_beside(train_root: Path, given: bool) -> Path | None:
    """The `val_processed` next to a `train_processed`; for default training data, the default validation data."""
    beside = train_root.with_name("val_processed")
    if train_root.name == "train_processed" and beside.is_dir():
        return beside
    return None if given else default_dataset("val")


def _fresh_state(cfg: Config, place: Place, start: Dsr | None) -> RunState:
    torch.manual_seed(cfg.seed)
    model = Dsr(preset(cfg.preset)) if start is None else grow(start, preset(cfg.preset))
    model = model.to(place.device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, cfg.optimizer, cfg.learning_rate, cfg.weight_decay)
    network = DistributedDataParallel(model) if place.world > 1 else model
    return RunState(model, network, average_of(model, cfg.ema_decay), optimizer)


def _settings(
    cfg: Config, faces: FaceReader, held_out: FaceReader, world: int, checksums: dict[str, str | None]
) -> dict[str, Any]:
    """What must be equal for a resumed run to give the losses, and choose the weights, of an uninterrupted one."""
    free = {"device", "resume", "stop_after", "out", "wandb", "cache_gb", "threads", "alphas"}
    free |= {"edgeface", "second_edgeface", "start_from", "train_root", "val_root"}
    kept = {key: value for key, value in asdict(cfg).items() if key not in free}
    kept["vlr_size"] = list(cfg.vlr_size)
    kept["lpips_backbone"] = str(cfg.lpips_backbone) if cfg.lpips_backbone else None
    data = {"training_faces": len(faces), "training_names_sha256": faces.names_sha256}
    data["validation_names_sha256"] = held_out.names_sha256
    return {**kept, **data, "processes": world, **checksums}


def _announce(cfg: Config, state: RunState, faces: int, val_faces: int, total_steps: int, place: Place) -> None:
    count = sum(parameter.numel() for parameter in state.model.parameters())
    print(
        f"[train] DSR '{cfg.preset}' with {count:,} parameters on {place.world} x {place.device}; "
        f"{faces:,} training faces, {val_faces:,} validation faces; {total_steps:,} steps; "
        f"epochs {state.epoch + 1} to {cfg.epochs}"
    )


def train_one_epoch(
    cfg: Config,
    state: RunState,
    loss: DsrLoss,
    faces: FaceReader,
    sizes: SizeChoice,
    reduction: Reduction,
    total_steps: int,
    place: Place,
) -> dict[str, float]:
    """One pass over the training faces; mean loss and parts. Shows rate, time left in the epoch and in the run."""
    sums: dict[str, float] = {}
    steps = steps_per_epoch(len(faces), cfg.batch_size, place.world)
    started, first_step = time.monotonic(), state.step
    name = f"epoch {state.epoch + 1}/{cfg.epochs}"
    with progress_bar(steps * cfg.batch_size, name, "face", show=place.leads) as progress:
        for pixels, generator in epoch_batches(faces, cfg.seed, state.epoch, cfg.batch_size, place):
            high, low = reduce_batch(pixels, generator, sizes, reduction, place.device, cfg.augmentation)
            rate = learning_rate(state.step, total_steps, cfg.learning_rate, cfg.warmup_steps)
            parts = train_step(state, loss, high, low, rate, in_bf16(cfg.precision, place.device))
            for part, value in parts.items():
                sums[part] = sums.get(part, 0.0) + value
            per_step = (time.monotonic() - started) / (state.step - first_step)
            left = per_step * (total_steps - state.step)
            progress.set_description(f"{name}, run left {_hours(left)}, loss {parts['loss']:.3f}", refresh=False)
            progress.update(len(pixels))
    return {part: value / (state.step - first_step) for part, value in sums.items()}


def _hours(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"


def _finish_epoch(
    cfg: Config, state: RunState, validation: Validation, settings: dict[str, Any], record: dict[str, Any]
) -> dict[str, Any]:
    """Validate, keep the best weights, leave pictures, and save the state last, so that a kill repeats this epoch."""
    model = averaged_dsr(state)
    figures = validation.run(model)
    score = selection_loss(figures, cfg.pixel_weight, cfg.identity_weight)
    record = {**record, "validation": figures, "selection_loss": score}
    if score < state.best:
        state.best = score
        metadata = {"settings": settings, "command": _command(), "epoch": state.epoch, "validation": figures}
        save_dsr(cfg.out / "dsr.pt", model, metadata)
    keep_records(cfg.out / "metrics.jsonl", state.epoch - 1)
    append_record(cfg.out / "metrics.jsonl", record)
    save_picture(cfg.out / "samples" / f"epoch_{state.epoch:03d}.png", validation.grid(model))
    save_curves(cfg.out / "curves.png", read_records(cfg.out / "metrics.jsonl"))
    save_state(cfg.out / "last.pt", state, settings)
    _print_epoch(record)
    return record


def _choose_mixture(cfg: Config, validation: Validation, before: dict[str, Tensor]) -> None:
    """Put the best mixture of the best weights with those of the start in the place of the former, once."""
    model, info = load_dsr(cfg.out / "dsr.pt", validation.device)
    if "alpha" in info.metadata:  # mixed before, perhaps killed right after
        tried_before = sorted(one["alpha"] for one in info.metadata["mixtures"])
        if tried_before != sorted(cfg.alphas):
            raise UserError(
                f"{info.path} is mixed already (--alphas {' '.join(map(str, tried_before))}), so the trained weights "
                "are gone. Give the same, or train again in another --out."
            )
        write_json(cfg.out / MIXTURES, {key: info.metadata[key] for key in ("alpha", "validation", "mixtures")})
        return
    trained = {key: value.clone() for key, value in model.state_dict().items()}
    tried: dict[float, tuple[float, dict[str, Any]]] = {}
    for alpha in sorted(cfg.alphas):
        model.load_state_dict(interpolate(before, trained, alpha), strict=True)
        figures = validation.run(model.eval())
        tried[alpha] = selection_loss(figures, cfg.pixel_weight, cfg.identity_weight), figures
        print(f"[mixture] alpha {alpha}: selection loss {tried[alpha][0]:.4f}")
        print_figures(figures)
    chosen = min(tried, key=lambda alpha: tried[alpha][0])
    model.load_state_dict(interpolate(before, trained, chosen), strict=True)
    mixtures = [{"alpha": alpha, "selection_loss": loss, "validation": v} for alpha, (loss, v) in tried.items()]
    chosen_one = {"alpha": chosen, "validation": tried[chosen][1], "mixtures": mixtures}
    save_dsr(cfg.out / "dsr.pt", model, {**info.metadata, **chosen_one})
    write_json(cfg.out / MIXTURES, chosen_one)
    print(f"Chosen: alpha {chosen}")


def _print_epoch(record: dict[str, Any]) -> None:
    parts = ", ".join(f"{name} {value:.4f}" for name, value in record["train"].items())
    print(f"[epoch {record['epoch']}] {parts} ({record['seconds']:.0f} s)")
    print_figures(record["validation"])


def print_figures(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print what `Validation.run` gives, a line for each size."""
    for size, methods in figures.items():
        ours, base = methods["dsr"], methods["bicubic"]
        print(
            f"    at {size:>2}: PSNR {ours['psnr']:.2f} dB (bicubic {base['psnr']:.2f}), "
            f"SSIM {ours['ssim']:.4f} ({base['ssim']:.4f}), "
            f"identity loss {ours['identity_loss']:.4f} ({base['identity_loss']:.4f})"
        )


def _command() -> str:
    return shlex.join(["python", "-m", "dsr.train_dsr", *sys.argv[1:]])


if __name__ == "__main__":
    cli.run(main, Config)
