"""Partial FC: the full softmax at a sampling rate of 1, in one process and in two; what sampling leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.nn.parallel import DistributedDataParallel

from common.errors import UserError
from facial_rec.distributed import Place, joined_processes
from facial_rec.margin import MarginHead, OwnCosine, arcface, combined, cosface, margin_logits, sphereface
from facial_rec.partial_fc import AdamW, PartialFC

CPU = torch.device("cpu")
CLASSES, DIMENSIONS, FACES = 11, 8, 12
MARGINS = [partial(cosface, margin=0.4), partial(arcface, margin=1.5), sphereface, partial(combined, m2=0.3, m3=0.2)]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(CLASSES, (FACES,), generator=generator)
    return torch.randn(FACES, DIMENSIONS, generator=generator), labels


def head_like(partial_fc: PartialFC) -> MarginHead:
    head = MarginHead(CLASSES, DIMENSIONS, partial_fc.own, partial_fc.scale).to(partial_fc.centres.dtype)
    with torch.no_grad():
        head.centres.copy_(partial_fc.centres)
    return head


@pytest.mark.parametrize("own", MARGINS, ids=["cosface", "arcface", "sphereface", "combined"])
def test_sampling_everything_is_the_full_softmax(own: OwnCosine, batch: tuple[Tensor, Tensor]) -> None:
    """Loss, gradients and the centres after several steps of torch's own AdamW."""
    embeddings, labels = batch[0].double(), batch[1]
    mine = PartialFC(CLASSES, DIMENSIONS, own, optimiser=AdamW(weight_decay=0.05)).double()
    full = head_like(mine)
    optimizer = torch.optim.AdamW(full.parameters(), lr=0.01, weight_decay=0.05)
    for step in range(5):
        one, other = (embeddings.clone().requires_grad_(True) for _ in range(2))
        loss, expected = mine(one, labels, step), full(other, labels)
        torch.testing.assert_close(loss, expected)
        loss.backward()
        optimizer.zero_grad()
        expected.backward()
        torch.testing.assert_close(one.grad, other.grad)
        assert mine._active is not None
        torch.testing.assert_close(mine._active.grad, full.centres.grad)
        mine.update(0.01)
        optimizer.step()
        torch.testing.assert_close(mine.centres, full.centres.detach())


def test_the_gradient_is_that_of_finite_differences(batch: tuple[Tensor, Tensor]) -> None:
    mine = PartialFC(CLASSES, DIMENSIONS, sphereface, scale=4.0).double()
    embeddings, direction = batch[0].double(), torch.randn(batch[0].shape, dtype=torch.float64)
    given = embeddings.clone().requires_grad_(True)
    loss = mine(given, batch[1])
    loss.backward(retain_graph=True)
    assert given.grad is not None
    ahead, behind = (float(mine(embeddings + size * direction, batch[1]).detach()) for size in (1e-6, -1e-6))
    assert float((given.grad * direction).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)
    with pytest.raises(RuntimeError, match="a second backward pass: call forward again"):
        loss.backward()


def test_some_classes_are_sampled_the_ones_present_always(batch: tuple[Tensor, Tensor]) -> None:
    embeddings, _ = batch
    labels = torch.arange(FACES) % 3 + 4
    mine = PartialFC(CLASSES, DIMENSIONS, MARGINS[0], sampling=0.5)
    before, seen = mine.centres.clone(), set()
    for step in range(20):
        given = embeddings.clone().requires_grad_(True)
        loss = mine(given, labels, step)
        rows = mine._rows
        assert rows is not None
        assert len(rows) == round(0.5 * CLASSES)
        assert {4, 5, 6} <= set(rows.tolist())
        seen |= set(rows.tolist())
        cosine, columns = normalize(embeddings) @ normalize(mine.centres[rows]).T, torch.searchsorted(rows, labels)
        expected = cross_entropy(margin_logits(cosine, columns, mine.own), columns)
        torch.testing.assert_close(loss.detach(), expected)
    assert seen == set(range(CLASSES))
    loss.backward()
    mine.update(0.1)
    moved = (mine.centres != before).any(dim=1)
    assert set(moved.nonzero()[:, 0].tolist()) == set(rows.tolist())
    assert torch.equal(mine.updates > 0, moved)


def test_more_people_in_a_batch_than_sampled_are_all_kept(batch: tuple[Tensor, Tensor]) -> None:
    mine = PartialFC(CLASSES, DIMENSIONS, MARGINS[0], sampling=0.1)
    mine(batch[0], torch.arange(FACES) % 9)
    assert mine._rows is not None
    assert mine._rows.tolist() == list(range(9))


def test_of_few_people_one_is_sampled_at_least() -> None:
    mine = PartialFC(4, DIMENSIONS, MARGINS[0], sampling=0.1)
    rows = mine._sample(torch.tensor([], dtype=torch.int64), 0)
    assert rows is not None
    assert len(rows) == 1


def test_a_step_samples_what_its_number_and_seed_say(batch: tuple[Tensor, Tensor]) -> None:
    def rows(seed: int, step: int) -> list[int]:
        mine = PartialFC(1000, DIMENSIONS, MARGINS[0], sampling=0.1, seed=seed)
        mine(batch[0], batch[1], step)
        assert mine._rows is not None
        return mine._rows.tolist()

    assert rows(0, 3) == rows(0, 3)
    assert rows(0, 3) != rows(0, 4)
    assert rows(0, 3) != rows(1, 3)


