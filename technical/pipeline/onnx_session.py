"""A graph that is not in a file, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from pipeline.onnx_models import INPUT, OUTPUT


def session_of(model: ModelProto, threads: int = 1) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """A function from `input` to `output`, on this many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[Any]) -> NDArray[np.float32]:
        (found,) = session.run([OUTPUT], {INPUT: images})
        return np.asarray(found, np.float32)

    return run
