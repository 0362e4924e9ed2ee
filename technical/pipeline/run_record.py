"""What a result was made with: command, time, versions, git commit, checksums of weights and data."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from common.files import sha256_of
from common.paths import REPOSITORY_ROOT
from facial_rec.sources import ImageSource
from pipeline.provenance import command_of

FORMAT = "dsr-edgeface-evaluation-1"
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "kornia",
    "lpips",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "onnxruntime",
)


def now() -> datetime:
    """The time, with its zone: when a run starts."""
    return datetime.now(UTC)


def run_record(
    module: str, config: Any, started: datetime, weights: Mapping[str, str], data: Mapping[str, str]
) -> dict[str, Any]:
    """The `run` part of an evaluation record, to be made when the run ends.

    `config` is the run's dataclass, from which the command is written; its `seed`, `bootstrap` and `device` are noted.
    `weights` and `data` are SHA-256 by file name.
    """
    commit, dirty = git_state()
    return {
        "command": command_of(module, config),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((now() - started).total_seconds(), 1),
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": versions(),
        "weights": dict(weights),
        "data": dict(data),
        **{name: getattr(config, name) for name in ("seed", "bootstrap", "device") if hasattr(config, name)},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on, those that are installed."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(root: Path = REPOSITORY_ROOT) -> tuple[str | None, bool | None]:
    """The commit checked out and whether tracked files differ from it; `(None, None)` outside a git repository."""
    # A clone may belong to another user than the one who runs this, which git otherwise refuses.
    git = ["git", "-c", "safe.directory=*", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True, text=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, bool(changed)


def checksums(source: ImageSource, *lists: Path | None) -> dict[str, str]:
    """SHA-256 of an evaluation's data, by file name: of a zip or `.bin`, and of each pair list that is not None.

    A folder's is taken over the names and contents of its images, in sorted order.
    """
    path = Path(source.label)
    if path.is_file():
        found = {path.name: sha256_of(path)}
    else:
        lines = "".join(f"{name} {source.fingerprint(name)}\n" for name in sorted(source.names))
        found = {path.name: hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()}
    return found | {one.name: sha256_of(one) for one in lists if one is not None}
