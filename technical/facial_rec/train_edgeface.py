"""Train an EdgeFace from scratch on faces of many people, with a margin softmax (Partial FC) or triplets.

    python -m facial_rec.train_edgeface --device cuda --variant edgeface_xxs --loss cosface --train-root train.rec
    torchrun --nproc_per_node=8 -m facial_rec.train_edgeface --device cuda --config recipes/edgeface_s_gamma_05.toml \
        --stage train --train-root train.rec --val-root val.bin

`--config` takes a recipe (`--stage` one of its sections); flags beside it count before it. `--restart-from` goes on
from finished weights, for a second stage at a low constant learning rate. Leaves in --out: edgeface.pt (the weights
that did best on the validation pairs, a plain state dict) and edgeface.json (what they are), last.json and state/ (to
resume), config.json, losses.jsonl, metrics.jsonl and curves.png. A run can be killed at any moment: --resume goes on
from the last save and gives the losses of an uninterrupted one.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.parallel import DistributedDataParallel

from common import cli
from common.device import select_device
from common.errors import UserError
from common.files import write_json
from common.paths import default_dataset, find_dataset, named_like_lfw
from common.runlog import keep_steps, wandb_logger
from facial_rec.class_centres import fill_with_means
from facial_rec.distributed import Place, joined_processes
from facial_rec.edgeface import EMBEDDING_DIM, EdgeFace, build, count_parameters, variant_named
from facial_rec.identities import require_disjoint
from facial_rec.labelled_faces import FolderFaces, load_faces
from facial_rec.margin import MARGINS, SCALE, margin_named
from facial_rec.partial_fc import AdamW, PartialFC, memory_needed
from facial_rec.run_state import check_run_folder, refuse_to_overwrite
from facial_rec.train_faces import BatchPlan, TrainingSet, held_out, whole_set
from facial_rec.train_run import Run
from facial_rec.train_state import POINTER, RunState, TripletLoss, restore_state
from facial_rec.train_validation import PairValidation
from facial_rec.trials import load_trials
from facial_rec.weights import load_strictly, read_edgeface_state

HELD_OUT_FRACTION = 0.1
TRIPLET_MARGIN = 1.5


@dataclass(frozen=True)
class Config:
    """Train EdgeFace from scratch."""

    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1."""
    variant: str = "edgeface_xxs"
    """Network: edgeface_xxs, _xs, _s, _base, or a published name such as edgeface_s_gamma_05."""
    gamma: float | None = None
    """Rank ratio of every linear layer; 1.0 keeps plain ones; none takes the variant's."""
    loss: Literal["cosface", "arcface", "sphereface", "combined", "triplet"] = "cosface"
    """What brings photos of one person together."""
    margin: tuple[float, ...] = ()
    """Its margin (combined takes three, m1 m2 m3; angles in radians); none: 0.4, 0.5, 1.35, 1.0 0.3 0.2 or 1.5."""
    scale: float = SCALE
    """What cosines are multiplied by in the softmax."""
    sampling: float = 1.0
    """Fraction of the class centres that take part in a step (Partial FC)."""
    train_root: Path | None = None
    """Training faces: folder or zip, an identity a folder, or an InsightFace .rec; default dataset/train_processed."""
    val_root: Path | None = None
    """Validation pairs of other people: folder, zip or .bin; default dataset/val_processed with the default training
    faces, else a tenth of their people."""
    unlabelled: tuple[str, ...] = ("unlabelled",)
    """Folders of faces without identity, which are left out."""
    epochs: int = 20
    """Passes over the training faces."""
    batch_size: int = 128
    """Faces a step and process."""
    photos_per_person: int = 4
    """Photos of a person that come together in a batch, for triplets."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW, for the whole batch of all processes."""
    schedule: Literal["polynomial", "constant"] = "polynomial"
    """How it goes on after the warm-up: falling with the square of what is left of the run, or not at all."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up."""
    weight_decay: float = 0.05
    """Weight decay of AdamW, on matrices and class centres."""
    restart_from: Path | None = None
    """Weights of a finished run to go on from; class centres start at the means of people's embeddings."""
    augmentation: Literal["none", "flip", "face"] = "face"
    """Changes of the faces: mirrored; face adds blur, shrinking, grey and colour."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the network on CUDA; the loss, and everything on the CPU, is in fp32."""
    out: Path = Path("runs/edgeface")
    """Folder of the run."""
    resume: bool = False
    """Go on from the last save in --out."""
    seed: int = 0
    """Seed of weights, centres, order, changes and sampling."""
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    """Whether to log to Weights & Biases as well."""
    val_every: int = 0
    """Steps between validations; 0: after each epoch. After the last step there is always one."""
    save_every: int = 500
    """Steps between saves; a kill costs at most these."""
    log_every: int = 20
    """Steps between lines in losses.jsonl."""
    workers: int = 0
    """Processes that read images ahead, for each training process."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its choice."""


