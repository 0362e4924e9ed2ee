"""Which weights of a fine-tuning are kept: verification of people who were not trained on, across resolutions.

Every photo of the validation people, once true (HR) and once restored from each low size (SR), is compared with every
other photo. The score is the mean over sizes of the TAR at FMR 1e-3, LR-HR and LR-LR; the guard is HR-HR, which may
fall by a stated amount at most. LFW and the training loss have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import UserError
from common.progress import progress_bar
from facial_rec.edgeface import normalise
from facial_rec.finetune_losses import NO_IDENTITY
from facial_rec.metrics import Bools, Floats, auc, eer, roc, tar_at_fmr, unit_rows

FMR = 1e-3
BATCH = 32

Report = dict[str, dict[str, float]]
"""`{"hr-hr": {...}, "lr-hr@16": {...}, "lr-lr@16": {...}}`: `tar`, `auc`, `eer`; HR also: `cosine` to the original."""


class Verification:
    """The validation faces, reduced and restored once; `run` embeds them with a network and gives its figures."""

    def __init__(
        self,
        pixels: Tensor,
        people: Tensor,
        sizes: Sequence[int],
        restore: Callable[[Tensor, int], Tensor],
        device: torch.device,
    ) -> None:
        """`pixels` uint8 `(N, 3, 112, 112)`, `people` `(N,)` with -1 for no identity, `restore(images, size)`.

        Where nobody has two photos, the two resolutions of a photo are its genuine pair (`same_photo`). Raises
        UserError when there are not two faces to compare.
        """
        numbers = people.numpy()
        known = numbers[numbers != NO_IDENTITY]
        counts = np.bincount(known) if len(known) else np.zeros(0, np.int64)
        if len(pixels) < 2 or (0 < len(known) == len(pixels) and (counts > 0).sum() < 2):
            raise UserError(
                f"validation has {len(pixels)} faces of {int((counts > 0).sum())} people: comparing needs two people, "
                "one of them with two photos. Give --val-root another folder."
            )
        self.same_photo = not (counts > 1).any()
        self.people = np.where(numbers == NO_IDENTITY, numbers.max() + 1 + np.arange(len(numbers)), numbers)
        self.device, self.sizes = device, tuple(sizes)
        self.pixels: dict[int | None, Tensor] = {None: pixels}
        batches = pixels.split(BATCH)
        with progress_bar(len(pixels) * len(sizes), "restoring validation faces", "face", keep=False) as progress:
            for size in sizes:
                parts = []
                for batch in batches:
                    restored = restore(batch.to(device).float().div(255.0), size)
                    parts.append(restored.mul(255.0).round().to(torch.uint8).cpu())
                    progress.update(len(batch))
                self.pixels[size] = torch.cat(parts)
        self.original: Floats | None = None

    def run(self, network: nn.Module) -> Report:
        """The figures of one network. The first one that is asked for is the original that others are compared with."""
        high = self._embed(network, None)
        if self.original is None:
            self.original = high
        report = {"hr-hr": {"cosine": float(np.einsum("nd,nd->n", high, self.original).mean())}}
        if not self.same_photo:
            report["hr-hr"] |= figures(high, high, self.people, mirrored=True)
        for size in self.sizes:
            low = self._embed(network, size)
            report[f"lr-hr@{size}"] = figures(low, high, self.people, own_photo=self.same_photo)
            if not self.same_photo:
                report[f"lr-lr@{size}"] = figures(low, low, self.people, mirrored=True)
        return report

    def high(self, embed: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """HR-HR figures of whatever embeds images `(B, 3, 112, 112)`, RGB in [0, 1]; none where `same_photo`."""
        if self.same_photo:
            return {}
        vectors = self._embedded(embed, None)
        return figures(vectors, vectors, self.people, mirrored=True)

    def _embed(self, network: nn.Module, size: int | None) -> Floats:
        return self._embedded(lambda images: network(normalise(images)), size)

    @torch.no_grad()
    def _embedded(self, embed: Callable[[Tensor], Tensor], size: int | None) -> Floats:
        parts = []
        for batch in self.pixels[size].split(BATCH):
            images = batch.to(self.device, memory_format=torch.channels_last).float().div(255.0)
            parts.append(embed(images).float().cpu())
        return unit_rows(torch.cat(parts).numpy())


def figures(
    probes: Floats, gallery: Floats, people: NDArray[np.int64], mirrored: bool = False, own_photo: bool = False
) -> dict[str, float]:
    """TAR at FMR 1e-3, AUC and EER over all pairs of two photos; row i of both embeds photo i.

    `mirrored`: probes are the gallery, and each pair counts once. `own_photo`: a photo's two rows are a pair too.
    """
    scores = (probes @ gallery.T).astype(np.float32)
    counted: Bools = np.ones(scores.shape, dtype=bool)
    if mirrored:
        counted = np.triu(counted, 1)
    elif not own_photo:
        np.fill_diagonal(counted, False)
    genuine = people[:, None] == people[None, :]
    curve = roc(scores[counted], genuine[counted])
    return {"tar": tar_at_fmr(curve, FMR), "auc": auc(curve), "eer": eer(curve)}


def score(report: Report) -> float:
    """What decides: mean over sizes of the TAR at FMR 1e-3 with a restored face on one side or both."""
    tars = [figure["tar"] for name, figure in report.items() if name != "hr-hr"]
    return sum(tars) / len(tars)


def summary(report: Report) -> str:
    """The TAR of every protocol and size in one line; where there is none, the cosine to the original."""
    return ", ".join(f"{name} {figures.get('tar', figures.get('cosine', 0.0)):.4f}" for name, figures in report.items())


@dataclass(frozen=True)
class Guard:
    """What high resolution may lose against the original."""

    original: Report
    most: float
    """Largest fall of the HR-HR TAR; where nobody has two photos, largest `1 - cosine` to the original's embeddings."""

    def loss(self, report: Report) -> float:
        """What `report` has lost."""
        before, now = self.original["hr-hr"], report["hr-hr"]
        return before["tar"] - now["tar"] if "tar" in before else 1.0 - now["cosine"]

    def admits(self, report: Report) -> bool:
        """Whether the loss is small enough; an exact tie is."""
        return self.loss(report) <= self.most + 1e-9

    def better(self, report: Report, best: Report | None) -> bool:
        """Whether `report` is admitted and scores higher than `best` (the one kept so far; None: nothing yet)."""
        return self.admits(report) and (best is None or score(report) > score(best))
