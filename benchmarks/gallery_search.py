"""How long a gallery searches, by how much it holds, and what the index of PostgreSQL misses.

    python benchmarks/gallery_search.py --sizes 1000 100000
    python benchmarks/gallery_search.py --sizes 1000 100000 --url postgresql://user@host/empty_database

Made-up people with four embeddings each and probes like them. The milliseconds belong to this machine, the ratios
travel better. The gallery on the server is emptied again.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import cli
from common.progress import progress_bar
from facial_rec.tables import format_table
from pipeline.gallery import Gallery, Match, Vectors, open_gallery

SHA256 = "00" * 32  # of no model
SHOTS = 4
HEADER = ("store", "embeddings", "first search, ms", "a search, ms", "to the smallest", "to SQLite", "recall@5")


@dataclass(frozen=True)
class Config:
    """What to measure."""

    sizes: tuple[int, ...] = (1000, 100_000)
    """Embeddings in the gallery, ascending."""
    url: str | None = None
    """An empty PostgreSQL database with pgvector to compare with; it takes minutes to index 100,000."""
    dim: int = 512
    """Numbers an embedding."""
    probes: int = 50
    """Searches, one probe each, of which the median counts."""


def main(cfg: Config) -> None:
    """Print the table."""
    rows: list[list[str]] = []
    first: dict[str, float] = {}
    for size in cfg.sizes:
        with tempfile.TemporaryDirectory() as folder:
            stores: dict[str, str | Path] = {"SQLite": Path(folder, "gallery.sqlite")}
            if cfg.url is not None:
                stores["PostgreSQL"] = cfg.url
            times: dict[str, float] = {}
            found: dict[str, list[list[Match]]] = {}
            for store, where in stores.items():
                with open_gallery(where, SHA256, cfg.dim) as gallery:
                    probes = fill(gallery, size, cfg.probes, store)
                    load, times[store], found[store] = timed(gallery, probes)
                    if store == "PostgreSQL":
                        empty(gallery)
                first.setdefault(store, times[store])
                figures = (load, times[store], times[store] / first[store], times[store] / times["SQLite"])
                right = recall(found[store], found["SQLite"])
                rows.append([store, f"{size:,}", *(f"{figure:.2f}" for figure in figures), f"{right:.3f}"])
    print(format_table(HEADER, rows))


def fill(gallery: Gallery, size: int, probes: int, store: str) -> Vectors:
    """Enrol `size` embeddings; one probe each of the first people, `(Q, D)`."""
    chance = np.random.default_rng(0)
    asked = []
    with progress_bar(size, f"enrolling in {store}", "embedding") as progress, gallery.transaction():
        for person in range(size // SHOTS):
            centre = chance.standard_normal(gallery.dim)
            shots = centre + 0.8 * chance.standard_normal((SHOTS + 1, gallery.dim))
            gallery.enrol(f"Person {person}", shots[1:])
            asked += [shots[0]] if person < probes else []
            progress.update(SHOTS)
    return np.asarray(asked, dtype=np.float32)


def timed(gallery: Gallery, probes: Vectors) -> tuple[float, float, list[list[Match]]]:
    """Milliseconds of the first search, which may read the file, and of the median one after it; what was found."""
    found, seconds = [], []
    begin = time.perf_counter()
    gallery.search(probes[:1])
    load = time.perf_counter() - begin
    for probe in probes:
        start = time.perf_counter()
        found += gallery.search(probe)
        seconds.append(time.perf_counter() - start)
    return 1000 * load, 1000 * statistics.median(seconds), found


def recall(found: list[list[Match]], exact: list[list[Match]]) -> float:
    """Share of the five exact best people that were found."""
    pairs = zip(found, exact, strict=True)
    return float(np.mean([len({a.name for a in mine} & {b.name for b in right}) / len(right) for mine, right in pairs]))


def empty(gallery: Gallery) -> None:
    """Delete everybody."""
    with gallery.transaction():
        for person in gallery.people():
            gallery.delete(person.name)
    gallery.compact()


if __name__ == "__main__":
    cli.run(main, Config)
