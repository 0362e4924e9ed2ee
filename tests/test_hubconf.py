"""hubconf.py: torch.hub finds every published EdgeFace, with and without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from facial_rec.edgeface import VARIANTS, count_parameters, get_model
from pipeline.networks import DEFAULT_EDGEFACE

REPOSITORY = str(Path(__file__).resolve().parents[1])
PUBLISHED = [name for name in VARIANTS if name != "edgeface_tiny"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with its own checkpoints/, and none of the repository's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.paths.REPOSITORY_ROOT", tmp_path / "repository")
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def load(name: str, **options: bool) -> torch.nn.Module:
    return torch.hub.load(REPOSITORY, name, source="local", **options)


@pytest.mark.parametrize("name", PUBLISHED)
def test_architecture_without_weights(name: str) -> None:
    with torch.device("meta"):
        model, expected = load(name, pretrained=False), get_model(name)
    assert not model.training
    assert count_parameters(model) == count_parameters(expected)


def test_weights_come_from_checkpoints(elsewhere: Path) -> None:
    source = get_model("edgeface_xxs").eval()
    torch.save(source.state_dict(), elsewhere / "edgeface_xxs.pt")
    x = torch.rand(1, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        assert torch.equal(load("edgeface_xxs")(x), source(x))


def test_the_fine_tuned_network_comes_from_its_own_file(elsewhere: Path) -> None:
    source = get_model("edgeface_xxs")
    assert count_parameters(load("edgeface_xxs_dsr", pretrained=False)) == count_parameters(source)
    with pytest.raises(UserError, match=rf"{DEFAULT_EDGEFACE} is missing from checkpoints/"):
        load("edgeface_xxs_dsr")
    torch.save(source.state_dict(), elsewhere / DEFAULT_EDGEFACE)
    loaded = load("edgeface_xxs_dsr").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in source.state_dict().items())


def test_another_network_under_the_name_is_refused(elsewhere: Path) -> None:
    torch.save(get_model("edgeface_tiny").state_dict(), elsewhere / "edgeface_xxs.pt")
    with pytest.raises(UserError, match=r"edgeface_xxs\.pt does not fit this EdgeFace: \d+ missing"):
        load("edgeface_xxs")


def test_real_int8_weights_load(shared: Path, elsewhere: Path) -> None:
    (elsewhere / "edgeface_xxs_q.pt").write_bytes((shared / "weights" / "edgeface_xxs_q.pt").read_bytes())
    assert count_parameters(load("edgeface_xxs_q")) == 1_244_744
