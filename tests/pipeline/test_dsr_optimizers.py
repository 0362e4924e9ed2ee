"""`benchmarks/dsr_optimizers.py` on made-up people."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "dsr_optimizers.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT), run_name="dsr_optimizers")


def test_every_optimizer_is_trained_alike_and_judged(
    script: dict[str, Any], people: Path, active_weights: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"train_root": people, "val_root": people, "edgeface": str(active_weights["edgeface"]), "preset": "tiny"}
    config = script["Config"](faces=16, batch_sizes=(4, 8), rates=(1e-3,), vlr_size=("16",), precision="fp32", **given)
    found = script["main"](config)
    assert list(found) == [("adamw", 4, 1e-3), ("adamw", 8, 1e-3), ("muon", 4, 1e-3), ("muon", 8, 1e-3)]
    figures = [row[16]["psnr"] for row in found.values()]
    assert len(set(figures)) == 4, "each left another network"
    printed = capsys.readouterr().out
    assert all(f"{row[16]['identity']:.4f}" in printed for row in found.values())
    assert script["main"](config) == found, "the same seed gives the same figures"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"faces": 3}, "--faces must hold at least one step"),
        ({"batch_sizes": (0,)}, "a step needs at least 1 face"),
        ({"rates": (0.0,)}, r"--rates 0\.0: expected numbers between 0 and 1"),
        ({"threads": 0}, "--threads must be at least 1, found 0"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(script: dict[str, Any], people: Path, change: dict[str, Any], words: str) -> None:
    config = script["Config"](**{"train_root": people, "val_root": people, "batch_sizes": (4,), **change})
    with pytest.raises(UserError, match=words):
        script["main"](config)
