"""Fewer bits: what is written, what is measured, what is advised, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.images import RgbImage, write_png
from pipeline import export, export_check, quantise
from pipeline.onnx_models import load_edgeface_onnx
from pipeline.onnx_precision import FaceReader, static_int8
from pipeline.precision_advice import Measured, advice


@pytest.fixture
def graph(edgeface: Path) -> quantise.ModelProto:
    return quantise.read_edgeface(str(edgeface))[0]


def test_every_precision_is_measured_beside_float32(
    edgeface: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, record = tmp_path / "models", tmp_path / "quantised.json"
    config = quantise.Config(
        *(str(edgeface), people, 8, people),
        **{"dataset_root": people, "dsr": "none", "rounds": 2, "out": out, "json": record},  # type: ignore[arg-type]
    )
    result = quantise.main(config)
    assert json.loads(record.read_text()) == result
    models = result["models"]
    assert list(models) == ["float32", "fp16", "int8", "int8-dynamic"]
    assert all(one["bytes"] < 0.95 * models["float32"]["bytes"] for name, one in models.items() if name != "float32")
    assert models["int8"]["validation"]["hr"]["cosine_mean"] > 0.98
    for one in models.values():
        assert one["milliseconds"].keys() == {"1", "2"}
        for which in ("validation", "test"):
            assert one[which].keys() == {"hr", "16"}
            assert one[which]["hr"]["eer"] is not None
    assert models["fp16"]["validation"]["16"]["cosine_least"] > 0.9999
    assert result["calibrated_on"] == {"faces": str(people), "count": 8}
    printed = capsys.readouterr().out
    assert "2 threads" in printed
    assert "Fastest on this CPU" in printed
    for name in models:
        loaded = load_edgeface_onnx(out / f"edgeface_tiny_{name}.onnx", threads=2)
        assert loaded.metadata.precision == name
    with pytest.raises(UserError, match="is in fp16 already"):
        quantise.read_edgeface(str(out / "edgeface_tiny_fp16.onnx"))
    again, metadata = quantise.read_edgeface(str(out / "edgeface_tiny_float32.onnx"))
    assert metadata.variant == "edgeface_tiny"
    assert len(again.graph.node) > 0


def test_static_int8_needs_faces(graph: quantise.ModelProto, edgeface: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="calibrated on faces, and there is none"):
        static_int8(graph, "edgeface", np.zeros((0, 112, 112, 3), np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3)).astype(np.uint8)
    for number, image in enumerate(noise):
        write_png(tmp_path / "noise" / f"P_{number}.png", image)
    with pytest.raises(UserError, match="look like noise"):
        quantise.main(quantise.Config(str(edgeface), tmp_path / "noise", out=tmp_path / "models"))
    assert not (tmp_path / "models").exists()


def test_calibration_sees_high_and_low_resolution(face: Callable[..., RgbImage]) -> None:
    faces = np.stack([face(person, 1) for person in range(9)])
    reader = FaceReader("edgeface", faces)
    batches = [batch["input"] for batch in iter(reader.get_next, None)]
    assert [len(batch) for batch in batches] == [8, 8, 1, 1]
    assert all(batch.dtype == np.float32 and batch.min() >= -1 and batch.max() <= 1 for batch in batches)
    sizes = {batch["input"].shape[2] for batch in iter(FaceReader("chain", faces.repeat(6, 0)).get_next, None)}
    assert sizes == {8, 12, 16, 24, 32, 64}


def test_an_int8_export_that_is_too_far_away_is_refused(
    edgeface: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(export_check.LEAST_COSINE, "int8", 1.1)
    out = tmp_path / "model.onnx"
    with pytest.raises(UserError, match="The int8 edgeface differs from PyTorch"):
        export.main(
            export.Config("edgeface", edgeface=str(edgeface), faces=people, val_root=people, precision="int8", out=out)
        )
    assert not out.exists()


def test_advice_says_what_is_slower_and_what_is_not_faithful() -> None:
    full = Measured(1, (1, 1), 1, 0)
    found = advice(
        {
            "float32": full,
            "fp16": Measured(0.5, (1.0, 1.0), 0.99999, 0),
            "int8": Measured(0.3, (1.9, 1.8), 0.99, 0.001),
            "int8-dynamic": Measured(0.25, (0.7, 0.7), 0.9, 0.02),
        }
    )
    assert found[0].startswith("Fastest on this CPU: float32")
    assert "Smallest that is faithful: int8, 0.30 x" in found[1]
    assert any("int8 is slower than float32 here: 1.90 x" in line for line in found)
    assert any("int8-dynamic is not faithful: mean cosine to float32 0.9000" in line for line in found)
    (unknown,) = advice({"float32": full, "int8": Measured(0.3, (0.6, 0.7), None, None)})
    assert unknown.startswith("Which precision to use is not said: nothing was verified.")
    faster = advice({"float32": full, "int8": Measured(0.3, (0.6, 0.7), 0.99, 0.0)})
    assert faster[0] == "Fastest on this CPU: int8, 0.60 x the time of float32 on one thread."
