"""The picture a fine-tuning leaves: losses, and what low and high resolution gain or lose against the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from common.files import replacing


def save_curves(path: Path, records: list[dict[str, Any]], original: dict[str, dict[str, float]]) -> None:
    """Training losses, and validation TAR at FMR 1e-3 by epoch with the original's as dashed lines."""
    protocols = [
        p for p in ("lr-hr", "lr-lr", "hr-hr") if any(n.startswith(p) and "tar" in original[n] for n in original)
    ]
    figure = Figure(figsize=(5 + 4.5 * len(protocols), 4.2))
    axes = figure.subplots(1, 1 + len(protocols))
    epochs = [record["epoch"] for record in records]
    for name in records[-1]["train"]:
        axes[0].plot(epochs, [record["train"].get(name) for record in records], label=name)
    axes[0].set_title("training losses (unweighted parts)")
    for axis, protocol in zip(axes[1:], protocols, strict=True):
        for index, name in enumerate(name for name in original if name.startswith(protocol)):
            tars = [record["validation"][name]["tar"] for record in records]
            axis.plot(epochs, tars, color=f"C{index}", marker=".", label=name)
            axis.axhline(original[name]["tar"], color=f"C{index}", linestyle="--", alpha=0.6)
        axis.set_title(f"validation {protocol.upper()} TAR at FMR 1e-3, original dashed")
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
