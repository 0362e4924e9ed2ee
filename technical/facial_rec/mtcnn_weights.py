"""The weights of MTCNN, which the `mtcnn` package carries in its wheel (MIT licence), read without importing it.

K. Zhang, Z. Zhang, Z. Li, Y. Qiao, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks", IEEE Signal Processing Letters 2016. The package's own code needs TensorFlow; its weights do not.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from facial_rec.joblib_arrays import read_arrays

Arrays = list[NDArray[np.float32]]
NETWORKS = ("pnet", "rnet", "onet")


def _convolutions(*layers: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Kernel, bias and PReLU slope of convolutions given as (side, input channels, output channels)."""
    return [shape for side, before, after in layers for shape in ((side, side, before, after), (after,), (1, 1, after))]


def _dense(*layers: tuple[int, int]) -> list[tuple[int, ...]]:
    return [shape for before, after in layers for shape in ((before, after), (after,))]


SHAPES: dict[str, list[tuple[int, ...]]] = {
    "pnet": [*_convolutions((3, 3, 10), (3, 10, 16), (3, 16, 32)), (1, 1, 32, 4), (4,), (1, 1, 32, 2), (2,)],
    "rnet": [
        *_convolutions((3, 3, 28), (3, 28, 48), (2, 48, 64)),
        *_dense((576, 128)),
        (128,),
        *_dense((128, 4), (128, 2)),
    ],
    "onet": [
        *_convolutions((3, 3, 32), (3, 32, 64), (3, 64, 64), (2, 64, 128)),
        *_dense((1152, 256)),
        (256,),
        *_dense((256, 4), (256, 10), (256, 2)),
    ],
}
"""Shapes of each network's arrays, in the order of the file: layer by layer, kernels with channels last."""


def read_mtcnn_weights(folder: Path | None = None) -> dict[str, Arrays]:
    """The arrays of PNet, RNet and ONet, in the order and with the shapes of `SHAPES`.

    `folder` holds `pnet.lz4`, `rnet.lz4` and `onet.lz4`; by default the installed package's own. Raises UserError when
    they are missing, damaged or of another network.
    """
    folder = _installed() if folder is None else folder
    return {network: _read(folder / f"{network}.lz4", SHAPES[network]) for network in NETWORKS}


def _installed() -> Path:
    spec = find_spec("mtcnn")  # finds the package without importing it
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package mtcnn, which carries MTCNN's weights, is not installed: run `poetry install`.")
    return Path(spec.submodule_search_locations[0]) / "assets" / "weights"


def _read(path: Path, shapes: list[tuple[int, ...]]) -> Arrays:
    if not path.is_file():
        raise UserError(f"{path} is missing: expected MTCNN's weights, as mtcnn 1.0.0 has them. Install it again.")
    arrays = read_arrays(path.read_bytes(), str(path))
    found = [array.shape for array in arrays]
    if found != shapes:
        raise UserError(f"{path} holds arrays of shapes {found}, expected {shapes}: another network.")
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"{path} holds a weight that is not a finite number. Install mtcnn again.")
    return arrays
