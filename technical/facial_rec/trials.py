"""The images and pairs of an evaluation, from whichever files a user has."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from common.errors import UserError
from common.images import ImageStore
from common.paths import find_dataset
from facial_rec.bin_sets import BinSource
from facial_rec.drawn_pairs import GENUINE_PER_PERSON, pairs_from_people
from facial_rec.faceset import FaceSet
from facial_rec.pairs import PairList, read_pairs
from facial_rec.sources import ImageSource, StoreSource


def load_trials(
    images: Path,
    pairs: Path | None = None,
    seed: int = 0,
    genuine_per_person: int = GENUINE_PER_PERSON,
    impostors: int | None = None,
    left_out: Collection[str] = (),
) -> tuple[ImageSource, PairList]:
    """The images and the pairs to compare.

    With `pairs`, an LFW-style list over a folder or zip. A `.bin` brings its own. Else pairs are drawn from the people
    of the folder or zip; `seed`, `genuine_per_person` and `impostors` are for those (see `pairs_from_people`);
    people called as one of `left_out` are none.

    Raises UserError for what cannot be read or has too few people, and for a `.bin` beside a pair list.
    """
    path = find_dataset(images)
    if path.suffix.lower() == ".bin" and path.is_file():
        if pairs is not None:
            raise UserError(f"{path} brings its own pairs: leave out --pairs {pairs}, or give --images a folder.")
        source = BinSource(path)
        return source, source.pairs
    if pairs is not None:
        store = ImageStore(path)
        return StoreSource(store), read_pairs(pairs, store.names)
    faces = FaceSet(path)
    names = [face.name for face in faces.faces if face.subject not in left_out]
    return StoreSource(faces.store, names), pairs_from_people(names, seed, genuine_per_person, impostors)
