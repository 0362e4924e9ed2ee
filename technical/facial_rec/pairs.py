"""LFW-style pair lists: which images are compared, which pairs are genuine, and in which fold each pair lies.

    10<tab>300                                  ten folds of 300 genuine and then 300 impostor lines
    Abel_Pacheco<tab>1<tab>4                    genuine: Abel_Pacheco_0001 and Abel_Pacheco_0004
    Abdel_Madi_Shabneh<tab>1<tab>Dean_Barker<tab>1      impostor

A header of a single number is one fold (`pairsDevTest.txt`). Format: G. B. Huang et al., "Labeled Faces in the Wild",
2007, http://vis-www.cs.umass.edu/lfw/README.txt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError


@dataclass(frozen=True)
class Pair:
    """Two images to compare; the first is the probe where only one side is of low resolution."""

    first: str
    """Name inside the image store."""
    second: str
    first_subject: str
    second_subject: str
    fold: int
    """Counted from 0, in published order."""
    genuine: bool
    """Whether the list says that both show one person; where people are not known, names cannot tell."""


@dataclass(frozen=True)
class PairList:
    """The pairs of a list, in its order."""

    pairs: tuple[Pair, ...]
    folds: int
    people_known: bool = True
    """False where the list names no people, so that one person may stand under several names."""

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def genuine(self) -> NDArray[np.bool_]:
        """`(N,)`, true where both images show one person."""
        return np.array([pair.genuine for pair in self.pairs])

    @property
    def fold_numbers(self) -> NDArray[np.int64]:
        """`(N,)` fold of each pair."""
        return np.array([pair.fold for pair in self.pairs])

    @property
    def first_images(self) -> list[str]:
        """The distinct first images, sorted."""
        return sorted({pair.first for pair in self.pairs})

    @property
    def images(self) -> list[str]:
        """All distinct images, sorted."""
        return sorted({name for pair in self.pairs for name in (pair.first, pair.second)})


def read_pairs(path: Path, image_names: Sequence[str]) -> PairList:
    """Read a pair list and find its images among `image_names` (an image store's, as `Name/Name_0001.jpg`).

    The suffix and folders above the person's do not matter. Raises UserError naming the file and line for a malformed
    line, a wrong number of lines, and an image that is missing or there twice.
    """
    lines = _lines(path)
    folds, each = _header(path, lines)
    expected = 1 + 2 * folds * each
    if len(lines) != expected:
        raise UserError(
            f"{path}: line 1 announces {folds} fold(s) of {each} genuine and {each} impostor pairs, so {expected} "
            f"lines; found {len(lines)}. Is the file whole?"
        )
    index = _by_person_and_stem(image_names)
    pairs = []
    for number, line in enumerate(lines[1:], start=2):
        fold, position = divmod(number - 2, 2 * each)
        pairs.append(_Line(path, number, line).parse(index, fold, genuine=position < each))
    return PairList(tuple(pairs), folds)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path} is missing: expected a pair list such as LFW's pairs.txt.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not a readable text file ({error}): expected a pair list.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"{path} is empty: expected a pair list such as LFW's pairs.txt.")
    return lines


def _header(path: Path, lines: list[str]) -> tuple[int, int]:
    numbers = [_positive(field) for field in lines[0].split()]
    if len(numbers) == 1 and numbers[0]:
        return 1, numbers[0]
    if len(numbers) == 2 and numbers[0] and numbers[1]:
        return numbers[0], numbers[1]
    raise UserError(
        f"{path}, line 1: expected the numbers of folds and of pairs (`10<tab>300`), found '{lines[0][:60]}'."
    )


def _positive(field: str) -> int:
    """The number in `field`; 0 when it is not a positive one."""
    return int(field) if field.isascii() and field.isdecimal() and len(field) < 10 else 0


_Index = dict[tuple[str, str], list[str]]


def _by_person_and_stem(names: Sequence[str]) -> _Index:
    index: _Index = {}
    for name in names:
        path = PurePosixPath(name)
        index.setdefault((path.parent.name, path.stem), []).append(name)
    return index


@dataclass(frozen=True)
class _Line:
    path: Path
    number: int
    text: str

    def parse(self, index: _Index, fold: int, genuine: bool) -> Pair:
        fields = [field.strip() for field in self.text.split("\t" if "\t" in self.text else None)]
        if len(fields) != (3 if genuine else 4):
            raise self._error(
                "expected a genuine pair (name, number, number)"
                if genuine
                else "expected an impostor pair (name, number, name, number)"
            )
        first_subject, second_subject = fields[0], fields[0] if genuine else fields[2]
        first, second = _positive(fields[1]), _positive(fields[-1])
        if not first or not second or not first_subject or not second_subject:
            raise self._error("expected names and image numbers from 1 up")
        if genuine and first == second:
            raise self._error("expected two images of a person, not one twice")
        if not genuine and first_subject == second_subject:
            raise self._error("expected two different people in an impostor pair")
        return Pair(
            first=self._image(index, first_subject, first),
            second=self._image(index, second_subject, second),
            first_subject=first_subject,
            second_subject=second_subject,
            fold=fold,
            genuine=genuine,
        )

    def _image(self, index: _Index, subject: str, number: int) -> str:
        stem = f"{subject}_{number:04d}"
        found = index.get((subject, stem), [])
        if len(found) == 1:
            return found[0]
        wanted = f"{subject}/{stem}"
        what = f"there are {len(found)} images {wanted} ({', '.join(found)})" if found else f"no image {wanted}.*"
        where = f"{self.path}, line {self.number}"
        raise UserError(f"{where}: {what} among the images. Give --images the set this list was made for.")

    def _error(self, expected: str) -> UserError:
        return UserError(f"{self.path}, line {self.number}: {expected}, found '{self.text[:80]}'.")
