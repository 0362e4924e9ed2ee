"""Error rates by group: does the chain fail some people, ages or cameras more often than others?

FNMR of a group is taken over the genuine pairs whose two images both have its value, FMR over the impostor pairs whose
two people do: impostors of one group are harder than any two people, so mixing the two would hide who is confused. The
row `(different values)` holds the pairs across groups, `(missing)` those of which something is not known. Groups are
compared at one threshold, as they are in use.

An interval says how much a rate depends on who was photographed, so groups of fewer than 10 people get none.

The largest ratio between two groups is given where both have at least 30 errors and 10 people. Being picked as the
largest of many, it is above 1 even between equal groups; its interval is widened for the number of comparisons
(Bonferroni). An interval that holds 1 does not show that groups are treated alike: it shows what these pairs cannot
tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError
from facial_rec.bootstrap import LEVEL, Interval, number_subjects
from facial_rec.metrics import Bools, Floats, Ints
from facial_rec.pair_bootstrap import PairResampler, Weights, rate_interval
from facial_rec.pairs import PairList
from facial_rec.reliability import FEW_ERRORS, Support, judge
from facial_rec.tables import FOOTNOTE, format_table, has_few, judged, number
from pipeline.attributes import Attributes, grouped

DIFFERENT = "(different values)"
UNKNOWN = "(missing)"
FEWEST_PEOPLE = 10
RATES = {"fnmr": "false non-matches among {:,} genuine pairs", "fmr": "false matches among {:,} impostor pairs"}


@dataclass(frozen=True)
class _Compared:
    """Pairs with their groups and errors."""

    first: Ints
    """`(N,)` number of the person, as in the bootstrap."""
    second: Ints
    groups: NDArray[np.str_]
    """`(N,)` the value that both sides have, `DIFFERENT` or `UNKNOWN`."""
    wrong: Bools
    genuine: Bools
    people_known: bool
    repetitions: int
    seed: int

    def kind(self, figure: str) -> Bools:
        return self.genuine if figure == "fnmr" else ~self.genuine

    def people(self, among: Bools) -> int:
        """How many people stand in these pairs."""
        return len(np.union1d(self.first[among], self.second[among]))

    def enough_people(self, among: Bools) -> bool:
        """Whether resampling the people of these pairs can tell how uncertain a rate is."""
        return self.people_known and self.people(among) >= FEWEST_PEOPLE


def group_values(
    pairs: PairList, attributes: Attributes, column: str, cut_points: Sequence[float] | None = None
) -> tuple[dict[str, str | None], list[str]]:
    """The group of each person (or image) of the pairs, and all groups in order. UserError as `Attributes.values`."""
    sides = _sides(pairs, attributes)
    names = sorted({*sides[0], *sides[1]})
    found, order = grouped(attributes.values(column, names), column, cut_points)
    return dict(zip(names, found, strict=True)), order


def group_errors(
    scores: ArrayLike,
    pairs: PairList,
    attributes: Attributes,
    column: str,
    threshold: float,
    cut_points: Sequence[float] | None = None,
    repetitions: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """One entry of the record's `groups`, but for recogniser, protocol, method and size, which the caller adds.

    `scores` `(N,)` are those of `pairs`. `rows` hold, for each group, the numbers of pairs and people, `fnmr` and `fmr`
    with intervals, `withheld` and `few_errors`; `ratios` the largest ratio of each rate; `matched` how many people (or
    images) the file knows. Numbers are cut as `attributes.grouped` says. Raises UserError for scores of another length
    or NaN, and as `Attributes.values` does.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(pairs),) or not len(pairs) or np.isnan(values).any():
        raise UserError(f"{len(pairs)} pairs need as many scores, none of them NaN, found shape {values.shape}.")
    sides = _sides(pairs, attributes)
    group_of, order = group_values(pairs, attributes, column, cut_points)
    (first, second), _ = number_subjects(
        [pair.first_subject for pair in pairs.pairs], [pair.second_subject for pair in pairs.pairs]
    )
    compared = _Compared(
        first=first,
        second=second,
        groups=np.array([_shared(group_of[a], group_of[b]) for a, b in zip(*sides, strict=True)]),
        wrong=(values >= threshold) != pairs.genuine,
        genuine=pairs.genuine,
        people_known=pairs.people_known,
        repetitions=repetitions,
        seed=seed,
    )
    shown = [*order, *(name for name in (DIFFERENT, UNKNOWN) if (compared.groups == name).any())]
    known = sum(group is not None for group in group_of.values())
    return {
        "column": column,
        "threshold": threshold,
        "rows": [_row(compared, name) for name in shown],
        "ratios": [ratio for figure in RATES if (ratio := _largest_ratio(compared, figure, order)) is not None],
        "matched": {"key": attributes.key, "known": known, "of": len(group_of)},
    }


def _sides(pairs: PairList, attributes: Attributes) -> tuple[list[str], list[str]]:
    if attributes.key == "image":
        return [pair.first for pair in pairs.pairs], [pair.second for pair in pairs.pairs]
    if not pairs.people_known:
        raise UserError(
            f"{attributes.path} tells of people, but these pairs do not say who is on an image. Give a column `image`."
        )
    return [pair.first_subject for pair in pairs.pairs], [pair.second_subject for pair in pairs.pairs]


def _shared(first: str | None, second: str | None) -> str:
    if first is None or second is None:
        return UNKNOWN
    return first if first == second else DIFFERENT


