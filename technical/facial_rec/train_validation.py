"""How a recogniser in training does on pairs of people whom it is not trained on."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.progress import progress_bar
from facial_rec.edgeface import normalise
from facial_rec.metrics import Floats, cosine_pairs
from facial_rec.pairs import PairList
from facial_rec.sources import ImageSource
from facial_rec.verification import Comparisons

BATCH = 64
THRESHOLD = 0.35
FIGURES = ("accuracy", "accuracy_std", "auc", "eer", "tar@fmr=1e-2", "tar@fmr=1e-3")

Figures = dict[str, float]


class PairValidation:
    """The images of some pairs, read once and held as 8-bit pixels; `run` gives a network's figures.

    Raises UserError for an unreadable image and for pairs of one kind.
    """

    def __init__(self, source: ImageSource, pairs: PairList) -> None:
        if pairs.genuine.all() or not pairs.genuine.any():
            raise UserError(f"{source.label} gives pairs of one kind only: validation needs genuine and impostor ones.")
        names = pairs.images
        rows = {name: row for row, name in enumerate(names)}
        self.pairs = pairs
        self.first = np.array([rows[pair.first] for pair in pairs.pairs])
        self.second = np.array([rows[pair.second] for pair in pairs.pairs])
        self.pixels = read_pixels(source, names)

    def digest(self) -> str:
        """Hexadecimal digest of the images' pixels, and of which of them are compared."""
        found = sha256()
        for values in (self.pixels.numpy(), self.first, self.second, self.pairs.genuine):
            found.update(np.ascontiguousarray(values).tobytes())
        return found.hexdigest()

    def run(self, network: nn.Module, device: torch.device) -> Figures:
        """Accuracy over the folds and its spread (where there are folds), AUC, EER and TAR, as fractions."""
        vectors = embed_pixels(network, self.pixels, device)
        scores = cosine_pairs(vectors[self.first], vectors[self.second])
        found = Comparisons(scores, self.pairs.genuine, self.pairs.fold_numbers).figures(THRESHOLD)
        return {name: value for name in FIGURES if (value := found[name]) is not None}


def read_pixels(source: ImageSource, names: list[str], show: bool = True) -> Tensor:
    """uint8 `(N, 3, 112, 112)` of the named images. Raises UserError for one that cannot be read."""
    pixels = torch.empty(len(names), 3, 112, 112, dtype=torch.uint8)
    with progress_bar(len(names), f"reading {source.label}", "face", show=show, keep=False) as progress:
        for row, name in enumerate(names):
            pixels[row] = torch.from_numpy(np.ascontiguousarray(source.read(name).transpose(2, 0, 1)))
            progress.update()
    return pixels


@torch.no_grad()
def embed_pixels(network: nn.Module, pixels: Tensor, device: torch.device, show: bool = False) -> Floats:
    """Embeddings `(N, D)` of uint8 images `(N, 3, 112, 112)` by `network`, which is left in the mode it was in."""
    was_training = network.training
    network.eval()
    parts = []
    with progress_bar(len(pixels), "embedding", "face", show=show, keep=False) as progress:
        for batch in pixels.split(BATCH):
            parts.append(network(normalise(batch.to(device).float().div(255.0))).float().cpu())
            progress.update(len(batch))
    network.train(was_training)
    return torch.cat(parts).numpy().astype(np.float64)
