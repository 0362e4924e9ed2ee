"""Where onnxruntime's time goes in a model, by operator, from its own profiler, for `pipeline.benchmark`. No torch."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from common.onnx_session import open_session, session_options
from facial_rec.tables import format_table
from pipeline.benchmark_contenders import Contender, as_input
from pipeline.onnx_models import INPUT, OUTPUT

KERNEL = "_kernel_time"
SHOWN = 10


def operator_times(model: Path, contender: Contender, threads: int, runs: int) -> dict[str, float]:
    """Milliseconds a run in each kind of operator, the longest first: over the nodes, the sum of their medians."""
    options = session_options(threads)
    options.enable_profiling = True
    images = as_input(contender)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = open_session(str(model), options)
        for _ in range(runs):
            session.run([OUTPUT], {INPUT: images})
        events = json.loads(Path(session.end_profiling()).read_text())
    return _by_operator(events)


def _by_operator(events: list[dict[str, Any]]) -> dict[str, float]:
    nodes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            nodes[event["args"]["op_name"], event["name"]].append(event["dur"] / 1000)
    total: dict[str, float] = defaultdict(float)
    for (operator, _), times in nodes.items():
        total[operator] += statistics.median(times)
    return dict(sorted(total.items(), key=lambda one: -one[1]))


def profile_table(times: dict[str, float]) -> str:
    """The operators that take longest, with their share."""
    whole = sum(times.values())
    rows = [[name, f"{ms:.3f}", f"{100 * ms / whole:.1f}"] for name, ms in list(times.items())[:SHOWN]]
    return format_table(("EdgeFace on onnxruntime, by operator", "ms", "%"), rows)
