"""How one run of a study is trained, by `facial_rec.train_edgeface`, and how long its steps take here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from common.device import select_device
from facial_rec import train_edgeface
from facial_rec.distributed import Place
from facial_rec.edgeface import EMBEDDING_DIM, build, variant_named
from facial_rec.margin import margin_named
from facial_rec.partial_fc import PartialFC
from facial_rec.train_augment import AUGMENTATIONS, draw_changes
from facial_rec.train_state import POINTER, RunState, TripletLoss, train_step
from pipeline.study_runs import Run, Setting

TIMED_STEPS, WARM_UP_STEPS = 5, 2
WARM_UP_SHARE = 0.1  # of the training, in which the learning rate rises
SAVE_EVERY = 50  # steps; a kill costs at most these
ONLY_AT_THE_END = 10**9  # steps between validations: the weights judged are the last, not the luckiest on these people


@dataclass(frozen=True)
class Training:
    """What all runs of a study have in common."""

    train_root: Path
    val_root: Path
    variant: str
    batch_size: int
    learning_rate: float
    unlabelled: tuple[str, ...]
    device: str

    def train(self, run: Run, epochs: int, folder: Path) -> Path:
        """Train `run` in `folder`, from where it was left, and return its last weights."""
        setting = run.setting
        return train_edgeface.main(
            train_edgeface.Config(
                device=self.device,
                variant=self.variant,
                gamma=setting.gamma,
                loss=setting.loss,
                margin=(setting.margin,),
                train_root=self.train_root,
                val_root=self.val_root,
                unlabelled=self.unlabelled,
                epochs=epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                warmup_epochs=WARM_UP_SHARE * epochs,
                out=folder,
                resume=(folder / POINTER).is_file(),
                seed=run.seed,
                val_every=ONLY_AT_THE_END,
                save_every=SAVE_EVERY,
            )
        )

    def seconds_a_step(self, setting: Setting, people: int) -> float:
        """How long a training step of `setting` with this many people takes, on random pixels, reading aside."""
        place = Place(select_device(self.device))
        model = build(variant_named(self.variant, setting.gamma)).to(place.device)
        state = RunState(model, model, _loss(setting, people, place), torch.optim.AdamW(model.parameters()))
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (self.batch_size, 3, 112, 112), dtype=torch.uint8, generator=generator)
        labels = torch.arange(self.batch_size) % max(2, min(people, self.batch_size // 2))
        changes = draw_changes(self.batch_size, AUGMENTATIONS["face"], generator)
        for step in range(WARM_UP_STEPS + TIMED_STEPS):
            if step == WARM_UP_STEPS:
                started = time.perf_counter()
            train_step(state, pixels, labels, changes, 1e-5, place.device.type == "cuda", place)  # ends with a sync
        return (time.perf_counter() - started) / TIMED_STEPS


def _loss(setting: Setting, people: int, place: Place) -> PartialFC | TripletLoss:
    if setting.loss == "triplet":
        return TripletLoss(setting.margin, place)
    return PartialFC(people, EMBEDDING_DIM, margin_named(setting.loss, (setting.margin,)), place=place)
