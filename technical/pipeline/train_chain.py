"""Train the DSR and EdgeFace at once: what the recogniser is to say of a restored face teaches both.

    python -m pipeline.train_chain --edgeface edgeface_xxs.pt --dsr dsr.pt --start-from edgeface_xxs_dsr.pth

Goes on from a trained DSR and, with --start-from, from an EdgeFace that was fine-tuned on its outputs. The DSR's own
losses stay: pixels, and the identity loss of the frozen --edgeface. Reads aligned faces from dataset/train_processed
and dataset/val_processed (or --train-root, --val-root). Leaves in --out: dsr.pt, edgeface_finetuned.pth, .json and .pt,
last.pt (to resume from), config.json, metrics.jsonl, curves.png, and a grid of samples for every validation. Several
processes: torchrun --nproc_per_node=2 -m pipeline.train_chain …
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common import cli
from common.device import Precision, in_bf16, select_device
from common.errors import UserError
from common.files import write_json
from common.progress import progress_bar
from common.runlog import WandbMode, keep_records, wandb_logger
from dsr.checkpoint import load_dsr
from dsr.data import FaceReader, SizeChoice, evenly_spaced
from dsr.model import Dsr
from dsr.training import SCENE, OptimizerName, Validation, reduction_named, steps_per_epoch
from facial_rec import finetune_edgeface
from facial_rec.distributed import Place, joined_processes
from facial_rec.edgeface import EdgeFace, fix_positions
from facial_rec.embedder import Embedder, check_gradient
from facial_rec.finetune_losses import LossWeights
from facial_rec.finetune_result import NAME, on_device
from facial_rec.finetune_state import Batch, learning_rate
from facial_rec.finetune_student import fill_centres, load_start, load_teacher, make_loss
from facial_rec.finetune_teachers import JointTeacher, joint_teacher
from facial_rec.finetune_validation import Guard
from facial_rec.identities import UNLABELLED, Identities, grouped_order, identities_of
from facial_rec.run_state import check_run_folder, refuse_to_overwrite
from facial_rec.seeds import mixed_seed
from pipeline.chain_graph import REPORT_EVERY, GraphedStep, prepared_ahead
from pipeline.chain_run import ChainRun, verification_on
from pipeline.chain_training import (
    ChainState,
    ChainTeaching,
    ChainWeights,
    chain_step,
    fresh_chain,
    prepare,
    restore_chain,
)


@dataclass(frozen=True)
class Config:
    """Train a DSR and an EdgeFace at once."""

    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1."""
    epochs: int = 10
    """Passes over the training faces."""
    minutes: float = 0.0
    """Above 0: at most as many of the epochs as fit into so many minutes from the start, validations not counted. The
    first epochs tell how long one takes: give a warm-up that outlasts them. To resume, give the --epochs it found."""
    edgeface: str = "edgeface_xxs.pt"
    """The original: the recogniser of the identity loss, and what the student is to keep to."""
    start_from: str | None = None
    """Fine-tuned EdgeFace of the same kind to start from; default the original itself."""
    dsr: str = "dsr.pt"
    """Trained DSR to start from: a path, or a name in checkpoints/."""
    teachers: tuple[str, ...] = ()
    """Other EdgeFaces whose views, rotated into the space of --edgeface's, the student is to share as well."""
    train_root: Path | None = None
    """Training faces: a folder or zip; default dataset/train_processed."""
    val_root: Path | None = None
    """Validation faces of other people; default the val_processed beside a train_processed, else a tenth of the
    training people."""
    vlr_size: tuple[str, ...] = ("16", "16", "24", "24", "32", "32", "8-64")
    """Low-resolution sizes to train at: one (16), several (16 24 32), ranges (8-64); one given twice counts twice."""
    realistic_share: float = 0.2
    """Part of the batches that is degraded as by a far camera instead of by the canonical reduction."""
    strangers: float = 0.5
    """Part of the faces that become nobody's: parts of two people, features moved."""
    batch_size: int = 16
    """Faces a step and process."""
    sizes_per_batch: int = 1
    """Parts of a batch that are each reduced to a size of their own; large batches want several."""
    views: int = 1
    """How often a step reduces and restores each face. What the teachers and the student say of the true face is worked
    out once for all of them, which makes a view cheaper."""
    degrade_at_once: bool = False
    """Degrade the faces of a realistic batch together, as a GPU needs, instead of one after the other."""
    cuda_graph: bool = False
    """On a GPU: capture the step once, which makes small networks several times as fast."""
    channels_last: bool = True
    """Keep all channels of a pixel together in memory; which order is faster depends on the processor."""
    out: Path = Path("runs/chain")
    """Folder of the run."""
    resume: bool = False
    """Go on from <out>/last.pt."""
    seed: int = 0
    """Seed of order, augmentation, sizes and degradation."""
    pixel_weight: float = 8.0
    """Weight of the DSR's pixel loss."""
    identity_weight: float = 2.0
    """Weight of the identity loss of the frozen original."""
    identity_size_power: float = 0.0
    """The identity loss of a face of n pixels counts (min(n, 32) / 16) to this power: 1 doubles it at 32."""
    mirror_weight: float = 0.0
    """Weight of the distance between what the DSR makes of a face and of its mirror image, mirrored back."""
    texture_weight: float = 0.0
    """Weight of the texture that the DSR's cells repeat, and of the seams between them."""
    chain_weight: float = 1.5
    """Weight of the student's losses, all together, in what both networks learn from."""
    sr_weight: float = 1.0
    """Among the student's losses, of 1 - cosine between its embedding of the restored face and the target."""
    hr_weight: float = 1.0
    """... of the same from the true face: keeps what the network knew."""
    agreement_weight: float = 0.5
    """... of the same between the student's two views of a face, restored and true."""
    contrast_weight: float = 0.05
    """... of telling each face, one of nobody too, from the training people by the teachers' view of it."""
    margin_weight: float = 0.01
    """... of the CosFace loss on the training people."""
    hr_share: float = 0.5
    """Part of each batch that the student sees in HR as well; smaller is faster."""
    dsr_optimizer: OptimizerName = "adamw"
    """Of the DSR: adamw, or muon, which moves matrices and kernels three times as far as --dsr-learning-rate says.
    EdgeFace is AdamW's."""
    dsr_learning_rate: float = 5e-4
    """Peak learning rate of the DSR. 0 leaves it as it is, and its losses out: the student learns alone."""
    learning_rate: float = 2e-4
    """Peak learning rate of EdgeFace."""
    weight_decay: float = 1e-3
    """Weight decay."""
    warmup_steps: int = 200
    """Steps of linear warm-up, before the cosine."""
    ema_decay: float = 0.999
    """Decay of the weight averages that are validated and saved."""
    dsr_alpha: float = 1.0
    """The DSR that is left at the end: (1 - alpha) that of --dsr + alpha trained."""
    alphas: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 1.0)
    """Mixtures with the original EdgeFace to choose from at the end: (1 - alpha) original + alpha trained."""
    hr_drop: float = 0.02
    """Largest fall of the validation people's HR-HR TAR at FMR 1e-3 that a mixture may be chosen with."""
    val_limit: int = 1500
    """Validation faces for the recogniser, spread evenly; 0 for all. The DSR's figures take 512 of them."""
    validate_every: int = 1
    """Epochs between validations; the last one is validated anyway."""
    save_every: int = 100
    """Steps between saves of last.pt; a kill costs at most these."""
    cache_gb: float = 4.0
    """Training faces are held in memory when they take no more than this."""
    threads: int = 0
    """CPU threads of torch in each process; 0 leaves its choice."""
    precision: Precision = "auto"
    """Of all networks while training; auto: bf16 on CUDA, fp32 on the CPU. bf16 helps CPUs with AVX512-BF16 or AMX."""
    wandb: WandbMode = "disabled"
    """Whether to log to Weights & Biases as well."""


