"""The results of a study as a table: for every setting the mean over seeds, and the lowest and highest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from facial_rec.tables import ABSENT, FEW_MARK, FOOTNOTE, has_few

Run = Mapping[str, Any]
FIGURES = {"accuracy": "accuracy", "eer": "EER", "tar@fmr=1e-2": "TAR at FMR 1e-2"}


def by_setting(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The finished runs of each setting, in the order of the study."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run["label"], []).append(run)
    return found


def values(runs: Sequence[Run], view: str, figure: str) -> list[float | None]:
    """One figure of each run, a fraction; None where it is withheld. `view` is `hr` or `lr`."""
    return [run["validation"][view]["figures"].get(figure) for run in runs]


def spread(runs: Sequence[Run], view: str, figure: str) -> str:
    """`mean [lowest, highest]` in percent, with a `*` where few errors stand behind one of them."""
    found = [value for value in values(runs, view, figure) if value is not None]
    if len(found) < len(runs):
        return ABSENT
    few = any(figure in run["validation"][view]["few_errors"] for run in runs)
    mean = f"{100 * fmean(found):.2f}{FEW_MARK if few else ''}"
    return mean if len(found) == 1 else f"{mean} [{100 * min(found):.2f}, {100 * max(found):.2f}]"


def markdown(results: Mapping[str, Any]) -> str:
    """The table, and under it what it was made with."""
    size, runs = results["vlr_size"], results["runs"]
    figures = [(view, figure) for view in ("hr", "lr") for figure in FIGURES]
    names = {"hr": "HR-HR", "lr": f"LR-HR at {size}"}
    header = ["setting", "seeds", "steps", "minutes", "parameters", "multiply-adds", "size on disk"]
    header += [f"{names[view]}: {FIGURES[figure]}" for view, figure in figures]
    rows = []
    for label, mine in by_setting(runs).items():
        first = mine[0]
        cost = [f"{first['parameters']:,}", f"{first['multiply_adds'] / 1e6:.1f} M", f"{first['bytes'] / 1e6:.2f} MB"]
        timed = [run["seconds"] / 60 for run in mine if run["seconds"] is not None]
        rows.append(
            [label, str(len(mine)), _range([run["steps"] for run in mine]), f"{fmean(timed):.1f}" if timed else ABSENT]
            + cost
            + [spread(mine, view, figure) for view, figure in figures]
        )
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join([*lines, "", *_notes(results, runs)]) + "\n"


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _notes(results: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    data, pairs = results["data"], results["pairs"]
    planned = results["planned_runs"]
    notes = [
        f"In %: mean over seeds, lowest and highest in brackets. {data['variant']}, batches of {data['batch_size']}; "
        f"trained on {data['train_faces']:,} faces of {data['train_people']:,} people, validated on "
        f"{pairs['genuine']:,} genuine and {pairs['impostor']:,} impostor pairs of {pairs['people']:,} other people. "
        f"LR-HR: the first face of a pair reduced to {results['vlr_size']} pixels and enlarged by bicubic.",
        f"Budget: {results['budget']}. {len(runs)} of {planned} runs are done.",
    ]
    taken = {f"{run['label']} is {run['taken_from']}" for run in runs if "taken_from" in run}
    if taken:
        notes.append(f"Trained once for two studies: {'; '.join(sorted(taken))}.")
    if has_few([run["validation"][view] for run in runs for view in ("hr", "lr")]):
        notes.append(FOOTNOTE)
    notes.append(f"Made by `{results['run']['command']}`.")
    return [line for note in notes for line in (note, "")][:-1]
