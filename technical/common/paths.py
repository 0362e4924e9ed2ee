"""Where data and weights lie, whether a command runs from the repository root or from `technical/`."""

from __future__ import annotations

import re
from pathlib import Path

from common.errors import UserError

SOURCE_ROOT = Path(__file__).resolve().parents[1]
REPOSITORY_ROOT = SOURCE_ROOT.parent


def default_dataset(split: str) -> Path | None:
    """First existing `dataset/<split>_processed`, else the one under `technical/dataset/`, else None.

    `split` is `train`, `val` or `test`. The working directory is looked at before the repository.
    """
    name = f"{split}_processed"
    roots = (Path.cwd(), REPOSITORY_ROOT)
    candidates = [root / folder / name for root in roots for folder in ("dataset", "technical/dataset")]
    return next((path for path in candidates if path.is_dir()), None)


def named_like_lfw(path: Path) -> bool:
    """Whether a part of the path begins with lfw, as LFW's files do: the test set, on which nothing may be chosen."""
    parts = {part.lower() for part in (*path.parts, *path.resolve().parts)}
    return any(re.search(r"(?<![a-z])lfw", part) for part in parts)


def find_dataset(path: Path) -> Path:
    """`path` itself if it exists, else the same path from the repository root or from `technical/`.

    So `technical/dataset/test_processed` and `dataset/test_processed` name the same folder from either place.
    Raises UserError when none exists.
    """
    if path.exists():
        return path
    if not path.is_absolute():
        names = [path, Path(*path.parts[1:])] if path.parts[0] == "technical" else [path, Path("technical", path)]
        for candidate in (root / name for root in (REPOSITORY_ROOT, Path.cwd().parent) for name in names):
            if candidate.exists():
                return candidate
    raise UserError(
        f"{path} does not exist: expected a folder (or a zip) of face images. "
        "Give another path, or make one with `python -m dsr.prepare_dataset`."
    )


def find_weights(name: str | Path) -> Path | None:
    """The file `name`; a name without a folder that is not in the working directory is looked up in `checkpoints/`."""
    return next(iter(weights_places(name)), None)


def weights_places(name: str | Path) -> list[Path]:
    """Every file that `find_weights` may mean by `name`, its answer first."""
    path = Path(name)
    folders = (Path.cwd() / "checkpoints", REPOSITORY_ROOT / "checkpoints") if path.parent == Path(".") else ()
    found: dict[Path, Path] = {}
    for place in (path, *(folder / path for folder in folders)):
        if place.is_file():
            found.setdefault(place.resolve(), place)
    return list(found.values())
