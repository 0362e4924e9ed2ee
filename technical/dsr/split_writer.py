"""Write processed splits: `<out>/<split>_processed/{hr_images,vlr_images}/<subject>_<n>.png` and a `meta.json`.

All splits of one run are built in hidden folders beside their targets and renamed when every one is complete, so that
a bad image, an interrupt or a kill leaves neither a half split nor a damaged old one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.errors import UserError
from common.files import read_json, write_json
from common.progress import progress_bar
from facial_rec.faceset import HR_FOLDER, HR_SIZE, VLR_FOLDER

REPLACING = ".replacing.json"
"""Splits under way to be replaced, and whether there was one before; while this lies there, the old ones count."""
SPLITS = ("train", "val", "test")
REDUCTION = "torch antialiased bicubic, clamped to [0, 1], rounded to 8 bit (dsr.degradation.canonical_reduce)"
_REDUCED_AT_ONCE = 64


@dataclass(frozen=True)
class Sample:
    """One face on its way to disk: `pixels` is RGB uint8 `(112, 112, 3)`, `number` counts from 1 within the subject."""

    split: str
    subject: str
    number: int
    pixels: NDArray[np.uint8]


def split_folder(out: Path, split: str) -> Path:
    """Where a split lies under `out`."""
    return out / f"{split}_processed"


def refuse_existing(out: Path, splits: Sequence[str], overwrite: bool) -> None:
    """UserError when a split's folder already holds something and may not be replaced."""
    folders = [split_folder(out, split) for split in splits]
    _restore(out)
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, expected a folder. Move it away or give another --out.")
        if not overwrite and folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty. Give --overwrite to replace it, or another --out.")


def write_splits(
    out: Path,
    samples: Iterable[Sample],
    counts: Mapping[str, int],
    vlr_size: int,
    meta: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write `samples` into the splits named in `counts` (images expected in each, for the progress bar).

    `meta` goes into every split's `meta.json`, with the split's own counts. Raises UserError as `refuse_existing`
    and for a person who is in a split that stays, and passes on whatever reading a sample raises; then nothing has
    changed on disk.
    """
    refuse_existing(out, list(counts), overwrite)
    staying = _staying_people(out, counts)
    with _replacing_folders(out, list(counts)) as folders:
        writers = {split: _SplitWriter(folder, vlr_size) for split, folder in zip(counts, folders, strict=True)}
        with progress_bar(sum(counts.values()), "faces", "face") as progress:
            for sample in samples:
                if sample.subject in staying:
                    raise UserError(
                        f"{sample.subject} of the new splits is in {staying[sample.subject]} too, which would stay: "
                        "nobody may be in two splits. Remove that split, or give another --out."
                    )
                writers[sample.split].add(sample)
                progress.update()
        for split, writer in writers.items():
            writer.finish({**meta, "split": split})
    for split, writer in writers.items():
        print(f"{split_folder(out, split)}: images {writer.images}, people {len(writer.subjects)}")


class _SplitWriter:
    def __init__(self, folder: Path, vlr_size: int) -> None:
        self.folder, self.vlr_size = folder, vlr_size
        self.images = 0
        self.subjects: set[str] = set()
        self._waiting: list[tuple[str, NDArray[np.uint8]]] = []
        for name in (HR_FOLDER, VLR_FOLDER):
            (folder / name).mkdir()

    def add(self, sample: Sample) -> None:
        name = f"{sample.subject}_{sample.number:04d}.png"
        Image.fromarray(sample.pixels).save(self.folder / HR_FOLDER / name)
        self._waiting.append((name, sample.pixels))
        self.images += 1
        self.subjects.add(sample.subject)
        if len(self._waiting) == _REDUCED_AT_ONCE:
            self._reduce()

    def finish(self, meta: Mapping[str, Any]) -> None:
        self._reduce()
        own = {"images": self.images, "identities": len(self.subjects), "hr_size": HR_SIZE, "vlr_size": self.vlr_size}
        write_json(self.folder / "meta.json", {**meta, **own, "reduction": REDUCTION})

    def _reduce(self) -> None:
        if not self._waiting:
            return
        # Here and not above: the processes that draw faces import this file too, and need no torch.
        import torch

        from dsr.degradation import canonical_reduce

        stacked = np.stack([pixels for _, pixels in self._waiting]).transpose(0, 3, 1, 2)
        reduced = canonical_reduce(torch.from_numpy(stacked.copy()).float().div(255.0), self.vlr_size)
        images = reduced.clamp(0, 1).mul(255.0).round().byte().permute(0, 2, 3, 1).numpy()
        for (name, _), image in zip(self._waiting, images, strict=True):
            Image.fromarray(image).save(self.folder / VLR_FOLDER / name)
        self._waiting.clear()


def _staying_people(out: Path, written: Collection[str]) -> dict[str, Path]:
    """Who is in the splits that lie there and are not `written`, and in which folder."""
    folders = [split_folder(out, split) for split in SPLITS if split not in written]
    return {
        name.rpartition("_")[0]: folder
        for folder in folders
        if (folder / HR_FOLDER).is_dir()
        for name in os.listdir(folder / HR_FOLDER)
        if name.endswith(".png")
    }


@contextmanager
def _replacing_folders(out: Path, splits: Sequence[str]) -> Iterator[list[Path]]:
    """Give an empty folder beside each split's; renamed over them, one right after the other, when the block ends well,
    and removed when it does not."""
    targets = [split_folder(out, split).resolve() for split in splits]  # of a link, what it leads to
    stagings = [target.with_name(f".{target.name}.{os.getpid()}.part") for target in targets]
    for target, staging in zip(targets, stagings, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        shutil.rmtree(staging, ignore_errors=True)
    try:
        for staging in stagings:
            staging.mkdir()
        yield stagings
        write_json(out / REPLACING, {split: target.exists() for split, target in zip(splits, targets, strict=True)})
        try:
            for target in targets:
                if target.exists():
                    os.rename(target, _old(target))
            for staging, target in zip(stagings, targets, strict=True):
                os.rename(staging, target)
            (out / REPLACING).unlink()  # from here on the new ones count
        except BaseException:
            _restore(out)
            raise
        for target in targets:  # takes seconds, so it comes last
            shutil.rmtree(_old(target), ignore_errors=True)
    finally:
        for staging in stagings:
            shutil.rmtree(staging, ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _restore(out: Path) -> None:
    """Undo a replacement that was killed amid its renames, in all splits; remove what one left after them."""
    marker = out / REPLACING
    if marker.is_file():
        content = read_json(marker)
        if not isinstance(content, dict) or not content.keys() <= set(SPLITS):
            raise UserError(f"{marker} is not what a replacement of splits leaves: look at {out}, and remove the file.")
        for split, was_there in content.items():
            target = split_folder(out, split).resolve()
            if target.exists() and (_old(target).is_dir() or not was_there):
                shutil.rmtree(target)  # the new one
        marker.unlink()
    for target in (split_folder(out, split).resolve() for split in SPLITS):
        if _old(target).is_dir() and target.exists():
            shutil.rmtree(_old(target))  # one that cannot be removed is said now, before anything is moved
        elif _old(target).is_dir():
            os.rename(_old(target), target)


def _remove_abandoned(target: Path) -> None:
    """Remove what runs that were killed left of the same split; a run still alive keeps its own."""
    for left in target.parent.glob(f".{target.name}.*.part"):
        process = left.name.split(".")[-2]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
