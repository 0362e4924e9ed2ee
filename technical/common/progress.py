"""Progress bars that suit both a terminal and a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 30.0


def progress_bar(total: int, what: str, unit: str, show: bool = True, keep: bool = True) -> tqdm[Any]:
    """A tqdm bar with rate and time left; into a log file it writes only twice a minute."""
    interval = 0.5 if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(total=total, desc=what, unit=unit, disable=not show, mininterval=interval, maxinterval=60, leave=keep)
