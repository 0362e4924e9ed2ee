"""A graph that is not in a file, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from common.onnx_session import open_session, session_options
from pipeline.onnx_models import INPUT, OUTPUT


def session_of(model: ModelProto, threads: int = 1) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """A function from `input` to `output`, on this many threads."""
    session = open_session(model.SerializeToString(), session_options(threads))

    def run(images: NDArray[Any]) -> NDArray[np.float32]:
        (found,) = session.run([OUTPUT], {INPUT: images})
        return np.asarray(found, np.float32)

    return run
