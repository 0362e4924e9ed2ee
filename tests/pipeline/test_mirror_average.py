"""`benchmarks/mirror_average.py` on made-up people."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from common.errors import UserError
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "mirror_average.py"


def test_bicubic_gains_nothing_from_its_mirror_image_and_random_weights_do(
    people: Path, active_weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="mirror_average")
    untrained = tmp_path / "untrained.pt"
    save_dsr(untrained, Dsr(preset("tiny")), {})
    given = {"images": people, "edgeface": str(active_weights["edgeface"]), "vlr_size": (16,)}
    found = script["main"](script["Config"](dsr=str(untrained), **given))[16]
    assert list(found) == ["as it is", "recogniser", "DSR", "both"]
    assert found["DSR"]["psnr"] == pytest.approx(found["as it is"]["psnr"], abs=1e-3)
    assert found["recogniser"]["psnr"] == found["as it is"]["psnr"]
    random = script["main"](script["Config"](dsr=str(active_weights["dsr"]), **given))[16]
    assert random["DSR"]["psnr"] > random["as it is"]["psnr"] + 0.01
    assert random["both"]["psnr"] == random["DSR"]["psnr"]
    assert "18 faces; averaged over both mirror images in:" in capsys.readouterr().out


def test_what_cannot_be_verified_is_refused(people: Path, active_weights: dict[str, Path]) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="mirror_average")
    given = {"dsr": str(active_weights["dsr"]), "edgeface": str(active_weights["edgeface"])}
    with pytest.raises(UserError, match="--limit -1: expected 0 or more"):
        script["main"](script["Config"](people, limit=-1, **given))
    with pytest.raises(UserError, match="no person with two photos"):
        script["main"](script["Config"](people, limit=2, **given))
