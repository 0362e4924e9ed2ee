"""Fine-tune EdgeFace on what a frozen DSR makes of low-resolution faces, keeping what it knows of high resolution.

    python -m facial_rec.finetune_edgeface --device cuda --edgeface edgeface_xxs.pt --dsr runs/dsr/dsr.pt

Reads aligned 112x112 faces from dataset/train_processed and dataset/val_processed (or --train-root, --val-root);
reduces and restores them as it goes. Leaves in --out: edgeface_finetuned.pth (a plain state dict), .json (what it is),
.pt (TorchScript); last.pt (to resume from), config.json, metrics.jsonl and curves.png.

EdgeFace has layer norms only and neither dropout nor stochastic depth, so it trains as it recognises.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from common import cli
from common.device import Precision, in_bf16, select_device
from common.errors import UserError
from common.files import write_json
from common.paths import default_dataset, find_dataset
from common.progress import progress_bar
from common.runlog import keep_records, wandb_logger
from dsr.checkpoint import load_dsr
from dsr.data import FaceReader, SizeChoice, evenly_spaced
from dsr.restored import Restorer
from facial_rec.faceset import FaceSet
from facial_rec.finetune_augment import AUGMENTATIONS
from facial_rec.finetune_losses import LossWeights
from facial_rec.finetune_result import NAME
from facial_rec.finetune_run import FinetuneRun
from facial_rec.finetune_state import Batch, Teaching, learning_rate, restore_state, train_step
from facial_rec.finetune_student import fill_centres, fresh_state, load_start, load_teacher, make_loss
from facial_rec.finetune_teachers import joint_teacher
from facial_rec.finetune_validation import Guard, Report, Verification, summary
from facial_rec.identities import Identities, grouped_order, identities_of, require_disjoint, split_people
from facial_rec.run_state import check_run_folder, refuse_to_overwrite
from facial_rec.seeds import mixed_seed

HELD_OUT_FRACTION = 0.1


@dataclass(frozen=True)
class Config:
    """Fine-tune EdgeFace on DSR outputs."""

    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1."""
    edgeface: str = "edgeface_xxs.pt"
    """Network to start from and to keep to: state dict or TorchScript, a path or a name in checkpoints/."""
    start_from: str | None = None
    """Fine-tuned network of the same kind to start from instead; --edgeface stays the one to keep to."""
    teachers: tuple[str, ...] = ()
    """Other EdgeFaces whose views, rotated into the space of --edgeface's, the student is to share as well."""
    dsr: str = "dsr.pt"
    """DSR that restores low-resolution faces: a path, or a name in checkpoints/."""
    train_root: Path | None = None
    """Training faces: a folder or zip; default dataset/train_processed."""
    val_root: Path | None = None
    """Validation faces of other people; default the val_processed beside a train_processed, else a tenth of the
    training people."""
    labels: Literal["names", "none"] = "names"
    """Whether file and folder names tell who is who; none for a flat folder of strangers, which leaves distillation."""
    unlabelled: tuple[str, ...] = ("unlabelled",)
    """Folders of faces without identity, which are no person."""
    vlr_size: tuple[str, ...] = ("16", "16", "24", "32", "8-64")
    """Low-resolution sizes to train at: one (16), several (16 24 32), ranges (8-64); one given twice counts twice."""
    realistic: float = 0.0
    """Chance that a batch is degraded as by a far camera instead of by the canonical reduction."""
    epochs: int = 2
    """Passes over the training faces."""
    steps_per_epoch: int = 0
    """Steps of an epoch, for a short trial; 0: as many as the training faces make."""
    batch_size: int = 48
    """Faces a step."""
    out: Path = Path("runs/finetune")
    """Folder of the run."""
    resume: bool = False
    """Go on from <out>/last.pt."""
    seed: int = 0
    """Seed of order, augmentation, sizes, adapters and class centres."""
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    """Whether to log to Weights & Biases as well."""
    sr_weight: float = 1.0
    """Weight of 1 - cosine between the student's embedding of the restored face and the original's of the true one."""
    hr_weight: float = 1.0
    """Weight of the same from the true face: keeps what the network knew."""
    agreement_weight: float = 0.0
    """Weight of the same between the student's two views of a face, restored and true."""
    margin_weight: float = 0.02
    """Weight of the CosFace loss on the training people."""
    margin_photos: int = 2
    """Photos a person needs to be a class of the CosFace loss."""
    cosface_margin: float = 0.4
    """Margin of the CosFace loss."""
    contrast_weight: float = 0.0
    """Weight of telling each face, one of nobody too, from the training people by the original's view of it."""
    octuplet_weight: float = 0.0
    """Weight of the triplets across resolutions."""
    octuplet_margin: float = 0.5
    """Margin of the triplets, in distance of unit vectors."""
    hr_share: float = 0.5
    """Part of each batch that the student sees in HR as well; smaller is faster."""
    augmentation: Literal["none", "flip", "light", "strong", "strangers"] = "light"
    """Changes of the faces: mirrored; light adds shifts and light; strong adds resizing, blur and erased patches.
    strangers is light, and two faces of five become nobody's: parts of two people, features moved."""
    learning_rate: float = 3e-4
    """Peak learning rate of AdamW, at the head."""
    layer_decay: float = 1.0
    """Learning rate of a layer relative to the one above it; below 1 the early layers stay closer to the original."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    warmup_steps: int = 100
    """Steps of linear warm-up, before the cosine."""
    adapter_rank: int = 0
    """Rank of low-rank adapters that learn instead of the weights and are folded in; 0 trains the weights."""
    ema_decay: float = 0.998
    """Decay of the weight average that is validated and saved."""
    alphas: tuple[float, ...] = (0.3, 0.5, 0.7, 1.0)
    """Mixtures with the original to choose from at the end: (1 - alpha) original + alpha fine-tuned."""
    hr_drop: float = 0.01
    """Largest fall of the validation people's HR-HR TAR at FMR 1e-3 that weights may be kept with."""
    val_limit: int = 1500
    """Validation faces to use, spread evenly; 0 for all."""
    save_every: int = 100
    """Steps between saves of last.pt; a kill costs at most these."""
    cache_gb: float = 4.0
    """Training faces are held in memory when they take no more than this."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its choice."""
    precision: Precision = "auto"
    """Of the student while training; auto: bf16 on CUDA, fp32 on the CPU. bf16 helps CPUs with AVX512-BF16 or AMX."""

    @property
    def weights(self) -> LossWeights:
        """What each loss term counts; without labels only distillation is left."""
        weights = LossWeights(
            self.sr_weight,
            self.hr_weight,
            self.margin_weight,
            self.octuplet_weight,
            self.agreement_weight,
            self.contrast_weight,
        )
        return replace(weights, margin=0.0, octuplet=0.0, contrast=0.0) if self.labels == "none" else weights


