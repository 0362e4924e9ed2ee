"""Class centres for a recogniser that is trained already: the mean of each person's embeddings."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from common.progress import progress_bar
from facial_rec.distributed import Place
from facial_rec.edgeface import normalise
from facial_rec.partial_fc import PartialFC
from facial_rec.train_faces import TrainingSet, read_batches

MOST_PHOTOS = 8  # of a person: a mean of more is hardly another
BATCH = 64


@torch.no_grad()
def fill_with_means(centres: PartialFC, network: nn.Module, faces: TrainingSet, place: Place) -> None:
    """Set this process's class centres to unit means of embeddings of a few photos of each of its people."""
    chosen = _some_of_each(faces.labels, centres.first, centres.first + centres.count)
    sums = torch.zeros_like(centres.centres)
    network.eval()
    batches = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
    with progress_bar(len(chosen), "class centres", "face", show=place.leads, keep=False) as progress:
        for pixels, labels in read_batches(faces, batches):
            embeddings = network(normalise(pixels.to(place.device).float().div(255.0)))
            sums.index_add_(0, labels.to(place.device) - centres.first, F.normalize(embeddings.float()))
            progress.update(len(pixels))
    centres.centres.copy_(F.normalize(sums))


def _some_of_each(labels: NDArray[np.int64], first: int, end: int) -> NDArray[np.int64]:
    """Places of the first photos of each person from `first` to before `end`."""
    order = np.argsort(labels, kind="stable")
    order = order[(labels[order] >= first) & (labels[order] < end)]
    starts = np.searchsorted(labels[order], labels[order], side="left")
    return order[np.arange(len(order)) - starts < MOST_PHOTOS]
