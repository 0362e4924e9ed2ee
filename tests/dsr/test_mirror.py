"""dsr.mirror: the same weights, averaged over both mirror images, as a file that every command takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.files import sha256_of
from dsr import mirror
from dsr.checkpoint import load_dsr, save_dsr
from dsr.model import PRESETS, Dsr


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Dsr(PRESETS["tiny"])
    torch.nn.init.normal_(model.last.weight, std=0.02)
    save_dsr(tmp_path / "plain.pt", model, {"epoch": 3})
    return tmp_path / "plain.pt"


def test_the_file_is_the_same_network_over_both_mirror_images(plain: Path, tmp_path: Path) -> None:
    made = mirror.main(mirror.Config(str(plain), tmp_path / "new" / "mirrored.pt"))
    (model, info), (before, source) = load_dsr(made), load_dsr(plain)
    assert made == tmp_path / "new" / "mirrored.pt"
    assert info.config.mirrored
    assert info.metadata == {"plain": {"epoch": 3}, "plain_sha256": source.sha256}, "the figures are not its own"
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.state_dict().items())
    low = torch.rand(2, 3, 16, 16)
    expected = (before.train()(low) + before(low.flip(3)).flip(3)) / 2
    torch.testing.assert_close(model.train()(low), expected, atol=1e-5, rtol=0)


def test_it_says_what_it_cannot_do(plain: Path, tmp_path: Path) -> None:
    before = sha256_of(plain)
    with pytest.raises(UserError, match=r"plain\.pt is the DSR that is read: give another name"):
        mirror.main(mirror.Config(str(plain), plain))
    assert sha256_of(plain) == before
    made = mirror.main(mirror.Config(str(plain), tmp_path / "mirrored.pt"))
    with pytest.raises(UserError, match=r"mirrored\.pt averages over both mirror images already"):
        mirror.main(mirror.Config(str(made), tmp_path / "again.pt"))
    assert not (tmp_path / "again.pt").exists()
    with pytest.raises(UserError, match="is a folder: expected the name of a file to write"):
        mirror.main(mirror.Config(str(plain), tmp_path))
    with pytest.raises(UserError, match=r"none\.pt is missing"):
        mirror.main(mirror.Config(str(tmp_path / "none.pt"), tmp_path / "again.pt"))
