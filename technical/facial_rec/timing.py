"""How long calls take, measured so that a busy machine disturbs all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

from common.progress import progress_bar

Key = TypeVar("Key", bound=Hashable)


@torch.no_grad()
def time_in_turns(
    calls: Mapping[Key, Callable[[], object]],
    rounds: int,
    device: torch.device,
    warm_up: int = 5,
    settle: bool = False,
) -> dict[Key, float]:
    """Median milliseconds of each call over `rounds`; taking turns spreads a disturbance over all of them.

    With `settle` each turn begins with a call that does not count: the one before may have been large, or of another
    library whose threads still look for work.
    """
    times: dict[Key, list[float]] = {name: [] for name in calls}
    with progress_bar(rounds + warm_up, "rounds", "round", keep=False) as progress:
        for number in range(rounds + warm_up):
            for name, call in calls.items():
                if settle:
                    seconds_of(call, device)
                elapsed = seconds_of(call, device)
                if number >= warm_up:
                    times[name].append(1000.0 * elapsed)
            progress.update()
    return {name: statistics.median(values) for name, values in times.items()}


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Seconds that one call takes, what it leaves a GPU to do included."""
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