def main(cfg: Config) -> Path:
    """Train, and return the path of the best weights. See `Config`; raises UserError for anything the user can mend."""
    _check_config(cfg)
    with joined_processes(select_device(cfg.device)) as place:
        if cfg.threads:
            torch.set_num_threads(cfg.threads)
        return _train(cfg, place)


def _check_config(cfg: Config) -> None:
    variant_named(cfg.variant, cfg.gamma)
    _margin(cfg)
    for name in ("epochs", "batch_size", "save_every", "log_every"):
        if getattr(cfg, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, found {getattr(cfg, name)}.")
    for name in ("seed", "val_every", "workers", "threads", "warmup_epochs", "weight_decay"):
        if not getattr(cfg, name) >= 0:
            raise UserError(f"--{name.replace('_', '-')} must be at least 0, found {getattr(cfg, name)}.")
    if cfg.loss == "triplet" and cfg.photos_per_person < 2:
        raise UserError(f"--photos-per-person must be at least 2 for triplets, found {cfg.photos_per_person}.")
    if not 0.0 < cfg.learning_rate < 1.0:
        raise UserError(f"--learning-rate must lie between 0 and 1, found {cfg.learning_rate}.")
    if not cfg.scale > 0.0:
        raise UserError(f"--scale must be above 0, found {cfg.scale}.")
    check_run_folder(cfg.out, cfg.resume, POINTER)
    if not cfg.resume:
        refuse_to_overwrite(cfg.out, ["edgeface.pt"], {"--restart-from": (cfg.restart_from,)})


def _margin(cfg: Config) -> tuple[float, ...]:
    """The margins of the loss, the usual ones where none are given. Raises UserError for unsuitable ones."""
    if cfg.loss != "triplet":
        margin_named(cfg.loss, cfg.margin)
        return cfg.margin or MARGINS[cfg.loss][1]
    given = cfg.margin or (TRIPLET_MARGIN,)
    if len(given) != 1 or not 0.0 < given[0] <= 4.0:
        raise UserError(f"--margin {given}: expected one, above 0 and at most 4, for --loss triplet.")
    return given


def _train(cfg: Config, place: Place) -> Path:
    faces, validation = load_data(cfg, place)
    if len(faces) < place.world:
        raise UserError(f"{len(faces)} training faces cannot be shared by {place.world} processes: use fewer.")
    plan = BatchPlan(len(faces), cfg.batch_size * place.world)
    state = _fresh_state(cfg, faces, place)
    state.validated_on = validation.digest() if validation else ""
    settings = _settings(cfg, faces, place)
    if cfg.resume:
        restore_state(cfg.out, state, settings, place)
    if place.leads:
        cfg.out.mkdir(parents=True, exist_ok=True)
        for name in ("losses.jsonl", "metrics.jsonl"):
            keep_steps(cfg.out / name, state.step)
        write_json(cfg.out / "config.json", {"command": _command(), **settings, "out": str(cfg.out)})
        _announce(cfg, state, faces, plan, place)
    logger = wandb_logger(cfg.wandb if place.leads else "disabled", "edgeface", cfg.out, settings)
    about = {"command": _command(), "settings": settings}
    run = Run(cfg, place, state, faces, plan, validation, about, logger)
    while state.step < run.total:
        run.epoch()
    logger.close()
    if place.leads:
        best = cfg.out / "edgeface.pt"
        print(f"Best weights: {best}. Try them: python -m facial_rec.evaluate {best}")
    return cfg.out / "edgeface.pt"


def load_data(cfg: Config, place: Place) -> tuple[TrainingSet, PairValidation | None]:
    """Training faces, and in the leading process the validation pairs, of other people."""
    train_root = cfg.train_root or default_dataset("train")
    if train_root is None:
        raise UserError("no training faces: give --train-root, or make some with `python -m dsr.prepare_dataset`.")
    faces = load_faces(find_dataset(train_root), cfg.unlabelled)
    val_root = cfg.val_root or (default_dataset("val") if cfg.train_root is None else None)
    if val_root is None:
        kept, source, pairs = held_out(faces, HELD_OUT_FRACTION, cfg.seed)
        if place.leads:
            print(f"[data] no validation set: people of {faces.label} are held out, {len(source.names)} faces of them")
        return kept, PairValidation(source, pairs) if place.leads else None
    kept = whole_set(faces)
    if not place.leads:
        return kept, None
    if named_like_lfw(val_root):
        print(
            f"[warning] {val_root} looks like LFW, and the weights are chosen on it: figures on LFW will flatter them."
        )
    source, pairs = load_trials(val_root, seed=cfg.seed, left_out=cfg.unlabelled)
    if pairs.people_known and isinstance(faces, FolderFaces):
        others = {name for pair in pairs.pairs for name in (pair.first_subject, pair.second_subject)}
        require_disjoint(faces.label, val_root, faces.people.tolist(), others, cfg.unlabelled)
    return kept, PairValidation(source, pairs)


def _fresh_state(cfg: Config, faces: TrainingSet, place: Place) -> RunState:
    torch.manual_seed(cfg.seed)
    model = build(variant_named(cfg.variant, cfg.gamma)).to(place.device).to(memory_format=torch.channels_last)
    if cfg.restart_from is not None and not cfg.resume:
        load_strictly(model, read_edgeface_state(cfg.restart_from), cfg.restart_from)
    loss: PartialFC | TripletLoss
    if cfg.loss == "triplet":
        loss = TripletLoss(_margin(cfg)[0], place)
    else:
        own = margin_named(cfg.loss, cfg.margin)
        optimiser = AdamW(cfg.weight_decay)
        loss = PartialFC(faces.people, EMBEDDING_DIM, own, cfg.scale, cfg.sampling, place, cfg.seed, optimiser)
        if cfg.restart_from is not None and not cfg.resume:
            fill_with_means(loss, model, faces, place)
    decays = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decays, "weight_decay": cfg.weight_decay}, {"params": others, "weight_decay": 0.0}]
    network = _shared_out(model, place)
    return RunState(model, network, loss, torch.optim.AdamW(groups, lr=cfg.learning_rate))


