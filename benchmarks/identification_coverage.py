"""Do the printed 95 % intervals of identification hold the truth? Scores are simulated, so the truth is known.

    python benchmarks/identification_coverage.py --worlds 200

Every world draws other probe people: 840 enrolled ones with an effect of the person on the score and probes as uneven
in number as LFW's (quantiles .5, .9, .99, .999: 2, 8, 40, 172 there, about 2, 9, 43, 186 here), and 4,909 strangers
with one probe each. The truth is the figure of a world five hundred times as large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common import cli
from common.errors import UserError
from common.progress import progress_bar
from facial_rec.identification_metrics import DIR_POINTS
from facial_rec.tables import format_table, percent
from pipeline.identification import Matches
from pipeline.identification_record import Resampling, measure_open_set

ENROLLED, STRANGERS, MOST_PROBES = 840, 4909, 529
THRESHOLD = 0.4
FIGURES = (*DIR_POINTS, "rank1", "fpir@threshold", "fnir@threshold")
LARGER = 500


@dataclass(frozen=True)
class Config:
    """How long to simulate."""

    worlds: int = 200
    """Simulated sets of probes."""
    resamples: int = 1000
    """Resamples behind each interval."""


def simulate(rng: np.random.Generator, enrolled: int, strangers: int) -> Matches:
    """Probes of new people: own scores N(0.5, 0.13), the best of all others Gumbel-distributed around 0.26."""
    probes = np.ceil(2.5 * rng.pareto(1.6, enrolled)).clip(1, MOST_PROBES).astype(np.int64)
    people = np.repeat(np.arange(enrolled), probes)
    own = 0.5 + rng.normal(0, 0.08, enrolled)[people] + rng.normal(0, 0.1, len(people))
    others = 0.24 + 0.04 * rng.gumbel(size=len(people) + strangers)
    ranks = np.append(np.where(own > others[: len(own)], 1, 2), np.zeros(strangers, dtype=np.int64))
    own = np.append(own, np.full(strangers, -np.inf))
    subjects: NDArray[np.str_] = np.append(people, enrolled + np.arange(strangers)).astype(str)
    return Matches(subjects, subjects, np.maximum(own, others), own, ranks)


def main(cfg: Config) -> list[list[str]]:
    """Simulate, and print how often the truth was covered."""
    if cfg.worlds < 1 or cfg.resamples < 1:
        raise UserError(f"--worlds {cfg.worlds} --resamples {cfg.resamples}: expected 1 or more of each.")
    whole = simulate(np.random.default_rng([0, 0]), LARGER * ENROLLED, LARGER * STRANGERS)
    nobody = Resampling(np.zeros(len(whole.ranks), dtype=np.int64), np.empty((0, 1), dtype=np.int64))
    truth = measure_open_set(whole, THRESHOLD, nobody).judged.figures
    found: list[dict[str, tuple[float, float] | None]] = []
    errors: list[dict[str, float]] = []
    with progress_bar(cfg.worlds, "identification", "world") as progress:
        for world in range(cfg.worlds):
            matches = simulate(np.random.default_rng([1, world]), ENROLLED, STRANGERS)
            record = measure_open_set(matches, THRESHOLD, Resampling.of(matches, cfg.resamples, world)).record()
            found.append({name: record["figures"][f"{name}_ci95"] for name in FIGURES})
            errors.append(record["few_errors"])
            progress.update()
    rows = [_row(name, truth[name] or 0.0, found, errors) for name in FIGURES]
    print(f"\nHow often 95 % intervals cover the truth, {cfg.worlds:,} worlds\n")
    print(format_table(["figure", "truth, %", "covered, %", "mean width, %", "flagged for few errors"], rows))
    return rows


def _row(
    name: str, truth: float, found: list[dict[str, tuple[float, float] | None]], errors: list[dict[str, float]]
) -> list[str]:
    intervals = [interval for one in found if (interval := one[name]) is not None]
    covered = float(np.mean([low <= truth <= high for low, high in intervals]))
    width = float(np.mean([high - low for low, high in intervals]))
    flagged = sum(name in one for one in errors)
    return [name, percent(truth), percent(covered), percent(width), f"{flagged:,}"]


if __name__ == "__main__":
    cli.run(main, Config)
