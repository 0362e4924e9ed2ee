"""Do the printed 95 % intervals hold the truth 95 times in 100? Scores are simulated, so the truth is known.

    python benchmarks/interval_coverage.py --worlds 1000

A score is a mean, an effect of each person in the pair, and noise; the effects make pairs that share a person alike. So
the scores of genuine pairs are N(d, 1) and of impostors N(0, 1) whatever the effects, which gives the true EER and TAR.
Two lists of pairs: `sparse`, like LFW View 2 (3,000 + 3,000 pairs of 4,000 people, most of them in one or two), and
`dense`, all against all (120 people). Beside the intervals stand the two plain bootstraps they are put together from.
A figure with fewer than 30 errors behind it is out of the claim. A stopped run goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from common import cli
from common.errors import UserError
from common.progress import progress_bar
from facial_rec import bootstrap, metrics, pair_bootstrap, verification
from facial_rec.bootstrap import percentile_interval
from facial_rec.pair_bootstrap import PairResampler
from facial_rec.reliability import FEW_ERRORS
from facial_rec.tables import format_table, percent
from facial_rec.verification import Comparisons

Ints = NDArray[np.int64]
FIGURES = ("eer", "tar@fmr=1e-2", "tar@fmr=1e-3", "fmr@threshold", "fnmr@threshold")
THRESHOLD = 1.5
METHODS = ("interval", "people", "mixed")
TITLES = {"interval": "as printed", "people": "pigeonhole only", "mixed": "impostors independent"}


def _checksum() -> str:
    """Changes with this file and the modules that its figures come from."""
    files = [
        Path(__file__),
        *(Path(module.__file__ or "") for module in (metrics, bootstrap, pair_bootstrap, verification)),
    ]
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


CODE = _checksum()


@dataclass(frozen=True)
class Design:
    """A list of pairs and how alike pairs that share a person are."""

    pairs: Callable[[], tuple[Ints, Ints]]
    separation: float
    """Distance of the genuine mean from the impostor mean, in standard deviations."""
    genuine_effect: float
    """Standard deviation of a person's effect on his genuine scores."""
    impostor_effect: float
    """Likewise of each of the two people's on an impostor score."""


def sparse_pairs() -> tuple[Ints, Ints]:
    """3,000 genuine pairs, many of them of few people, and 3,000 impostor pairs of 4,000 people."""
    rng = np.random.default_rng(0)
    fame = rng.pareto(1.5, 4000) + 0.3
    genuine = rng.choice(4000, 3000, p=fame / fame.sum())
    one, other = (rng.choice(4000, 3000, p=np.sqrt(fame) / np.sqrt(fame).sum()) for _ in range(2))
    other = np.where(one == other, (other + 1) % 4000, other)
    return np.concatenate([genuine, one]), np.concatenate([genuine, other])


def dense_pairs() -> tuple[Ints, Ints]:
    """120 people: 30 genuine pairs of each, and everybody against everybody else."""
    genuine = np.repeat(np.arange(120), 30)
    one, other = np.triu_indices(120, 1)
    return np.concatenate([genuine, one]), np.concatenate([genuine, other])


DESIGNS = {
    "sparse": Design(sparse_pairs, separation=3.3, genuine_effect=0.5, impostor_effect=0.4),
    "dense": Design(dense_pairs, separation=2.5, genuine_effect=0.4, impostor_effect=0.15),
}


@dataclass(frozen=True)
class Config:
    """How long to simulate."""

    worlds: int = 1000
    """Simulated sets of scores for each design."""
    resamples: int = 300
    """Resamples behind each interval; evaluations take 1000, which only steadies the interval's ends."""
    out: Path = Path("runs/interval_coverage.jsonl")
    """Where each world is noted when it is done."""


def truth_of(design: Design) -> dict[str, float]:
    """The true figures: those of N(d, 1) against N(0, 1)."""
    genuine, impostor = NormalDist(design.separation), NormalDist()
    true = {"eer": NormalDist().cdf(-design.separation / 2)}
    true |= {name: 1 - genuine.cdf(impostor.inv_cdf(1 - fmr)) for name, fmr in metrics.TAR_POINTS.items()}
    return true | {"fmr@threshold": 1 - impostor.cdf(THRESHOLD), "fnmr@threshold": genuine.cdf(THRESHOLD)}


