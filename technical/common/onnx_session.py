"""How every ONNX model of the project is opened: one place for onnxruntime's options."""

from __future__ import annotations

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

WARNINGS_OFF = 3
NOT_A_MODEL = (
    *(ort_errors.InvalidProtobuf, ort_errors.InvalidGraph, ort_errors.Fail, ort_errors.InvalidArgument),
    *(ort_errors.NotImplemented, ort_errors.RuntimeException, ort_errors.NoSuchFile, RuntimeError, ValueError),
)
"""What onnxruntime raises for a file that it cannot run; its errors have no base of their own."""


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options for `threads` threads; 0 lets onnxruntime choose.

    Its threads sleep when they have nothing to do. By default they spin for a while after each call, and where one
    process has several models, as a recogniser does, the threads of one take the time of the next.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = WARNINGS_OFF
    return options


def open_session(model: bytes | str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A model's bytes, or the path of its file, on the CPU. Raises `NOT_A_MODEL` for a file that is none."""
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
