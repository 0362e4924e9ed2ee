"""What a frozen DSR makes of faces: the sizes drawn, the rounding, and no gradient to anything."""

from __future__ import annotations

import pytest
import torch

from dsr.data import SizeChoice
from dsr.degradation import bicubic_enlarge, canonical_reduce, round_to_8bit
from dsr.model import Dsr, preset
from dsr.restored import Restorer


@pytest.fixture
def network() -> Dsr:
    """An untrained DSR, which is bicubic."""
    return Dsr(preset("tiny")).eval()


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_untrained_dsr_restores_like_bicubic(network: Dsr, faces: torch.Tensor) -> None:
    restored = Restorer(network, SizeChoice.parse(["16"])).at(faces, 24)
    torch.testing.assert_close(restored, bicubic_enlarge(canonical_reduce(faces, 24)), atol=1 / 254, rtol=0)
    assert torch.equal(restored, round_to_8bit(restored))


def test_one_size_is_drawn_for_the_batch(network: Dsr, faces: torch.Tensor) -> None:
    restorer = Restorer(network, SizeChoice.parse(["16", "32"]))
    by_size = [restorer.at(faces, size) for size in (16, 32)]
    drawn = [restorer.draw(faces, draws(seed)) for seed in range(8)]
    kinds = {next(i for i, expected in enumerate(by_size) if torch.equal(one, expected)) for one in drawn}
    assert kinds == {0, 1}
    assert torch.equal(restorer.draw(faces, draws(5)), drawn[5])


def test_realistic_degradation_is_another_picture(network: Dsr, faces: torch.Tensor) -> None:
    sizes = SizeChoice.parse(["16"])
    far = Restorer(network, sizes, realistic=1.0).draw(faces, draws())
    assert not torch.equal(far, Restorer(network, sizes).draw(faces, draws()))
    drawn = [Restorer(network, sizes, realistic=0.5).draw(faces[:1], draws(seed)) for seed in range(8)]
    canonical = sum(torch.equal(one, Restorer(network, sizes).at(faces[:1], 16)) for one in drawn)
    assert 0 < canonical < 8


def test_no_gradient_goes_through(network: Dsr, faces: torch.Tensor) -> None:
    assert not Restorer(network, SizeChoice.parse(["16"])).draw(faces.requires_grad_(), draws()).requires_grad