DSR_FACES = 512
MEASURED_SECONDS = 10.0  # of epochs after the first, before --minutes is turned into a number of them


def main(cfg: Config) -> Path:
    """Train both; return the path of the recogniser's weights. Raises UserError for anything the user can mend."""
    _check_config(cfg)
    with joined_processes(select_device(cfg.device)) as place:
        if cfg.minutes and place.world > 1:
            raise UserError("--minutes measures one process: give several of them --epochs instead.")
        if cfg.threads:
            torch.set_num_threads(cfg.threads)
        return _train(cfg, place)


def _check_config(cfg: Config) -> None:
    SizeChoice.parse(cfg.vlr_size)
    _weights(cfg)
    _student_weights(cfg)
    if cfg.cuda_graph and not cfg.device.startswith("cuda"):
        raise UserError(f"--cuda-graph needs a GPU, and --device is {cfg.device}: add --device cuda, or leave it out.")
    if cfg.agreement_weight and not cfg.hr_share:
        raise UserError("--agreement-weight compares a face with its HR view: set --hr-share above 0.")
    least_of = {"epochs": 1, "batch_size": 2, "sizes_per_batch": 1, "views": 1, "validate_every": 1, "save_every": 1}
    for name, least in least_of.items():
        if getattr(cfg, name) < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, found {getattr(cfg, name)}.")
    for name in ("seed", "warmup_steps", "threads", "val_limit"):
        if getattr(cfg, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} must be at least 0, found {getattr(cfg, name)}.")
    if cfg.sizes_per_batch > cfg.batch_size:
        raise UserError(
            f"--sizes-per-batch {cfg.sizes_per_batch} is more than a batch has faces, --batch-size {cfg.batch_size}: "
            "every size needs one."
        )
    if not cfg.hr_share and not (cfg.sr_weight or cfg.margin_weight or cfg.contrast_weight):
        raise UserError("--hr-share 0 leaves nothing to learn from: set --sr-weight or --margin-weight above 0.")
    if not 0.0 < cfg.learning_rate < 1.0:
        raise UserError(f"--learning-rate must lie between 0 and 1, found {cfg.learning_rate}.")
    if not 0.0 <= cfg.dsr_learning_rate < 1.0:
        raise UserError(f"--dsr-learning-rate must lie from 0 to below 1, found {cfg.dsr_learning_rate}.")
    for name in ("realistic_share", "strangers", "hr_share", "ema_decay", "hr_drop", "weight_decay"):
        if not 0.0 <= getattr(cfg, name) <= 1.0:
            raise UserError(f"--{name.replace('_', '-')} must lie from 0 to 1, found {getattr(cfg, name)}.")
    if not cfg.alphas or not all(0.0 < alpha <= 1.0 for alpha in cfg.alphas):
        raise UserError(f"--alphas {' '.join(map(str, cfg.alphas))}: expected one or more, above 0 and at most 1.")
    if not 0.0 < cfg.dsr_alpha <= 1.0:
        raise UserError(f"--dsr-alpha must lie above 0 and be at most 1, found {cfg.dsr_alpha}.")
    if not cfg.dsr_learning_rate and cfg.dsr_alpha != 1.0:
        raise UserError(
            "--dsr-alpha mixes the trained DSR, and with --dsr-learning-rate 0 none is trained: leave it out."
        )
    if not 0.0 <= cfg.minutes < math.inf:
        raise UserError(f"--minutes must be 0 or more, found {cfg.minutes}.")
    check_run_folder(cfg.out, cfg.resume)


