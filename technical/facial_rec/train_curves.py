"""The picture a training from scratch leaves: loss and learning rate by step, validation by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from common.files import replacing

VALIDATION = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "tar@fmr=1e-2": "TAR at FMR 1e-2",
    "tar@fmr=1e-3": "TAR at FMR 1e-3",
}


def save_curves(path: Path, steps: list[dict[str, Any]], records: list[dict[str, Any]]) -> None:
    """Write a PNG from the records of `losses.jsonl` and of `metrics.jsonl`."""
    figure = Figure(figsize=(15, 4.2))
    losses, rates, figures = figure.subplots(1, 3)
    losses.plot([one["step"] for one in steps], [one["loss"] for one in steps], alpha=0.4, label="step")
    losses.plot([one["step"] for one in records], [one["loss"] for one in records], marker=".", label="mean")
    losses.set_title("training loss")
    rates.plot([one["step"] for one in steps], [one["learning_rate"] for one in steps], label="learning rate")
    rates.set_title("learning rate")
    for name, label in VALIDATION.items():
        shown = [one["validation"].get(name) for one in records]
        figures.plot([one["step"] for one in records], shown, marker=".", label=label)
    figures.set_title("validation pairs")
    for axis in (losses, rates, figures):
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
