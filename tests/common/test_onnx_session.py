"""common.onnx_session: the options that every model is opened with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from common.onnx_session import NOT_A_MODEL, open_session, session_options


def test_threads_sleep_between_calls() -> None:
    options = session_options(2)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_model_runs_and_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> double (float[n] x) => (float[n] y) { y = Add(x, x) }'
    session = open_session(parser.parse_model(text).SerializeToString(), session_options(1))
    assert session.run(None, {"x": np.array([1.5], np.float32)})[0].tolist() == [3.0]
    for bad in (b"", b"no model", str(tmp_path / "absent.onnx")):
        with pytest.raises(NOT_A_MODEL):
            open_session(bad, session_options(1))
