"""A training from scratch under way: epochs, steps, and what is due after a step (a line, a validation, a save)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from common.progress import progress_bar
from common.runlog import Logger, append_record, read_records
from facial_rec.distributed import Place
from facial_rec.seeds import mixed_seed
from facial_rec.train_augment import AUGMENTATIONS, draw_changes
from facial_rec.train_curves import save_curves
from facial_rec.train_faces import BatchPlan, TrainingSet, order_of, read_batches
from facial_rec.train_result import save_weights
from facial_rec.train_state import RunState, learning_rate, save_state, train_step
from facial_rec.train_validation import PairValidation

if TYPE_CHECKING:
    from facial_rec.train_edgeface import Config


class Run:
    """A training under way: its data, its state, and what it writes."""

    def __init__(
        self,
        cfg: Config,
        place: Place,
        state: RunState,
        faces: TrainingSet,
        plan: BatchPlan,
        validation: PairValidation | None,
        about: dict[str, Any],
        logger: Logger,
    ) -> None:
        """`about` is what the weights' JSON says of the run; its `settings` are those that a resumed run must share."""
        self.cfg, self.place, self.state, self.faces, self.plan = cfg, place, state, faces, plan
        self.validation, self.about, self.logger = validation, about, logger
        self.total = cfg.epochs * plan.steps
        self.warmup = round(cfg.warmup_epochs * plan.steps)
        self.started = time.monotonic()
        self.begun_at = state.step

    def epoch(self) -> None:
        """The rest of the epoch that `state` stands in."""
        cfg, plan, place, state = self.cfg, self.plan, self.place, self.state
        epoch, done = divmod(state.step, plan.steps)
        together = cfg.photos_per_person if cfg.loss == "triplet" else 1
        order = order_of(self.faces, cfg.seed, epoch, together)
        shares = [plan.share(order, step, place.rank, place.world) for step in range(done, plan.steps)]
        batches = read_batches(self.faces, shares, cfg.workers, pinned=place.device.type == "cuda")
        name = f"epoch {epoch + 1}/{cfg.epochs}"
        with progress_bar(len(shares) * plan.together, name, "face", show=place.leads) as progress:
            for pixels, labels in batches:
                loss = self.step(pixels, labels)
                left = (time.monotonic() - self.started) / (state.step - self.begun_at) * (self.total - state.step)
                progress.set_description(f"{name}, run left {_hours(left)}, loss {loss:.3f}", refresh=False)
                progress.update(len(pixels) * place.world)

    def step(self, pixels: torch.Tensor, labels: torch.Tensor) -> float:
        """One optimiser step, and what is due after it: a line, a validation, a save."""
        cfg, place, state = self.cfg, self.place, self.state
        rate = learning_rate(state.step, self.total, cfg.learning_rate, self.warmup, cfg.schedule)
        generator = torch.Generator().manual_seed(mixed_seed(cfg.seed, state.step, 13))
        changes = draw_changes(len(pixels) * place.world, AUGMENTATIONS[cfg.augmentation], generator)
        mine = changes[place.rank * len(pixels) : (place.rank + 1) * len(pixels)]
        mixed = cfg.precision == "bf16" and place.device.type == "cuda"
        loss = train_step(state, pixels, labels, mine, rate, mixed, place)
        if place.leads and state.step % cfg.log_every == 0:
            line = {"step": state.step, "loss": loss, "learning_rate": rate}
            append_record(cfg.out / "losses.jsonl", line)
            self.logger.log(line)
        validates = state.step % (cfg.val_every or self.plan.steps) == 0 or state.step == self.total
        if validates:
            self.validate()
        if validates or state.step % cfg.save_every == 0:
            save_state(cfg.out, state, self.about["settings"], place)
        return loss

    def validate(self) -> None:
        """The leading process looks how the network does, keeps the best weights, and notes it."""
        state, out = self.state, self.cfg.out
        mean = state.sums["loss"] / state.sums["steps"]
        state.sums = {"loss": 0.0, "steps": 0.0}
        if self.validation is not None:
            figures = self.validation.run(state.model, self.place.device)
            record = {"epoch": state.step / self.plan.steps, "step": state.step, "loss": mean, "validation": figures}
            if state.best is None or _rank(figures) > _rank(state.best):
                state.best = figures
                save_weights(out / "edgeface.pt", state.model, {**self.about, **record})
            append_record(out / "metrics.jsonl", {**record, "seconds": time.monotonic() - self.started})
            save_curves(out / "curves.png", read_records(out / "losses.jsonl"), read_records(out / "metrics.jsonl"))
            self.logger.log(record)
            shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in figures.items())
            print(f"[step {state.step}, epoch {record['epoch']:.2f}] loss {mean:.4f}; {shown}")
        self.place.wait()


def _rank(figures: dict[str, float]) -> tuple[float, float]:
    """What decides which weights are best: accuracy on the validation pairs; AUC where it is equal or has no folds."""
    return figures.get("accuracy", 0.0), figures["auc"]


def _hours(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
