"""The tables of the READMEs that show what the shipped models do on LFW, and their places there.

A table stands between `<!-- TABLE name -->` and `<!-- END TABLE -->`, each on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import UserError
from facial_rec.tables import number, percent
from pipeline.reference_bounds import Names, figures, gap, sizes_of

ACCURACY, TAR = "accuracy", "tar@fmr=1e-3"
_PLACE = re.compile(r"(?<=<!-- TABLE )(?P<name>[a-z-]+) -->\n.*?(?=<!-- END TABLE -->)", re.DOTALL)


def fill_in(text: str, tables: Mapping[str, str], where: str) -> str:
    """`text` with the table of that name in each place. Raises UserError for a name that `tables` lacks."""

    def table(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in tables:
            raise UserError(f"{where} has a place for a table '{name}': expected one of {', '.join(tables)}.")
        return f"{name} -->\n\n{tables[name]}\n\n"

    return _PLACE.sub(table, text)


def tables_of(results: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name, from what `pipeline.evaluate_reference --json` wrote, with LFW."""
    names = Names(**results["names"])
    canonical = results["canonical"]
    tables = {
        "bounds": bounds_table(results["bounds"]),
        "by-size": verification_table(canonical, names.shipped, names.original),
        "realistic": realistic_table(results, names),
        "finetuned": finetuned_table(canonical, names),
    }
    others = {"large": large_table, "mirrored": mirrored_table}
    return tables | {name: table(results, names) for name, table in others.items() if name in results}


def bounds_table(bounds: Sequence[Mapping[str, Any]]) -> str:
    """What was asked, what was measured, and the baseline on the same images."""
    header = ["", "bicubic, original EdgeFace", "shipped", "difference", "asked", "reached"]
    cells = ("name", "baseline", "chain", "difference", "asked")
    rows = [[*(str(bound[cell]) for cell in cells), "yes" if bound["reached"] else "**no**"] for bound in bounds]
    return markdown(header, rows)


def verification_table(record: Mapping[str, Any], ours: str, baseline: str) -> str:
    """Accuracy and TAR by size: bicubic with recogniser `baseline`, DSR with `ours`, and the paired difference."""
    header = ["", "accuracy: bicubic", "DSR", "difference", "TAR at FMR 1e-3: bicubic", "DSR", "difference"]
    rows = []
    minus = "bicubic" if ours == baseline else f"bicubic of {baseline}"
    for protocol in ("lr-lr", "lr-hr"):
        for size in sizes_of(record):
            low = figures(record, baseline, protocol, size, "bicubic")
            high = figures(record, ours, protocol, size, "dsr")
            between = gap(record, ours, protocol, size, "dsr", minus)
            rows.append([f"{protocol.upper()} {size}", *_triples(low, high, between)])
    if ours != baseline:
        low, high = (figures(record, one, "lr-lr", None, "hr") for one in (baseline, ours))
        rows.append(["HR-HR", *_triples(low, high, gap(record, ours, "lr-lr", None, "hr", f"hr of {baseline}"))])
    return markdown(header, rows)


def realistic_table(results: Mapping[str, Any], names: Names) -> str:
    """Accuracy under each realistic severity: bicubic, the DSR alone with the original EdgeFace, the shipped chain."""
    asked = ["bicubic, original", "DSR, original", "DSR - bicubic", "shipped"]
    header = ["", f"LR-HR: {asked[0]}", *asked[1:], f"LR-LR: {asked[0]}", *asked[1:]]
    rows = []
    for name, record in results.items():
        if not name.startswith("realistic"):
            continue
        for size in sizes_of(record):
            cells = [f"{name}, {size}"]
            for protocol in ("lr-hr", "lr-lr"):
                bicubic, alone = (
                    figures(record, names.original, protocol, size, method) for method in ("bicubic", "dsr")
                )
                between = gap(record, names.original, protocol, size, "dsr", "bicubic")
                shipped = figures(record, names.shipped, protocol, size, "dsr")
                cells += [percent(one[ACCURACY]) for one in (bicubic, alone)]
                cells += [_shown(between, ACCURACY, signed=True), percent(shipped[ACCURACY])]
            rows.append(cells)
    return markdown(header, rows)


def finetuned_table(record: Mapping[str, Any], names: Names) -> str:
    """What fine-tuning brings on LFW: the original on bicubic and on DSR outputs, the fine-tuned one on the latter."""
    header = ["", "", "original on bicubic", "original on DSR", "fine-tuned on DSR"]
    rows = []
    for label, figure in ((ACCURACY, ACCURACY), ("TAR", TAR)):
        for protocol in ("lr-hr", "lr-lr"):
            for size in (size for size in sizes_of(record) if size >= 16):
                cases = [
                    figures(record, recogniser, protocol, size, method)
                    for recogniser, method in (
                        (names.original, "bicubic"),
                        (names.original, "dsr"),
                        (names.shipped, "dsr"),
                    )
                ]
                between = gap(record, names.shipped, protocol, size, "dsr", f"dsr of {names.original}")
                shown = [*(_shown(case, figure) for case in cases), _shown(between, figure, signed=True)]
                rows.append([label, f"{protocol.upper()} {size}", *shown])
    return markdown([*header, "fine-tuned - original, both on DSR"], rows)


def large_table(results: Mapping[str, Any], names: Names) -> str:
    """Both DSRs with the original EdgeFace."""
    figures_of = ("PSNR", "identity loss", "LR-LR accuracy")
    header = ["size", *(f"default: {name}" for name in figures_of), *(f"larger: {name}" for name in figures_of)]
    rows = []
    for size in sizes_of(results["large"]):
        cells = [str(size)]
        for record in (results["canonical"], results["large"]):
            found = figures(record, names.original, "lr-lr", size, "dsr")
            cells += [
                number(found["psnr"], found.get("psnr_ci95"), decimals=2),
                number(found["identity_loss"], found.get("identity_loss_ci95"), decimals=4),
                _shown(found, ACCURACY),
            ]
        rows.append(cells)
    return markdown(header, rows)


def mirrored_table(results: Mapping[str, Any], names: Names) -> str:
    """The default DSR and the same averaged over both mirror images, all figures of the shipped EdgeFace."""
    rows = []
    for protocol in ("lr-lr", "lr-hr"):
        for size in sizes_of(results["mirrored"]):
            cells = [f"{protocol.upper()} {size}"]
            for figure in (ACCURACY, TAR, "identity_loss"):
                for record in (results["canonical"], results["mirrored"]):
                    found = figures(record, names.shipped, protocol, size, "dsr")
                    if figure == "identity_loss":
                        cells.append(number(found[figure], found.get(f"{figure}_ci95"), decimals=4))
                    else:
                        cells.append(_shown(found, figure))
            rows.append(cells)
    shown = ("accuracy", "TAR at FMR 1e-3", "identity loss")
    header = ["", *(f"{name}: {which}" for name in shown for which in ("default", "mirrored"))]
    return markdown(header, rows)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(found: Mapping[str, Any], figure: str, signed: bool = False) -> str:
    return percent(found[figure], found.get(f"{figure}_ci95"), signed=signed)


def _triples(low: Mapping[str, Any], high: Mapping[str, Any], between: Mapping[str, Any]) -> list[str]:
    cells = []
    for figure in (ACCURACY, TAR):
        cells += [_shown(low, figure), _shown(high, figure), _shown(between, figure, signed=True)]
    return cells
