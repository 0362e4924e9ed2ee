"""The pictures a training leaves: curves over epochs, and sample grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.files import replacing
from common.images import write_png

QUANTITIES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "identity_loss": "identity loss"}


def save_picture(path: Path, image: Tensor) -> None:
    """Write a float image `(3, H, W)` in [0, 1] as PNG."""
    pixels = image.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    write_png(path, pixels.permute(1, 2, 0).cpu().numpy())


def save_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Training losses, and validation figures per size with bicubic's as dashed lines, from `metrics.jsonl` records."""
    figure = Figure(figsize=(18, 4.2))
    axes = figure.subplots(1, 4)
    epochs = [record["epoch"] for record in records]
    for name in records[-1]["train"]:
        axes[0].plot(epochs, [record["train"].get(name) for record in records], label=name)
    axes[0].set_title("training losses (unweighted parts)")
    for axis, (key, title) in zip(axes[1:], QUANTITIES.items(), strict=True):
        for index, size in enumerate(records[-1]["validation"]):
            figures = [record["validation"][size] for record in records]
            axis.plot(epochs, [f["dsr"][key] for f in figures], color=f"C{index}", label=f"DSR at {size}")
            axis.plot(epochs, [f["bicubic"][key] for f in figures], color=f"C{index}", linestyle="--", alpha=0.6)
        axis.set_title(f"validation {title}, bicubic dashed")
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
