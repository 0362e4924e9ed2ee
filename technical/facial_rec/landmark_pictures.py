"""The pictures a training of the landmark refiner leaves: its curves, and what it says of validation faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from common.files import replacing
from common.images import write_png

ROWS, COLUMNS, SIDE = 4, 8, 160
LABEL, FOUND = (0, 220, 0), (255, 60, 60)


def save_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Training loss and validation error by step, from the records of `metrics.jsonl`."""
    figure = Figure(figsize=(10, 4))
    losses, errors = figure.subplots(1, 2)
    steps = [record["step"] for record in records]
    losses.plot(steps, [record["loss"] for record in records])
    losses.set_title("training loss")
    errors.plot(steps, [100.0 * record["error"] for record in records])
    errors.set_title("validation error, % of the distance between the eyes")
    for axis in (losses, errors):
        axis.set_xlabel("step")
        axis.set_yscale("log")
        axis.grid(alpha=0.3, which="both")
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def save_predictions(path: Path, pixels: NDArray[np.uint8], points: NDArray[Any], found: NDArray[Any]) -> None:
    """A grid of crops `(N, 3, 64, 64)` with labels (green) and predictions (red), both `(N, 5, 2)` in sides."""
    chosen = np.linspace(0, len(pixels) - 1, ROWS * COLUMNS).round().astype(int)
    tiles = [_marked(pixels[one], points[one], found[one]) for one in chosen]
    write_png(path, np.vstack([np.hstack(tiles[row * COLUMNS :][:COLUMNS]) for row in range(ROWS)]))


def _marked(pixels: NDArray[np.uint8], points: NDArray[Any], found: NDArray[Any]) -> NDArray[np.uint8]:
    tile = cv2.resize(pixels.transpose(1, 2, 0), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    for colour, places in ((LABEL, points), (FOUND, found)):
        for x, y in (places * SIDE).round().astype(int).tolist():
            cv2.circle(tile, (x, y), 2, colour, -1)
    return tile
