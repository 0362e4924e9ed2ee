"""What a recogniser is trained on: faces and their people, checked, split by person, and served in seeded batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from common.errors import UserError
from common.images import RgbImage
from facial_rec.drawn_pairs import pairs_from_people
from facial_rec.identities import grouped_order
from facial_rec.labelled_faces import LabelledFaces
from facial_rec.pairs import PairList
from facial_rec.sources import ImageSource

Ints = NDArray[np.int64]
MOST_HELD_OUT = 500  # people; more would only slow the validation down


@dataclass(frozen=True)
class TrainingSet(Dataset[tuple[Tensor, Tensor]]):
    """The faces of a set that are trained on."""

    faces: LabelledFaces
    indices: Ints
    """`(N,)` their places in the set."""
    labels: Ints
    """`(N,)` their people, 0 .. people - 1."""
    people: int

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """uint8 `(3, 112, 112)` and the label."""
        pixels = self.faces.read(self.faces.name(int(self.indices[index])))
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), torch.tensor(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | UserError:
        """A batch; an unreadable image is handed over as the error it is, which a worker process could not raise."""
        try:
            images, labels = zip(*(self[index] for index in indices), strict=True)
        except UserError as error:
            return error
        return torch.stack(images), torch.stack(labels)

    def digest(self) -> str:
        """SHA-256 over which faces these are, and whose."""
        names = "\n".join(self.faces.name(int(index)) for index in self.indices[:: max(1, len(self) // 100_000)])
        return sha256(names.encode(errors="surrogateescape") + self.labels.tobytes()).hexdigest()


def whole_set(faces: LabelledFaces) -> TrainingSet:
    """Every face. Raises UserError where numbers of people are left out, and as `require_trainable` does."""
    present = np.unique(faces.labels)
    missing = int(present[-1]) + 1 - len(present) if len(present) else 0
    if missing:
        before = np.concatenate([[-1], present[:-1]])  # no array as long as the largest number, which may be anything
        gaps = [n for low, high in zip(before, present, strict=True) for n in range(low + 1, min(high, low + 7))][:5]
        listed = ", ".join(map(str, gaps)) + (", …" if missing > 5 else "")
        raise UserError(
            f"{faces.label} numbers its people up to {present[-1]}, but {missing:,} of the numbers have no face "
            f"({listed}), and each would be a class without example. Number them anew: "
            f"python -m facial_rec.pack_records --faces {faces.label}"
        )
    return require_trainable(TrainingSet(faces, np.arange(len(faces.labels)), faces.labels, len(present)))


def require_trainable(faces: TrainingSet) -> TrainingSet:
    """`faces`, if there is something to learn. UserError for one person only, or where nobody has two photos."""
    found = f"{faces.faces.label} holds {len(faces):,} images of {faces.people:,} people"
    if faces.people < 2:
        raise UserError(
            f"{found} to train on: at least 2 are needed. Name files <subject>_<n>.png, or use a folder per identity."
        )
    if len(faces) == faces.people:
        raise UserError(
            f"{found}, one each: photos of one person that belong together are what is learned, so somebody with two "
            "or more is needed. Are files named <subject>_<n>.png, or in a folder per identity?"
        )
    return faces


def held_out(faces: LabelledFaces, fraction: float, seed: int) -> tuple[TrainingSet, ImageSource, PairList]:
    """Training faces, and pairs of the faces of other people: about `fraction` of those who have two photos.

    Raises UserError where that leaves too few for either.
    """
    whole = whole_set(faces)
    repeated = np.flatnonzero(np.bincount(whole.labels) > 1)
    count = min(MOST_HELD_OUT, max(2, round(fraction * len(repeated))))
    if len(repeated) < count + 1:
        raise UserError(
            f"{faces.label} has {len(repeated)} people with two photos: 2 would be held out to validate on, and more "
            "are needed to train on. Give --val-root other people, or a .bin set."
        )
    held = np.random.default_rng([seed, 7]).permutation(repeated)[:count]
    is_held = np.isin(whole.labels, held)
    people, labels = np.unique(whole.labels[~is_held], return_inverse=True)
    kept = TrainingSet(faces, whole.indices[~is_held], labels.astype(np.int64), len(people))
    source = _Some(faces, [faces.name(int(index)) for index in whole.indices[is_held]])
    return require_trainable(kept), source, pairs_from_people(source.names, seed)


@dataclass(frozen=True)
class _Some:
    """Some faces of a set, as the images of an evaluation."""

    faces: LabelledFaces
    names: Sequence[str]

    @property
    def label(self) -> str:
        return self.faces.label

    def read(self, name: str) -> RgbImage:
        return self.faces.read(name)

    def fingerprint(self, name: str) -> str:
        return sha256(self.faces.read_bytes(name)).hexdigest()


@dataclass(frozen=True)
class BatchPlan:
    """Which faces are in which batch, the same for any number of processes: a batch is one of all of them together."""

    count: int
    """Faces in the set."""
    together: int
    """Faces a step, in all processes."""

    @property
    def steps(self) -> int:
        """Whole batches in an epoch; the faces left over wait for the next. A set that is smaller is one batch."""
        return max(1, self.count // self.together)

    def share(self, order: Ints, step: int, rank: int, world: int) -> Ints:
        """The faces of one process in one step of an epoch with this order."""
        batch = order[step * self.together : (step + 1) * self.together]
        each = len(batch) // world
        return batch[rank * each : (rank + 1) * each]


def order_of(faces: TrainingSet, seed: int, epoch: int, photos_together: int = 1) -> Ints:
    """A permutation of the faces that depends on `seed` and `epoch` only.

    With `photos_together` above 1 the photos of a person come in groups of that size, so that a batch holds positives.
    """
    if photos_together > 1:
        return np.array(grouped_order(torch.from_numpy(faces.labels), seed, epoch, photos_together), dtype=np.int64)
    return np.random.default_rng([seed, epoch, 5]).permutation(len(faces))


def read_batches(
    faces: TrainingSet, batches: Sequence[Ints], workers: int = 0, pinned: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 images `(B, 3, 112, 112)` and labels `(B,)` of each batch, read ahead by `workers` processes.

    Raises UserError for an unreadable image.
    """
    for batch in DataLoader(
        faces, batch_sampler=_Lists(batches), num_workers=workers, collate_fn=_as_it_is, pin_memory=pinned
    ):
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _Lists(Sampler[list[int]]):
    """Batches as lists, each made when it is its turn: those of an epoch of millions would fill the memory."""

    def __init__(self, batches: Sequence[Ints]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _as_it_is(batch: Any) -> Any:
    return batch
