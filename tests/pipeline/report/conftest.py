"""A made-up record that uses every section of a report, with soft coloured pictures in place of faces."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.images import write_png
from pipeline.report import Config, main

Record = dict[str, Any]

HOSTILE = '<script>alert("x")</script>'
LOSS = {8: 0.24, 12: 0.15, 16: 0.09, 24: 0.045, 32: 0.02, 64: 0.006}


def smooth_picture(seed: int, size: int = 112) -> np.ndarray:
    """Soft coloured waves, `(size, size, 3)`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + rng.uniform(0, 6)) for _ in range(3)]
    return (127 + 110 * np.stack(waves, axis=-1)).astype(np.uint8)


@lru_cache
def scores_of(spread: float) -> dict[str, Any]:
    """Curve and histogram of normal scores; genuine ones lie around `spread`."""
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(spread, 0.13, 3000), rng.normal(0.05, 0.1, 3000)
    thresholds = np.linspace(1.0, -0.3, 120)
    edges = np.linspace(-0.5, 1.1, 41)
    return {
        "curve": {
            "fmr": [float((impostor >= t).mean()) for t in thresholds],
            "fnmr": [float((genuine < t).mean()) for t in thresholds],
            "thresholds": [None, *map(float, thresholds[1:])],
        },
        "histogram": {
            "edges": [float(edge) for edge in edges],
            "genuine": [int(count) for count in np.histogram(genuine, edges)[0]],
            "impostor": [int(count) for count in np.histogram(impostor, edges)[0]],
        },
    }


def with_intervals(figures: dict[str, float], half: float = 0.008) -> dict[str, Any]:
    """Every figure with an interval around it."""
    return figures | {f"{name}_ci95": [value - half, min(1.0, value + half)] for name, value in figures.items()}


def verification_entry(recogniser: str, protocol: str, method: str, size: int | None, loss: float) -> Record:
    figures = with_intervals(
        {
            "accuracy": 0.985 - loss,
            "tar@fmr=1e-2": 0.975 - 2 * loss,
            "tar@fmr=1e-3": 0.955 - 3 * loss,
            "eer": 0.015 + loss,
            "auc": 0.998 - loss / 3,
            "fnmr@threshold": 0.04 + 2 * loss,
        }
    )
    quality = {"psnr": 30 - 60 * loss, "ssim": 0.9 - loss, "lpips": 0.1 + loss, "identity_loss": 0.1 + 2 * loss}
    baselines = {"accuracy_std": 0.01, "reject_all_accuracy": 0.5, "accept_all_accuracy": 0.5}
    return {
        "recogniser": recogniser,
        "protocol": protocol,
        "method": method,
        "size": size,
        "degradation": "canonical",
        "pairs": {"genuine": 3000, "impostor": 3000, "people": 4281, "folds": 10},
        "figures": figures
        | {"fmr@threshold": None, "fmr@threshold_ci95": None}
        | (quality if size else dict.fromkeys(quality))
        | baselines,
        "withheld": {
            "fmr@threshold": {
                "reason": "1 false matches among 3,000 impostor pairs: fewer than 3, so no figure is given",
                "errors": 1,
                "trials": 3000,
                "upper95": 0.0016,
            }
        },
        "few_errors": {"tar@fmr=1e-3": 3.0},
        **copy.deepcopy(scores_of(round(0.62 - loss, 2))),
    }


def make_record() -> Record:
    """Every section once, in the shape that evaluations write."""
    verification, differences = [], []
    for recogniser, extra in (("edgeface_xxs", 0.0), ("edgeface_xxs_finetuned", -0.01)):
        for protocol, more in (("lr-hr", 0.0), ("lr-lr", 0.01)):
            verification.append(verification_entry(recogniser, protocol, "hr", None, 0.0))
            for size, loss in LOSS.items():
                worse = loss + more + max(extra, -loss / 2)
                verification.append(verification_entry(recogniser, protocol, "bicubic", size, worse))
                verification.append(verification_entry(recogniser, protocol, "dsr", size, 0.7 * worse))
                gap = {"accuracy": 0.3 * worse, "tar@fmr=1e-3": 0.9 * worse, "eer": -0.3 * worse, "psnr": 18 * worse}
                differences.append(
                    {"recogniser": recogniser, "protocol": protocol, "size": size, "degradation": "canonical"}
                    | {"method": "dsr", "minus": "bicubic", "figures": with_intervals(gap)}
                )
    return {
        "format": "dsr-edgeface-evaluation-1",
        "title": "Recognition across resolutions",
        "run": {
            "command": "python -m pipeline.evaluate_resolutions --images faces.zip --pairs pairs.txt --dsr dsr.pt",
            "started": "2026-11-22T09:30:00+00:00",
            "seconds": 61.2,
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "git_dirty": True,
            "versions": {"python": "3.11.7", "torch": "2.14.0"},
            "weights": {"edgeface_xxs.pt": "ab" * 32, "dsr.pt": "cd" * 32},
            "data": {"faces.zip": "ef" * 32},
            "seed": 0,
            "bootstrap": 1000,
            "device": "cpu",
        },
        "threshold": 0.35,
        "verification": verification,
        "differences": differences,
        "identification": [*identification("closed"), *identification("open")],
        "groups": groups(),
        "calibration": calibration(),
    }


