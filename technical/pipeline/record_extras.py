"""What a verification record may hold besides its figures: pictures of faces and failures, and error rates by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.progress import progress_bar
from facial_rec.pairs import PairList
from facial_rec.sources import ImageSource
from pipeline.attributes import Attributes
from pipeline.chain import Chain
from pipeline.error_groups import group_errors, group_values
from pipeline.pair_evaluation import HR, Case, Evaluation, Settings
from pipeline.pictures import spread_evenly, write_failures, write_grid

GRIDS = 3
USUAL_SIZES = (16, 24, 32)


def pictures_folder(json_file: Path) -> Path:
    """Where the pictures of a record lie: beside it."""
    return json_file.with_name(f"{json_file.stem}_pictures")


def pictures_section(
    json_file: Path,
    source: ImageSource,
    pairs: PairList,
    chain: Chain,
    settings: Settings,
    evaluation: Evaluation,
    count: int,
) -> dict[str, Any]:
    """Write sample grids and the worst errors into `pictures_folder`, and return the record's `pictures`.

    Grids are of up to three sizes, by the first recogniser; failures at the smallest of them, in the first protocol,
    of bicubic and of DSR.
    """
    folder = pictures_folder(json_file)
    recogniser, protocol, sizes = next(iter(chain.embedders)), settings.protocols[0], _chosen_sizes(settings.vlr_sizes)
    names = spread_evenly(pairs.first_images, count)
    seed = settings.view("bicubic", sizes[0]).seed
    failures = []
    for method in chain.low_methods:
        case, low = Case(recogniser, protocol, sizes[0], method), settings.view(method, sizes[0])
        failures += write_failures(
            folder,
            source,
            chain,
            pairs,
            evaluation.scores[case],
            settings.threshold,
            low,
            low if protocol == "lr-lr" else HR,
            most=count,
            recogniser=recogniser,
            protocol=protocol,
            method=method,
            size=sizes[0],
        )
    return {
        "folder": folder.name,
        "grids": write_grid(folder, source, chain, recogniser, names, sizes, settings.degradation, seed),
        "failures": failures,
    }


def _chosen_sizes(sizes: Sequence[int]) -> list[int]:
    """The usual ones among `sizes`, else the first few."""
    return [size for size in USUAL_SIZES if size in sizes] or sorted(sizes)[:GRIDS]


def chosen_columns(attributes: Attributes, columns: Sequence[str]) -> list[str]:
    """The columns asked for; none: all but who is seen."""
    return list(columns) or [column for column in attributes.columns if column != "subject"]


def check_groups(attributes: Attributes, columns: Sequence[str], pairs: PairList) -> None:
    """Raise, before anything is computed, the UserErrors of `groups_section`."""
    for column in chosen_columns(attributes, columns):
        group_values(pairs, attributes, column)


def groups_section(
    attributes: Attributes, columns: Sequence[str], pairs: PairList, settings: Settings, evaluation: Evaluation
) -> list[dict[str, Any]]:
    """The record's `groups`: each column (none: all), for HR and for the best method at each size.

    Raises UserError as `group_errors` does.
    """
    best = "dsr" if any(case.method == "dsr" for case in evaluation.scores) else "bicubic"
    cases = [case for case in evaluation.scores if case.method in ("hr", best)]
    chosen = chosen_columns(attributes, columns)
    groups = []
    with progress_bar(len(cases) * len(chosen), "error rates by group", "table") as progress:
        for column in chosen:
            for case in cases:
                labels: dict[str, Any] = {"recogniser": case.recogniser, "protocol": case.protocol}
                labels |= {"method": case.method, "size": case.size, "degradation": settings.degradation}
                found = group_errors(
                    evaluation.scores[case],
                    pairs,
                    attributes,
                    column,
                    settings.threshold,
                    repetitions=settings.bootstrap,
                    seed=settings.seed,
                )
                groups.append(found | labels)
                progress.update()
    return groups
