"""The benchmark on tiny networks: every row is there, what is promised is judged. No test asks how fast it is here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.files import read_json
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset
from facial_rec.edgeface import get_model
from pipeline import benchmark, benchmark_memory
from pipeline.benchmark_contenders import REFERENCE, SIZES, Contender, Files, Setting, contenders, opener_of
from pipeline.benchmark_files import made_up_photo, prepare
from pipeline.benchmark_profile import operator_times, profile_table
from pipeline.benchmark_report import bound_table, bounds, gallery_table, network_table
from pipeline.benchmark_timing import Row, time_contenders
from pipeline.detector import load_detector

QUICK: dict[str, Any] = {"threads": (1,), "batches": (1, 2), "rounds": 1, "gallery": (8,)}


GIVES_BACK = """
import numpy as np
from pipeline.benchmark_memory import peak_megabytes
before = peak_megabytes()
block = np.ones(12_500_000)
del block
print(before, peak_megabytes())
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Exports of tiny networks with random weights."""
    folder = tmp_path_factory.mktemp("files")
    edgeface, dsr = folder / "face.pt.weights", folder / "dsr.pt.weights"
    torch.save(get_model("edgeface_tiny").state_dict(), edgeface)
    save_dsr(dsr, Dsr(preset("tiny")), {})
    return prepare(str(edgeface), str(dsr), None, None, ("edgeface", "dsr", "chain"), folder)


def test_end_to_end(edgeface: Path, dsr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(
        benchmark.Config(
            dsr=str(dsr),
            edgeface=str(edgeface),
            runtimes=("onnxruntime", "eager", "torchscript"),
            memory=False,
            training_steps=1,
            batch_size=2,
            profile=True,
            json=tmp_path / "out.json",
            **QUICK,
        )
    )
    result = read_json(tmp_path / "out.json")
    rows = {(row["part"], row["runtime"], row["size"], row["batch"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"])
    assert rows["edgeface", "onnxruntime", 112, 1]["ratio"] == 1.0
    assert {("dsr", "eager", size, 1) for size in SIZES} < rows.keys()
    assert {("chain", name, 16, batch) for name in ("onnxruntime", "eager", "torchscript") for batch in (1, 2)} < set(
        rows
    )
    assert {("mtcnn", "onnxruntime", 0, 1), ("recogniser", "onnxruntime", 0, 1), ("gallery", "sqlite", 8, 1)} < set(
        rows
    )
    both = rows["chain", "eager", 16, 2]
    assert both["ms_a_face"] == both["ms"] / 2 > 0
    assert both["ratio_a_face"] == both["ratio"] / 2 > 0
    assert rows["gallery", "sqlite", 8, 1]["recall"] == 1.0
    assert result["training_faces_a_second"] > 0
    assert result["operators_ms"]["Conv"] > 0
    assert [one["reached"] is None for one in result["bounds"]] == [False, False, True, False]
    assert result["command"].startswith("python -m pipeline.benchmark --dsr")
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("x EdgeFace", "first search", "not measured", "faces a second"))


def test_memory_is_of_a_process_that_imports_what_it_needs(files: Files) -> None:
    chain = Contender("chain", "onnxruntime", 16)
    script = Contender("edgeface", "torchscript", 112, 2)
    found = benchmark_memory.measure([chain, script], Setting(files, threads=1))
    assert not found[chain]["torch"]
    assert found[script]["torch"]
    assert 10 < found[chain]["imported_mb"] < found[chain]["peak_mb"] < 300
    assert found[script]["peak_mb"] > found[chain]["peak_mb"]


def test_peak_stays_when_memory_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", GIVES_BACK], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 90 < after - before < 130  # the block has 100 MB


def test_process_that_fails_is_named(files: Files) -> None:
    setting = Setting(replace(files, models="nowhere"), threads=1)
    with pytest.raises(
        UserError, match=r"memory of edgeface, onnxruntime, failed with status 1(.|\n)*edgeface\.onnx is"
    ):
        benchmark_memory.measure([REFERENCE], setting)


def test_runtime_that_is_not_there_is_named_and_the_rest_measured(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiles(network: object, **_: object) -> Callable[..., object]:
        def fails(*_: object) -> object:
            raise RuntimeError("no C++ compiler found. Install one")

        return fails

    monkeypatch.setattr(torch, "compile", compiles)
    rows = time_contenders(contenders(("edgeface",), ("compile",), 1, yunet=False), Setting(files, 1), rounds=1)
    assert [row.contender.runtime for row in rows] == ["onnxruntime", "compile"]
    assert rows[0].ratio == 1.0
    assert (rows[1].ms, rows[1].ratio, rows[1].why_not) == (None, None, "no C++ compiler found")
    shown = network_table([row.record() for row in rows])
    assert "edgeface, compile: not available: no C++ compiler found" in shown


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_what_must_run_everywhere_does_not_fail_unseen(
    runtime: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(contender: Contender, setting: Setting) -> Callable[[], object]:
        raise RuntimeError("broken")

    monkeypatch.setattr("pipeline.benchmark_timing.opener_of", lambda contender: fails)
    with pytest.raises(RuntimeError, match="broken"):
        time_contenders([Contender("edgeface", runtime, 112)], Setting(files, 1), rounds=1)


def test_all_runtimes_compute_the_same(files: Files) -> None:
    """Else one of them would be timed at another task."""
    for part, size in (("edgeface", 112), ("dsr", 16), ("chain", 16)):
        found = []
        for runtime in ("onnxruntime", "eager", "torchscript"):
            one = Contender(part, runtime, size, batch=2)  # type: ignore[arg-type]
            found.append(np.asarray(opener_of(one)(one, Setting(files, 1))()))
        for other in found[1:]:
            np.testing.assert_allclose(other, found[0], atol=2e-3)


def test_detectors_have_one_face_to_find() -> None:
    (face,) = load_detector("mtcnn", threads=1).detect(made_up_photo())
    assert 60 < face.box[2] - face.box[0] < 120


def test_models_of_other_weights_are_refused(files: Files, edgeface: Path, tmp_path: Path) -> None:
    given = Path(files.models)
    assert prepare(files.edgeface, files.dsr, given, None, ("edgeface",), tmp_path).models == str(given)
    with pytest.raises(
        UserError, match=r"edgeface\.onnx is in float32, made from .* Runtimes are compared on the same"
    ):
        prepare(str(edgeface), files.dsr, given, None, ("edgeface",), tmp_path)


def row(part: str, runtime: str, size: int, ms: float, ratio: float, **more: float) -> dict[str, Any]:
    made = Row(Contender(part, runtime, size), 1, ms, ratio)  # type: ignore[arg-type]
    return {**made.record(), **more}


def test_bounds_are_judged() -> None:
    rows = [
        row("edgeface", "onnxruntime", 112, 4.0, 1.0),
        row("chain", "onnxruntime", 16, 8.0, 2.0, peak_mb=120.0),
        row("chain", "onnxruntime", 32, 10.4, 2.6, peak_mb=301.0),
        row("edgeface", "eager", 112, 5.9, 1.475),
    ]
    assert [(one.found, one.reached) for one in bounds(rows)] == [
        (2.0, True),
        (2.6, False),
        (301.0, False),
        (pytest.approx(1.475), False),
    ]
    shown = bound_table(bounds(rows))
    assert shown.count("NOT REACHED") == 3
    on_two = [{**one, "threads": 2} for one in rows]
    assert {one.reached for one in bounds(on_two)} == {None}
    assert bound_table(bounds(on_two)).count("not measured") == 4


def test_tables_leave_out_what_was_not_measured() -> None:
    line = network_table([row("mtcnn", "onnxruntime", 0, 50.0, 12.5)]).splitlines()[-1]
    assert line.split() == ["mtcnn", "onnxruntime", "1", "1", "50.00", "12.50", "50.00", "12.50", "-", "-"]
    made = Row(Contender("gallery", "sqlite", 1000), 1, 2.0, 0.5, first_search_ms=9.0, recall=1.0)
    shown = gallery_table([{**made.record(), "peak_mb": 47.2, "imported_mb": 36.6}]).splitlines()[-1]
    assert shown.split() == ["sqlite", "1,000", "1", "9.00", "2.00", "0.50", "1.000", "47", "37"]


def test_profile_adds_the_nodes_of_a_kind(files: Files) -> None:
    times = operator_times(files.model("edgeface"), REFERENCE, threads=1, runs=2)
    assert list(times.values()) == sorted(times.values(), reverse=True)
    assert profile_table(times).splitlines()[2].split()[0] == next(iter(times))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rounds": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"training_steps": -1}, "at least 0"),
        ({"threads": (1, 0)}, "at least 1"),
        ({"batches": (0, 1)}, "at least 1"),
        ({"threads": ()}, "must name a number"),
        ({"batches": (32,)}, "ratios are to one face"),
        ({"gallery": (1000, 10)}, "multiples of 4"),
        ({"gallery": (0,)}, "multiples of 4"),
    ],
)
def test_impossible_numbers_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        benchmark.main(benchmark.Config(**wrong))


def test_servers_password_is_in_no_record(files: Files) -> None:
    cfg = benchmark.Config(postgres="postgresql://ann:secret@localhost/faces")
    assert benchmark.about(cfg, files)["command"] == "python -m pipeline.benchmark --postgres URL"