def simulate(design: Design, first: Ints, second: Ints, world: int) -> Comparisons:
    """Scores of one world."""
    rng, people = np.random.default_rng([world, 1]), int(max(first.max(), second.max())) + 1
    on_genuine, on_impostor, noise = rng.normal(size=people), rng.normal(size=people), rng.normal(size=len(first))
    g, i = design.genuine_effect, design.impostor_effect
    genuine = first == second
    alike = design.separation + g * on_genuine[first] + np.sqrt(1 - g**2) * noise
    apart = i * (on_impostor[first] + on_impostor[second]) + np.sqrt(1 - 2 * i**2) * noise
    return Comparisons(np.where(genuine, alike, apart), genuine, np.zeros(len(first), np.int64))


def one_world(design: Design, first: Ints, second: Ints, world: int, resamples: int) -> dict[str, dict[str, list]]:
    """By figure: the estimate, the errors behind it, and the interval of each method."""
    comparisons = simulate(design, first, second, world)
    figures = comparisons.figures(THRESHOLD)
    support = comparisons.support(figures)
    replicates = comparisons.replicate(PairResampler(first, second, resamples, world), THRESHOLD)
    return {
        name: {
            "estimate": [figures[name], support[name].errors],
            "interval": list(replicates[name].interval(figures[name]) or []),
            "people": list(percentile_interval(replicates[name].people) or []),
            "mixed": list(percentile_interval(replicates[name].mixed) or []),
        }
        for name in FIGURES
    }


def main(cfg: Config) -> list[list[str]]:
    """Simulate, note each world, and print how often the truth was covered."""
    if cfg.worlds < 1 or cfg.resamples < 1:
        raise UserError(f"--worlds {cfg.worlds} --resamples {cfg.resamples}: expected 1 or more of each.")
    done = read_done(cfg)
    if done:
        print(f"{len(done):,} worlds are taken over from {cfg.out}: an earlier run of the same code.")
    cfg.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    for name, design in DESIGNS.items():
        first, second = design.pairs()
        waiting = [world for world in range(cfg.worlds) if (name, world) not in done]
        with progress_bar(len(waiting), name, "world") as progress, open(cfg.out, "a", encoding="utf-8") as file:
            for world in waiting:
                done[name, world] = one_world(design, first, second, world, cfg.resamples)
                note = {"design": name, "world": world, "resamples": cfg.resamples, "code": CODE}
                note["found"] = done[name, world]
                file.write(json.dumps(note) + "\n")
                file.flush()
                progress.update()
        rows += table_rows(name, truth_of(design), [done[name, world] for world in range(cfg.worlds)])
    header = ["pairs, figure", "truth, %", "errors", "true width", *(TITLES[m] for m in METHODS), "within 90-98 %"]
    print(f"\nHow often 95 % intervals cover the truth (in brackets their mean width), {cfg.worlds:,} worlds\n")
    print(format_table(header, rows))
    print(f"\nFewer than {FEW_ERRORS} errors behind a figure: no claim, it is printed with a * in every table.")
    return rows


def read_done(cfg: Config) -> dict[tuple[str, int], dict[str, dict[str, list]]]:
    """The worlds noted by an earlier run of this code with as many resamples; a line cut off by a kill is left out."""
    done = {}
    for line in cfg.out.read_text(encoding="utf-8").splitlines() if cfg.out.is_file() else []:
        try:
            note = json.loads(line)
        except ValueError:
            continue
        if note.get("resamples") == cfg.resamples and note.get("code") == CODE:
            done[note["design"], note["world"]] = note["found"]
    return done


def table_rows(design: str, truth: dict[str, float], worlds: list[dict[str, dict[str, list]]]) -> list[list[str]]:
    """A row a figure."""
    rows = []
    for name in FIGURES:
        found = [world[name] for world in worlds]
        estimates, errors = np.array([one["estimate"] for one in found]).T
        row = [f"{design} {name}", percent(truth[name]), f"{errors.mean():.0f}", percent(2 * 1.96 * estimates.std())]
        for method in METHODS:
            intervals = [one[method] for one in found if one[method]]
            covered = np.mean([low <= truth[name] <= high for low, high in intervals])
            row.append(
                f"{percent(float(covered))} ({percent(float(np.mean([high - low for low, high in intervals])))})"
            )
        coverage = float(row[-len(METHODS)].split()[0]) / 100
        claimed = errors.mean() >= FEW_ERRORS - 1e-6
        rows.append([*row, ("yes" if 0.90 <= coverage <= 0.98 else "NO") if claimed else "no claim"])
    return rows


if __name__ == "__main__":
    cli.run(main, Config)
