"""The parts of training the landmark refiner: batches, loss, one step, validation, and a run's state on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import UserError
from facial_rec.faceset import HR_SIZE, Face, FaceSet
from facial_rec.landmark_crops import Augmentation, training_crop
from facial_rec.landmark_labels import EYES_APART, Landmarks
from facial_rec.landmark_net import LandmarkNet
from facial_rec.run_state import load_same_network, read_run_state, require_same_settings, write_state
from facial_rec.seeds import epoch_order

EYES = EYES_APART / HR_SIZE
"""Distance between the eyes in sides of the crop."""
LOSS_BEND = 0.02  # distances between the eyes: below it the loss is quadratic
GRADIENT_CLIP = 1.0
VALIDATION_BATCH = 128
_KEYS = ("settings", "model", "optimizer", "step")


@dataclass(frozen=True)
class LabelledFaces:
    """Aligned faces and where their landmarks lie, `(N, 5, 2)` in pixels of the 112x112 face."""

    store: FaceSet
    faces: list[Face]
    landmarks: Landmarks

    def __len__(self) -> int:
        return len(self.faces)

    def crop(self, index: int, rng: np.random.Generator, how: Augmentation) -> tuple[NDArray[np.uint8], Landmarks]:
        """`training_crop` of one face, its pixels as `(3, 64, 64)`."""
        pixels, points = training_crop(self.store.read(self.faces[index]), self.landmarks[index], rng, how)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)), points


class TrainingBatches(Dataset[tuple[Tensor, Tensor] | UserError]):
    """Batch number i of a run: pixels uint8 `(B, 3, 64, 64)` and landmarks `(B, 5, 2)`; depends on seed and i only."""

    def __init__(self, faces: LabelledFaces, batch_size: int, how: Augmentation, seed: int) -> None:
        self.faces, self.batch_size, self.how, self.seed = faces, batch_size, how, seed
        self._order: tuple[int, list[int]] = (-1, [])

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor] | UserError:
        """The batch; an unreadable image is handed over as the error it is, which a worker process could not raise."""
        rng = np.random.default_rng((self.seed, step))
        first = step * self.batch_size
        rows = [self._row(index) for index in range(first, first + self.batch_size)]
        try:
            pixels, points = zip(*(self.faces.crop(row, rng, self.how) for row in rows), strict=True)
        except UserError as error:
            return error
        return torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(points))

    def _row(self, index: int) -> int:
        epoch, place = divmod(index, len(self.faces))
        if self._order[0] != epoch:
            self._order = epoch, epoch_order(len(self.faces), self.seed, epoch)
        return self._order[1][place]


def landmark_loss(found: Tensor, expected: Tensor) -> Tensor:
    """Smooth L1 of landmarks `(B, 5, 2)` in sides of the crop, counted in distances between the eyes.

    R. Girshick, "Fast R-CNN", ICCV 2015, equation 3, bent at 0.02.
    """
    return F.smooth_l1_loss(found / EYES, expected / EYES, beta=LOSS_BEND)


def landmark_errors(found: Tensor, expected: Tensor) -> Tensor:
    """Mean distance of each face's five landmarks, `(B,)`, in distances between the template's eyes."""
    return (found - expected).norm(dim=2).mean(dim=1) / EYES


@dataclass
class RunState:
    """Everything that training changes."""

    model: LandmarkNet
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Finished steps."""


def fresh_state(seed: int, weight_decay: float) -> RunState:
    """A network with random weights and its AdamW."""
    torch.manual_seed(seed)
    model = LandmarkNet().to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    return RunState(model, torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=weight_decay))


def train_step(state: RunState, pixels: Tensor, points: Tensor, rate: float) -> float:
    """One optimiser step; its loss. Raises UserError for a loss that is not finite."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    loss = landmark_loss(state.model.train()(pixels.float().contiguous(memory_format=torch.channels_last)), points)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UserError(f"the loss became {value} at step {state.step}: lower --learning-rate, and run again.")
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), GRADIENT_CLIP)
    state.optimizer.step()
    state.step += 1
    return value


class Validation:
    """The same crops of faces of other people every time."""

    def __init__(self, faces: LabelledFaces, how: Augmentation, seed: int) -> None:
        rng = np.random.default_rng(seed)
        pixels, points = zip(*(faces.crop(index, rng, how) for index in range(len(faces))), strict=True)
        self.pixels, self.points = torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(points))

    @torch.no_grad()
    def predict(self, model: LandmarkNet) -> Tensor:
        """Landmarks `(N, 5, 2)` in sides of the crop."""
        return torch.cat([model.eval()(batch.float()) for batch in self.pixels.split(VALIDATION_BATCH)])

    def run(self, model: LandmarkNet) -> float:
        """Mean error in distances between the eyes."""
        return float(landmark_errors(self.predict(model), self.points).mean())


def save_state(path: Path, state: RunState, settings: dict[str, Any]) -> None:
    """Write all that a resumed run needs, atomically."""
    model, optimizer = state.model.state_dict(), state.optimizer.state_dict()
    content = dict(zip(_KEYS, (settings, model, optimizer, state.step), strict=True))
    write_state(path, content)


def restore_state(path: Path, state: RunState, settings: dict[str, Any]) -> None:
    """Load what `save_state` wrote into `state`.

    Raises UserError when it is damaged, or when a setting that shapes the losses differs from the interrupted run's.
    """
    content = read_run_state(path, _KEYS, "train_landmarks")
    require_same_settings(path, content["settings"], settings)
    load_same_network(path, state.model, content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.step = content["step"]
