"""python -m pipeline.web_models: what the page is given, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import cli
from common.errors import UserError
from common.files import sha256_of
from facial_rec.detector_mtcnn import CascadeSettings
from facial_rec.thresholds import Thresholds
from pipeline import web_models
from pipeline.onnx_models import load_chain_onnx, load_edgeface_onnx


@pytest.fixture
def make(onnx_folder: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the command; what it wrote into `models.json`."""

    def made(**given: Any) -> dict[str, Any]:
        names = {kind: str(onnx_folder / f"{kind}.onnx") for kind in ("edgeface", "dsr", "chain")}
        path = web_models.main(web_models.Config(**{"out": tmp_path / "models", **names, **given}))
        return json.loads(path.read_text())

    return made


@pytest.fixture
def weights(onnx_folder: Path) -> dict[str, str]:
    return dict(load_chain_onnx(onnx_folder / "chain.onnx").metadata.source_sha256)


def test_folder_holds_every_file_it_names(make: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    manifest = make()
    assert {"pnet", "rnet", "onet", "edgeface", "dsr"} <= manifest["files"].keys()
    for one in manifest["files"].values():
        path = tmp_path / "models" / one["file"]
        assert (path.stat().st_size, sha256_of(path)) == (one["bytes"], one["sha256"])
    assert manifest["detector"]["min_face"] == CascadeSettings().min_face
    assert manifest["thresholds"] is None
    assert manifest["curve"] is None


def test_self_test_is_what_the_models_give(make: Callable[..., dict[str, Any]], onnx_folder: Path) -> None:
    expected = make()["self_test"]
    small, large = (web_models.self_test_image(side).transpose(2, 0, 1)[None] for side in (expected["side"], 112))
    assert np.allclose(load_chain_onnx(onnx_folder / "chain.onnx")(small)[0], expected["small"], atol=1e-6)
    found = load_edgeface_onnx(onnx_folder / "edgeface.onnx")(large.astype(np.float32) / 127.5 - 1)[0]
    assert found @ expected["large"] / np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
    assert large.max() > 200
    assert large.min() < 20


def test_thresholds_and_curve_of_these_weights(
    make: Callable[..., dict[str, Any]],
    weights: dict[str, str],
    table: Callable[..., Thresholds],
    write_record: Callable[..., Path],
    tmp_path: Path,
) -> None:
    table(**weights).save(tmp_path / "thresholds.json")
    record = write_record(tmp_path / "lfw.json", weights, withheld=16)
    manifest = make(calibration=tmp_path / "thresholds.json", results=record)
    assert [row["size"] for row in manifest["thresholds"]["sizes"]] == [16, 32, None]
    points = manifest["curve"]["points"]
    assert {(point["size"], point["method"]) for point in points if point["protocol"] == "lr-lr"} == {
        *((None, "hr"), (8, "bicubic"), (8, "dsr"), (32, "bicubic"), (32, "dsr")),  # 16 is withheld
    }
    assert points[1]["interval"] == pytest.approx([0.69, 0.72])


def test_results_at_hand_are_taken_if_they_are_of_these_weights(
    make: Callable[..., dict[str, Any]],
    weights: dict[str, str],
    write_record: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    record = write_record(tmp_path / "checkpoints" / "results.json", weights)
    assert len(make()["curve"]["points"]) == 14
    write_record(record, weights | {"edgeface": "f" * 64})
    assert make()["curve"] is None
    assert "results.json was left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("official.pt", "tiny.pth"), ("official", "tiny")),
        (("a/tiny.pth", "b/tiny.pth"), ("a/tiny.pth", "b/tiny.pth")),
        (("tiny.pt", "tiny.pth"), ("a/tiny.pt", "a/tiny.pth")),
    ],
)
def test_of_several_recognisers_the_curve_is_of_the_exported_one(
    make: Callable[..., dict[str, Any]],
    weights: dict[str, str],
    write_record: Callable[..., Path],
    tmp_path: Path,
    files: tuple[str, str],
    names: tuple[str, str],
) -> None:
    """By its SHA-256, and by what `pipeline.networks` calls a file in a record of several."""
    path = write_record(tmp_path / "lfw.json", weights)
    record = json.loads(path.read_text())
    checksums = dict(zip(files, ("f" * 64, weights["edgeface"]), strict=True))
    record["run"]["weights"] = checksums | {"dsr.pt": weights["dsr"]}
    cases = record["verification"]
    record["verification"] = [case | {"recogniser": name} for name in names for case in cases]
    path.write_text(json.dumps(record))
    curve = make(results=path)["curve"]
    assert (curve["recogniser"], len(curve["points"])) == (names[1], len(cases))
    record["verification"] = [case | {"recogniser": names[0]} for case in cases]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"expected cases of {files[1]}"):
        make(results=path)


def test_other_weights_are_refused(
    make: Callable[..., dict[str, Any]],
    weights: dict[str, str],
    table: Callable[..., Thresholds],
    write_record: Callable[..., Path],
    tmp_path: Path,
) -> None:
    table().save(tmp_path / "thresholds.json")
    with pytest.raises(UserError, match="made with another recogniser"):
        make(calibration=tmp_path / "thresholds.json")
    record = write_record(tmp_path / "lfw.json", weights | {"dsr": "f" * 64})
    with pytest.raises(UserError, match="measured with another dsr than the models hold"):
        make(results=record)
    record.write_text("{}")
    with pytest.raises(UserError, match="'format' is missing"):
        make(results=record)


def test_models_that_do_not_fit_together_are_refused(
    make: Callable[..., dict[str, Any]], onnx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="is a model of kind 'chain', expected 'dsr'"):
        make(dsr=str(onnx_folder / "chain.onnx"))
    shutil.copy(onnx_folder / "edgeface.onnx", tmp_path)
    with pytest.raises(SystemExit):
        cli.run(
            web_models.main, web_models.Config, ["--edgeface", str(tmp_path / "edgeface.onnx"), "--chain", "no.onnx"]
        )
    assert "no.onnx not found" in capsys.readouterr().err
