"""Templates: several images of a person as one embedding, and the pairs of templates to compare, as in IJB-B and IJB-C.

Two lists of a user's own set, columns apart by blanks, as InsightFace's IJB evaluation has them:

    face_tid_mid.txt           image template media         1.jpg 1 69544
    template_pair_label.txt    template template label      1 11065 1

Images of one medium (frames of a video) are averaged first, then the media of a template, so that a long video does
not outweigh a photo; the result has length one. (C. Whitelam et al., "IARPA Janus Benchmark-B Face Dataset", CVPR
Workshops 2017; B. Maze et al., "IARPA Janus Benchmark - C", ICB 2018.)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import ArrayLike

from common.errors import UserError
from facial_rec.metrics import Bools, Floats, Ints, unit_rows

PAIR_CHUNK = 16_384  # pairs scored at once: two sides of 512 numbers are 134 MB


@dataclass(frozen=True)
class Templates:
    """Which images make up which template; lines sorted by template."""

    images: tuple[str, ...]
    """`(L,)` name of each line's image in its source."""
    numbers: Ints
    """`(L,)` row of each line's template in `ids`, rising."""
    media: Ints
    """`(L,)` medium of each line."""
    ids: Ints
    """`(T,)` what the lists call the templates, rising."""

    def __len__(self) -> int:
        return len(self.ids)

    def chunk(self, images: int) -> list[tuple[slice, slice]]:
        """Templates and their lines, `images` lines or one template at a time."""
        starts = np.searchsorted(self.numbers, np.arange(len(self) + 1))
        parts, first = [], 0
        while first < len(self):
            last = int(np.searchsorted(starts, starts[first] + images, side="right")) - 1
            last = max(last, first + 1)
            parts.append((slice(first, last), slice(int(starts[first]), int(starts[last]))))
            first = last
        return parts


@dataclass(frozen=True)
class TemplatePairs:
    """Which templates are compared."""

    first: Ints
    """`(N,)` row in `Templates.ids`."""
    second: Ints
    genuine: Bools
    """`(N,)`."""
    people: Ints
    """`(T,)` number of each template's person, from 0, as far as genuine pairs tell."""


def pool(
    embeddings: ArrayLike, numbers: ArrayLike, media: ArrayLike, by_medium: bool = True, keep_lengths: bool = False
) -> Floats:
    """Embeddings of images `(L, D)` -> of templates `(T, D)`, length one.

    `numbers` `(L,)` names the row of each image's template, from 0 to T - 1 with none left out, `media` its medium: a
    medium of two templates counts in each. Mean over the images of a medium, then over the media of a template; without
    `by_medium` over all images at once. With `keep_lengths` an embedding weighs as much as it is long, which many
    recognisers make it for clear images; otherwise all count alike.

    Raises UserError for lengths that differ, a template without image, NaN, and a mean of length zero.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    owners, sources = np.asarray(numbers, dtype=np.int64), np.asarray(media, dtype=np.int64)
    if rows.ndim != 2 or not len(rows) or not owners.shape == sources.shape == rows.shape[:1]:
        shapes = [rows.shape, owners.shape, sources.shape]
        raise UserError(f"Pooling needs embeddings (L, D), templates (L,) and media (L,), found shapes {shapes}.")
    templates = int(owners.max()) + 1
    if owners.min() < 0 or len(np.unique(owners)) < templates:
        raise UserError(f"{templates - len(np.unique(owners))} of {templates} templates have no image.")
    unit = unit_rows(rows)
    rows = rows if keep_lengths else unit
    if by_medium:
        keys, index = np.unique(np.stack([owners, sources]), axis=1, return_inverse=True)
        rows, owners = _means(rows, index.reshape(-1), keys.shape[1]), keys[0]
    return unit_rows(_means(rows, owners, templates))


def _means(rows: Floats, groups: Ints, count: int) -> Floats:
    """Mean of the rows of each group `(count, D)`; no group is empty."""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(count))
    return np.add.reduceat(rows[order], starts, axis=0) / np.bincount(groups, minlength=count)[:, None]


def template_scores(vectors: ArrayLike, first: Ints, second: Ints) -> Floats:
    """Cosine of each pair `(N,)` of templates `(T, D)`, chunk by chunk: millions of pairs fit in memory."""
    rows = unit_rows(vectors)
    starts = range(0, len(first), PAIR_CHUNK)
    parts = [slice(start, start + PAIR_CHUNK) for start in starts]
    return np.concatenate([np.einsum("nd,nd->n", rows[first[part]], rows[second[part]]) for part in parts])


def read_templates(path: Path, image_names: Sequence[str]) -> Templates:
    """Read `image template media` lines and find the images among `image_names`.

    An image is given by its name in the source or the end of it (`1.jpg` for `loose_crop/1.jpg`). Raises UserError
    naming the file and line for a wrong number of columns, a template or medium that is no number, and an image that is
    missing or there twice.
    """
    index = _by_file_name(image_names)
    images, owners, media = [], [], []
    for number, line in _lines(path, "a list of images, templates and media"):
        fields = line.split()
        if len(fields) != 3 or not _is_number(fields[1]) or not _is_number(fields[2]):
            raise _error(path, number, line, "an image, the number of its template and the number of its medium")
        images.append(_image(path, number, fields[0], index))
        owners.append(int(fields[1]))
        media.append(int(fields[2]))
    ids, numbers = np.unique(np.array(owners, dtype=np.int64), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    return Templates(tuple(images[row] for row in order), numbers[order], np.array(media, dtype=np.int64)[order], ids)


def read_template_pairs(path: Path, templates: Templates) -> TemplatePairs:
    """Read `template template label` lines, label 1 for one person and 0 for two.

    The people behind the templates are recovered from the genuine pairs: templates that these join, directly or through
    others, are one person's. A person whose templates are never compared counts as several, which makes intervals
    somewhat too narrow. Raises UserError naming the file and line for a wrong number of columns, another label, a
    template without images, one compared with itself, and an impostor pair of templates that genuine pairs join; and
    when all pairs are of one kind.
    """
    table = _pair_table(path)
    rows = np.searchsorted(templates.ids, table[:, :2]).clip(max=len(templates) - 1)
    unknown = templates.ids[rows] != table[:, :2]
    _refuse(path, unknown.any(axis=1), "templates with images, which the list of templates gives")
    _refuse(path, (table[:, 2] != 0) & (table[:, 2] != 1), "a label of 1 (one person) or 0 (two people)")
    first, second, genuine = rows[:, 0], rows[:, 1], table[:, 2] == 1
    _refuse(path, first == second, "two different templates")
    if genuine.all() or not genuine.any():
        kind = "genuine" if genuine.any() else "impostor"
        raise UserError(f"{path}: all {len(genuine):,} pairs are {kind} pairs; expected labels of both kinds, 1 and 0.")
    people = _joined(len(templates), first[genuine], second[genuine])
    contradiction = ~genuine & (people[first] == people[second])
    _refuse(path, contradiction, "a genuine pair, for other genuine pairs of the list join these two templates")
    return TemplatePairs(first, second, genuine, people)


def _joined(count: int, first: Ints, second: Ints) -> Ints:
    """Connected components of `count` items under the pairs, numbered from 0 (union-find with path halving)."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        parent[root(one)] = root(other)
    _, numbers = np.unique([root(item) for item in range(count)], return_inverse=True)
    return numbers


