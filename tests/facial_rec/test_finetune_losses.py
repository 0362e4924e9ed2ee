"""Each term against its formula written out, the octuplet term against brute force, and how they are added up."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from common.errors import UserError
from facial_rec.finetune_losses import (
    Embedded,
    FinetuneLoss,
    LossWeights,
    agreement_loss,
    contrast_loss,
    distillation_loss,
    octuplet_loss,
)
from facial_rec.margin import CosFaceHead


def random(rows: int, seed: int = 0, dimensions: int = 8) -> torch.Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))


def test_distillation_is_half_the_squared_distance_of_unit_vectors() -> None:
    one, other = random(5), random(5, 1)
    expected = 0.0
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        unit_a, unit_b = ([x / math.hypot(*v) for x in v] for v in (a, b))
        expected += 0.5 * math.dist(unit_a, unit_b) ** 2 / 5
    assert float(distillation_loss(one, other)) == pytest.approx(expected, rel=1e-5)


def test_distillation_has_no_gradient_to_the_target() -> None:
    student, target = random(3).requires_grad_(), random(3, 1).requires_grad_()
    distillation_loss(student, target).backward()
    assert student.grad is not None
    assert target.grad is None


def test_agreement_moves_the_restored_view_only() -> None:
    restored, true = random(3).requires_grad_(), random(3, 1).requires_grad_()
    agreement_loss(restored, true).backward()
    assert restored.grad is not None
    assert true.grad is None


def test_contrast_is_the_cross_entropy_of_finding_ones_own_target() -> None:
    embeddings, targets, references = random(4), random(4, 1), random(6, 2)
    own = torch.tensor([2, -1, 0, 5])
    expected = 0.0
    for row in range(4):
        others = [r for r in range(6) if r != own[row]]
        candidates = torch.stack([targets[row], *references[others]])
        logits = 10.0 * torch.cosine_similarity(embeddings[row : row + 1], candidates)
        logits[0] -= 10.0 * 0.2
        expected += float(torch.nn.functional.cross_entropy(logits[None], torch.tensor([0]))) / 4
    found = contrast_loss(embeddings, targets, references, own, scale=10.0, margin=0.2)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_contrast_moves_the_student_only_and_needs_people() -> None:
    student, target = random(3).requires_grad_(), random(3, 1).requires_grad_()
    contrast_loss(student, target, random(5, 2), torch.tensor([0, -1, 4])).backward()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())
    assert target.grad is None
    with pytest.raises(UserError, match="--contrast-weight is above 0, and there are no people"):
        FinetuneLoss(LossWeights(contrast=0.1))


def test_contrast_counts_the_restored_and_the_true_view() -> None:
    sr, hr, targets = random(3), random(2, 1), random(3, 2)
    classes, references = torch.tensor([0, -1, 1]), random(4, 3)
    loss = FinetuneLoss(LossWeights(sr=0.0, hr=0.0, contrast=2.0), references=references)
    total, parts = loss(Embedded(sr, hr, targets, classes, classes))
    low, high = (contrast_loss(e, targets[: len(e)], references, classes[: len(e)]) for e in (sr, hr))
    assert float(parts["contrast"]) == pytest.approx(float(3 * low + 2 * high) / 5, rel=1e-5)
    assert float(total) == pytest.approx(2.0 * float(parts["contrast"]), rel=1e-6)


def brute_octuplet(high: torch.Tensor, low: torch.Tensor, people: list[int], margin: float) -> float | None:
    """All triplets of the four combinations, one by one."""

    def unit(row: torch.Tensor) -> list[float]:
        return [x / math.hypot(*row.tolist()) for x in row.tolist()]

    total, anchors = 0.0, 0
    count = len(people)
    for first, second in itertools.product((high, low), repeat=2):
        anchors = 0
        losses = 0.0
        for a in range(count):
            positives = [p for p in range(count) if p != a and people[p] == people[a] != -1]
            negatives = [n for n in range(count) if people[n] not in (people[a], -1)]
            if people[a] == -1 or not positives or not negatives:
                continue
            anchors += 1
            losses += max(
                max(
                    0.0,
                    math.dist(unit(first[a]), unit(second[p])) - math.dist(unit(first[a]), unit(second[n])) + margin,
                )
                for p in positives
                for n in negatives
            )
        total += losses / anchors if anchors else 0.0
    return total if anchors else None


@pytest.mark.parametrize("seed", range(4))
def test_octuplet_is_the_hardest_of_all_triplets(seed: int) -> None:
    high, low = random(9, seed), random(9, seed + 100)
    people = [0, 0, 1, 2, 2, 2, -1, 3, -1]
    found = octuplet_loss(high, low, torch.tensor(people), margin=0.5)
    assert found is not None
    expected = brute_octuplet(high, low, people, 0.5)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("people", [[0, 1, 2], [0, 0, 0], [-1, -1, -1], [0, 0, -1], []], ids=str)
def test_octuplet_of_a_batch_without_triplets_is_none(people: list[int]) -> None:
    rows = len(people)
    assert octuplet_loss(random(rows), random(rows, 1), torch.tensor(people, dtype=torch.int64)) is None


def test_octuplet_has_a_finite_gradient_where_two_embeddings_agree() -> None:
    high = random(4).requires_grad_()
    found = octuplet_loss(high, high, torch.tensor([0, 0, 1, 1]))
    assert found is not None
    found.backward()
    assert high.grad is not None
    assert bool(high.grad.isfinite().all())


def batch(shared: int = 4) -> Embedded:
    people = torch.tensor([0, 0, 1, 1, 2, -1])
    classes = torch.tensor([0, 0, 1, 1, -1, -1])
    return Embedded(random(6), random(shared, 1), random(6, 2), people, classes)


def test_total_is_the_weighted_sum_of_separate_terms() -> None:
    weights = LossWeights(sr=1.0, hr=0.5, margin=0.25, octuplet=2.0, agreement=0.75)
    head = CosFaceHead(2, 8)
    seen = batch()
    total, parts = FinetuneLoss(weights, head, octuplet_margin=0.4).requires_grad_(False)(seen)
    assert parts.keys() == {"sr", "hr", "margin", "octuplet", "agreement"}
    assert float(total) == pytest.approx(sum(getattr(weights, name) * float(part) for name, part in parts.items()))
    torch.testing.assert_close(parts["sr"], distillation_loss(seen.sr, seen.targets))
    torch.testing.assert_close(parts["hr"], distillation_loss(seen.hr, seen.targets[:4]))
    torch.testing.assert_close(parts["agreement"], distillation_loss(seen.sr[:4], seen.hr))
    torch.testing.assert_close(parts["octuplet"], octuplet_loss(seen.hr, seen.sr[:4], seen.people[:4], 0.4))
    rows = torch.cat([seen.sr[:4], seen.hr])
    torch.testing.assert_close(parts["margin"], head(rows, torch.tensor([0, 0, 1, 1] * 2)).detach())


@pytest.mark.parametrize("name", ["sr", "hr", "margin", "octuplet", "agreement"])
def test_each_term_can_stand_alone(name: str) -> None:
    weights = LossWeights(**{**dict.fromkeys(("sr", "hr", "margin", "octuplet"), 0.0), name: 1.0})
    total, parts = FinetuneLoss(weights, CosFaceHead(2, 8))(batch())
    assert parts.keys() == {name}
    assert float(total) == pytest.approx(float(parts[name]))


def test_terms_that_a_batch_cannot_give_are_left_out() -> None:
    strangers = torch.full((6,), -1)
    loss = FinetuneLoss(LossWeights(margin=1.0, octuplet=1.0), CosFaceHead(2, 8))
    total, parts = loss(Embedded(random(6), random(0), random(6, 2), strangers, strangers))
    assert parts.keys() == {"sr"}
    assert float(total) == pytest.approx(float(parts["sr"]))


def test_weights_are_checked() -> None:
    for bad in ({"sr": -1.0}, {"sr": 0.0, "hr": 0.0}, {"hr": float("nan")}):
        with pytest.raises(UserError, match="loss weights must be 0 or more, and at least one"):
            LossWeights(**bad)
    with pytest.raises(UserError, match="no identities to have a margin between"):
        FinetuneLoss(LossWeights(margin=1.0))
