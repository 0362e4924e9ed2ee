"""Evaluation records: the JSON that evaluations write and `pipeline.report` reads."""

from __future__ import annotations

from typing import Any

from facial_rec.pairs import PairList
from pipeline.pair_evaluation import Case, Evaluation, Settings, counts_of
from pipeline.run_record import FORMAT


def verification_record(
    title: str, evaluation: Evaluation, pairs: PairList, settings: Settings, run: dict[str, Any]
) -> dict[str, Any]:
    """A whole record with the sections `verification` and `differences`; others may be added to it."""
    counts = counts_of(pairs)
    return {
        "format": FORMAT,
        "title": title,
        "run": run,
        "threshold": settings.threshold,
        "verification": [
            _case(case, settings) | {"pairs": counts} | measured for case, measured in evaluation.entries.items()
        ],
        "differences": [
            _case(case, settings) | {"minus": "bicubic", "figures": figures}
            for case, figures in evaluation.differences.items()
        ]
        + [
            _case(case, settings) | {"minus": f"{base.method} of {base.recogniser}", "figures": figures}
            for (case, base), figures in evaluation.between.items()
        ],
    }


def _case(case: Case, settings: Settings) -> dict[str, Any]:
    return {
        "recogniser": case.recogniser,
        "protocol": case.protocol,
        "method": case.method,
        "size": case.size,
        "degradation": settings.degradation,
    }
