"""The page that `make demo` leaves: what was done, what it gave, bicubic beside DSR, and how to repeat it."""

from __future__ import annotations

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


def demo_report(
    result: dict[str, Any], records: list[dict[str, Any]], curves: Path, grid: Path, recogniser: str, size: int
) -> str:
    """The page as HTML, from `evaluate_dataset`'s result, the training's records and its pictures."""
    last = records[-1]["validation"][str(size)]
    return html.page(
        f"DSR-EdgeFace demo: recognising faces of {size} pixels",
        [
            html.paragraph(_verdict(result), "lead"),
            html.paragraph(
                "Every face here is made up: drawn by a program from a seed. The figures show that the chain works; "
                "they say nothing about real people. " + recogniser
            ),
            html.heading("Recognition of the test people"),
            _recognition(result),
            html.heading("Image quality on the validation people, after the last epoch"),
            html.table(
                ["", "bicubic", "DSR"],
                [
                    [label, number(last["bicubic"][key], decimals=4), number(last["dsr"][key], decimals=4)]
                    for key, label in QUALITY.items()
                ],
            ),
            html.heading("Samples"),
            html.picture(grid, f"Validation faces. From left: {size} x {size} input, bicubic, DSR, true image."),
            html.heading("Training"),
            html.picture(curves, "Losses and validation figures by epoch; dashed: bicubic on the same images."),
            html.heading("Repeat it"),
            html.preformatted("\n".join(["make demo", result["command"], _checksums(result)])),
        ],
    )


def _verdict(result: dict[str, Any]) -> str:
    bicubic, dsr = (result["methods"][name] for name in ("bicubic", "dsr"))
    ours, base = percent(dsr["rank1"], dsr.get("rank1_ci95")), percent(bicubic["rank1"], bicubic.get("rank1_ci95"))
    return (
        f"Rank-1 is {ours} % with DSR and {base} % with bicubic enlargement; accuracy at the threshold "
        f"{result['threshold']} is {percent(dsr['accuracy'])} % against {percent(bicubic['accuracy'])} %."
    )


def _recognition(result: dict[str, Any]) -> str:
    methods = result["methods"]
    names = {"hr": "HR (upper bound)", "bicubic": "bicubic", "dsr": "DSR"}
    rows = [
        [label, *(percent(methods[name][key], methods[name].get(f"{key}_ci95")) for name in methods)]
        for key, label in FIGURES.items()
    ]
    caption = (
        f"{methods['dsr']['probes']:,} probes; gallery of {result['gallery']['images']:,} HR images of "
        f"{result['gallery']['people']:,} people, a probe's own image never among them. "
        f"Threshold {result['threshold']}. "
        "In brackets: 95 % intervals, people resampled."
    )
    if any(methods[name].get("withheld") for name in methods):
        caption += " A dash: fewer than 3 errors stand behind the figure, so none is given."
    return html.table(["", *(names[name] for name in methods)], rows, caption)


def _checksums(result: dict[str, Any]) -> str:
    return "\n".join(f"sha256 {digest}  {name}" for name, digest in result["weights"].items())