def _weights(cfg: Config) -> ChainWeights:
    weights = cfg.pixel_weight, cfg.identity_weight, cfg.chain_weight, cfg.identity_size_power
    return ChainWeights(*weights, mirror=cfg.mirror_weight, texture=cfg.texture_weight)


def _student_weights(cfg: Config) -> LossWeights:
    return LossWeights(cfg.sr_weight, cfg.hr_weight, cfg.margin_weight, 0.0, cfg.agreement_weight, cfg.contrast_weight)


def _train(cfg: Config, place: Place) -> Path:
    began, device = time.monotonic(), place.device
    torch.manual_seed(cfg.seed)
    teacher, original = load_teacher(cfg.edgeface, device)
    check_gradient(teacher, device)
    others = [load_teacher(name, device)[0] for name in cfg.teachers]
    start, start_sha256 = load_start(cfg.start_from, original)
    dsr, dsr_info = load_dsr(cfg.dsr, device)
    read = {"--edgeface": (cfg.edgeface,), "--start-from": (cfg.start_from,), "--teachers": cfg.teachers}
    refuse_to_overwrite(cfg.out, [f"{NAME}.pth", f"{NAME}.pt"], read)
    if cfg.dsr_learning_rate:
        refuse_to_overwrite(cfg.out, ["dsr.pt"], {"--dsr": (cfg.dsr,)})
    if dsr_info.config.mirrored and cfg.mirror_weight:
        raise UserError(f"{dsr_info.path} is its own mirror image: leave --mirror-weight out, it would teach nothing.")
    faces, val_faces = finetune_edgeface.load_data(
        finetune_edgeface.Config(
            train_root=cfg.train_root,
            val_root=cfg.val_root,
            seed=cfg.seed,
            val_limit=cfg.val_limit,
            cache_gb=cfg.cache_gb,
        )
    )
    faces.hold_on(device)
    if len(faces) < 2 * place.world:
        raise UserError(f"{len(faces)} training faces cannot be shared by {place.world} processes: use fewer.")
    identities = identities_of(faces.faces, (UNLABELLED,), 1)
    loss = make_loss(_student_weights(cfg), identities, 0.5, 0.4)
    rates = cfg.dsr_learning_rate, cfg.learning_rate, cfg.weight_decay, cfg.ema_decay
    state = fresh_chain(dsr, start, loss, *rates, device, muon=cfg.dsr_optimizer == "muon")
    checksums = {
        "edgeface_sha256": teacher.source.sha256,
        "dsr_sha256": dsr_info.sha256,
        "start_sha256": start_sha256,
        "teachers_sha256": [other.source.sha256 for other in others],
    }
    settings = _settings(cfg, faces, val_faces, place.world, checksums)
    for network in (teacher, *others, state.dsr, state.student):
        network.to(memory_format=_memory_format(cfg))
    if cfg.resume:
        restore_chain(cfg.out / "last.pt", state, settings)  # the optimizer's moments are laid out as the weights are
    for network in (teacher, *others, state.dsr, state.student):
        fix_positions(network)
    targets = joint_teacher(teacher, others, faces.read, len(faces))
    if not cfg.resume:
        fill_centres(loss, targets, faces.read, identities.classes, device)
    run = _run(cfg, state, original, teacher, dsr, settings, place, val_faces) if place.leads else None
    teaching = _teaching(cfg, teacher, targets, device)
    graphed = GraphedStep(state, teaching, place) if cfg.cuda_graph else None
    logger = wandb_logger(cfg.wandb if place.leads else "disabled", "dsr-edgeface-chain", cfg.out, settings)
    if run is not None:
        _announce(cfg, state, len(faces), len(val_faces), place)
    lasted: list[float] = []
    while state.epoch < cfg.epochs:
        started = time.monotonic()
        losses = train_one_epoch(cfg, state, teaching, faces, identities, place, run, graphed)
        lasted.append(time.monotonic() - started)
        record = {"epoch": state.epoch + 1, "step": state.step, "train": losses, "seconds": lasted[-1]}
        if run is not None and cfg.minutes and lasted[1:] and sum(lasted[1:]) >= MEASURED_SECONDS:
            left = 60.0 * cfg.minutes - (time.monotonic() - began)
            cfg = run.shorten(state.epoch + 1 + int(left / (sum(lasted[1:]) / len(lasted[1:]))))
        if run is not None:
            logger.log(run.finish_epoch(record))
        else:
            state.epoch, state.sums = state.epoch + 1, {}
        place.wait()
    logger.close()
    return run.finish() if run is not None else cfg.out


