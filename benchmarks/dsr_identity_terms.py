"""What the DSR's identity loss should compare: short trainings of equal length, one kind of loss after another.

    python benchmarks/dsr_identity_terms.py --train-root dataset/train_processed --val-root dataset/val_processed

Beside pixels, the losses compared ask of the restored face that a frozen EdgeFace gives it the embedding of the true
face; or that its features before the head be those of the true face as well; or, for part of the faces, that it be
given the embedding of *another photo* of the same person, so that what belongs to the photo need not be restored. Every
one starts from the same network and sees the same faces at the same sizes from the same seed. Judged on people it has
not seen, by --judge: a recogniser that no loss has seen says more than the one that all were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from common import cli
from common.device import Precision, in_bf16
from common.errors import UserError
from dsr.checkpoint import load_dsr
from dsr.data import FaceReader, SizeChoice, to_float
from dsr.losses import charbonnier_loss, identity_distance
from dsr.model import Dsr, preset
from dsr.short_training import RATES, ShortTraining, judged, split_root, validation_faces
from dsr.training import reduce_batch, reduction_named
from facial_rec.edgeface import EdgeFace, normalise
from facial_rec.embedder import load_embedder
from facial_rec.faceset import FaceSet
from facial_rec.finetune_student import load_teacher
from facial_rec.identities import UNLABELLED, identities_of
from facial_rec.tables import format_table

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Terms:
    """What counts beside the pixels, relative to --identity-weight."""

    identity: float = 1.0
    features: float = 0.0
    other_photo: float = 0.0
    """Part of the faces, of those whose person has another photo, whose target is that photo's embedding."""


LOSSES = {
    "pixels alone": Terms(identity=0.0),
    "identity": Terms(),
    "identity and features": Terms(features=0.3),
    "identity, half of another photo": Terms(other_photo=0.5),
}


@dataclass(frozen=True)
class Config:
    """What is compared, on what."""

    train_root: Path | None = None
    """Training faces (default: dataset/train_processed)."""
    val_root: Path | None = None
    """Validation faces of other people (default: dataset/val_processed)."""
    edgeface: str = "edgeface_xxs.pt"
    """Frozen EdgeFace of the identity loss: a path or a name in checkpoints/."""
    judge: str | None = None
    """Recogniser of the figures; default --edgeface itself."""
    dsr: str | None = None
    """DSR to start from; default an untrained one."""
    losses: tuple[str, ...] = tuple(LOSSES)
    """Which losses."""
    vlr_size: tuple[str, ...] = ("16", "24", "32")
    """Low-resolution sizes to train and to judge at."""
    faces: int = 16_000
    """Training faces each one sees."""
    batch_size: int = 16
    """Faces a step."""
    pixel_weight: float = 8.0
    """Weight of the pixel loss."""
    identity_weight: float = 2.0
    """Weight of the identity loss; features count 0.3 times as much."""
    rate: float = 1e-3
    """Peak learning rate."""
    val_limit: int = 1500
    """Validation faces, spread evenly; 0 for all."""
    seed: int = 0
    """Seed of weights, order, mirroring, sizes and other photos."""
    threads: int = 1
    """CPU threads."""
    precision: Precision = "auto"
    """Of the networks while training: bf16 helps CPUs with AVX512-BF16 or AMX."""


def main(cfg: Config) -> dict[str, dict[int, dict[str, float]]]:
    """Train and judge each loss, print the table; return the figures by loss and size."""
    if unknown := [name for name in cfg.losses if name not in LOSSES]:
        raise UserError(f"--losses {', '.join(unknown)}: expected some of {'; '.join(LOSSES)}.")
    if cfg.threads < 1:
        raise UserError(f"--threads must be at least 1, found {cfg.threads}.")
    torch.set_num_threads(cfg.threads)
    train = FaceReader(FaceSet(split_root(cfg.train_root, "train")))
    val = validation_faces(split_root(cfg.val_root, "val"), cfg.val_limit)
    embedder, _ = load_teacher(cfg.edgeface, CPU)
    judge = load_embedder(cfg.judge, CPU) if cfg.judge else embedder
    assert isinstance(embedder.network, EdgeFace)
    start = load_dsr(cfg.dsr)[0] if cfg.dsr else None
    found: dict[str, dict[int, dict[str, float]]] = {}
    rows = []
    for name in cfg.losses:
        print(f"[loss] {name}", flush=True)
        model = trained(LOSSES[name], embedder.network, start, train, cfg)
        found[name] = judged(model, judge, val, SizeChoice.parse(cfg.vlr_size).validation_sizes())
        for size, row in found[name].items():
            shown = [f"{row['psnr']:.2f}", f"{row['identity']:.4f}", *(f"{100 * row[key]:.2f}" for key in RATES)]
            rows.append([name, str(size), *shown])
    print("\n" + format_table(["loss", "size", "PSNR", "identity loss", *RATES], rows))
    print(
        f"\n{cfg.faces:,} training faces each, seed {cfg.seed}, from {cfg.dsr or 'an untrained network'}; "
        f"{len(val)} validation faces, judged by {judge.source.path.name}; TAR at FMR 1e-3 and EER in %."
    )
    return found


