"""facial_rec.train_augment: each change alone, how often each is drawn, and batches in shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from facial_rec.train_augment import AUGMENTATIONS, Augmentation, Changes, changed, draw_changes

NONE = AUGMENTATIONS["none"]


@pytest.fixture
def faces() -> Tensor:
    return torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(2))


def drawn(how: Augmentation, count: int = 4, seed: int = 0) -> Changes:
    return draw_changes(count, how, torch.Generator().manual_seed(seed))


def test_none_leaves_faces_as_they_are(faces: Tensor) -> None:
    assert torch.equal(changed(faces.clone(), drawn(NONE)), faces)


def test_mirrored(faces: Tensor) -> None:
    assert torch.equal(changed(faces.clone(), drawn(replace(NONE, flip=1.0))), faces.flip(3))
    changes = drawn(AUGMENTATIONS["flip"], 4, seed=1)
    made = changed(faces.clone(), changes)
    for index, flipped in enumerate(changes.flipped.tolist()):
        assert torch.equal(made[index], faces[index].flip(2) if flipped else faces[index])
    assert 0 < int(changes.flipped.sum()) < 4


def test_blurred_more_with_a_larger_sigma(faces: Tensor) -> None:
    changes = replace(drawn(NONE), sigma=torch.tensor([0.0, 0.5, 1.0, 1.5]))
    made = changed(faces.clone(), changes)
    sharpness = made.diff(dim=3).abs().mean(dim=(1, 2, 3)).tolist()
    assert torch.equal(made[0], faces[0])
    assert sharpness == sorted(sharpness, reverse=True)
    assert made.mean(dim=(1, 2, 3)) == pytest.approx(faces.mean(dim=(1, 2, 3)), abs=1e-2)


def test_shrunk_faces_lose_detail_and_keep_their_place(faces: Tensor) -> None:
    smooth = torch.linspace(0, 1, 112).expand(4, 3, 112, 112).contiguous()
    changes = replace(drawn(NONE), side=torch.tensor([112.0, 96.0, 72.0, 56.0]))
    assert (changed(smooth.clone(), changes) - smooth).abs().max() < 0.02
    made = changed(faces.clone(), changes)
    detail = made.diff(dim=3).abs().mean(dim=(1, 2, 3)).tolist()
    assert torch.equal(made[0], faces[0])
    assert detail == sorted(detail, reverse=True)


def test_grey_is_grey_and_colour_moves_within_its_bounds(faces: Tensor) -> None:
    grey = changed(faces.clone(), drawn(replace(NONE, grey=1.0)))
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 1], grey[:, 2])
    torch.testing.assert_close(
        grey[:, 0], torch.einsum("bchw,c->bhw", faces, torch.tensor([0.299, 0.587, 0.114])), atol=1e-3, rtol=0
    )
    brighter = replace(drawn(NONE), brightness=torch.full((4,), 0.8))
    torch.testing.assert_close(changed(faces.clone(), brighter), faces * 0.8, atol=1e-3, rtol=0)
    coloured = changed(faces.clone(), drawn(replace(NONE, colour=1.0)))
    assert (coloured != faces).any(dim=1).float().mean() > 0.9
    assert coloured.min() >= 0
    assert coloured.max() <= 1


def test_changes_are_as_frequent_as_asked() -> None:
    changes = drawn(Augmentation(), 20_000)
    shares = {
        "flip": changes.flipped,
        "blur": changes.sigma > 0,
        "resize": changes.side < 112,
        "grey": changes.grey,
        "colour": changes.brightness != 1,
    }
    for name, share in shares.items():
        assert float(share.float().mean()) == pytest.approx(getattr(Augmentation(), name), abs=0.015), name
    assert set(changes.side.int().tolist()) == {*range(56, 112, 8), 112}
    assert float(changes.sigma.max()) <= 1.5
    assert float((changes.saturation - 1).abs().max()) <= 0.2


def test_shares_of_a_batch_are_changed_as_the_whole(faces: Tensor) -> None:
    changes = drawn(replace(Augmentation(), blur=0.5, resize=0.5, colour=0.5), 4, seed=3)
    whole = changed(faces.clone(), changes)
    shares = [changed(faces[start : start + 2].clone(), changes[start : start + 2]) for start in (0, 2)]
    torch.testing.assert_close(torch.cat(shares), whole)
    again = changed(faces.clone(), drawn(replace(Augmentation(), blur=0.5, resize=0.5, colour=0.5), 4, seed=3))
    assert torch.equal(again, whole)
