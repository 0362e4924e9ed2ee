"""The page that `make demo` leaves: what was done, what it gave, bicubic beside each DSR, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facial_rec.tables import number, percent
from pipeline import html

FIGURES = {
    "accuracy": "accuracy at the threshold, %",
    "rank1": "rank-1, %",
    "rank5": "rank-5, %",
    "unknown_rate": "unknown (rejected), %",
    "false_accept_rate": "false accepts, %",
    "reject_all_accuracy": "rejecting everybody would score, %",
}
QUALITY = {"psnr": "PSNR, dB", "ssim": "SSIM", "identity_loss": "identity loss (1 - cosine to HR)"}


@dataclass(frozen=True)
class Shown:
    """A DSR on the page; all are judged on the same faces with the same recogniser."""

    label: str
    result: dict[str, Any]
    """Of `evaluate_dataset`."""
    quality: dict[str, dict[str, float]]
    """`QUALITY` of `dsr` and `bicubic`, on the validation people."""


def demo_report(shown: Sequence[Shown], curves: Path, grid: Path, recogniser: str, size: int) -> str:
    """The page as HTML; the last of `shown` is the DSR whose training `curves` are of."""
    columns = {"bicubic": shown[0].quality["bicubic"]} | {one.label: one.quality["dsr"] for one in shown}
    commands = [line for one in shown for line in (one.result["command"], _checksums(one.result))]
    return html.page(
        f"DSR-EdgeFace demo: recognising faces of {size} pixels",
        [
            html.paragraph(_verdict(shown), "lead"),
            html.paragraph(
                "Every face here is made up: drawn by a program from a seed. The figures show that the chain works; "
                "they say nothing about real people. " + recogniser
            ),
            html.heading("Recognition of the test people"),
            _recognition(shown),
            html.heading("Image quality on the validation people"),
            html.table(
                ["", *columns],
                [
                    [label, *(number(figures[key], decimals=4) for figures in columns.values())]
                    for key, label in QUALITY.items()
                ],
            ),
            html.heading("Samples"),
            html.picture(
                grid, f"Validation faces. From left: {size} x {size} input, {', '.join(columns)}, true image."
            ),
            html.heading("The training"),
            html.picture(curves, "Losses and validation figures by epoch; dashed: bicubic on the same images."),
            html.heading("Repeat it"),
            html.preformatted("\n".join(["make demo", *commands])),
        ],
    )


def _verdict(shown: Sequence[Shown]) -> str:
    base = shown[0].result["methods"]["bicubic"]
    ways = {one.label: one.result["methods"]["dsr"] for one in shown} | {"bicubic enlargement": base}
    rank1 = [f"{percent(found['rank1'], found.get('rank1_ci95'))} % with {label}" for label, found in ways.items()]
    accuracy = [f"{percent(found['accuracy'])} %" for found in ways.values()]
    return (
        f"Rank-1 is {_listed(rank1)}; accuracy at the threshold {shown[0].result['threshold']} is {_listed(accuracy)}."
    )


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _recognition(shown: Sequence[Shown]) -> str:
    """HR and bicubic are the same in every result: same faces, same recogniser."""
    first = shown[0].result
    columns = {"HR (upper bound)": first["methods"]["hr"], "bicubic": first["methods"]["bicubic"]}
    columns |= {one.label: one.result["methods"]["dsr"] for one in shown}
    rows = [
        [label, *(percent(found[key], found.get(f"{key}_ci95")) for found in columns.values())]
        for key, label in FIGURES.items()
    ]
    caption = (
        f"{first['methods']['dsr']['probes']:,} probes; gallery of {first['gallery']['images']:,} HR images of "
        f"{first['gallery']['people']:,} people, a probe's own image never among them. "
        f"Threshold {first['threshold']}. "
        "In brackets: 95 % intervals, people resampled."
    )
    if any(found.get("withheld") for found in columns.values()):
        caption += " A dash: fewer than 3 errors stand behind the figure, so none is given."
    return html.table(["", *columns], rows, caption)


def _checksums(result: dict[str, Any]) -> str:
    return "\n".join(f"sha256 {digest}  {name}" for name, digest in result["weights"].items())
