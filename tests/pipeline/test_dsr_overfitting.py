"""`benchmarks/dsr_overfitting.py` on made-up people."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from common.errors import UserError
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "dsr_overfitting.py"


def test_an_untrained_dsr_is_bicubic_on_both_sets(
    people: Path, active_weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="dsr_overfitting")
    untrained = tmp_path / "untrained.pt"
    save_dsr(untrained, Dsr(preset("tiny")), {})
    checkpoints = str(untrained), str(active_weights["dsr"])
    given = {"train": people, "val": people, "edgeface": str(active_weights["edgeface"]), "vlr_size": (16,)}
    found = script["main"](script["Config"](dsr=checkpoints, limit=6, **given))
    assert found[checkpoints[0]][16] == pytest.approx({"train": 1.0, "val": 1.0}, abs=0.02)
    other = found[checkpoints[1]][16]
    assert other["train"] == other["val"], "the same faces"
    assert other["train"] != pytest.approx(1.0, abs=0.02)
    assert "6 and 6 training and other faces" in capsys.readouterr().out
    strangers = script["main"](script["Config"](dsr=checkpoints, limit=6, strangers=True, **given))[checkpoints[1]][16]
    assert strangers["train"] == strangers["val"] != other["train"], "the same faces again, but others"
    assert "6 and 6 training and other faces, made into nobody's; beside" in capsys.readouterr().out
    with pytest.raises(UserError, match="--limit -1: expected 0 or more"):
        script["main"](script["Config"](limit=-1, **given))
