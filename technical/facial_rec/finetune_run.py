"""A fine-tuning run on disk: what is validated, kept and written after each epoch and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common.runlog import append_record, keep_records, read_records
from facial_rec.edgeface import EdgeFace
from facial_rec.finetune_curves import save_curves
from facial_rec.finetune_result import on_device, save_mixture, save_result
from facial_rec.finetune_state import Kept, RunState, averaged_state, save_state
from facial_rec.finetune_validation import Guard, Report, Verification, score, summary


@dataclass
class FinetuneRun:
    """One run: its state, and what it is measured with."""

    out: Path
    state: RunState
    verification: Verification
    guard: Guard
    original: EdgeFace
    settings: dict[str, Any]
    about: dict[str, Any]
    """What the metadata of the result says beyond its figures: command, variant, settings."""
    said_no_positive: bool = False

    def save(self) -> None:
        """Write `last.pt`, atomically."""
        save_state(self.out / "last.pt", self.state, self.settings)

    def finish_epoch(self, record: dict[str, Any]) -> dict[str, Any]:
        """Validate the averaged weights, keep them if they are best, log; the state comes last, so a kill repeats this.

        `record` holds the epoch's number, step and losses; it is returned with the validation figures.
        """
        state = self.state
        weights = averaged_state(state)
        report = self.verification.run(on_device(self.original, weights, self.verification.device))
        record = {**record, "validation": report, "score": score(report), "hr_loss": self.guard.loss(report)}
        if self.guard.better(report, state.kept.report if state.kept else None):
            state.kept = Kept(weights, record["epoch"], report)
            save_result(self.out, self.original, weights, self._metadata(1.0, report, record["epoch"]))
        keep_records(self.out / "metrics.jsonl", record["epoch"] - 1)
        append_record(self.out / "metrics.jsonl", record)
        save_curves(self.out / "curves.png", read_records(self.out / "metrics.jsonl"), self.guard.original)
        state.epoch, state.sums = record["epoch"], {}
        self.save()
        _print_epoch(record, state.kept is not None and state.kept.epoch == state.epoch)
        return record

    def finish(self, alphas: Sequence[float]) -> Path:
        """Choose the mixture with the original, write it in all its forms, and return the state dict's path.

        Raises UserError when the guard admits none.
        """
        state = self.state
        kept = state.kept or Kept(averaged_state(state), state.epoch, {})
        named = partial(self._metadata, epoch=kept.epoch)
        path, best = save_mixture(self.out, self.original, kept.state, alphas, self.verification, self.guard, named)
        gained = score(best.report) - score(self.guard.original)
        print(
            f"Chosen: epoch {kept.epoch}, alpha {best.alpha}: mean TAR at FMR 1e-3 {gained:+.4f} on validation people"
        )
        if gained <= 0:
            print("[warning] the validation people gain nothing: the original serves as well")
        print(f"Best weights: {path}. Try them: python -m pipeline.evaluate_pairs --edgeface {path}")
        return path

    def _metadata(self, alpha: float, report: Report, epoch: int) -> dict[str, Any]:
        chosen = {"epoch": epoch, "alpha": alpha, "validation": report, "validation_original": self.guard.original}
        return {**self.about, **chosen, "settings": self.settings}


def _print_epoch(record: dict[str, Any], kept: bool) -> None:
    parts = ", ".join(f"{name} {value:.4f}" for name, value in record["train"].items())
    verdict = "kept" if kept else "not kept"
    print(f"[epoch {record['epoch']}] {parts} ({record['seconds']:.0f} s)")
    print(f"    TAR at FMR 1e-3: {summary(record['validation'])}; score {record['score']:.4f}, {verdict}")