def identification(kind: str) -> list[Record]:
    entries = []
    for method, size, loss in [
        ("hr", None, 0.0),
        *[("bicubic", size, 1.5 * loss) for size, loss in LOSS.items()],
        *[("dsr", size, loss) for size, loss in LOSS.items()],
    ]:
        ranks = list(range(1, 21))
        figures = {"rank1": 0.95 - loss, "rank5": 0.97 - loss / 2}
        if kind == "open":
            figures = {"dir@fpir=1e-2": 0.9 - loss, "fpir@threshold": 0.02 + loss / 5, "fnir@threshold": 0.06 + loss}
        fpir = [float(rate) for rate in np.geomspace(1e-4, 1, 60)]
        entries.append(
            {
                "recogniser": "edgeface_xxs",
                "method": method,
                "size": size,
                "degradation": "canonical",
                "set": kind,
                "counts": {
                    "gallery": 1680,
                    "people": 1680,
                    "mated": 4000,
                    "nonmated": 3500 if kind == "open" else None,
                },
                "figures": with_intervals(figures),
                "withheld": {},
                "few_errors": {},
                "cmc": {"rank": ranks, "rate": [1 - (0.05 + loss) / rank**0.5 for rank in ranks]},
                "open_set": None
                if kind == "closed"
                else {"fpir": fpir, "fnir": [(0.5 + loss) * (1 - rate) ** 3 * (1e-4 / rate) ** 0.2 for rate in fpir]},
            }
        )
    return entries


def groups() -> list[Record]:
    rows = [
        {"value": value, "genuine": 1200, "impostor": 900, "people": people, "fnmr": 0.1 + shift}
        | {"fnmr_ci95": [0.08 + shift, 0.13 + shift], "fmr": None, "fmr_ci95": None, "few_errors": {}}
        | {"withheld": {"fmr": {"reason": "0 false matches among 900", "errors": 0, "trials": 900, "upper95": 0.0033}}}
        for value, people, shift in (("f", 800, 0.02), ("m", 1500, 0.0), (HOSTILE, 40, 0.05))
    ]
    ratio = {"figure": "fnmr", "higher": "f", "lower": "m", "ratio": 1.2, "ratio_ci95": [0.9, 1.5], "comparisons": 1}
    rows[1] |= {"fmr": 0.004, "fmr_ci95": [0.001, 0.009], "withheld": {}, "few_errors": {"fmr": 4}}
    return [
        {"column": "sex", "recogniser": "edgeface_xxs", "protocol": "lr-hr", "method": "dsr", "size": 16}
        | {"threshold": 0.35, "rows": rows, "ratios": [ratio]}
    ]


def calibration() -> list[Record]:
    coverage = [float(share) for share in np.linspace(0.05, 1, 40)]
    entries = []
    for method, times in (("bicubic", 2.5), ("dsr", 1.8)):
        rows = []
        for size, loss in [*LOSS.items(), (None, 0.004)]:
            figures = {"fmr": 0.001, "fnmr": 0.05 + loss * times, "fmr_held_out": 0.0012}
            figures |= {"fmr_at_default": 0.0005 + 0.004 * loss / times, "fnmr_at_default": 0.06 + loss * times}
            curve = {"coverage": coverage, "risk": [loss * times / 2 * share**2 for share in coverage]}
            row = {"size": size, "method_in_use": "dsr", "threshold": 0.35 - loss, "reject": None}
            reason = {"reason": "1 false non-matches expected among 100 genuine pairs: fewer than 3", "upper95": None}
            judged = {"withheld": {"reject": reason}, "few_errors": {"fmr": 12}}
            rows.append(row | with_intervals(figures, 0.0004) | judged | {"risk_coverage": curve})
        entries.append(
            {"recogniser": "edgeface_xxs", "protocol": "lr-hr", "method": method, "wanted_fmr": 1e-3, "sizes": rows}
        )
    return entries


def add_pictures(folder: Path, record: Record, name: str = "record_pictures") -> Record:
    """Draw pictures for a grid and for failures into `folder / name`, and say so in the record."""
    grids = []
    for size in (8, 16):
        rows = []
        for person in range(3):
            tiles = []
            for label, blocks, cosine in (
                ("LR", size, None),
                ("bicubic", 28, 0.521),
                ("DSR", 56, 0.687),
                ("HR", 112, 1.0),
            ):
                file = f"{size}_{person}_{label.lower()}.png"
                small = smooth_picture(person, blocks)
                write_png(folder / name / file, small.repeat(112 // blocks, 0).repeat(112 // blocks, 1))
                tiles.append({"label": label, "file": file, "cosine": cosine})
            rows.append({"name": f"Person {person}/photo_0001.png", "tiles": tiles})
        grids.append({"size": size, "rows": rows})
    pairs = [
        {"first": f"A{n}/A{n}_0001.png", "second": f"B{n}/B{n}_0002.png", "score": 0.5 - n / 50}
        | {"first_file": "16_0_dsr.png", "second_file": "16_1_hr.png"}
        for n in range(4)
    ]
    labels = {"recogniser": "edgeface_xxs", "protocol": "lr-hr", "method": "dsr", "size": 16, "threshold": 0.35}
    kinds = ("false_accept", "false_reject")
    failures = [{"kind": kind, **labels, "beyond": True, "pairs": pairs} for kind in kinds]
    return record | {"pictures": {"folder": name, "grids": grids, "failures": failures}}


def write(path: Path, record: Any) -> Path:
    path.write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf-8")
    return path


def write_page(tmp_path: Path, *records: Any, title: str = "") -> str:
    paths = tuple(write(tmp_path / f"record{n or ''}.json", record) for n, record in enumerate(records))
    return main(Config(json=paths, out=tmp_path / "report.html", title=title)).read_text(encoding="utf-8")


@pytest.fixture
def new_record() -> Callable[[], Record]:
    """Makes the record, without pictures."""
    return make_record


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """The record with pictures beside it."""
    return add_pictures(tmp_path, make_record())


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., str]:
    """Writes records and returns their page; a text is written as it is."""

    def make(*records: Any, title: str = "") -> str:
        return write_page(tmp_path, *records, title=title)

    return make
