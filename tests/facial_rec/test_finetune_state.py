"""One step of fine-tuning: who learns and who does not, with each loss and each restraint."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import UserError
from facial_rec.edgeface import EdgeFace, get_model
from facial_rec.finetune_augment import AUGMENTATIONS
from facial_rec.finetune_losses import LossWeights
from facial_rec.finetune_state import Batch, RunState, Teaching, averaged_state, embed_batch, learning_rate, train_step
from facial_rec.finetune_student import fill_centres, fresh_state, load_teacher, make_loss
from facial_rec.identities import Identities

CPU = torch.device("cpu")
PEOPLE = torch.tensor([0, 0, 1, 1, 2, 2, -1, -1])
DISTILLATION = LossWeights(1.0, 1.0)
EVERYTHING = LossWeights(1.0, 1.0, margin=0.02, octuplet=0.1)


def coarse(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Block means in place of a restoration."""
    small = nn.functional.adaptive_avg_pool2d(images, 14)
    return nn.functional.interpolate(small, size=112, mode="nearest")


@pytest.fixture
def pixels() -> torch.Tensor:
    """Each person a coarse pattern, each photo its own noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = (
        torch.randint(30, 220, (5, 3, 14, 14), generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    )
    noise = torch.randn(8, 3, 112, 112, generator=generator) * 20
    return (patterns[[0, 0, 1, 1, 2, 2, 3, 4]] + noise).clamp(0, 255).to(torch.uint8)


Make = Callable[..., tuple[RunState, Teaching]]


@pytest.fixture
def make(float_file: Path) -> Make:
    def make(weights: LossWeights = DISTILLATION, rate: float = 1e-3, **changes: Any) -> tuple[RunState, Teaching]:
        teacher, original = load_teacher(str(float_file), CPU)
        loss = make_loss(weights, Identities(PEOPLE, PEOPLE, ("a", "b", "c")), 2.0, 0.4)
        options = {"layer_decay": 1.0, "weight_decay": 0.0, "ema_decay": 0.9, "adapter_rank": 0, **changes}
        state = fresh_state(original, loss, rate, device=CPU, **options)
        return state, Teaching(teacher, coarse, AUGMENTATIONS["none"])

    return make


def batch(pixels: torch.Tensor, seed: int = 0) -> Batch:
    return Batch(pixels, PEOPLE, PEOPLE, torch.Generator().manual_seed(seed))


def ten_steps(state: RunState, teaching: Teaching, pixels: torch.Tensor, rate: float = 1e-3) -> list[dict[str, float]]:
    return [train_step(state, teaching, batch(pixels, step), rate, CPU) for step in range(10)]


@pytest.mark.parametrize(
    ("weights", "changes"),
    [
        (DISTILLATION, {}),
        (LossWeights(1.0, 0.0), {}),
        (LossWeights(0.0, 0.0, margin=1.0), {}),
        (LossWeights(0.0, 0.0, octuplet=1.0), {}),
        (EVERYTHING, {}),
        (DISTILLATION, {"layer_decay": 0.7}),
        (DISTILLATION, {"adapter_rank": 4}),
    ],
    ids=str,
)
def test_ten_steps_lower_the_loss(
    make: Make, pixels: torch.Tensor, weights: LossWeights, changes: dict[str, Any]
) -> None:
    losses = ten_steps(*make(weights, **changes), pixels)
    assert losses[-1]["loss"] < losses[0]["loss"]


def test_frozen_networks_get_no_gradient_and_do_not_change(make: Make, pixels: torch.Tensor) -> None:
    state, teaching = make(EVERYTHING)
    before = {name: value.clone() for name, value in teaching.teacher.state_dict().items()}
    started = averaged_state(state)
    ten_steps(state, teaching, pixels)
    assert all(torch.equal(value, before[name]) for name, value in teaching.teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teaching.teacher.parameters())
    assert not teaching.teacher.training
    moved = [name for name, value in averaged_state(state).items() if not torch.equal(value, started[name])]
    assert len(moved) == len(started)


def test_a_fresh_student_is_the_original(make: Make, pixels: torch.Tensor) -> None:
    state, teaching = make(adapter_rank=4)
    seen = embed_batch(state.student, teaching, batch(pixels), CPU)
    torch.testing.assert_close(seen.hr, seen.targets, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(seen.sr, seen.targets, atol=1e-2)
    original = {key.removeprefix("network."): value for key, value in teaching.teacher.state_dict().items()}
    assert all(torch.equal(value, original[key]) for key, value in averaged_state(state).items())


def test_adapters_learn_and_their_base_does_not(make: Make, pixels: torch.Tensor) -> None:
    state, teaching = make(adapter_rank=2)
    before = {name: value.clone() for name, value in state.student.state_dict().items()}
    ten_steps(state, teaching, pixels)
    for name, value in state.student.state_dict().items():
        assert torch.equal(value, before[name]) != name.endswith((".up", ".down"))


def test_part_of_the_batch_is_seen_in_hr(make: Make, pixels: torch.Tensor) -> None:
    state, teaching = make()
    for share, expected in ((0.5, 4), (0.3, 3), (0.0, 0)):
        some = Teaching(teaching.teacher, coarse, AUGMENTATIONS["strong"], share)
        seen = embed_batch(state.student, some, batch(pixels), CPU)
        assert (len(seen.sr), len(seen.hr)) == (8, expected)


def test_bf16_gives_nearly_the_embeddings_of_fp32_and_leaves_weights_in_fp32(make: Make, pixels: torch.Tensor) -> None:
    state, teaching = make()
    mixed = replace(teaching, mixed_precision=True)
    full, half = (embed_batch(state.student, how, batch(pixels), CPU) for how in (teaching, mixed))
    assert not torch.equal(half.sr, full.sr)
    assert torch.equal(half.targets, full.targets), "the teacher stays exact"
    for ours, theirs in ((half.sr, full.sr), (half.hr, full.hr)):
        assert ours.dtype == torch.float32
        assert float(nn.functional.cosine_similarity(ours, theirs).min()) > 0.99
    losses = ten_steps(state, mixed, pixels)
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert all(value.dtype == torch.float32 for value in state.student.state_dict().values())


def test_a_stranger_is_of_no_person(make: Make, pixels: torch.Tensor) -> None:
    state, teaching = make()
    for share, expected in ((1.0, [-1] * 8), (0.0, PEOPLE.tolist())):
        how = replace(AUGMENTATIONS["none"], stranger=share)
        seen = embed_batch(state.student, replace(teaching, augmentation=how), batch(pixels), CPU)
        assert seen.people.tolist() == seen.classes.tolist() == expected


def test_same_seed_same_losses(make: Make, pixels: torch.Tensor) -> None:
    how = replace(AUGMENTATIONS["strong"], stranger=0.5)
    runs = [ten_steps(state, Teaching(t.teacher, coarse, how), pixels) for state, t in (make(), make())]
    assert runs[0] == runs[1]


def test_means_count_each_term_where_it_was(make: Make) -> None:
    state, _ = make()
    state.count({"loss": 1.0, "octuplet": 0.5})
    state.count({"loss": 3.0})
    assert state.means() == {"loss": 2.0, "octuplet": 0.5}


def test_centres_start_at_the_means_of_the_originals_embeddings(make: Make, pixels: torch.Tensor) -> None:
    state, teaching = make(EVERYTHING)
    head = state.loss.head
    assert head is not None
    fill_centres(state.loss, teaching.teacher, lambda rows: pixels[torch.as_tensor(rows)], PEOPLE, CPU)
    with torch.no_grad():
        unit = nn.functional.normalize(teaching.teacher(pixels.float() / 255))
    for person in range(3):
        expected = nn.functional.normalize(unit[person == PEOPLE].sum(0), dim=0)
        torch.testing.assert_close(head.centres[person].detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_before_the_step(make: Make, pixels: torch.Tensor, where: str) -> None:
    state, teaching = make()
    if where == "loss":
        with torch.no_grad():
            next(state.student.parameters()).fill_(float("nan"))
    else:
        next(state.student.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    before = {name: value.clone() for name, value in state.student.state_dict().items()}
    with pytest.raises(UserError, match=rf"the {where} became nan at step 0\. The last checkpoint is whole"):
        train_step(state, teaching, batch(pixels), 1e-3, CPU)
    assert all(torch.equal(v.nan_to_num(), before[n].nan_to_num()) for n, v in state.student.state_dict().items())
    assert state.step == 0


def test_rates_scale_with_the_layer(make: Make, pixels: torch.Tensor) -> None:
    state, teaching = make(layer_decay=0.5)
    train_step(state, teaching, batch(pixels), 0.2, CPU)
    rates = [group["lr"] for group in state.optimizer.param_groups]
    assert max(rates) == pytest.approx(0.2)
    assert min(rates) == pytest.approx(0.2 * 0.5**8)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 20, 1.0, 4) for step in range(21)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))
    assert rates[20] == pytest.approx(0.0)


@pytest.mark.parametrize("name", ["edgeface_tiny", "edgeface_xxs", "edgeface_xs_gamma_06"])
def test_no_layer_of_edgeface_behaves_otherwise_in_training(name: str) -> None:
    network: EdgeFace = get_model(name)
    assert not [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    assert all(m.p == 0 for m in network.modules() if isinstance(m, nn.Dropout))
    images = torch.rand(2, 3, 112, 112)
    assert torch.equal(network.train()(images), network.eval()(images))