def other_photos(people: Tensor, seed: int) -> Tensor:
    """For every face the number of another photo of its person, drawn at random; its own where there is none.

    `people` `(N,)`, -1 for faces of unknown people.
    """
    generator = torch.Generator().manual_seed(seed)
    others = torch.arange(len(people))
    for person in people[people >= 0].unique():
        mine = (people == person).nonzero().flatten()
        mine = mine[torch.randperm(len(mine), generator=generator)]
        others[mine] = mine.roll(1)
    return others


def features_before_the_head(network: EdgeFace, images: Tensor) -> Tensor:
    """Images `(B, 3, 112, 112)`, RGB in [0, 1], to the map that is pooled for the head, `(B, C, h, w)`."""
    features = network.model.forward_features(normalise(images))  # type: ignore[operator]
    assert isinstance(features, Tensor)
    return features


def head_of(network: EdgeFace, features: Tensor) -> Tensor:
    """The embeddings `(B, D)` of a feature map."""
    embeddings = network.model.forward_head(features)  # type: ignore[operator]
    assert isinstance(embeddings, Tensor)
    return embeddings


def feature_distance(features: Tensor, targets: Tensor) -> Tensor:
    """Mean over faces and places of `1 - cos` between the channels of two maps `(B, C, h, w)`; a scalar."""
    return (1.0 - F.cosine_similarity(features, targets, dim=1, eps=1e-8)).mean()


def trained(terms: Terms, network: EdgeFace, start: Dsr | None, train: FaceReader, cfg: Config) -> Dsr:
    """The averaged DSR after `cfg.faces` faces."""
    torch.manual_seed(cfg.seed)
    model = Dsr(preset("default") if start is None else start.config)
    if start is not None:
        model.load_state_dict(start.state_dict(), strict=True)
    mixed, sizes, reduction = in_bf16(cfg.precision, CPU), SizeChoice.parse(cfg.vlr_size), reduction_named("canonical")
    others = other_photos(identities_of(train.faces, (UNLABELLED,)).people, cfg.seed)

    def loss_of(model: Dsr, pixels: Tensor, rows: list[int], generator: torch.Generator) -> Tensor:
        target, low = reduce_batch(pixels, generator, sizes, reduction, CPU)
        swapped = torch.rand(len(rows), generator=generator) < terms.other_photo
        others_here = others[torch.tensor(rows)[swapped]].tolist()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            output = model(low).float()
            loss = cfg.pixel_weight * charbonnier_loss(output, target)
            if terms.identity or terms.features:
                photo = target.clone()
                if others_here:
                    photo[swapped] = to_float(train.read(others_here))
                loss = loss + cfg.identity_weight * _identity_terms(terms, network, output, target, photo)
        return loss

    return ShortTraining(cfg.faces, cfg.batch_size, cfg.rate, cfg.seed).run(model, train, loss_of)[0]


def _identity_terms(terms: Terms, network: EdgeFace, output: Tensor, target: Tensor, photo: Tensor) -> Tensor:
    """The embedding compared with that of `photo`, the features with those of `target`: `(B, 3, 112, 112)` each."""
    with torch.no_grad():
        wanted = head_of(network, features_before_the_head(network, photo)).float()
        beside = features_before_the_head(network, target).float() if terms.features else None
    features = features_before_the_head(network, output)
    loss = terms.identity * identity_distance(head_of(network, features).float(), wanted).mean()
    return loss if beside is None else loss + terms.features * feature_distance(features.float(), beside)


if __name__ == "__main__":
    cli.run(main, Config)