def _run(
    cfg: Config,
    state: ChainState,
    original: EdgeFace,
    teacher: Embedder,
    dsr: Dsr,
    settings: dict[str, Any],
    place: Place,
    val_faces: FaceReader,
) -> ChainRun:
    """What the leading process measures with; writes config.json."""
    people = identities_of(val_faces.faces, (UNLABELLED,)).people
    verification = verification_on(dsr, cfg, val_faces, people, place.device)
    before = verification.run(on_device(original, original.state_dict(), place.device))
    assert verification.original is not None
    chosen = evenly_spaced(val_faces.faces, DSR_FACES)
    sizes = SizeChoice.parse(cfg.vlr_size).validation_sizes()
    quality = Validation(FaceReader(val_faces.faceset, chosen, cfg.cache_gb), sizes, teacher, place.device)
    command = shlex.join(["python", "-m", "pipeline.train_chain", *sys.argv[1:]])
    gpu = place.device.type == "cuda"
    on = f"{torch.cuda.get_device_name(place.device)}, torch {torch.__version__}" if gpu else "cpu"
    about = {"command": command, "variant": teacher.source.variant, "machine": on}
    cfg.out.mkdir(parents=True, exist_ok=True)
    write_json(cfg.out / "config.json", {**about, **settings, "out": str(cfg.out), "original": before})
    keep_records(cfg.out / "metrics.jsonl", state.epoch)
    guard = Guard(before, cfg.hr_drop)
    return ChainRun(
        *(cfg, state, original, dsr, settings, about, place, val_faces, people, quality, guard, verification.original)
    )


def _teaching(cfg: Config, original: torch.nn.Module, targets: torch.nn.Module, device: torch.device) -> ChainTeaching:
    joined = targets.joined if isinstance(targets, JointTeacher) else lambda first, images: first
    return ChainTeaching(
        original,
        joined,
        SizeChoice.parse(cfg.vlr_size),
        reduction_named("mixed", cfg.realistic_share, cfg.degrade_at_once),
        replace(SCENE, stranger=cfg.strangers),
        _weights(cfg),
        cfg.hr_share,
        in_bf16(cfg.precision, device),
        cfg.sizes_per_batch,
        cfg.views,
        _memory_format(cfg),
    )


def _memory_format(cfg: Config) -> torch.memory_format:
    return torch.channels_last if cfg.channels_last else torch.contiguous_format


