"""Pictures for a report: what the networks saw of some faces, and the pairs decided most wrongly.

Files are named by the image's fingerprint and the view, so that grids and failures share them and a name on the disk
tells nobody's name. They are pictures of real people: keep their folder out of git.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from common.errors import UserError
from common.images import RgbImage, write_png
from facial_rec.faceset import HR_SIZE
from facial_rec.metrics import Floats, cosine_pairs
from facial_rec.pairs import Pair, PairList
from facial_rec.sources import ImageSource
from pipeline.chain import Chain
from pipeline.degradations import Degradation, View, reduce, to_tensor

LABELS = {"bicubic": "bicubic", "dsr": "DSR", "hr": "HR"}
FINGERPRINT_DIGITS = 12


def spread_evenly(names: Sequence[str], count: int) -> list[str]:
    """At most `count` of `names`, evenly spread over the list, the first among them; always the same ones."""
    count = min(count, len(names))
    return [names[index * len(names) // count] for index in range(count)]


def most_changed(names: Sequence[str], gains: ArrayLike, count: int) -> list[str]:
    """The `count` images helped most and the `count` hurt most by `gains` `(N,)`, the most helped first, each once."""
    order = np.argsort(-np.asarray(gains, dtype=np.float64), kind="stable")
    if len(order) != len(names):
        raise ValueError(f"expected a gain for each of {len(names)} names, found {len(order)}")
    chosen = dict.fromkeys([*order[:count], *order[max(0, len(order) - count) :]])
    return [names[int(index)] for index in chosen]


def write_grid(
    folder: Path,
    source: ImageSource,
    chain: Chain,
    recogniser: str,
    names: Sequence[str],
    sizes: Sequence[int],
    degradation: Degradation = "canonical",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Write LR, bicubic, DSR and HR pictures of `names` at each size, and return the record's `pictures.grids`.

    Beside each but the LR stands the cosine of its embedding to that of the HR image. Raises UserError for an unknown
    recogniser, a size out of range, and an image that cannot be read.
    """
    if recogniser not in chain.embedders:
        raise UserError(f"Recogniser {recogniser} is unknown: expected one of {', '.join(chain.embedders)}.")
    if not names:
        return []
    camera = _Camera(source, chain, folder)
    hr = camera.embed(recogniser, names, View("hr"))
    grids = []
    for size in dict.fromkeys(sizes):
        views = [View(method, size, degradation, seed) for method in chain.low_methods]
        cosines = {view: cosine_pairs(camera.embed(recogniser, names, view), hr) for view in views}
        cosines[View("hr")] = np.ones(len(names))
        rows = []
        for index, name in enumerate(names):
            tiles: list[dict[str, Any]] = [{"label": "LR", "file": camera.shoot_low(name, views[0])}]
            for view, values in cosines.items():
                cosine = round(float(values[index]), 4)
                tiles.append({"label": LABELS[view.method], "file": camera.shoot(name, view), "cosine": cosine})
            rows.append({"name": name, "tiles": tiles})
        grids.append({"size": size, "degradation": degradation, "recogniser": recogniser, "rows": rows})
    return grids