def _pair_table(path: Path) -> Ints:
    """`(N, 3)` whole numbers; read by numpy, as the lists of IJB-C have millions of lines."""
    _require(path, "a list of template pairs and labels")
    try:
        with warnings.catch_warnings(action="error"):  # of no data, and of numbers that are not whole
            table = np.loadtxt(path, dtype=np.int64, comments=None, ndmin=2, encoding="utf-8")
    except (ValueError, OverflowError, OSError, Warning):
        table = np.empty((0, 0), dtype=np.int64)
    if table.shape[1] == 3:
        return table
    for number, line in _lines(path, "a list of template pairs and labels"):
        fields = line.split()
        if len(fields) != 3 or not all(map(_is_number, fields)):
            raise _error(path, number, line, "two template numbers and a label")
    raise UserError(f"{path} cannot be read as numbers: expected two template numbers and a label a line.")


def _lines(path: Path, expected: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers. Raises UserError for a missing, unreadable or empty file."""
    _require(path, expected)
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not a readable text file ({error}): expected {expected}.") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise UserError(f"{path} is empty: expected {expected}.")
    return lines


def _require(path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing: expected {expected}.")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty: expected {expected}.")


def _refuse(path: Path, wrong: Bools, expected: str) -> None:
    """Raise UserError for the first pair that is wrong, naming its line."""
    if wrong.any():
        number, line = _lines(path, "")[int(np.argmax(wrong))]
        raise _error(path, number, line, expected)


def _error(path: Path, number: int, line: str, expected: str) -> UserError:
    return UserError(f"{path}, line {number}: expected {expected}, found '{line.strip()[:80]}'.")


def _is_number(field: str) -> bool:
    return field.isascii() and field.isdecimal() and len(field) <= 18


def _by_file_name(names: Sequence[str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in names:
        index.setdefault(PurePosixPath(name).name, []).append(name)
    return index


def _image(path: Path, number: int, wanted: str, index: dict[str, list[str]]) -> str:
    alike = index.get(PurePosixPath(wanted).name, [])
    if wanted in alike:
        return wanted
    found = [name for name in alike if name.endswith(f"/{wanted}")]
    if len(found) == 1:
        return found[0]
    what = f"there are {len(found)} images {wanted} ({', '.join(found[:3])})" if found else f"no image {wanted}"
    raise UserError(f"{path}, line {number}: {what} among the images. Give --images the set this list was made for.")
