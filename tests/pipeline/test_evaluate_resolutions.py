"""Verification across resolutions, end to end on made-up people: tables, record, pictures, groups, cache, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from facial_rec import reliability
from pipeline import report
from pipeline.evaluate_pairs import Config as PairsConfig
from pipeline.evaluate_pairs import main as evaluate_pairs
from pipeline.evaluate_resolutions import Config, main
from pipeline.record_extras import pictures_folder
from pipeline.run_record import FORMAT


@pytest.fixture
def config(people: Path, edgeface: Path, dsr: Path, tmp_path: Path) -> Config:
    return Config(
        images=people,
        vlr_size=(8, 16),
        dsr=str(dsr),
        edgeface=(str(edgeface),),
        bootstrap=20,
        pictures=2,
        json=tmp_path / "out.json",
    )


def cases(record: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(entry["protocol"], entry["size"], entry["method"]) for entry in record["verification"]]


def test_record_holds_every_case_and_the_table_shows_it(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    record = main(config)
    assert config.json is not None
    assert json.loads(config.json.read_text()) == json.loads(json.dumps(record))
    assert record["format"] == FORMAT
    low = [(size, method) for size in (8, 16) for method in ("bicubic", "dsr")]
    expected = [(protocol, *one) for protocol in ("lr-hr", "lr-lr") for one in [(None, "hr"), *low]]
    assert cases(record) == expected
    assert [(one["protocol"], one["size"]) for one in record["differences"]] == [
        (protocol, size) for protocol in ("lr-hr", "lr-lr") for size in (8, 16)
    ]
    assert record["run"]["command"].startswith("python -m pipeline.evaluate_resolutions --images")
    assert record["run"]["weights"].keys() == {"tiny_face.pt", "tiny_dsr.pt"}
    printed = capsys.readouterr().out
    for words in (
        "LR-HR: Accuracy",
        "LR-LR: PSNR",
        "8 px",
        "16 px",
        "dsr - bicubic",
        "rejecting every",
    ):
        assert words in printed, words


def test_a_second_recogniser_is_compared_with_the_first(
    config: Config, edgeface: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reliability, "LEAST_ERRORS", 0)
    copy = tmp_path / "tuned.pt"
    copy.write_bytes(edgeface.read_bytes())
    record = main(replace(config, edgeface=(str(edgeface), str(copy)), vlr_size=(16,), protocol=("lr-hr",), pictures=0))
    first = edgeface.stem
    found = {(one["recogniser"], one["method"], one["minus"]): one for one in record["differences"]}
    assert found.keys() == {
        (first, "dsr", "bicubic"),
        ("tuned", "dsr", "bicubic"),
        ("tuned", "hr", f"hr of {first}"),
        ("tuned", "bicubic", f"bicubic of {first}"),
        ("tuned", "dsr", f"dsr of {first}"),
        ("tuned", "dsr", f"bicubic of {first}"),
    }
    assert found["tuned", "hr", f"hr of {first}"]["size"] is None
    assert found["tuned", "dsr", f"dsr of {first}"]["figures"]["auc"] == 0.0, "the same weights"
    own, other = (found["tuned", "dsr", minus]["figures"] for minus in ("bicubic", f"bicubic of {first}"))
    assert "psnr" in own
    assert "psnr" not in other, "an image is what it is for every recogniser"
    assert other == {name: own[name] for name in other}, "the paired difference, interval included"
    assert f"dsr - dsr of {first}" in capsys.readouterr().out
    assert config.json is not None
    page = report.main(report.Config(json=(config.json,), out=tmp_path / "report.html")).read_text()
    assert f"DSR − DSR of {first}" in page


def test_the_same_figures_as_one_size_and_protocol(
    config: Config, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reliability, "LEAST_ERRORS", 0)
    record = main(replace(config, json=None))
    alone = evaluate_pairs(
        PairsConfig(images=people, dsr=config.dsr, edgeface=config.edgeface, protocol="lr-hr", bootstrap=20)
    )
    for entry in record["verification"]:
        if (entry["protocol"], entry["size"]) in (("lr-hr", None), ("lr-hr", 16)):
            for name, value in alone["methods"][entry["method"]].items():
                if name in entry["figures"]:
                    assert entry["figures"][name] == pytest.approx(value, abs=1e-6), name


def test_a_second_run_computes_no_embedding(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    first = main(replace(config, pictures=0))
    monkeypatch.setattr("pipeline.embedding._compute", lambda *_: pytest.fail("an image was embedded again"))
    again = main(replace(config, pictures=0))
    assert again["verification"] == first["verification"]
    main(replace(config, pictures=0, protocol=("lr-lr",), vlr_size=(16,), threshold=0.2))
    with pytest.raises(pytest.fail.Exception):
        main(replace(config, pictures=0, cache=False))


def test_pictures_lie_beside_the_record_and_the_report_shows_them(config: Config, tmp_path: Path) -> None:
    record = main(config)
    assert config.json is not None
    folder = pictures_folder(config.json)
    assert record["pictures"]["folder"] == folder.name
    assert [grid["size"] for grid in record["pictures"]["grids"]] == [16]
    files = {tile["file"] for grid in record["pictures"]["grids"] for row in grid["rows"] for tile in row["tiles"]}
    assert files
    assert all((folder / file).is_file() for file in files)
    report.main(report.Config(json=(config.json,), out=tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") >= len(files)
    assert "tiny_face" in page


def test_realistic_probes_are_the_same_in_every_run(config: Config) -> None:
    chosen = replace(
        config, degradation="realistic-severe", protocol=("lr-lr",), vlr_size=(16,), cache=False, json=None
    )
    first, again = main(chosen), main(replace(chosen, batch_size=3))
    other = main(replace(chosen, seed=1))
    psnr = [record["verification"][1]["figures"]["psnr"] for record in (first, again, other)]
    assert psnr[0] == pytest.approx(psnr[1], abs=1e-4)
    assert psnr[0] != pytest.approx(psnr[2], abs=1e-4)


def test_error_rates_by_group(config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "people.csv"
    table.write_text("subject,camera,city\n" + "".join(f"P{n},{'ab'[n % 2]},{'xy'[n % 2]}\n" for n in range(6)))
    record = main(replace(config, attributes=table, by=("camera",), protocol=("lr-hr",), json=None))
    assert {(group["column"], group["size"], group["method"]) for group in record["groups"]} == {
        ("camera", size, method) for size, method in ((None, "hr"), (8, "dsr"), (16, "dsr"))
    }
    assert "By camera at 0.35" in capsys.readouterr().out
    both = main(replace(config, attributes=table, protocol=("lr-hr",), vlr_size=(16,), dsr="none", json=None))
    assert {group["column"] for group in both["groups"]} == {"camera", "city"}
    with pytest.raises(UserError, match="has no column 'lens': it has camera, city"):
        main(replace(config, attributes=table, by=("lens",)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vlr_size": (16, 16)}, "each once"),
        ({"vlr_size": ()}, "expected one or more"),
        ({"protocol": ()}, "--protocol"),
        ({"vlr_size": (7,)}, "--vlr-size is 7 pixels"),
        ({"pictures": -1}, "--pictures -1"),
        ({"by": ("age",)}, "needs --attributes"),
        ({"attributes": Path("nowhere.csv")}, r"nowhere\.csv is missing"),
        ({"images": Path("nowhere")}, "nowhere does not exist"),
        ({"pairs": Path("nowhere.txt")}, r"nowhere\.txt is missing"),
        ({"bootstrap": -1}, "--bootstrap -1"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
    ],
)
def test_bad_settings_are_refused(config: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(config, **change))
    assert config.json is not None
    assert not config.json.exists()
