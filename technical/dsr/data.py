"""Training and validation faces: read once, held as 8-bit pixels where they fit, served in seeded batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.progress import progress_bar
from dsr.degradation import HR_SIZE, MAX_SIZE, MIN_SIZE
from facial_rec.faceset import Face, FaceSet
from facial_rec.identities import UNLABELLED, people_in_turn

BYTES_PER_FACE = 3 * HR_SIZE * HR_SIZE
PREFETCHED_BATCHES = 2
READER_THREADS = max(4, os.cpu_count() or 1)


def names_sha256(faces: Sequence[Face]) -> str:
    """Hexadecimal digest of which faces these are, in their order."""
    return sha256("\n".join(face.name for face in faces).encode(errors="surrogateescape")).hexdigest()


class FaceReader:
    """Faces of one set by index, as uint8 `(B, 3, 112, 112)`.

    All images are decoded at construction, so that a bad file is named before hours of training, and kept in memory
    while they take at most `cache_gb`. Raises UserError for an unreadable or wrongly sized image.
    """

    def __init__(self, faces: FaceSet, chosen: Sequence[Face] | None = None, cache_gb: float = 4.0) -> None:
        self.faceset = faces
        self.faces = list(faces.faces if chosen is None else chosen)
        fits = len(self.faces) * BYTES_PER_FACE <= cache_gb * 1e9
        self._cache = torch.empty(len(self.faces), 3, HR_SIZE, HR_SIZE, dtype=torch.uint8) if fits else None
        progress = progress_bar(len(self.faces), f"reading {faces.root}", "face", keep=False)
        with ThreadPoolExecutor(READER_THREADS) as pool, progress:
            for index, pixels in enumerate(pool.map(self._decode, range(len(self.faces)))):
                if self._cache is not None:
                    self._cache[index] = pixels
                progress.update()

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def names_sha256(self) -> str:
        """See the function of this name."""
        return names_sha256(self.faces)

    def hold_on(self, device: torch.device) -> None:
        """Keep the faces in this device's memory, and serve them there, if they are kept at all."""
        if self._cache is not None:
            self._cache = self._cache.to(device)

    def read(self, indices: Sequence[int]) -> Tensor:
        """uint8 `(len(indices), 3, 112, 112)`, on CPU or where `hold_on` put them."""
        if self._cache is not None:
            return self._cache[torch.as_tensor(indices)]
        return torch.stack([self._decode(index) for index in indices])

    def batches(self, order: Sequence[int], batch_size: int) -> Iterator[Tensor]:
        """The faces of `order` in batches, the next ones read while the caller works on this one."""
        groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        if self._cache is not None:
            yield from map(self.read, groups)
            return
        with ThreadPoolExecutor(PREFETCHED_BATCHES) as pool:
            waiting: deque[Future[Tensor]] = deque()
            for group in groups:
                waiting.append(pool.submit(self.read, group))
                if len(waiting) > PREFETCHED_BATCHES:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _decode(self, index: int) -> Tensor:
        pixels = self.faceset.read(self.faces[index])
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def to_float(pixels: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 `(B, 3, H, W)` to float in [0, 1] on `device`."""
    return pixels.to(device).float().div(255.0)


@dataclass(frozen=True)
class SizeChoice:
    """The low-resolution sizes to train at: single sizes and ranges, each entry drawn equally often.

    Within a range sizes are drawn log-uniformly, since a pixel matters more to a small face. An entry given twice
    counts twice.
    """

    entries: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> SizeChoice:
        """From `["16"]`, `["16", "24", "32"]`, `["8-64"]` or a mixture. UserError for a size outside 8 to 64."""
        entries = []
        for text in (part for argument in texts for part in argument.replace(",", " ").split()):
            low, dash, high = text.partition("-")
            if not low.isdecimal() or (dash and not high.isdecimal()):
                raise UserError(
                    f"--vlr-size {text} is not a size: give one (16), several (16 24 32) or a range (8-64)."
                )
            first, last = int(low), int(high or low)
            if not MIN_SIZE <= first <= last <= MAX_SIZE:
                raise UserError(f"--vlr-size {text} is outside {MIN_SIZE} to {MAX_SIZE}, the sizes that DSR takes.")
            entries.append((first, last))
        if not entries:
            raise UserError("--vlr-size is empty: give one size (16), several (16 24 32) or a range (8-64).")
        return cls(tuple(entries))

    def draw(self, generator: torch.Generator) -> int:
        """One size."""
        low, high = self.entries[int(torch.randint(len(self.entries), (), generator=generator))]
        if low == high:
            return low
        position = float(torch.rand((), generator=generator))
        return min(high, int(low * ((high + 1) / low) ** position))

    def validation_sizes(self) -> list[int]:
        """The single sizes, and of every range its usual ones (16, 24, 32), or its ends where it holds none."""
        sizes: set[int] = set()
        for low, high in self.entries:
            usual = {size for size in (16, 24, 32) if low <= size <= high}
            sizes |= {low} if low == high else usual or {low, high}
        return sorted(sizes)


def split_identities(faces: FaceSet, fraction: float, seed: int) -> tuple[list[Face], list[Face]]:
    """Identity-disjoint training and held-out faces. Raises UserError when one identity is all there is.

    With the same seed the people held out are those of `facial_rec.identities.split_people`, so that fine-tuning
    validates on nobody that the DSR was trained on; but of so few people that one is held out here, two are there.
    """
    faces.require_identities(2)
    subjects = [subject for subject in faces.subjects if subject != UNLABELLED] or faces.subjects
    count = max(1, round(fraction * len(subjects)))
    held = set(people_in_turn(subjects, seed)[: min(max(1, len(subjects) - 1), count)])
    return [f for f in faces.faces if f.subject not in held], [f for f in faces.faces if f.subject in held]


def evenly_spaced(faces: Sequence[Face], limit: int) -> list[Face]:
    """At most `limit` faces, spread evenly over the list; all of them when `limit` is 0."""
    if limit <= 0 or len(faces) <= limit:
        return list(faces)
    return [faces[index * len(faces) // limit] for index in range(limit)]
