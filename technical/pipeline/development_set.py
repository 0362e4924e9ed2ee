"""The faces that thresholds are chosen on: every pair between their images; a test set is refused.

LFW is what this project is tested on, so no threshold may come from it. A set counts as LFW when its path has a part
that starts with "lfw", or when at least `LFW_NAMES_FOUND` of its people are called as one of LFW's most photographed
(kept as checksums). A renamed copy of the less known people is not recognised: the rule guards against a slip.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError
from common.paths import named_like_lfw
from facial_rec.metrics import Bools, Floats, Ints, unit_rows

MOST_IMPOSTORS = 1_000_000
LFW_NAMES_FOUND = 3
# First 12 digits of the SHA-256 of `plain_name`, for the 20 politicians with the most photos in LFW.
# fmt: off
LFW_NAMES = frozenset(
    (
        "19666eed95ce", "de4a1aa04f0e", "85e36d62ce90", "9b4c193b7a96", "21228d34aba5",
        "42956d647e96", "10a272ffaaf7", "57f509f38917", "331b21b62dfb", "42690ef7fde7",
        "dc16bc87eed6", "a6df8ffb319a", "e21a88771bd3", "ccee1d5d3b87", "0b427d0a9ac9",
        "170f177b6bda", "cd9776ee5afb", "81817782d73f", "e178dedbbaa7", "41f5e5ea15e2",
    )
)
# fmt: on
BLOCK = 1024  # images whose scores with all others are held at once: 1024 x 20,000 are 160 MB


@dataclass(frozen=True)
class DevelopmentPairs:
    """Which images are compared: the first of a pair is the probe where only one side is of low resolution."""

    first: Ints
    """`(N,)` rows of images."""
    second: Ints
    people: Ints
    """`(M,)` number of the person on each image."""

    def __len__(self) -> int:
        return len(self.first)

    @cached_property
    def genuine(self) -> Bools:
        """`(N,)`, true where both images show one person."""
        return self.people[self.first] == self.people[self.second]

    @cached_property
    def _cells(self) -> tuple[Ints, Ints]:
        """The two people of a pair as one number, the distinct ones sorted; and each pair's place among them."""
        a, b = self.people[self.first], self.people[self.second]
        width = int(self.people.max()) + 1
        distinct, places = np.unique(np.minimum(a, b) * width + np.maximum(a, b), return_inverse=True)
        return distinct, places

    @property
    def cells(self) -> Ints:
        """`(N,)` which two people each pair compares, from 0 to `len(cell_people[0])` - 1."""
        return self._cells[1]

    @property
    def cell_people(self) -> tuple[Ints, Ints]:
        """`(C,), (C,)` the two people of each cell; the same one twice for genuine pairs."""
        width = int(self.people.max()) + 1
        return self._cells[0] // width, self._cells[0] % width

    def by_cell(self, values: ArrayLike) -> Floats:
        """`(N,)` values summed over the pairs of the same two people: `(C,)`."""
        sums = np.bincount(self.cells, weights=np.asarray(values, dtype=np.float64), minlength=len(self._cells[0]))
        return sums.astype(np.float64)  # without pairs bincount gives integers

    def scores(self, probes: Floats, others: Floats) -> Floats:
        """`(N,)` cosine of each pair, from `(M, D)` embeddings of the first and of the second images."""
        a, b = unit_rows(probes), unit_rows(others)
        order = np.argsort(self.first, kind="stable")
        sorted_first, found = self.first[order], np.empty(len(self))
        for start in range(0, len(a), BLOCK):
            low, high = np.searchsorted(sorted_first, [start, start + BLOCK])
            pairs = order[low:high]
            found[pairs] = (a[start : start + BLOCK] @ b.T)[self.first[pairs] - start, self.second[pairs]]
        return found.clip(-1.0, 1.0)


def development_pairs(subjects: Sequence[str], most_impostors: int = MOST_IMPOSTORS, seed: int = 0) -> DevelopmentPairs:
    """All genuine and all impostor pairs between images of `subjects` `(M,)`, each pair once.

    Of more than `most_impostors` impostor pairs that many are drawn with `seed`; it also says which of the two images
    is the probe. Raises UserError without two people or without a person on two images.
    """
    numbers = {name: number for number, name in enumerate(sorted(set(subjects)))}
    people = np.array([numbers[name] for name in subjects], dtype=np.int64)
    counts = np.bincount(people, minlength=2)
    if len(numbers) < 2 or counts.max() < 2:
        raise UserError(
            f"{len(people)} images of {len(numbers)} people: thresholds need at least two people, and two images of "
            "one. Give --images a folder per identity, or <subject>_<n>.png files."
        )
    rng = np.random.default_rng(seed)
    genuine = [_all_pairs(np.flatnonzero(people == person)) for person in np.flatnonzero(counts > 1)]
    impostor = _impostors(people, most_impostors, rng)
    both = np.concatenate([*genuine, impostor])
    swapped = rng.random(len(both)) < 0.5
    both[swapped] = both[swapped][:, ::-1]
    return DevelopmentPairs(both[:, 0], both[:, 1], people)


def _all_pairs(rows: Ints) -> Ints:
    first, second = np.triu_indices(len(rows), k=1)
    return np.stack([rows[first], rows[second]], axis=1)


def _impostors(people: Ints, most: int, rng: np.random.Generator) -> Ints:
    images, counts = len(people), np.bincount(people)
    total = (images * (images - 1) - int((counts * (counts - 1)).sum())) // 2
    if total <= 4 * most:
        pairs = _all_pairs(np.arange(images))
        pairs = pairs[people[pairs[:, 0]] != people[pairs[:, 1]]]
        return pairs if total <= most else pairs[np.sort(rng.choice(total, most, replace=False))]
    found: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    while len(found) < most:  # far fewer than there are, so drawing at random seldom repeats one
        a, b = np.sort(rng.integers(images, size=(2, most)), axis=0)
        found = np.unique(np.append(found, (a * images + b)[people[a] != people[b]]))
    found = np.sort(rng.choice(found, most, replace=False))
    return np.stack([found // images, found % images], axis=1)


def refuse_lfw(path: Path, subjects: Sequence[str], option: str = "--images") -> None:
    """Raise UserError when the set, named with `option`, looks like LFW (see the module's head)."""
    found = sum(sha256(plain_name(name).encode()).hexdigest()[:12] in LFW_NAMES for name in set(subjects))
    why = None
    if named_like_lfw(path):
        why = "its path says so"
    elif found >= LFW_NAMES_FOUND:
        why = f"{found} of its people are called as people of LFW"
    if why is not None:
        raise UserError(
            f"{path} looks like LFW ({why}). LFW is the test set: what is chosen on it, thresholds or number "
            f"ranges, would make every figure measured with it worthless. Give {option} other people, such as "
            "dataset/val_processed."
        )


def plain_name(name: str) -> str:
    """A person's name in lower case with single underscores, so that `Ann Lee` and `ann_lee` are one."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def says_training(path: Path) -> bool:
    """Whether a part of the path starts with "train": the DSR has probably learnt from these faces."""
    return any(part.lower().startswith("train") for part in path.resolve().parts)
