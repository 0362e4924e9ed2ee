"""The peak memory of a process of its own that opens one contender and runs it, for `pipeline.benchmark`.

The process imports only what the contender needs. The peak is VmHWM, the most memory that was resident, from
/proc/self/status: `getrusage` would give a child the peak of the process that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.progress import progress_bar
from pipeline.benchmark_contenders import Contender, Files, Setting, opener_of

STATUS = Path("/proc/self/status")
CALLS = 5
AT_ONCE = 2  # processes; most of their time goes into imports
CHILD = "from pipeline.benchmark_memory import report; report()"


def peak_megabytes() -> float:
    """The most memory of this process that has been resident, in 10^6 bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def can_measure() -> bool:
    """Whether this system says how much memory a process has used: Linux does."""
    return STATUS.is_file()


def measure(contenders: Sequence[Contender], setting: Setting) -> dict[Contender, dict[str, float]]:
    """`peak_mb` and, of it, `imported_mb` of each contender, each in its own process."""
    label = f"memory, {setting.threads} thread(s)"
    with (
        progress_bar(len(contenders), label, "process", keep=False) as progress,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def ask(contender: Contender) -> dict[str, float]:
            found = _ask(contender, setting)
            progress.update()
            return found

        return dict(zip(contenders, pool.map(ask, contenders), strict=True))


def _ask(contender: Contender, setting: Setting) -> dict[str, float]:
    """What a fresh process says of itself. Raises UserError, with its last words, when it fails."""
    task = json.dumps({"contender": asdict(contender), "setting": asdict(setting)})
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(setting.threads))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, task], env={**os.environ, **threads}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(
            f"The process that measures the memory of {contender.name}, {contender.runtime}, failed with status "
            f"{done.returncode}; it said:\n{done.stderr.strip()[-2000:]}\nLeave memory out with --no-memory."
        )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def report() -> None:
    """In the process measured: run the contender in its argument and print its memory as JSON."""
    task: dict[str, Any] = json.loads(sys.argv[1])
    contender = Contender(**task["contender"])
    setting = Setting(**{**task["setting"], "files": Files(**task["setting"]["files"])})
    opener = opener_of(contender)
    imported = peak_megabytes()
    call = opener(contender, setting)
    for _ in range(CALLS):
        call()
    print(json.dumps({"imported_mb": imported, "peak_mb": peak_megabytes(), "torch": "torch" in sys.modules}))
