"""`benchmarks/dsr_identity_terms.py` on made-up people, and its terms one by one."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from facial_rec.edgeface import get_model, normalise

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "dsr_identity_terms.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT), run_name="dsr_identity_terms")


def test_another_photo_is_of_the_same_person(script: dict[str, Any]) -> None:
    people = torch.tensor([0, 1, 0, -1, 2, 0, 1, -1])
    others = script["other_photos"](people, 3)
    assert torch.equal(people[others], people)
    assert torch.equal(others[others][torch.tensor([1, 6])], torch.tensor([1, 6])), "two photos change places"
    alone = torch.tensor([3, 4, 7])  # nobody known, or a single photo
    assert torch.equal(others[alone], alone)
    assert not bool((others == torch.arange(8))[torch.tensor([0, 1, 2, 5, 6])].any())
    assert torch.equal(others, script["other_photos"](people, 3))


def test_features_and_head_are_the_network(script: dict[str, Any]) -> None:
    network, images = get_model("edgeface_tiny").eval(), torch.rand(2, 3, 112, 112)
    features = script["features_before_the_head"](network, images)
    assert features.ndim == 4
    torch.testing.assert_close(script["head_of"](network, features), network(normalise(images)))


def test_feature_distance_against_numpy(script: dict[str, Any]) -> None:
    ours, theirs = (torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    a, b = (x.double().numpy().transpose(0, 2, 3, 1).reshape(-1, 5) for x in (ours, theirs))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert float(script["feature_distance"](ours, theirs)) == pytest.approx(1.0 - cosines.mean(), rel=1e-5)
    assert float(script["feature_distance"](ours, 3.0 * ours)) == pytest.approx(0.0, abs=1e-6)


def test_every_loss_trains_and_is_judged(
    script: dict[str, Any], people: Path, active_weights: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    edgeface = str(active_weights["edgeface"])
    given = {"train_root": people, "val_root": people, "edgeface": edgeface, "vlr_size": ("16",), "precision": "fp32"}
    config = script["Config"](faces=8, batch_size=4, dsr=str(active_weights["dsr"]), **given)
    found = script["main"](config)
    assert list(found) == list(script["LOSSES"])
    figures = [row[16]["identity"] for row in found.values()]
    assert len(set(figures)) == len(figures), "each loss left another network"
    assert script["main"](config) == found, "the same seed gives the same figures"
    printed = capsys.readouterr().out
    assert [line.split("  ")[0] for line in printed.splitlines() if "  16  " in line][:4] == list(script["LOSSES"])
    assert f"judged by {active_weights['edgeface'].name}" in printed
    with pytest.raises(UserError, match="--losses lpips: expected some of pixels alone; identity"):
        script["main"](script["Config"](losses=("lpips",), **given))
    with pytest.raises(UserError, match="--faces must hold at least one step"):
        script["main"](script["Config"](faces=1, **given))
