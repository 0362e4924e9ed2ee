"""`benchmarks/dsr_seams.py` on made-up people."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from common.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "dsr_seams.py"


def test_a_dsr_of_random_weights_shows_its_cells(
    people: Path, active_weights: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="dsr_seams")
    given = {"images": people, "dsr": str(active_weights["dsr"]), "vlr_size": (16,)}
    found = script["main"](script["Config"](**given))
    assert found[16]["dsr"] > found[16]["bicubic"] + 0.03, found
    assert found[16]["dsr, texture"] > found[16]["hr, texture"]
    assert "18 faces, cells of 7 pixels" in capsys.readouterr().out
    with pytest.raises(UserError, match="--limit -1: expected 0 or more"):
        script["main"](script["Config"](limit=-1, **given))