def main(cfg: Config) -> Path:
    """Fine-tune, and return the path of the chosen weights. Raises UserError for anything the user can mend."""
    _check_config(cfg)
    device = select_device(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    teacher, original = load_teacher(cfg.edgeface, device)
    others = [load_teacher(name, device)[0] for name in cfg.teachers]
    network, dsr = load_dsr(cfg.dsr, device)
    restorer = Restorer(network, SizeChoice.parse(cfg.vlr_size), cfg.realistic)
    faces, val_faces = load_data(cfg)
    identities = _identities(cfg, faces)
    loss = make_loss(cfg.weights, identities, cfg.octuplet_margin, cfg.cosface_margin)
    rates = cfg.learning_rate, cfg.layer_decay, cfg.weight_decay
    start, start_sha256 = load_start(cfg.start_from, original)
    read = {"--edgeface": (cfg.edgeface,), "--start-from": (cfg.start_from,), "--teachers": cfg.teachers}
    refuse_to_overwrite(cfg.out, [f"{NAME}.pth", f"{NAME}.pt"], read)
    state = fresh_state(start, loss, *rates, cfg.ema_decay, cfg.adapter_rank, device)
    checksums: dict[str, Any] = {
        "edgeface_sha256": teacher.source.sha256,
        "dsr_sha256": dsr.sha256,
        "start_sha256": start_sha256,
        "teachers_sha256": [other.source.sha256 for other in others],
    }
    settings = _settings(cfg, faces, val_faces, checksums)
    if cfg.resume:
        restore_state(cfg.out / "last.pt", state, settings)
    targets = joint_teacher(teacher, others, faces.read, len(faces))
    if not cfg.resume:
        fill_centres(loss, targets, faces.read, identities.classes, device)
    verification = _verification(cfg, val_faces, restorer, device)
    before = verification.run(teacher.network)
    if others and not cfg.resume and (together := verification.high(targets)):
        print(f"[teachers] together: hr-hr {together['tar']:.4f} (the original alone: {before['hr-hr']['tar']:.4f})")
    about = {"command": _command(), "variant": teacher.source.variant}
    run = FinetuneRun(cfg.out, state, verification, Guard(before, cfg.hr_drop), original, settings, about)
    write_json(cfg.out / "config.json", {**about, **settings, "out": str(cfg.out), "original": before})
    keep_records(cfg.out / "metrics.jsonl", state.epoch)
    _announce(cfg, run, identities, len(faces), len(val_faces), before)
    changes, mixed = AUGMENTATIONS[cfg.augmentation], in_bf16(cfg.precision, device)
    teaching = Teaching(targets, restorer.draw, changes, cfg.hr_share, mixed)
    logger = wandb_logger(cfg.wandb, "edgeface-finetune", cfg.out, settings)
    while state.epoch < cfg.epochs:
        started = time.monotonic()
        losses = train_one_epoch(cfg, run, teaching, faces, identities, device)
        record = {"epoch": state.epoch + 1, "step": state.step, "train": losses, "seconds": time.monotonic() - started}
        logger.log(run.finish_epoch(record))
    logger.close()
    return run.finish(cfg.alphas)


def _check_config(cfg: Config) -> None:
    SizeChoice.parse(cfg.vlr_size)
    if cfg.labels == "none" and not (cfg.sr_weight or cfg.hr_weight):
        raise UserError("--labels none leaves distillation only: set --sr-weight or --hr-weight above 0.")
    weights = cfg.weights  # asking for them checks them
    if not cfg.hr_share:
        if weights.agreement:
            raise UserError("--agreement-weight compares a face with its HR view: set --hr-share above 0.")
        if weights.octuplet:
            raise UserError("--octuplet-weight compares photos across resolutions: set --hr-share above 0.")
        if not (weights.sr or weights.margin or weights.contrast):
            raise UserError("--hr-share 0 leaves nothing to learn from: set --sr-weight or --margin-weight above 0.")
    for name in ("epochs", "save_every", "margin_photos"):
        if getattr(cfg, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, found {getattr(cfg, name)}.")
    if cfg.batch_size < 2:
        raise UserError(
            f"--batch-size must be at least 2, found {cfg.batch_size}: one face has nothing to differ from."
        )
    for name in ("seed", "steps_per_epoch", "warmup_steps", "threads", "adapter_rank", "val_limit"):
        if getattr(cfg, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} must be at least 0, found {getattr(cfg, name)}.")
    for name in ("learning_rate", "layer_decay"):
        if not 0.0 < getattr(cfg, name) <= 1.0:
            raise UserError(f"--{name.replace('_', '-')} must lie between 0 and 1, found {getattr(cfg, name)}.")
    for name in ("realistic", "hr_share", "ema_decay", "hr_drop", "weight_decay"):
        if not 0.0 <= getattr(cfg, name) <= 1.0:
            raise UserError(f"--{name.replace('_', '-')} must lie from 0 to 1, found {getattr(cfg, name)}.")
    if not cfg.alphas or not all(0.0 < alpha <= 1.0 for alpha in cfg.alphas):
        raise UserError(f"--alphas {' '.join(map(str, cfg.alphas))}: expected one or more, above 0 and at most 1.")
    check_run_folder(cfg.out, cfg.resume)


def load_data(cfg: Config) -> tuple[FaceReader, FaceReader]:
    """Training and validation faces, of different people."""
    train_root = cfg.train_root or default_dataset("train")
    if train_root is None:
        raise UserError("no training faces: give --train-root, or make some with `python -m dsr.prepare_dataset`.")
    train_root = find_dataset(train_root)
    train = FaceSet(train_root)
    val_root = cfg.val_root
    if val_root is None and train_root.name == "train_processed" and train_root.with_name("val_processed").is_dir():
        val_root = train_root.with_name("val_processed")
    known = cfg.labels == "names"
    if val_root is None:
        kept, held = split_people(train.faces, HELD_OUT_FRACTION, cfg.seed, cfg.unlabelled, known)
        print(
            f"[data] no validation set: {len(held)} of the {len(train)} faces of {train.root}, of others, are held out"
        )
        val, val_faces = train, held
    else:
        val = FaceSet(find_dataset(val_root))
        kept, val_faces = train.faces, val.faces
        if known:
            require_disjoint(train.root, val.root, train.subjects, val.subjects, cfg.unlabelled)
    if len(kept) < 2:
        raise UserError(f"{train.root} leaves {len(kept)} face to train on: at least 2 are needed, and far more help.")
    return FaceReader(train, kept, cfg.cache_gb), FaceReader(val, evenly_spaced(val_faces, cfg.val_limit), cfg.cache_gb)


def _identities(cfg: Config, faces: FaceReader) -> Identities:
    return identities_of(faces.faces, cfg.unlabelled, cfg.margin_photos, known=cfg.labels == "names")


def _verification(cfg: Config, faces: FaceReader, restorer: Restorer, device: torch.device) -> Verification:
    people = _identities(cfg, faces).people
    sizes = restorer.sizes.validation_sizes()
    verification = Verification(faces.read(range(len(faces))), people, sizes, restorer.at, device)
    if verification.same_photo:
        print(
            "[validation] nobody has two photos: a photo is compared with other people's, and with itself across sizes"
        )
    return verification


def _settings(cfg: Config, faces: FaceReader, held_out: FaceReader, checksums: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for a resumed run to give the losses, and choose the weights, of an uninterrupted one."""
    free = {"device", "resume", "out", "wandb", "cache_gb", "threads", "save_every"}
    free |= {"edgeface", "start_from", "teachers", "dsr", "train_root", "val_root"}
    kept = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(cfg).items() if key not in free}
    data = {"training_faces": len(faces), "training_names_sha256": faces.names_sha256}
    data["validation_names_sha256"] = held_out.names_sha256
    return {**kept, **data, **checksums}


def steps_of_epoch(cfg: Config, count: int) -> int:
    """Whole batches of `count` faces, or as many of them as are asked for; a part batch where it is the only one."""
    whole = max(1, count // cfg.batch_size)
    return min(cfg.steps_per_epoch or whole, whole)


def epoch_batches(cfg: Config, faces: FaceReader, identities: Identities, epoch: int, first: int) -> Iterator[Batch]:
    """The batches of one epoch from number `first` on, each with the generator for its random draws."""
    together = 2 if cfg.weights.needs_identities else 1
    order = grouped_order(identities.people, cfg.seed, epoch, together)
    order = order[: steps_of_epoch(cfg, len(faces)) * cfg.batch_size][first * cfg.batch_size :]
    for index, pixels in enumerate(faces.batches(order, cfg.batch_size)):
        rows = order[index * cfg.batch_size : (index + 1) * cfg.batch_size]
        generator = torch.Generator().manual_seed(mixed_seed(cfg.seed, epoch, first + index))
        yield Batch(pixels, identities.people[rows], identities.classes[rows], generator)


def train_one_epoch(
    cfg: Config, run: FinetuneRun, teaching: Teaching, faces: FaceReader, identities: Identities, device: torch.device
) -> dict[str, float]:
    """The rest of one pass over the training faces; mean loss and parts. Shows rate, and time left in the run."""
    state, steps = run.state, steps_of_epoch(cfg, len(faces))
    total, first = cfg.epochs * steps, state.step - state.epoch * steps
    started, first_step = time.monotonic(), state.step
    name = f"epoch {state.epoch + 1}/{cfg.epochs}"
    with progress_bar((steps - first) * cfg.batch_size, name, "face") as progress:
        for batch in epoch_batches(cfg, faces, identities, state.epoch, first):
            rate = learning_rate(state.step, total, cfg.learning_rate, cfg.warmup_steps)
            parts = train_step(state, teaching, batch, rate, device)
            if cfg.weights.octuplet and "octuplet" not in parts and not run.said_no_positive:
                run.said_no_positive = True
                progress.write(f"[train] batch {state.step} has no two photos of a person: it gives no octuplet term")
            left = (time.monotonic() - started) / (state.step - first_step) * (total - state.step)
            progress.set_description(f"{name}, run left {_hours(left)}, loss {parts['loss']:.3f}", refresh=False)
            progress.update(len(batch.pixels))
            if state.step % cfg.save_every == 0:
                run.save()
    return state.means()


def _hours(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"


def _announce(
    cfg: Config, run: FinetuneRun, identities: Identities, faces: int, val_faces: int, before: Report
) -> None:
    learning = sum(p.numel() for group in run.state.optimizer.param_groups for p in group["params"])
    steps = cfg.epochs * steps_of_epoch(cfg, faces)
    print(
        f"[train] {run.about['variant']} with {learning:,} learning parameters on {cfg.device}; {faces:,} training "
        f"faces of {identities.count:,} known people, {val_faces:,} validation faces; {steps:,} steps; "
        f"epochs {run.state.epoch + 1} to {cfg.epochs}"
    )
    print(f"[validation] the original: {summary(before)}")


def _command() -> str:
    return shlex.join(["python", "-m", "facial_rec.finetune_edgeface", *sys.argv[1:]])


if __name__ == "__main__":
    cli.run(main, Config)