def _row(compared: _Compared, name: str) -> dict[str, Any]:
    inside = compared.groups == name
    figures: dict[str, float | None] = {}
    intervals: dict[str, Interval | None] = {}
    support = {}
    for figure, what in RATES.items():
        among = inside & compared.kind(figure)
        errors, trials = int((compared.wrong & among).sum()), int(among.sum())
        figures[figure] = errors / trials if trials else None
        support[figure] = Support(errors, trials, what.format(trials))
        if compared.enough_people(among):
            intervals[figure] = rate_interval(
                compared.wrong, among, compared.first, compared.second, compared.repetitions, compared.seed
            )
    checked = judge(figures, support)
    return {
        "value": name,
        "genuine": support["fnmr"].trials,
        "impostor": support["fmr"].trials,
        "people": compared.people(inside) if compared.people_known else None,
        **checked.figures,
        **{f"{f}_ci95": intervals.get(f) if checked.figures[f] is not None else None for f in RATES},
        "withheld": checked.withheld,
        "few_errors": checked.few_errors,
    }


def _largest_ratio(compared: _Compared, figure: str, order: Sequence[str]) -> dict[str, Any] | None:
    """The highest rate over the lowest among the groups with enough errors; None with fewer than two such groups."""
    among = compared.kind(figure)
    masks = {name: among & (compared.groups == name) for name in order}
    enough = {
        name: mask
        for name, mask in masks.items()
        if (compared.wrong & mask).sum() >= FEW_ERRORS and (compared.enough_people(mask) or not compared.people_known)
    }
    if len(enough) < 2:
        return None
    rates = {name: float(compared.wrong[mask].mean()) for name, mask in enough.items()}
    high, low = max(rates, key=lambda name: rates[name]), min(rates, key=lambda name: rates[name])
    if high == low:  # all rates are equal
        high, low = list(rates)[:2]
    comparisons = len(enough) * (len(enough) - 1) // 2
    interval = _ratio_interval(compared, enough[high], enough[low], 1 - (1 - LEVEL) / comparisons)
    return {
        "figure": figure,
        "higher": high,
        "lower": low,
        "ratio": rates[high] / rates[low],
        "ratio_ci95": interval,
        "comparisons": comparisons,
    }


def _ratio_interval(compared: _Compared, high: Bools, low: Bools, level: float) -> Interval | None:
    """Of the ratio of two groups' rates, people resampled; taken on the logarithm, where it is more nearly normal."""
    if not compared.people_known:
        return None
    either = high | low
    one, two = compared.first[either], compared.second[either]
    _, numbers = np.unique(np.concatenate([one, two]), return_inverse=True)
    one, two = np.split(numbers, 2)
    people = int(numbers.max()) + 1
    couples, cell = np.unique(np.minimum(one, two) * people + np.maximum(one, two), return_inverse=True)
    columns = (high & compared.wrong, high, low & compared.wrong, low)
    counts = [np.bincount(cell, mask[either], len(couples)).astype(np.float32) for mask in columns]

    def log_ratio(weights: Weights) -> Floats:
        wrong_high, high_trials, wrong_low, low_trials = (weights @ count for count in counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log((wrong_high / high_trials) / (wrong_low / low_trials)).astype(np.float64)

    estimate = float(log_ratio(np.ones((1, len(couples)), dtype=np.float32))[0])
    resampler = PairResampler(couples // people, couples % people, compared.repetitions, compared.seed)
    found = resampler.replicate(lambda weights: {"ratio": log_ratio(weights)})
    interval = found["ratio"].interval(estimate, level) if found else None
    return None if interval is None else (float(np.exp(interval[0])), float(np.exp(interval[1])))


def groups_text(entry: Mapping[str, Any]) -> str:
    """The table of one `group_errors`, with the largest ratios and what they rest on."""
    header = [entry["column"], "people", "genuine", "FNMR, %", "impostor", "FMR, %"]
    rows = [
        [
            row["value"],
            "-" if row["people"] is None else f"{row['people']:,}",
            f"{row['genuine']:,}",
            judged({**row, "figures": row}, "fnmr"),
            f"{row['impostor']:,}",
            judged({**row, "figures": row}, "fmr"),
        ]
        for row in entry["rows"]
    ]
    matched = entry["matched"]
    lines = [
        f"By {entry['column']} at {entry['threshold']:g} ({matched['known']:,} of {matched['of']:,} {matched['key']}s "
        "known)",
        format_table(header, rows),
        *(_ratio_line(ratio) for ratio in entry["ratios"]),
    ]
    if not entry["ratios"]:
        lines.append(f"No ratio: fewer than two groups have {FEW_ERRORS} errors of a kind and {FEWEST_PEOPLE} people.")
    if any(row["people"] is not None and row["people"] < FEWEST_PEOPLE for row in entry["rows"]):
        lines.append(f"No interval for fewer than {FEWEST_PEOPLE} people: it would tell nothing of others like them.")
    return "\n".join([*lines, FOOTNOTE] if has_few(entry["rows"]) else lines)


def _ratio_line(ratio: Mapping[str, Any]) -> str:
    interval = ratio["ratio_ci95"]
    text = (
        f"{ratio['figure'].upper()} of {ratio['higher']} over {ratio['lower']}: {number(ratio['ratio'], interval, 2)}"
    )
    widened = ratio["comparisons"] > 1 and interval is not None
    text += f", the interval widened for {ratio['comparisons']} comparisons" if widened else ""
    if interval is None:
        return text + "; no interval"
    return text + ("; the interval holds 1" if interval[0] <= 1 <= interval[1] else "; the interval excludes 1")