def _shared_out(model: EdgeFace, place: Place) -> torch.nn.Module:
    return DistributedDataParallel(model, gradient_as_bucket_view=True) if place.world > 1 else model


def _settings(cfg: Config, faces: TrainingSet, place: Place) -> dict[str, Any]:
    """What must be equal for a resumed run to give the losses of an uninterrupted one."""
    free = {"device", "resume", "out", "wandb", "threads", "workers", "train_root", "val_root"}
    free |= {"save_every", "log_every", "restart_from"}
    kept = {key: value for key, value in asdict(cfg).items() if key not in free}
    kept |= {"margin": list(_margin(cfg)), "unlabelled": list(cfg.unlabelled)}
    kept["restart_from"] = str(cfg.restart_from) if cfg.restart_from else None
    data = {"training_faces": len(faces), "training_people": faces.people, "training_sha256": faces.digest()}
    return {**kept, **data, "processes": place.world}


def _announce(cfg: Config, state: RunState, faces: TrainingSet, plan: BatchPlan, place: Place) -> None:
    print(
        f"[train] {cfg.variant} with {count_parameters(state.model):,} parameters on {place.world} x {place.device}, "
        f"{cfg.loss} {' '.join(f'{margin:g}' for margin in _margin(cfg))}; {len(faces):,} faces of {faces.people:,} "
        f"people, {plan.together} a step, {cfg.epochs * plan.steps:,} steps of which {state.step:,} are done"
    )
    if isinstance(state.loss, PartialFC):
        needed = memory_needed(faces.people, EMBEDDING_DIM, plan.together, cfg.sampling, place.world)
        print(f"[train] class centres: {sum(needed.values()) / 2**30:.2f} GiB in each process")


def _command() -> str:
    return shlex.join(["python", "-m", "facial_rec.train_edgeface", *sys.argv[1:]])


if __name__ == "__main__":
    cli.run(main, Config, recipes=True)
