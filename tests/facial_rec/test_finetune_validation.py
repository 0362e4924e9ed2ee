"""All pairs of photos against brute force, and the rule that chooses weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import UserError
from facial_rec.edgeface import EdgeFace
from facial_rec.finetune_validation import Guard, Report, Verification, figures, score
from facial_rec.metrics import auc, eer, roc, tar_at_fmr, unit_rows


def brute(probes: np.ndarray, gallery: np.ndarray, people: list[int], kind: str) -> dict[str, float]:
    scores, genuine = [], []
    for i in range(len(people)):
        for j in range(len(people)):
            if (kind == "mirrored" and j <= i) or (kind == "other photos" and j == i):
                continue
            scores.append(float(probes[i] @ gallery[j]))
            genuine.append(people[i] == people[j])
    curve = roc(scores, genuine)
    return {"tar": tar_at_fmr(curve, 1e-3), "auc": auc(curve), "eer": eer(curve)}


@pytest.mark.parametrize("kind", ["mirrored", "other photos", "own photo"])
def test_figures_are_over_every_pair(kind: str) -> None:
    chance = np.random.default_rng(0)
    people = [0, 0, 0, 1, 1, 2, 3, 3]
    probes, gallery = (unit_rows(chance.normal(size=(8, 5))) for _ in range(2))
    if kind == "mirrored":
        gallery = probes
    found = figures(probes, gallery, np.array(people), mirrored=kind == "mirrored", own_photo=kind == "own photo")
    assert found == pytest.approx(brute(probes, gallery, people, kind), abs=1e-6)


def report(low: float, high: float) -> Report:
    return {
        "hr-hr": {"tar": high, "cosine": 1.0},
        "lr-hr@16": {"tar": low},
        "lr-hr@32": {"tar": low},
        "lr-lr@16": {"tar": 0.0},
    }


def test_score_is_the_mean_tar_where_a_face_is_restored() -> None:
    figures = {"hr-hr": {"tar": 1.0}, "lr-hr@16": {"tar": 0.5}, "lr-hr@24": {"tar": 0.7}, "lr-lr@16": {"tar": 0.3}}
    assert score(figures) == pytest.approx(0.5)


def test_the_better_low_resolution_wins() -> None:
    guard = Guard(report(0.5, 0.95), most=0.01)
    assert guard.better(report(0.6, 0.95), None)
    assert guard.better(report(0.7, 0.95), report(0.6, 0.99))
    assert not guard.better(report(0.6, 0.99), report(0.6, 0.95)), "a tie keeps the earlier one"
    assert not guard.better(report(0.5, 0.99), report(0.6, 0.95))


def test_what_loses_high_resolution_is_not_chosen() -> None:
    guard = Guard(report(0.5, 0.95), most=0.01)
    assert guard.better(report(0.9, 0.94), None), "exactly what is allowed"
    assert not guard.better(report(0.9, 0.939), None)
    assert not guard.better(report(0.9, 0.939), report(0.5, 0.95))


def test_without_labels_the_guard_is_the_cosine_to_the_original() -> None:
    guard = Guard({"hr-hr": {"cosine": 1.0}}, most=0.05)
    assert guard.admits({"hr-hr": {"cosine": 0.96}})
    assert not guard.admits({"hr-hr": {"cosine": 0.94}})


def coarse(images: torch.Tensor, size: int) -> torch.Tensor:
    """Block means in place of a restoration."""
    small = torch.nn.functional.adaptive_avg_pool2d(images, size)
    return torch.nn.functional.interpolate(small, size=112, mode="nearest")


def verification(people: list[int], faces: int | None = None) -> Verification:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (faces or len(people), 3, 112, 112), generator=generator, dtype=torch.uint8)
    return Verification(pixels, torch.tensor(people), [8, 16], coarse, torch.device("cpu"))


def test_run_reports_every_protocol_and_size(tiny: EdgeFace) -> None:
    checked = verification([0, 0, 1, 1, -1])
    first = checked.run(tiny)
    assert list(first) == ["hr-hr", "lr-hr@8", "lr-lr@8", "lr-hr@16", "lr-lr@16"]
    assert first["hr-hr"]["cosine"] == pytest.approx(1.0)
    assert checked.run(tiny) == first
    with torch.no_grad():
        for parameter in tiny.parameters():
            parameter.add_(0.1)
    assert checked.run(tiny)["hr-hr"]["cosine"] < 0.9999


@pytest.mark.parametrize("people", [[0, 1, 2], [-1, -1, -1]], ids=str)
def test_strangers_are_compared_with_themselves_across_resolutions(tiny: EdgeFace, people: list[int]) -> None:
    checked = verification(people)
    assert checked.same_photo
    found = checked.run(tiny)
    assert list(found) == ["hr-hr", "lr-hr@8", "lr-hr@16"]
    assert found["hr-hr"].keys() == {"cosine"}


@pytest.mark.parametrize("people", [[0], [0, 0, 0]], ids=str)
def test_too_few_people_are_refused(people: list[int]) -> None:
    with pytest.raises(UserError, match=rf"validation has {len(people)} faces of 1 people: comparing needs two people"):
        verification(people)