def _settings(
    cfg: Config, faces: FaceReader, held_out: FaceReader, world: int, checksums: dict[str, Any]
) -> dict[str, Any]:
    """What must be equal for a resumed run to give the losses of an uninterrupted one."""
    free = {"device", "resume", "out", "wandb", "cache_gb", "threads", "save_every", "alphas"}
    free |= {"edgeface", "start_from", "teachers", "dsr", "train_root", "val_root", "validate_every", "hr_drop"}
    free |= {"cuda_graph", "channels_last", "minutes", "dsr_alpha"}
    kept = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(cfg).items() if key not in free}
    data = {"training_faces": len(faces), "training_names_sha256": faces.names_sha256}
    data["validation_names_sha256"] = held_out.names_sha256
    return {**kept, **data, "processes": world, **checksums}


def epoch_batches(
    cfg: Config, faces: FaceReader, identities: Identities, epoch: int, first: int, place: Place
) -> Iterator[Batch]:
    """This process's batches of one epoch from number `first` on, each with the generator for its random draws."""
    order = grouped_order(identities.people, cfg.seed, epoch, 1)[place.rank :: place.world]
    steps = steps_per_epoch(len(faces), cfg.batch_size, place.world)
    order = order[: steps * cfg.batch_size][first * cfg.batch_size :]
    for index, pixels in enumerate(faces.batches(order, cfg.batch_size)):
        rows = order[index * cfg.batch_size : (index + 1) * cfg.batch_size]
        generator = torch.Generator().manual_seed(mixed_seed(cfg.seed, epoch, first + index, place.rank))
        yield Batch(pixels, identities.people[rows], identities.classes[rows], generator)


def train_one_epoch(
    cfg: Config,
    state: ChainState,
    teaching: ChainTeaching,
    faces: FaceReader,
    identities: Identities,
    place: Place,
    run: ChainRun | None,
    graphed: GraphedStep | None = None,
) -> dict[str, float]:
    """The rest of one pass over the training faces; mean loss and parts. Shows rate, and time left in the run."""
    steps = steps_per_epoch(len(faces), cfg.batch_size, place.world)
    total, first = cfg.epochs * steps, state.step - state.epoch * steps
    started, first_step = time.monotonic(), state.step
    name = f"epoch {state.epoch + 1}/{cfg.epochs}"
    batches = epoch_batches(cfg, faces, identities, state.epoch, first, place)
    with progress_bar((steps - first) * cfg.batch_size, name, "face", show=place.leads) as progress:
        for parts in _steps(cfg, state, teaching, batches, place, graphed, total):
            left = (time.monotonic() - started) / (state.step - first_step) * (total - state.step)
            loss = f", loss {parts['loss']:.3f}" if parts else ""
            progress.set_description(f"{name}, run left {_hours(left)}{loss}", refresh=False)
            progress.update(min(cfg.batch_size, len(faces)))
            if run is not None and state.step % cfg.save_every == 0:
                run.save()
    return state.means()


def _steps(
    cfg: Config,
    state: ChainState,
    teaching: ChainTeaching,
    batches: Iterator[Batch],
    place: Place,
    graphed: GraphedStep | None,
    total: int,
) -> Iterator[dict[str, float]]:
    """Take a step for every batch; the losses of each, or of the last ones now and then where they stay on a GPU."""
    if graphed is None:
        for batch in batches:
            rate = learning_rate(state.step, total, cfg.learning_rate, cfg.warmup_steps)
            yield chain_step(state, teaching, batch, rate, place)
        return
    make = partial(prepare, teaching, device=place.device)
    for number, ready in enumerate(prepared_ahead(batches, make, graphed.alone), 1):
        graphed(ready, learning_rate(state.step, total, cfg.learning_rate, cfg.warmup_steps))
        saves = state.step % cfg.save_every == 0
        yield graphed.flush() if saves or number % REPORT_EVERY == 0 else {}
    graphed.flush()


def _hours(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"


def _announce(cfg: Config, state: ChainState, faces: int, val_faces: int, place: Place) -> None:
    learning = sum(p.numel() for group in state.optimizer.param_groups for p in group["params"])
    steps = cfg.epochs * steps_per_epoch(faces, cfg.batch_size, place.world)
    who = "DSR and EdgeFace" if state.dsr_learns else "EdgeFace"
    print(
        f"[train] {who}, {learning:,} learning parameters, on {place.world} x {place.device}; {faces:,} "
        f"training faces, {val_faces:,} validation faces; {steps:,} steps; epochs {state.epoch + 1} to {cfg.epochs}",
        flush=True,
    )


if __name__ == "__main__":
    cli.run(main, Config)
