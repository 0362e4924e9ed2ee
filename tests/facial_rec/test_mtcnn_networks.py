"""The ONNX graphs of PNet, RNet and ONet, against the same networks in torch."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional

from facial_rec.mtcnn_networks import mtcnn_onnx
from facial_rec.mtcnn_weights import read_mtcnn_weights


def in_torch(name: str, images: torch.Tensor) -> list[torch.Tensor]:
    """The networks of the paper's figure 2, written a second time: score, offsets, landmarks."""
    weights = [torch.from_numpy(array) for array in read_mtcnn_weights()[name]]
    x, kernels = (images - 127.5) / 128, iter(weights)

    def convolve(x: torch.Tensor, slopes: bool = True) -> torch.Tensor:
        x = functional.conv2d(x, next(kernels).permute(3, 2, 0, 1), next(kernels))
        return functional.prelu(x, next(kernels).flatten()) if slopes else x

    def dense(x: torch.Tensor) -> torch.Tensor:
        return x @ next(kernels) + next(kernels)

    pools = {"pnet": [2, 0, 0], "rnet": [3, 3, 0], "onet": [3, 3, 2, 0]}[name]
    for pool in pools:
        x = convolve(x)
        if pool:
            x = functional.max_pool2d(x, pool, 2, ceil_mode=True)
    if name == "pnet":
        offsets, scores = convolve(x, slopes=False), convolve(x, slopes=False)
        return [scores.softmax(1)[:, 1], offsets]
    x = x.permute(0, 3, 2, 1).flatten(1)
    x = functional.prelu(dense(x), next(kernels))
    offsets = dense(x)
    points = [dense(x).reshape(-1, 2, 5).transpose(1, 2)] if name == "onet" else []
    return [dense(x).softmax(1)[:, 1], offsets, *points]


@pytest.mark.parametrize(
    ("name", "size"), [("pnet", (31, 42)), ("pnet", (12, 12)), ("rnet", (24, 24)), ("onet", (48, 48))]
)
def test_graphs_are_the_networks_of_the_paper(name: str, size: tuple[int, int]) -> None:
    images = torch.rand(3, 3, *size) * 255
    session = onnxruntime.InferenceSession(mtcnn_onnx()[name])
    found = session.run(None, {"input": images.numpy()})
    expected = in_torch(name, images)
    assert len(found) == len(expected)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other.numpy(), atol=2e-5)
    assert [output.name for output in session.get_outputs()] == ["score", "offsets", "landmarks"][: len(found)]
    assert session.get_modelmeta().custom_metadata_map["licence"].startswith("MIT")
