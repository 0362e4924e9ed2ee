"""Turn folders and zips of aligned faces into samples for the processed splits: who is who, and who goes where."""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from common.errors import UserError
from dsr.split_writer import SPLITS, Sample
from dsr.synthetic_set import divide
from facial_rec.faceset import FaceSet

LABEL_COLUMNS = ("file", "identity", "source", "split", "zip")
_LONGEST_NAME = 80


@dataclass(frozen=True)
class ImportedFace:
    """One image file of a source; `split` is empty where no label fixes it."""

    faces: FaceSet
    name: str
    person: str
    split: str = ""


def read_sources(sources: Sequence[Path]) -> list[ImportedFace]:
    """All faces of the sources, each person named by the layout (see FaceSet); the same name is the same person.

    Raises UserError for a source that is missing, empty or damaged.
    """
    found = [FaceSet(source) for source in sources]
    return [ImportedFace(faces, face.name, face.subject) for faces in found for face in faces.faces]


def read_labelled(sources: Sequence[Path], labels: Path) -> list[ImportedFace]:
    """The faces that the table `labels` lists for these sources, with its identities and splits.

    The columns are file, identity, source, split and zip. A file without identity is a person of its own, named as the
    file is, and as its source too where that name is taken. A file is looked for in the zip that its row names, where
    that is a source, else in the folders; rows of a zip that is not among the sources, nor unpacked in them, are left
    out. Raises UserError for two zips of one name, and for a table that is missing, lacks a column, repeats a file, or
    names a split or a file that does not exist.
    """
    found = [FaceSet(source) for source in sources]
    zips = {faces.root.name: faces for faces in found if faces.root.is_file()}
    if len(zips) < sum(faces.root.is_file() for faces in found):
        raise UserError(f"two zips among --source have one name, so {labels} could mean either: rename one.")
    unpacked = [faces for faces in found if not faces.root.is_file()]
    holders = {faces: {face.name for face in faces.faces} for faces in found}
    listed: dict[tuple[FaceSet, str], ImportedFace] = {}
    elsewhere = 0
    for line, row in _rows(labels):
        name, place = row["file"], row["zip"]
        among = [zips[place]] if place in zips else unpacked if place else found
        holder = next((faces for faces in among if name in holders[faces]), None)
        if holder is None and place and place not in zips:
            elsewhere += 1
            continue
        if holder is None:
            raise UserError(f"{labels}, line {line}: {name} is in no --source. Restore it or remove the line.")
        if (holder, name) in listed:
            raise UserError(f"{labels}, line {line}: {name} is listed twice. Remove one of the lines.")
        if row["split"] not in ("", *SPLITS):
            raise UserError(f"{labels}, line {line}: split '{row['split']}', expected {', '.join(SPLITS)} or nothing.")
        listed[holder, name] = ImportedFace(holder, name, row["identity"], row["split"])
    if not listed:
        raise UserError(f"{labels} lists no file of {', '.join(map(str, sources))}. Is it the right table?")
    unlisted = sum(map(len, found)) - len(listed)
    if elsewhere or unlisted:
        print(f"{labels}: left out {elsewhere} listed files of other zips and {unlisted} files that are not listed.")
    return _named(list(listed.values()))


def _named(faces: Sequence[ImportedFace]) -> list[ImportedFace]:
    """`faces`, those without person as persons of their own."""
    own = [str(PurePosixPath(face.name).with_suffix("")) for face in faces]
    taken = Counter(face.person or name for face, name in zip(faces, own, strict=True))
    roots = list(dict.fromkeys(face.faces for face in faces))
    named = []
    for face, name in zip(faces, own, strict=True):
        person = face.person or name
        if not face.person and taken[name] > 1:
            person = f"{face.faces.root.name}-{1 + roots.index(face.faces)}/{face.name}"
        named.append(replace(face, person=person))
    return named


def _rows(labels: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if not labels.is_file():
        raise UserError(f"{labels} is missing: expected a CSV table with the columns {', '.join(LABEL_COLUMNS)}.")
    try:
        with open(labels, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = [column for column in LABEL_COLUMNS if column not in (table.fieldnames or [])]
            if missing:
                raise UserError(f"{labels} lacks the column {', '.join(missing)}; found {table.fieldnames}.")
            for row in table:
                yield table.line_num, {column: (row[column] or "").strip() for column in LABEL_COLUMNS}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{labels} is not a CSV table in UTF-8 ({error}). Export it again.") from error


def assign_splits(faces: Sequence[ImportedFace], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Person to split. Labelled people keep theirs; if none is labelled, all are dealt out at random by `seed`.

    Raises UserError for one person only, for a person labelled into two splits or with and without one, and for
    fractions that leave a split empty.
    """
    people = sorted({face.person for face in faces})
    if len(people) < 2:
        roots = ", ".join(sorted({str(face.faces.root) for face in faces}))
        raise UserError(
            f"{roots}: {len(faces)} images of one identity ('{people[0]}') cannot be split; at least 2 are needed. "
            "Use a folder per identity, or name files <subject>_<n>.png."
        )
    fixed: dict[str, str] = {}
    for face in faces:
        if fixed.setdefault(face.person, face.split) != face.split:
            raise UserError(
                f"identity '{face.person}' is labelled '{fixed[face.person]}' and '{face.split}' ({face.name}): "
                "one split for a person, in every line."
            )
    open_people = [person for person in people if not fixed[person]]
    if len(open_people) < len(people):
        return {person: split or "train" for person, split in fixed.items()}
    parts = divide(len(people), fractions)
    dealt = [people[index] for index in np.random.default_rng([7, seed]).permutation(len(people))]
    ends = np.repeat(list(parts), list(parts.values()))
    return {person: str(split) for person, split in zip(dealt, ends, strict=True)}


def safe_names(people: Iterable[str]) -> dict[str, str]:
    """A file-name-safe subject for each person: letters, digits, `.`, `-` and `_`, different for different people.

    A name that had to change, or that differs from another one by case only, ends in 8 hexadecimal digits of its
    SHA-256, so that it stays apart from all others and is the same in every run.
    """
    people = sorted(set(people))
    folded = [person.casefold() for person in people]
    names = {}
    for person in people:
        plain = unicodedata.normalize("NFKD", person).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip(".-_")[:_LONGEST_NAME]
        if plain != person or folded.count(person.casefold()) > 1:
            digest = hashlib.sha256(person.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            plain = f"{plain}-{digest}" if plain else digest
        names[person] = plain
    return names


def import_samples(faces: Sequence[ImportedFace], splits: Mapping[str, str]) -> Iterator[Sample]:
    """Read the faces in the order of their paths. UserError, naming the file, for one that is no 112x112 image."""
    subjects = safe_names(splits)
    numbers: dict[str, int] = {}
    for face in sorted(faces, key=lambda face: (face.person, face.name)):
        numbers[face.person] = numbers.get(face.person, 0) + 1
        pixels = face.faces.store.read(face.name, (112, 112))
        yield Sample(splits[face.person], subjects[face.person], numbers[face.person], pixels)
