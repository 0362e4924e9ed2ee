"""Every margin loss against its formula, finite differences and pytorch-metric-learning; and heads that learn."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from common.errors import UserError
from facial_rec.margin import (
    MARGINS,
    CosFaceHead,
    MarginHead,
    OwnCosine,
    arcface,
    batch_hard_triplet,
    combined,
    cosface,
    cosface_logits,
    margin_logits,
    margin_named,
    sphereface,
)

EVERY: dict[str, OwnCosine] = {
    "cosface 0.4": partial(cosface, margin=0.4),
    "arcface 0.25": partial(arcface, margin=0.25),
    "arcface 0.5": partial(arcface, margin=0.5),
    "arcface 1.5": partial(arcface, margin=1.5),
    "sphereface 1.35": partial(sphereface, margin=1.35),
    "sphereface 4": partial(sphereface, margin=4.0),
    "combined 0.9 0.4 0.15": partial(combined, m1=0.9, m2=0.4, m3=0.15),
}
every_margin = pytest.mark.parametrize("own", EVERY.values(), ids=EVERY.keys())


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings `(24, 16)`, centres `(6, 16)` and labels; some embeddings lie beyond the angle where margins turn."""
    generator = torch.Generator().manual_seed(3)
    embeddings, centres = torch.randn(24, 16, generator=generator), torch.randn(6, 16, generator=generator)
    labels = torch.arange(24) % 6
    embeddings[:6] = -centres + 0.2 * embeddings[:6]
    embeddings[6:12] = centres + 0.2 * embeddings[6:12]
    return embeddings, centres, labels


def test_cosface_loss_is_equation_4_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    head = CosFaceHead(classes=5, dimensions=8, scale=10.0, margin=0.35)
    embeddings, labels = torch.randn(4, 8, generator=generator), torch.tensor([0, 3, 3, 4])
    expected = 0.0
    for row, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        cosines = []
        for centre in head.centres.tolist():
            dot = sum(a * b for a, b in zip(row, centre, strict=True))
            cosines.append(dot / math.hypot(*row) / math.hypot(*centre))
        own = math.exp(10.0 * (cosines[label] - 0.35))
        others = sum(math.exp(10.0 * c) for index, c in enumerate(cosines) if index != label)
        expected -= math.log(own / (own + others)) / 4
    assert float(head(embeddings, labels).detach()) == pytest.approx(expected, rel=1e-5)


def test_margin_lowers_the_own_class_only() -> None:
    cosine = torch.tensor([[0.5, -0.2, 0.1]])
    logits = cosface_logits(cosine, torch.tensor([1]), scale=2.0, margin=0.4)
    torch.testing.assert_close(logits, torch.tensor([[1.0, -1.2, 0.2]]))


def test_formulas_at_single_angles() -> None:
    angle = torch.tensor([0.3, 1.0, 2.0, 2.8], dtype=torch.float64)
    cosine = angle.cos()
    torch.testing.assert_close(cosface(cosine, 0.4), cosine - 0.4)
    torch.testing.assert_close(arcface(cosine, 0.25), (angle + 0.25).cos())
    expected = torch.tensor([math.cos(0.8), math.cos(1.5), math.cos(2.5), math.cos(2.8) - 0.5 * math.sin(0.5)])
    torch.testing.assert_close(arcface(cosine, 0.5), expected.double())
    fourfold = [math.cos(1.2), -math.cos(4.0) - 2, math.cos(8.0) - 4, -math.cos(11.2) - 6]
    torch.testing.assert_close(sphereface(cosine, 4.0), torch.tensor(fourfold, dtype=torch.float64))
    mixed = combined(cosine[:2], 0.9, 0.4, 0.15)
    torch.testing.assert_close(mixed, (0.9 * angle[:2] + 0.4).cos() - 0.15)


