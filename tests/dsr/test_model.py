"""dsr.model: bicubic before training, one network for every size, and it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from common.errors import UserError
from dsr.degradation import canonical_reduce
from dsr.model import PRESETS, Dsr, DsrConfig, OverlappingCells, preset
from facial_rec.edgeface import count_parameters

TINY = PRESETS["tiny"]


def low_faces(size: int, count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def trained(config: DsrConfig = TINY) -> Dsr:
    """A network whose last layer is no longer zero."""
    torch.manual_seed(0)
    model = Dsr(config)
    torch.nn.init.normal_(model.last.weight, std=0.02)
    torch.nn.init.normal_(model.position, std=0.1)
    torch.nn.init.normal_(model.coarseness, std=0.1)
    return model


@pytest.mark.parametrize("name", ["default", "separate", "mirrored", "tiny"])
@pytest.mark.parametrize("size", [8, 16, 37, 64])
def test_untrained_is_bicubic(name: str, size: int) -> None:
    low = low_faces(size)
    bicubic = F.interpolate(low, size=(112, 112), mode="bicubic", align_corners=False)
    model = Dsr(preset(name))
    assert torch.equal(model.train()(low), bicubic)
    assert torch.equal(model.eval()(low), bicubic.clamp(0, 1))
    assert bool((bicubic > 1).any()), "the clamp was not tested"


def test_every_size_gives_112() -> None:
    model = trained().eval()
    with torch.no_grad():
        for size in range(8, 65):
            assert model(low_faces(size, count=1)).shape == (1, 3, 112, 112)


@pytest.mark.parametrize(
    "shape", [(1, 3, 7, 7), (1, 3, 65, 65), (1, 3, 16, 24), (1, 1, 16, 16), (3, 16, 16), (1, 16, 16, 3), (16,)]
)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"\(B, 3, n, n\) with n from 8 to 64, found \(" + ", ".join(map(str, shape))):
        trained()(torch.zeros(shape))


def test_sizes_of_the_presets() -> None:
    count = {name: count_parameters(Dsr(config)) for name, config in PRESETS.items()}
    assert count["tiny"] < count["separate"] < count["default"] < 1_000_000 < count["large"]
    assert count["mirrored"] == count["default"]


@pytest.mark.parametrize("cell", [4, 8, 14])
def test_other_cells_work(cell: int) -> None:
    assert trained(replace(TINY, cell=cell))(low_faces(16)).shape == (2, 3, 112, 112)


def test_a_cell_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="a grid cell of 9 pixels does not divide 112"):
        Dsr(replace(TINY, cell=9))


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(UserError, match="'huge' is unknown: expected one of default, large, tiny, separate, mirrored"):
        preset("huge")


@pytest.mark.parametrize("overlap", [-1, 4])
def test_an_overlap_of_more_than_half_a_cell_is_refused(overlap: int) -> None:
    with pytest.raises(UserError, match=f"an overlap of {overlap} pixels: expected 0 to 3"):
        Dsr(replace(TINY, overlap=overlap))


def test_cells_that_overlap_add_up() -> None:
    """Against torch's own overlap-add of patches."""
    last = OverlappingCells(5, 7, 2)
    torch.nn.init.normal_(last.weight)
    torch.nn.init.normal_(last.tile)
    features = torch.randn(2, 5, 16, 16)
    patches = torch.einsum("bcn,cpij->bpijn", features.flatten(2), last.weight).reshape(2, 3 * 11 * 11, 256)
    expected = F.fold(patches, (112, 112), 11, stride=7, padding=2)
    expected = expected + last.tile.repeat(1, 1, 16, 16)
    torch.testing.assert_close(last(features), expected)


def test_a_change_in_one_cell_reaches_over_its_border_only_with_overlap() -> None:
    for overlap, first, end in ((0, 21, 28), (2, 19, 30)):
        model = trained(replace(TINY, overlap=overlap))
        features = torch.zeros(1, 16, 16, 16)
        features[:, :, 3, 3] = 1.0
        changed = model.last(features) != model.last(torch.zeros_like(features))
        rows = changed.any(dim=(0, 1, 3)).nonzero().flatten().tolist()
        assert rows == list(range(first, end))


def multiply_adds(model: torch.nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


def test_the_default_costs_no_more_than_105_million_multiply_adds() -> None:
    """What keeps a chain below twice the time of EdgeFace-XXS alone, see the README."""
    assert multiply_adds(Dsr(preset("default")).eval(), low_faces(16, 1)) < 105e6


def test_every_size_costs_the_same() -> None:
    model = Dsr(preset("default")).eval()
    assert len({multiply_adds(model, low_faces(size, 1)) for size in (8, 16, 33, 64)}) == 1


def test_a_mirrored_network_is_the_mean_over_both_mirror_images() -> None:
    plain = trained().eval()
    model = Dsr(replace(TINY, mirrored=True)).eval()
    model.load_state_dict(plain.state_dict(), strict=True)
    for size in (8, 31):
        low = low_faces(size)
        both = plain.train()(low), plain.train()(low.flip(3)).flip(3)
        assert not torch.allclose(*both, atol=1e-3), "they were to differ"
        torch.testing.assert_close(model.train()(low), (both[0] + both[1]) / 2)
        torch.testing.assert_close(model.eval()(low.flip(3)), model(low).flip(3))


def test_a_mirrored_network_costs_twice_and_weighs_the_same() -> None:
    plain, mirrored = Dsr(TINY).eval(), Dsr(replace(TINY, mirrored=True)).eval()
    low = low_faces(16, 1)
    assert multiply_adds(mirrored, low) == 2 * multiply_adds(plain, low)
    assert count_parameters(mirrored) == count_parameters(plain)


def test_the_size_is_an_input() -> None:
    model = trained().eval()
    flat = [torch.full((1, 3, size, size), 0.5) for size in (8, 64)]
    assert not torch.equal(model(flat[0]), model(flat[1]))


def test_faces_of_a_batch_do_not_mix() -> None:
    model, low = trained().eval(), low_faces(16, 3)
    torch.testing.assert_close(model(low)[1:2], model(low[1:2]))


def test_same_seed_same_network() -> None:
    one, two = trained(), trained()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    low = low_faces(16)
    assert torch.equal(one.eval()(low), one(low))


def test_channels_last_changes_nothing() -> None:
    model, low = trained().eval(), low_faces(16)
    expected = model(low)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(low), expected)


def test_ten_steps_lower_the_loss(faces: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = Dsr(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(11):
        loss = F.l1_loss(model(canonical_reduce(faces, 16)), faces)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[10] < 0.97 * losses[0]


def test_every_parameter_gets_a_gradient(faces: torch.Tensor) -> None:
    model = trained(replace(TINY, blocks=2))
    F.mse_loss(model(canonical_reduce(faces, 24)), faces).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
