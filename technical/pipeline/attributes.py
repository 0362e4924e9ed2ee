"""What is known of people or images: a CSV with a key column, `subject` or `image`, and any others.

    subject,sex,age
    Ann_Lee,f,34
    Bo,m,

A subject is a person's name as the images give it, an image its name in the set (`Ann_Lee/Ann_Lee_0001.jpg`) or that
name's last part. With both columns the image is the key. Empty values, and NA, N/A, NaN and null, are missing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

from common.errors import UserError

Key = Literal["subject", "image"]
KEYS: tuple[Key, ...] = ("image", "subject")
MISSING = frozenset(("", "na", "n/a", "nan", "null"))
MOST_VALUES = 50
MOST_NUMBERS = 10
"""A column of numbers with more distinct values than this is cut at its quartiles."""


@dataclass(frozen=True)
class Attributes:
    """The rows of the file."""

    path: Path
    key: Key
    columns: Mapping[str, Mapping[str, str | None]]
    """By column and key; None where the value is missing."""

    def values(self, column: str, names: Sequence[str]) -> list[str | None]:
        """The column's value of each of `names` (people, or images), None where there is none.

        Raises UserError for a column that is not there, when no name is, and for a file name that fits two images.
        """
        if column not in self.columns:
            raise UserError(f"{self.path} has no column '{column}': it has {', '.join(self.columns) or 'only a key'}.")
        known = self.columns[column]
        keys = [self._key_of(name, known) for name in names]
        found = {name: key for name, key in zip(names, keys, strict=True) if key is not None}
        distinct = set(names)
        if not found:
            raise UserError(
                f"{self.path}: 0 of {len(distinct):,} {self.key}s of the evaluation are among its {len(known):,} keys "
                f"(it has '{next(iter(known), '')}', the evaluation '{next(iter(names), '')}')."
            )
        if len(set(found.values())) < len(found):
            twice = next(key for key in found.values() if list(found.values()).count(key) > 1)
            raise UserError(f"{self.path}: key '{twice}' fits several images. Give their names with the folder.")
        return [None if key is None else known[key] for key in keys]

    def _key_of(self, name: str, known: Mapping[str, str | None]) -> str | None:
        if name in known or self.key == "subject":
            return name if name in known else None
        last = PurePosixPath(name).name
        return last if last in known else None


def read_attributes(path: Path) -> Attributes:
    """Read the CSV. Raises UserError naming the file, and the line and key, for anything malformed."""
    if not path.is_file():
        raise UserError(f"{path} is missing: expected a CSV with a column `subject` or `image` and others.")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a readable CSV ({error}). Save it as UTF-8 with commas.") from error
    if not lines:
        raise UserError(f"{path} is empty: expected a header with `subject` or `image`, and rows.")
    header = lines[0][1]
    key = next((name for name in KEYS if name in header), None)
    if key is None or "" in header or len(set(header)) < len(header):
        raise UserError(
            f"{path}, line 1: expected distinct column names, one of them `subject` or `image`, found "
            f"'{', '.join(header)[:100]}'."
        )
    return Attributes(path, key, _columns(path, header, header.index(key), lines[1:]))


def _columns(
    path: Path, header: list[str], place: int, lines: Sequence[tuple[int, list[str]]]
) -> dict[str, dict[str, str | None]]:
    columns: dict[str, dict[str, str | None]] = {name: {} for name in header if name != header[place]}
    seen: dict[str, int] = {}
    for number, cells in lines:
        if len(cells) != len(header):
            raise UserError(
                f"{path}, line {number}: expected {len(header)} values ({', '.join(header)}), found {len(cells)}."
            )
        key = cells[place]
        if not key:
            raise UserError(
                f"{path}, line {number}: the key `{header[place]}` is empty. Fill it in or remove the line."
            )
        if key in seen:
            raise UserError(f"{path}, line {number}: key '{key}' stands on line {seen[key]} already. Keep one.")
        seen[key] = number
        for name, cell in zip(header, cells, strict=True):
            if name in columns:
                columns[name][key] = None if cell.lower() in MISSING else cell
    return columns


def grouped(
    values: Sequence[str | None], column: str, cut_points: Sequence[float] | None = None
) -> tuple[list[str | None], list[str]]:
    """The group of each value, and all groups in the order to show them.

    A column of more than `MOST_NUMBERS` distinct numbers is cut at the quartiles of `values`; `cut_points` cut any
    column of numbers. Raises UserError for cut points on a column with other values, and for too many groups.
    """
    known = [value for value in values if value is not None]
    numbers = [_number(value) for value in known]
    numeric = bool(known) and all(number is not None for number in numbers)
    found = sorted(number for number in numbers if number is not None)
    if cut_points is not None:
        if not numeric:
            odd = next((value for value, number in zip(known, numbers, strict=True) if number is None), "nothing")
            raise UserError(f"Column '{column}' holds '{odd}': only a column of numbers can be cut.")
        if list(cut_points) != sorted(set(cut_points)) or not all(map(math.isfinite, cut_points)):
            raise UserError(f"Column '{column}': expected rising cut points, found {list(cut_points)}.")
        return _cut(values, cut_points)
    if numeric and len(set(found)) > MOST_NUMBERS:
        return _cut(values, sorted({found[len(found) * part // 4] for part in (1, 2, 3)}))
    order: list[str] = sorted(set(known), key=(lambda v: (_number(v) or 0.0, v)) if numeric else str)
    if len(order) > MOST_VALUES:
        raise UserError(
            f"Column '{column}' has {len(order):,} different values: expected at most {MOST_VALUES} groups to compare."
        )
    return list(values), order


def _cut(values: Sequence[str | None], points: Sequence[float]) -> tuple[list[str | None], list[str]]:
    digits = next((n for n in range(6, 17) if len({f"{point:.{n}g}" for point in points}) == len(points)), 17)
    shown = [f"{point:.{digits}g}" for point in points]
    inner = [f"{low} to below {high}" for low, high in pairwise(shown)]
    labels = [f"below {shown[0]}", *inner, f"from {shown[-1]}"] if points else ["all"]
    groups: list[str | None] = []
    for value in values:
        number = None if value is None else _number(value)
        groups.append(None if number is None else labels[sum(number >= point for point in points)])
    return groups, [label for label in labels if label in groups]


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
