"""The benchmark with a recogniser of its own, on a network made here."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from common.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "independent_recogniser.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("independent_recogniser", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Mean colours of 16 x 16 cells, one image at a time."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 112, 112])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 147])
    model = helper.make_model(
        helper.make_graph(nodes, "pooled", [image], [embedding]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 10
    onnx.save(model, tmp_path / "pooled.onnx")
    return tmp_path / "pooled.onnx"


def test_recogniser_normalises_as_imagenet(benchmark: ModuleType, network: Path) -> None:
    images = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    expected = torch.nn.functional.avg_pool2d(normalised, 16).flatten(1)
    torch.testing.assert_close(benchmark.load_mobilefacenet(network, 1)(images), expected, atol=1e-5, rtol=1e-5)


def test_benchmark_end_to_end(
    benchmark: ModuleType, network: Path, people: Path, dsr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("2\t1\nP0\t1\t2\nP0\t1\tP1\t1\nP2\t1\t2\nP2\t1\tP3\t1\n")
    out = tmp_path / "out.json"
    benchmark.main(benchmark.Config(onnx=network, images=people, pairs=pairs, dsr=str(dsr), bootstrap=5, json=out))
    result = json.loads(out.read_text())
    assert list(result["methods"]) == ["hr", "bicubic", "dsr"]
    assert result["methods"]["hr"]["withheld"]["accuracy"]["errors"] == 0
    assert result["weights"].keys() == {"pooled.onnx", "tiny_dsr.pt"}
    assert "pooled\n" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"no network"])
def test_bad_networks_are_refused(benchmark: ModuleType, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.onnx is (missing|not a network)"):
        benchmark.load_mobilefacenet(path, 1)
