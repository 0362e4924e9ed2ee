"""The tables of `pipeline.benchmark`, and whether what is promised of the chain's cost holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facial_rec.tables import ABSENT, format_table
from pipeline.benchmark_contenders import CHAIN_SIZES

CHAIN_BOUNDS = dict(zip(CHAIN_SIZES, (2.0, 2.5), strict=True))
LARGEST_PEAK_MB = 300.0
LEAST_SPEEDUP = 1.5

Record = Mapping[str, Any]
HEADER = ("part", "runtime", "threads", "batch", "ms", "x EdgeFace", "a face: ms", "x EdgeFace", "peak MB", "imports")
STORE_HEADER = (
    *("store", "embeddings", "threads", "first search, ms", "a search, ms", "x EdgeFace", "recall@5"),
    *("peak MB", "imports"),
)


@dataclass(frozen=True)
class Bound:
    """Something promised of onnxruntime on one thread with one face, and what was found."""

    what: str
    wanted: str
    """Such as `<= 2.00`."""
    found: float | None
    """None where it was not measured."""
    reached: bool | None

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "reached", False: "NOT REACHED", None: "not measured"}[self.reached]


def bounds(rows: Sequence[Record]) -> list[Bound]:
    """The bounds on the chain, of rows as `Row.record` gives them."""
    base = _figure(rows, "edgeface", "ms")
    found = []
    for size, limit in CHAIN_BOUNDS.items():
        ratio = _figure(rows, "chain", "ratio", size=size)
        name = f"chain at {size} pixels / EdgeFace alone"
        found.append(Bound(name, f"<= {limit:.2f}", ratio, None if ratio is None else ratio <= limit))
    peaks = [_figure(rows, "chain", "peak_mb", size=size) for size in CHAIN_SIZES]
    peak = max((one for one in peaks if one is not None), default=None)
    reached = None if peak is None else peak < LARGEST_PEAK_MB
    found.append(Bound("peak MB of a process that runs the chain", f"< {LARGEST_PEAK_MB:.0f}", peak, reached))
    eager = _figure(rows, "edgeface", "ms", runtime="eager")
    speedup = None if base is None or eager is None else eager / base
    reached = None if speedup is None else speedup >= LEAST_SPEEDUP
    found.append(Bound("EdgeFace, eager PyTorch / onnxruntime", f">= {LEAST_SPEEDUP:.2f}", speedup, reached))
    return found


def _figure(
    rows: Sequence[Record], part: str, key: str, runtime: str = "onnxruntime", size: int | None = None
) -> float | None:
    """A figure at one thread and batch 1; None where it was not measured."""
    for row in rows:
        of_size = size is None or row["size"] == size
        if (row["part"], row["runtime"], row["threads"], row["batch"]) == (part, runtime, 1, 1) and of_size:
            value: float | None = row.get(key)
            return value
    return None


def network_table(rows: Sequence[Record]) -> str:
    """Parts of the chain by runtime, threads and batch; then why some did not run."""
    lines = []
    for row in rows:
        times = [_shown(row, key) for key in ("ms", "ratio", "ms_a_face", "ratio_a_face")]
        lines.append([row["name"], row["runtime"], str(row["threads"]), str(row["batch"]), *times, *_memory(row)])
    missing = {f"{row['name']}, {row['runtime']}: not available: {row['why_not']}" for row in rows if "why_not" in row}
    return "\n".join([format_table(HEADER, lines), *sorted(missing)])


def gallery_table(rows: Sequence[Record]) -> str:
    """Searches by store and size."""
    lines = []
    for row in rows:
        times = [_shown(row, key) for key in ("first_search_ms", "ms", "ratio")]
        cells = [row["runtime"], f"{row['size']:,}", str(row["threads"]), *times, _shown(row, "recall", 3)]
        lines.append([*cells, *_memory(row)])
    return format_table(STORE_HEADER, lines)


def bound_table(found: Sequence[Bound]) -> str:
    """What is promised, found, and whether it is reached."""
    lines = [[one.what, one.wanted, ABSENT if one.found is None else f"{one.found:.2f}", one.verdict] for one in found]
    return format_table(("onnxruntime, one thread, one face", "bound", "found", ""), lines)


def compile_line(rows: Sequence[Record]) -> str | None:
    """How long compiling took, which no other figure holds; None where nothing was compiled."""
    seconds = [row["first_call_s"] for row in rows if row["runtime"] == "compile" and "first_call_s" in row]
    if not seconds:
        return None
    return (
        f"torch.compile: {min(seconds):.0f} to {max(seconds):.0f} s before the first result (less where torch's cache "
        "on this machine had it already), not counted above."
    )


def _shown(row: Record, key: str, decimals: int = 2) -> str:
    return f"{row[key]:.{decimals}f}" if key in row else ABSENT


def _memory(row: Record) -> list[str]:
    return [f"{row[key]:.0f}" if key in row else ABSENT for key in ("peak_mb", "imported_mb")]
