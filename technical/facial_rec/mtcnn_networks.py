"""PNet, RNet and ONet of MTCNN as ONNX graphs, built from the weights that the `mtcnn` package carries.

Each takes `input`, float32 `(N, 3, H, W)`, RGB from 0 to 255, and normalises by itself. With S the side of the window
that a network looks at (12, 24, 48):

- PNet: any H and W from 12. `score` `(N, h, w)`, `offsets` `(N, 4, h, w)`: cell (i, j) looks at the window whose
  upper left corner is (2j, 2i).
- RNet: 24 x 24. `score` `(N,)`, `offsets` `(N, 4)`.
- ONet: 48 x 48. The same, and `landmarks` `(N, 5, 2)`.

`score` is the probability of a face; offsets (left, top, right, bottom) and landmarks (x, y) are in sides of the
window.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from facial_rec.mtcnn_weights import NETWORKS, Arrays, read_mtcnn_weights
from facial_rec.onnx_graph import Graph

WINDOWS = {"pnet": 12, "rnet": 24, "onet": 48}
MEAN, SCALE = 127.5, 1 / 128
LICENCE = "MIT, Ivan de Paz Centeno and contributors (the mtcnn package, version 1)"


@functools.cache
def mtcnn_onnx() -> dict[str, bytes]:
    """The three graphs, `pnet`, `rnet` and `onet`, as the bytes of ONNX files. Errors as `read_mtcnn_weights`."""
    weights = read_mtcnn_weights()
    return {name: build_network(name, weights[name]) for name in NETWORKS}


def build_network(name: str, weights: Arrays) -> bytes:
    """One network's ONNX file; `weights` as `read_mtcnn_weights` gives them."""
    graph = _Graph(weights)
    x = graph.add("Mul", graph.add("Sub", "input", graph.constant(MEAN)), graph.constant(SCALE))
    if name == "pnet":
        x = _convolutions(graph, x, ["same2", "", ""])
        offsets, scores = graph.convolution(x), graph.convolution(x)
        outputs = [("score", ["N", "h", "w"]), ("offsets", ["N", 4, "h", "w"])]
    else:
        x = _convolutions(graph, x, ["same3", "valid3", ""] if name == "rnet" else ["same3", "valid3", "same2", ""])
        x = graph.add("Flatten", graph.add("Transpose", x, perm=[0, 3, 2, 1]))  # by column, row, channel
        x = graph.slope(graph.dense(x))
        offsets = graph.dense(x)
        if name == "onet":
            columns = graph.add("Reshape", graph.dense(x), graph.constant([-1, 2, 5], np.int64))
            graph.add("Transpose", columns, output="landmarks", perm=[0, 2, 1])  # from all x, then all y
        scores = graph.dense(x)
        outputs = [("score", ["N"]), ("offsets", ["N", 4]), ("landmarks", ["N", 5, 2])][: 3 if name == "onet" else 2]
    graph.add("Identity", offsets, output="offsets")
    graph.add("Gather", graph.add("Softmax", scores, axis=1), graph.constant(1, np.int64), output="score", axis=1)
    graph.check_finished()
    side: tuple[str, str] | tuple[int, int] = ("H", "W") if name == "pnet" else (WINDOWS[name], WINDOWS[name])
    about = {"network": f"MTCNN {name}", "licence": LICENCE, "input": "RGB, 0 to 255"}
    return graph.serialised(name, ["N", 3, *side], outputs, about)


def _convolutions(graph: _Graph, x: str, pools: list[str]) -> str:
    for pool in pools:
        x = graph.slope(graph.convolution(x))
        x = graph.pool(x, int(pool[-1]), pool[:-1]) if pool else x
    return x


class _Graph(Graph):
    """A network of MTCNN in the making; the weights are used up in the order of the file."""

    def __init__(self, weights: Arrays) -> None:
        super().__init__()
        self._weights = iter(weights)

    def convolution(self, x: str) -> str:
        kernel, bias = self._next(), self._next()
        return self.add("Conv", x, self.constant(kernel.transpose(3, 2, 0, 1)), self.constant(bias))

    def dense(self, x: str) -> str:
        kernel, bias = self._next(), self._next()
        return self.add("Gemm", x, self.constant(kernel), self.constant(bias))

    def slope(self, x: str) -> str:
        """PReLU; the slopes of a convolution `(1, 1, C)` become `(C, 1, 1)`."""
        slopes = self._next()
        return self.add("PRelu", x, self.constant(slopes.transpose(2, 0, 1) if slopes.ndim == 3 else slopes))

    def pool(self, x: str, side: int, padding: str) -> str:
        padded = "SAME_UPPER" if padding == "same" else "VALID"
        return self.add("MaxPool", x, kernel_shape=[side, side], strides=[2, 2], auto_pad=padded)

    def check_finished(self) -> None:
        if next(self._weights, None) is not None:
            raise ValueError("a network did not use all its weights")

    def _next(self) -> NDArray[np.float32]:
        return next(self._weights)
