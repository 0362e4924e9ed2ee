"""The network of the landmark refiner, in torch and as an ONNX graph.

Plain convolutions with batch norm, which halve the side from 64 to 4, and two linear layers; in the ONNX file the batch
norm is folded into the convolutions. It says how far each landmark lies from its place in the template.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facial_rec.alignment import template
from facial_rec.landmark_crops import CROP, in_sides
from facial_rec.onnx_graph import Graph

MEAN, SCALE = 127.5, 1 / 128
LAYERS = ((16, 2), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (32, 2))
"""Output channels and stride of each convolution."""
HIDDEN = 64


class LandmarkNet(nn.Module):
    """RGB from 0 to 255 `(B, 3, 64, 64)` -> landmarks `(B, 5, 2)` in sides of the crop."""

    anchors: Tensor

    def __init__(self) -> None:
        super().__init__()
        before = 3
        layers: list[nn.Module] = []
        for channels, stride in LAYERS:
            layers += [
                nn.Conv2d(before, channels, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            before = channels
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Linear(before * (CROP // 16) ** 2, HIDDEN)
        self.out = nn.Linear(HIDDEN, 10)
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("anchors", torch.from_numpy(in_sides(template(CROP)).reshape(10)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body((x - MEAN) * SCALE)  # (B, 32, 4, 4)
        x = self.hidden(x.flatten(1)).relu()
        return (self.anchors + self.out(x)).reshape(-1, 5, 2)


def landmarks_onnx(network: LandmarkNet, metadata: dict[str, str]) -> bytes:
    """The trained network as the bytes of an ONNX file: `input` -> `landmarks`, any batch, float32."""
    graph = Graph()
    x = graph.add("Mul", graph.add("Sub", "input", graph.constant(MEAN)), graph.constant(SCALE))
    layers = list(network.eval().body)
    for convolution, norm in zip(layers[0::3], layers[1::3], strict=True):
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        fused = fuse_conv_bn_eval(convolution, norm)
        strides, fused_bias = list(fused.stride), fused.bias
        assert fused_bias is not None
        kernel, bias = (graph.constant(_array(one)) for one in (fused.weight, fused_bias))
        x = graph.add("Relu", graph.add("Conv", x, kernel, bias, strides=strides, pads=[1, 1, 1, 1]))
    x = graph.add("Relu", _dense(graph, graph.add("Flatten", x), network.hidden.weight, network.hidden.bias))
    x = _dense(graph, x, network.out.weight, network.out.bias + network.anchors)
    graph.add("Reshape", x, graph.constant([-1, 5, 2], np.int64), output="landmarks")
    return graph.serialised("landmarks", ["N", 3, CROP, CROP], [("landmarks", ["N", 5, 2])], metadata)


def _dense(graph: Graph, x: str, weight: Tensor, bias: Tensor) -> str:
    return graph.add("Gemm", x, graph.constant(_array(weight)), graph.constant(_array(bias)), transB=1)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
