"""Changes of faces: within bounds, seeded, and each one what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from facial_rec.finetune_augment import AUGMENTATIONS, Augmentation, change_scene, make_strangers, obscure

NONE = AUGMENTATIONS["none"]


@pytest.fixture
def faces() -> torch.Tensor:
    """Smooth pictures, so that a shift by a pixel changes little and a blur less."""
    coarse = torch.rand(6, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(112, 112), mode="bicubic").clamp(0, 1)
    return smooth.mul(255).round().div(255)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_none_changes_nothing(faces: torch.Tensor) -> None:
    assert torch.equal(change_scene(faces, NONE, draws()), faces)
    assert torch.equal(obscure(faces, NONE, draws()), faces)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_seeded_and_within_bounds(faces: torch.Tensor, name: str) -> None:
    how = AUGMENTATIONS[name]
    one, again, other = (obscure(change_scene(faces, how, g), how, g) for g in (draws(), draws(), draws(1)))
    assert torch.equal(one, again)
    assert torch.equal(one, other) == (name == "none")
    assert one.shape == faces.shape
    assert bool(((one >= 0) & (one <= 1)).all())


def test_flip_mirrors_about_half(faces: torch.Tensor) -> None:
    changed = change_scene(faces, AUGMENTATIONS["flip"], draws())
    kinds = [
        "same" if torch.equal(c, f) else "mirrored" if torch.equal(c, f.flip(2)) else "?"
        for c, f in zip(changed, faces, strict=True)
    ]
    assert set(kinds) == {"same", "mirrored"}


def test_shift_moves_whole_pixels(faces: torch.Tensor) -> None:
    moved = change_scene(faces, replace(NONE, shift=4.0), draws())
    for before, after in zip(faces, moved, strict=True):
        inner = after[:, 8:-8, 8:-8]
        offsets = [
            (y, x) for y in range(4, 13) for x in range(4, 13) if torch.equal(before[:, y : y + 96, x : x + 96], inner)
        ]
        assert len(offsets) == 1


def test_growing_is_small_and_smooth(faces: torch.Tensor) -> None:
    grown = change_scene(faces, replace(NONE, grow=4.0), draws())
    difference = (grown - faces).abs().mean(dim=(1, 2, 3))
    assert bool((difference == 0).any())
    assert 0 < float(difference.max()) < 0.1


def test_light_keeps_the_picture(faces: torch.Tensor) -> None:
    lit = change_scene(faces, replace(NONE, light=0.2), draws())
    for before, after in zip(faces, lit, strict=True):
        assert float(torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]) > 0.9
        assert not torch.equal(before, after)


def test_blur_takes_detail_from_some(faces: torch.Tensor) -> None:
    noisy = (faces + 0.2 * torch.randn(faces.shape, generator=draws())).clamp(0, 1)
    seen = obscure(noisy, replace(NONE, blur=0.5), draws(1))
    detail = (
        (seen[..., 1:] - seen[..., :-1]).abs().mean((1, 2, 3)),
        (noisy[..., 1:] - noisy[..., :-1]).abs().mean((1, 2, 3)),
    )
    changed = detail[0] != detail[1]
    assert 0 < int(changed.sum()) < len(faces)
    assert bool((detail[0] < detail[1])[changed].all())


def test_erased_patches_are_modest(faces: torch.Tensor) -> None:
    seen = obscure(faces, replace(NONE, erase=1.0), draws())
    share = (seen != faces).any(1).float().mean((1, 2))
    assert bool((share > 0.005).all())
    assert float(share.max()) <= 0.31**2


STRANGERS = replace(NONE, stranger=1.0)


def test_strangers_are_seeded_within_bounds_and_only_those_said(faces: torch.Tensor) -> None:
    some = replace(NONE, stranger=0.5)
    (one, who), (again, _), (other, _) = (make_strangers(faces, some, g) for g in (draws(), draws(), draws(1)))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert bool(((one >= 0) & (one <= 1)).all())
    changed = (one != faces).flatten(1).any(1)
    assert torch.equal(changed, who)
    assert 0 < int(who.sum()) < len(faces)


def test_no_stranger_draws_nothing(faces: torch.Tensor) -> None:
    """Or the runs of earlier recipes would see other faces."""
    generator = draws()
    images, who = make_strangers(faces, NONE, generator)
    assert images is faces
    assert not bool(who.any())
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=draws()))
    assert not bool(make_strangers(faces[:1], STRANGERS, draws())[1].any()), "one face has nobody to be mixed with"


def test_a_stranger_lies_between_two_faces_in_the_first_ones_colours() -> None:
    light, dark = torch.full((1, 3, 112, 112), 0.8), torch.full((1, 3, 112, 112), 0.2)
    stripes = torch.linspace(-0.1, 0.1, 112)[None, None, None, :]
    flat = replace(STRANGERS, stranger_warp=0.0)
    made, _ = make_strangers(torch.cat([light + stripes, dark - stripes]), flat, draws())
    spread = (made - torch.cat([light, dark])).abs().amax(dim=(1, 2, 3))
    assert bool((spread <= 0.1 + 0.01).all()), "recoloured: 0.6 apart before"
    own = made[0, 0, 56] - 0.8
    assert float((own - stripes.flatten()).abs().max()) > 0.05, (
        "part of it is the other's, whose stripes rise the other way"
    )


def test_features_of_a_stranger_move_by_about_what_is_said() -> None:
    """Two equal ramps: what a pixel shows says where it came from."""
    ramp = torch.linspace(0.1, 0.9, 112).expand(40, 3, 112, 112).contiguous()
    made, _ = make_strangers(ramp, STRANGERS, draws())
    moved = (made - ramp)[..., 10:-10].mean(1) * 111 / 0.8
    deviation = float(moved.std())
    assert 0.5 * Augmentation().stranger_warp < deviation < 1.2 * Augmentation().stranger_warp
