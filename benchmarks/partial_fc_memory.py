"""Memory and time of a training step's class head with a million identities: full softmax and Partial FC.

    python benchmarks/partial_fc_memory.py --identities 1000000 --batch 64

Each row is measured in a process of its own: how far the resident memory of a step (loss, gradients, AdamW) rises
above that of the process before it made the head. Beside it stands what `facial_rec.partial_fc.memory_needed` computes,
and for the full softmax the arrays of `MarginHead` under torch's AdamW: centres, gradient, two moments, unit centres
and their gradient, and four numbers for each face and class. With one process; of several each holds its share.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import torch

from common import cli
from common.errors import UserError
from common.progress import progress_bar
from facial_rec.edgeface import EMBEDDING_DIM
from facial_rec.margin import MarginHead, cosface
from facial_rec.partial_fc import PartialFC, memory_needed
from facial_rec.tables import format_table

FULL = "full softmax"


@dataclass(frozen=True)
class Config:
    """What to measure."""

    identities: int = 1_000_000
    """Classes."""
    batch: int = 64
    """Faces in a step."""
    sampling: tuple[float, ...] = (1.0, 0.3, 0.1)
    """Sampling rates of Partial FC."""
    steps: int = 2
    """Steps; the last one is timed."""
    threads: int = 1
    """CPU threads."""
    full: bool = True
    """Whether to measure the full softmax too."""


@dataclass(frozen=True)
class Measured:
    """One row."""

    peak: int
    """Bytes at the highest point of a step."""
    seconds: float


def main(cfg: Config) -> list[list[str]]:
    """Measure, print and return the rows of the table."""
    if cfg.identities < 2 or cfg.batch < 1 or cfg.steps < 1:
        raise UserError("--identities must be at least 2, --batch and --steps at least 1.")
    if not all(0.0 < rate <= 1.0 for rate in cfg.sampling):
        raise UserError(f"--sampling {' '.join(map(str, cfg.sampling))}: expected fractions above 0 and at most 1.")
    rows = []
    names = [*([FULL] if cfg.full else []), *(f"Partial FC {rate:g}" for rate in cfg.sampling)]
    rates = [*([None] if cfg.full else []), *cfg.sampling]
    with progress_bar(len(rates), "heads", "head") as progress:
        for name, rate in zip(names, rates, strict=True):
            measured = _in_a_process(cfg, rate)
            needed = computed(cfg, rate)
            parts = [f"{value / 2**30:.2f}" for value in needed.values()]
            total = f"{sum(needed.values()) / 2**30:.2f}"
            rows.append([name, *parts, total, f"{measured.peak / 2**30:.2f}", f"{measured.seconds:.1f}"])
            progress.update()
    header = ["head", "centres, moments", "sampled, gradients", "logits", "computed, GiB", "measured, GiB", "s a step"]
    print(
        f"\n{cfg.identities:,} identities of {EMBEDDING_DIM} numbers, {cfg.batch} faces a step, float32, one process\n"
    )
    print(format_table(header, rows))
    return rows


def computed(cfg: Config, rate: float | None) -> dict[str, int]:
    """Bytes by kind; `rate` None is the full softmax."""
    if rate is not None:
        return memory_needed(cfg.identities, EMBEDDING_DIM, cfg.batch, rate)
    centres = 4 * cfg.identities * EMBEDDING_DIM
    return {"centres": 3 * centres, "sampled": 3 * centres, "logits": 4 * 4 * cfg.identities * cfg.batch}


def _in_a_process(cfg: Config, rate: float | None) -> Measured:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(cfg, rate, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        name = FULL if rate is None else f"sampling {rate:g}"
        raise UserError(f"{name} did not end: the machine has too little memory. Give fewer --identities.") from None
    finally:
        process.join()


def _measure(cfg: Config, rate: float | None, answer: Connection) -> None:
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(0)
    before = _peak()
    own = partial(cosface, margin=0.4)
    if rate is None:
        full = MarginHead(cfg.identities, EMBEDDING_DIM, own)
        optimizer = torch.optim.AdamW(full.parameters(), lr=1e-3, weight_decay=0.05)
    else:
        head = PartialFC(cfg.identities, EMBEDDING_DIM, own, sampling=rate)
    seconds = 0.0
    for step in range(cfg.steps):
        embeddings = torch.randn(cfg.batch, EMBEDDING_DIM, requires_grad=True)
        labels = torch.randint(cfg.identities, (cfg.batch,))
        started = time.perf_counter()
        if rate is None:
            optimizer.zero_grad(set_to_none=True)
            full(embeddings, labels).backward()
            optimizer.step()
        else:
            head(embeddings, labels, step).backward()
            head.update(1e-3)
        seconds = time.perf_counter() - started
    answer.send(Measured(_peak() - before, seconds))


def _peak() -> int:
    """Highest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    cli.run(main, Config)
