"""`python -m facial_rec.export`: any EdgeFace file becomes an equal float TorchScript, or nothing is written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common import cli
from common.errors import UserError
from common.files import sha256_of
from facial_rec import export
from facial_rec.edgeface import EdgeFace, count_parameters
from facial_rec.embedder import check_gradient, load_embedder
from facial_rec.export import Config, main


def batch(size: int) -> torch.Tensor:
    return torch.rand(size, 3, 112, 112, generator=torch.Generator().manual_seed(7)) * 2 - 1


def difference(one: torch.nn.Module, other: torch.nn.Module, size: int) -> float:
    with torch.no_grad():
        return float((one(batch(size)) - other(batch(size))).abs().max())


def test_int8_torchscript_becomes_what_its_state_dict_does(
    int8_file: Path, int8_script_file: Path, tmp_path: Path
) -> None:
    """The refusal of an int8 TorchScript promises that this command mends it."""
    mended, expected = (main(Config(str(p), tmp_path / f"out_{p.name}")) for p in (int8_script_file, int8_file))
    assert difference(load_embedder(mended).network, load_embedder(expected).network, 2) <= 1e-5
    check_gradient(load_embedder(mended))


@pytest.mark.parametrize("kind", ["float_file", "int8_file", "script_file"])
def test_the_export_equals_its_source(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source = request.getfixturevalue(kind)
    out = main(Config(str(source), tmp_path / "out.pt"))
    original, exported = load_embedder(source), load_embedder(out)
    assert exported.source.kind == "torchscript"
    assert exported.source.variant == "edgeface_tiny"
    for size in (1, 3, 8):
        assert difference(original.network, exported.network, size) <= 1e-5
    assert not [value for value in exported.state_dict().values() if value.is_quantized]
    check_gradient(exported)


def test_metadata_is_inside(tiny: EdgeFace, float_file: Path, tmp_path: Path) -> None:
    extra = {"metadata.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.load(str(main(Config(str(float_file), tmp_path / "out.pt"))), _extra_files=extra)
    metadata = json.loads(extra["metadata.json"])
    assert metadata["variant"] == "edgeface_tiny"
    assert metadata["parameters"] == count_parameters(tiny)
    assert metadata["source_sha256"] == sha256_of(float_file)
    assert "x * 2 - 1" in metadata["input"]
    assert "CC BY-NC-SA 4.0" in metadata["licence"]


def test_the_same_source_gives_the_same_bytes(float_file: Path, tmp_path: Path) -> None:
    first, second = (main(Config(str(float_file), tmp_path / name)) for name in ("one.pt", "two.pt"))
    assert sha256_of(first) == sha256_of(second)


def test_command_line_end_to_end(int8_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder" / "edgeface_xxs.pt"
    cli.run(main, Config, ["--edgeface", str(int8_file), "--out", str(out)])
    printed = capsys.readouterr().out
    assert "largest difference" in printed
    assert sha256_of(out) in printed
    assert list(out.parent.iterdir()) == [out]


def test_a_mismatch_leaves_the_older_file(float_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "edgeface_xxs.pt"
    out.write_text("older")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"differs from the original by .* not written"):
        main(Config(str(float_file), out))
    assert out.read_text() == "older"
    assert list(folder.iterdir()) == [out]


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.pt is missing"):
        main(Config(str(tmp_path / "no.pt"), tmp_path / "out.pt"))


def test_torchscript_of_another_network_is_refused(
    script: Callable[[torch.nn.Module, Path], Path], tmp_path: Path
) -> None:
    path = script(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt is not an EdgeFace.*missing.*unexpected"):
        main(Config(str(path), tmp_path / "out.pt"))


@pytest.mark.parametrize(
    ("file", "variant"),
    [
        ("edgeface_xxs_q.pt", "edgeface_xxs"),
        ("edgeface_xs_q.pt", "edgeface_xs"),
        ("edgeface_xs_gamma_06.pt", "edgeface_xs_gamma_06"),
    ],
)
def test_real_files_are_exported(shared: Path, tmp_path: Path, file: str, variant: str) -> None:
    out = main(Config(str(shared / "weights" / file), tmp_path / "out.pt"))
    assert load_embedder(out).source.variant == variant


def test_the_usual_place_is_not_written_over(float_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = main(Config(str(float_file)))
    assert made == Path("checkpoints/edgeface_tiny.pt")
    before = made.read_bytes()
    with pytest.raises(UserError, match=r"edgeface_tiny\.pt is there already, perhaps of other weights"):
        main(Config(str(float_file)))
    assert made.read_bytes() == before
