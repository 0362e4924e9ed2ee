"""The benchmark prints every contender with its ratio; nothing here depends on how fast this machine is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.files import read_json
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset
from facial_rec.edgeface import get_model
from pipeline import benchmark


def test_benchmark_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(get_model("edgeface_tiny").state_dict(), tmp_path / "tiny.pt")
    save_dsr(tmp_path / "dsr.pt", Dsr(preset("tiny")), {})
    benchmark.main(
        benchmark.Config(
            dsr=str(tmp_path / "dsr.pt"),
            edgeface=str(tmp_path / "tiny.pt"),
            rounds=1,
            training_steps=1,
            batch_size=2,
            json=tmp_path / "out.json",
        )
    )
    result = read_json(tmp_path / "out.json")
    assert result["ratio_to_edgeface"][benchmark.REFERENCE] == 1.0
    assert all(value > 0 for value in result["milliseconds_a_face"].values())
    assert {f"DSR, {size} to 112, eager" for size in benchmark.SIZES} <= result["milliseconds_a_face"].keys()
    assert result["training_faces_a_second"] > 0
    assert "x EdgeFace" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"batch_size": 0}, {"training_steps": -1}])
def test_benchmark_refuses_impossible_numbers(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least"):
        benchmark.main(benchmark.Config(**wrong))