def test_combined_holds_the_others() -> None:
    cosine = torch.linspace(-0.999, 0.999, 101, dtype=torch.float64)
    torch.testing.assert_close(combined(cosine), cosine)
    torch.testing.assert_close(combined(cosine, m3=0.4), cosface(cosine, 0.4))
    torch.testing.assert_close(combined(cosine, m1=4.0), sphereface(cosine, 4.0))
    before_the_turn = cosine[cosine.acos() <= math.pi - 0.5]
    torch.testing.assert_close(combined(before_the_turn, m2=0.5), arcface(before_the_turn, 0.5))


@every_margin
def test_harder_at_every_angle_and_falling_all_the_way(own: OwnCosine) -> None:
    cosine = torch.linspace(-1.0, 1.0, 2001, dtype=torch.float64)
    made = own(cosine)
    assert (made <= cosine + 1e-5).all()
    assert (made.diff() > -1e-9).all(), "a worse angle must never score better"


@every_margin
def test_gradient_is_that_of_finite_differences(own: OwnCosine, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    embeddings, centres, labels = batch
    inputs = embeddings.double().requires_grad_(True), centres.double().requires_grad_(True)

    def loss(embeddings: Tensor, centres: Tensor) -> Tensor:
        cosine = normalize(embeddings) @ normalize(centres).T
        return cross_entropy(margin_logits(cosine, labels, own, 8.0), labels)

    assert torch.autograd.gradcheck(loss, inputs, eps=1e-7, atol=1e-5)


@every_margin
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_finite_at_the_ends(own: OwnCosine, dtype: torch.dtype) -> None:
    ends = [1.0, 1.0 + 1e-6, 1.0 - 1e-7, 1.0 - 1e-4, 0.0, -1.0 + 1e-4, -1.0 + 1e-7, -1.0, -1.0 - 1e-6]
    cosine = torch.tensor(ends, dtype=dtype, requires_grad=True)
    made = own(cosine)
    assert made.dtype == torch.float32
    assert made.isfinite().all()
    made.sum().backward()
    assert cosine.grad is not None
    assert cosine.grad.isfinite().all()
    assert cosine.grad.abs().max() < 64 * 707 * 4
    assert torch.equal(cosine.grad, cosine.grad.clamp(min=0)), "a higher cosine must never lower the logit"


@every_margin
def test_an_embedding_on_its_centre_or_opposite_trains_on(own: OwnCosine) -> None:
    head = MarginHead(classes=3, dimensions=4, own=own)
    with torch.no_grad():
        embeddings = torch.stack([head.centres[0], -head.centres[1], 1e-4 * head.centres[2]])
    embeddings.requires_grad_(True)
    head(embeddings, torch.arange(3)).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert head.centres.grad is not None
    assert head.centres.grad.isfinite().all()


def theirs(name: str, margin: float, scale: float) -> Any:
    """The same loss by pytorch-metric-learning; its ArcFace takes degrees, its SphereFace multiplies by the length."""
    if name == "cosface":
        return losses.CosFaceLoss(6, 16, margin=margin, scale=scale)
    if name == "arcface":
        return losses.ArcFaceLoss(6, 16, margin=math.degrees(margin), scale=scale)
    return losses.SphereFaceLoss(6, 16, margin=int(margin), scale=scale)


@pytest.mark.parametrize(
    ("name", "margin"), [("cosface", 0.4), *(("arcface", m) for m in (0.25, 0.5, 1.5)), ("sphereface", 4.0)]
)
@pytest.mark.parametrize("scale", [1.0, 64.0])
def test_against_pytorch_metric_learning(
    name: str, margin: float, scale: float, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    embeddings, centres, labels = batch[0].double(), batch[1].double(), batch[2]
    mine, other = normalize(embeddings).requires_grad_(True), normalize(embeddings).requires_grad_(True)
    head = MarginHead(6, 16, margin_named(name, [margin]), scale).double()
    reference = theirs(name, margin, scale).double()
    with torch.no_grad():
        head.centres.copy_(centres)
        reference.W.copy_(centres.T)
    loss, expected = head(mine, labels), reference(other, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    expected.backward()
    gradient = other.grad
    if name == "sphereface":  # theirs has a second part, along the embedding: its length is in the loss
        along = (gradient * normalize(embeddings)).sum(dim=1, keepdim=True) * normalize(embeddings)
        gradient = gradient - along
    torch.testing.assert_close(mine.grad, gradient, rtol=1e-3, atol=1e-4 * scale)
    torch.testing.assert_close(head.centres.grad, reference.W.grad.T, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("margin", [0.2, 1.5])
def test_triplet_against_pytorch_metric_learning(margin: float, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    embeddings, _, labels = batch
    mine, other = embeddings.clone().requires_grad_(True), embeddings.clone().requires_grad_(True)
    distance = distances.LpDistance(normalize_embeddings=True, p=2, power=2)
    triplets = miners.BatchHardMiner(distance=distance)(other.detach(), labels)
    reference = losses.TripletMarginLoss(margin=margin, distance=distance, reducer=reducers.MeanReducer())
    loss, expected = batch_hard_triplet(mine, labels, margin), reference(other, labels, triplets)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_triplet_by_hand() -> None:
    embeddings = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.6, 0.8]])
    labels = torch.tensor([0, 0, 1, 2])
    # Anchors are the two of person 0: d² to each other 2; nearest others at 2 - 2·0.6 and 2 - 2·0.8.
    expected = ((1.5 + 2.0 - 0.8) + (1.5 + 2.0 - 0.4)) / 2
    assert float(batch_hard_triplet(embeddings, labels)) == pytest.approx(expected, rel=1e-6)
    assert float(batch_hard_triplet(embeddings.bfloat16(), labels)) == pytest.approx(expected, rel=0.01)


def test_triplet_gradient_is_that_of_finite_differences() -> None:
    embeddings = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(8) // 2
    assert torch.autograd.gradcheck(lambda x: batch_hard_triplet(x, labels), (embeddings,))
    equal = torch.ones(4, 5, requires_grad=True)
    batch_hard_triplet(equal, labels[:4]).backward()
    assert equal.grad is not None
    assert equal.grad.isfinite().all()


@pytest.mark.parametrize(("labels", "words"), [([0, 1, 2], "a second photo of anyone"), ([1, 1, 1], "another person")])
def test_a_batch_without_triplet_is_refused(labels: list[int], words: str) -> None:
    with pytest.raises(UserError, match=f"a batch of 3 faces holds no triplet: {words}.*is missing"):
        batch_hard_triplet(torch.randn(3, 4), torch.tensor(labels))


def test_margins_by_name() -> None:
    cosine = torch.linspace(-0.9, 0.9, 7)
    torch.testing.assert_close(margin_named("cosface")(cosine), cosine - 0.4)
    torch.testing.assert_close(margin_named("arcface", (0.25,))(cosine), arcface(cosine, 0.25))
    torch.testing.assert_close(margin_named("combined", (1.0, 0.3, 0.2))(cosine), combined(cosine, 1.0, 0.3, 0.2))
    for name in MARGINS:
        assert margin_named(name)(cosine).shape == cosine.shape


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("softmax", (), r"--loss softmax is not a margin loss: expected one of cosface, arcface"),
        ("combined", (0.5,), r"--loss combined takes 3 margin\(s\), found 1: --margin 0\.5"),
        ("cosface", (-0.1,), r"--margin -0\.1: expected 0 or more"),
        ("sphereface", (0.5,), r"--margin 0\.5: expected 1 or more"),
        ("arcface", (28.6,), r"--margin 28\.6: expected an angle below π .* in radians, not degrees"),
        ("arcface", (math.nan,), r"--margin nan"),
    ],
)
def test_bad_margins_are_refused(name: str, values: tuple[float, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        margin_named(name, values)


@pytest.mark.parametrize("name", MARGINS)
def test_ten_steps_lower_the_loss(name: str) -> None:
    torch.manual_seed(0)
    head = MarginHead(classes=3, dimensions=6, own=margin_named(name))
    embeddings, labels = torch.randn(9, 6), torch.arange(9) % 3
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    made = []
    for _ in range(10):
        loss = head(embeddings, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.append(float(loss.detach()))
    assert made[-1] < made[0]