def write_failures(
    folder: Path,
    source: ImageSource,
    chain: Chain,
    pairs: PairList,
    scores: Floats,
    threshold: float,
    view_first: View,
    view_second: View,
    most: int = 8,
    **labels: Any,
) -> list[dict[str, Any]]:
    """Write the pictures of the pairs decided most wrongly, and return the record's `pictures.failures`.

    False accepts are the impostor pairs of the highest `scores` `(N,)`, false rejects the genuine pairs of the lowest.
    Where none is on the wrong side of `threshold` the closest ones are shown, with `beyond` false. `labels`
    (recogniser, protocol, method, size) go into each entry. Raises UserError for scores that are not one for each pair.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(pairs),):
        raise UserError(f"Failures need one score for each of {len(pairs):,} pairs, found shape {scores.shape}.")
    camera = _Camera(source, chain, folder)
    failures = []
    for kind, genuine in (("false_accept", False), ("false_reject", True)):
        own = np.flatnonzero(pairs.genuine == genuine)
        worst = own[np.argsort(scores[own] if genuine else -scores[own], kind="stable")]
        wrong = [int(index) for index in worst if (scores[index] < threshold) == genuine]
        shown = (wrong or [int(index) for index in worst])[:most]
        entries = [_pair(camera, pairs.pairs[index], scores[index], view_first, view_second) for index in shown]
        if entries:
            failures.append(
                {"kind": kind, **labels, "threshold": threshold, "beyond": bool(wrong), "count": len(wrong)}
                | {"pairs": entries}
            )
    return failures


def _pair(camera: _Camera, pair: Pair, score: float, view_first: View, view_second: View) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "score": round(float(score), 4),
        "first_file": camera.shoot(pair.first, view_first),
        "second_file": camera.shoot(pair.second, view_second),
    }


class _Camera:
    """Renders an image in a view, once each, and writes it beside the record."""

    def __init__(self, source: ImageSource, chain: Chain, folder: Path) -> None:
        self.source, self.chain, self.folder = source, chain, folder
        self._shown: dict[tuple[str, View], Tensor] = {}

    @torch.no_grad()
    def embed(self, recogniser: str, names: Sequence[str], view: View) -> Floats:
        """`(N, D)` embeddings of images in a view."""
        parts = []
        for start in range(0, len(names), self.chain.batch_size):
            batch = torch.cat([self._show(name, view) for name in names[start : start + self.chain.batch_size]])
            parts.append(self.chain.embedders[recogniser](batch).cpu().double().numpy())
        return np.concatenate(parts)

    def shoot(self, name: str, view: View) -> str:
        """Write an image as it looks in `view`, 112 x 112, and return the file's name."""
        return self._write(f"{self._stem(name)}_{_label(view.method, view)}.png", _pixels(self._show(name, view)))

    def shoot_low(self, name: str, view: View) -> str:
        """Write an image of the view's size, each pixel enlarged to a square, and return the file's name."""
        times = -(-HR_SIZE // (view.size or HR_SIZE))
        pixels = _pixels(self._reduce(name, view)).repeat(times, 0).repeat(times, 1)
        return self._write(f"{self._stem(name)}_{_label('lr', view)}.png", pixels)

    def _stem(self, name: str) -> str:
        return self.source.fingerprint(name)[:FINGERPRINT_DIGITS]

    def _write(self, file: str, pixels: RgbImage) -> str:
        write_png(self.folder / file, pixels)
        return file

    @torch.no_grad()
    def _show(self, name: str, view: View) -> Tensor:
        """`(1, 3, 112, 112)` in [0, 1], as the recognisers see it."""
        if (name, view) not in self._shown:
            low = view.method != "hr"
            image = self.chain.enlarge(view.method, self._reduce(name, view)) if low else self._read(name)
            self._shown[name, view] = image
        return self._shown[name, view]

    def _reduce(self, name: str, view: View) -> Tensor:
        fingerprints = [self.source.fingerprint(name)]
        return reduce(self._read(name), fingerprints, view.size or HR_SIZE, view.degradation, view.seed)

    def _read(self, name: str) -> Tensor:
        return to_tensor([self.source.read(name)]).to(self.chain.device)


def _label(method: str, view: View) -> str:
    """What tells a view's file from those of other views of the same image."""
    if view.method == "hr":
        return "hr"
    drawn = "" if view.degradation == "canonical" else f"_{view.degradation}_{view.seed}"
    return f"{method}_{view.size}{drawn}"


def _pixels(image: Tensor) -> RgbImage:
    """`(1, 3, H, W)` in [0, 1] as RGB uint8 `(H, W, 3)`."""
    return image[0].clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