@pytest.mark.parametrize("world", [2, 3])
def test_a_class_starts_from_the_same_centre_in_any_number_of_processes(world: int) -> None:
    whole = PartialFC(40_000, 4, MARGINS[0]).centres
    places = [Place(CPU, rank, world) for rank in range(world)]
    shares = [PartialFC(40_000, 4, MARGINS[0], place=place).centres for place in places]
    assert torch.equal(torch.cat(shares), whole)
    assert float(whole.std()) == pytest.approx(0.01, rel=0.02)


def test_bfloat16_embeddings_at_the_ends_give_finite_gradients() -> None:
    mine = PartialFC(CLASSES, DIMENSIONS, partial(arcface, margin=0.5))
    ends = torch.cat([mine.centres[:4], -mine.centres[4:8]]).bfloat16().requires_grad_(True)
    loss = mine(ends, torch.arange(8))
    loss.backward()
    assert ends.grad is not None
    assert loss.isfinite()
    assert ends.grad.isfinite().all()
    assert mine._active is not None
    assert mine._active.grad is not None
    assert mine._active.grad.isfinite().all()


def test_the_state_goes_on_where_it_was(batch: tuple[Tensor, Tensor]) -> None:
    def run(head: PartialFC, steps: range) -> list[float]:
        made = []
        for step in steps:
            loss = head(batch[0].clone().requires_grad_(True), batch[1], step)
            loss.backward()
            head.update(0.05)
            made.append(float(loss.detach()))
        return made

    whole = run(PartialFC(CLASSES, DIMENSIONS, MARGINS[0], sampling=0.6), range(6))
    first = PartialFC(CLASSES, DIMENSIONS, MARGINS[0], sampling=0.6)
    begun = run(first, range(3))
    second = PartialFC(CLASSES, DIMENSIONS, MARGINS[0], sampling=0.6)
    second.load_state_dict(first.state_dict())
    assert begun + run(second, range(3, 6)) == whole
    assert whole[-1] < whole[0]


def faces_of(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(FACES, 6, generator=generator), torch.randint(CLASSES, (FACES,), generator=generator)


def in_shares() -> tuple[list[float], list[Any], list[Any]]:
    """A linear network under DDP and its class centres, five steps: losses, weights, this process's centres."""
    with joined_processes(CPU) as place:
        torch.manual_seed(0)
        network = nn.Linear(6, DIMENSIONS)
        model = DistributedDataParallel(network)
        head = PartialFC(CLASSES, DIMENSIONS, MARGINS[3], place=place)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        losses, share = [], FACES // place.world
        for step in range(5):
            faces, labels = faces_of(step)
            mine = slice(place.rank * share, (place.rank + 1) * share)
            loss = head(model(faces[mine]), labels[mine], step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            head.update(0.01)
            losses.append(float(loss.detach()))
        return losses, network.weight.tolist(), head.centres.tolist()


def full_softmax() -> tuple[list[float], Tensor, Tensor]:
    """The same in one process, with the full softmax and torch's AdamW."""
    torch.manual_seed(0)
    network = nn.Linear(6, DIMENSIONS)
    head = head_like(PartialFC(CLASSES, DIMENSIONS, MARGINS[3]))
    optimizers = [
        torch.optim.SGD(network.parameters(), lr=0.05),
        torch.optim.AdamW(head.parameters(), lr=0.01, weight_decay=0.05),
    ]
    losses = []
    for step in range(5):
        faces, labels = faces_of(step)
        loss = head(network(faces), labels)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses, network.weight.detach(), head.centres.detach()


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_are_the_full_softmax_too(world: int, in_processes: Callable[..., list[Any]]) -> None:
    losses, weight, centres = full_softmax()
    shares = in_processes(in_shares, world)
    for made, its_weight, _ in shares:
        assert made == pytest.approx(losses, rel=1e-5)
        torch.testing.assert_close(torch.tensor(its_weight), weight, rtol=1e-3, atol=1e-5)
    assert [len(share) for *_, share in shares] == ([5, 6] if world == 2 else [3, 4, 4])
    together = torch.cat([torch.tensor(share) for *_, share in shares])
    torch.testing.assert_close(together, centres, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sampling", [0.0, 1.2, -0.1, math.nan])
def test_bad_sampling_rates_are_refused(sampling: float) -> None:
    with pytest.raises(UserError, match=r"--sampling .*: expected a fraction above 0, up to 1"):
        PartialFC(CLASSES, DIMENSIONS, MARGINS[0], sampling=sampling)


def test_fewer_people_than_processes_are_refused() -> None:
    with pytest.raises(UserError, match="3 people cannot be shared by 4 processes: use fewer"):
        PartialFC(3, DIMENSIONS, MARGINS[0], place=Place(CPU, 0, 4))


def test_an_update_needs_a_backward_pass(batch: tuple[Tensor, Tensor]) -> None:
    mine = PartialFC(CLASSES, DIMENSIONS, MARGINS[0])
    with pytest.raises(RuntimeError, match="forward and backward come first"):
        mine.update(0.1)
