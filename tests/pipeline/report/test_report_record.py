"""Records that a report refuses, and how."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from pipeline.report import Config, main

Record = dict[str, Any]
Page = Callable[..., str]

HOSTILE = '<script>alert("x")</script>'


def broken(record: Record, path: str, value: Any) -> Record:
    """The record with the value at `path` (`run.seed`, `groups.0.rows`) replaced."""
    *parents, last = path.split(".")
    holder: Any = record
    for key in parents:
        holder = holder[int(key) if isinstance(holder, list) else key]
    holder[int(last) if isinstance(holder, list) else last] = value
    return record


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("format", "dsr-edgeface-evaluation-9", "format"),
        ("run", None, "run"),
        ("threshold", "0.35", "threshold"),
        ("verification", {}, "verification"),
        ("verification.3.figures.accuracy", float("nan"), "verification[3].figures.accuracy"),
        ("verification.3.figures.accuracy_ci95", [0.1], "verification[3].figures.accuracy_ci95"),
        ("verification.3.size", 16.5, "verification[3].size"),
        ("verification.0.curve", {"fmr": [0.1], "fnmr": []}, "verification[0].curve"),
        ("verification.0.histogram.edges", [1, 2], "verification[0].histogram"),
        ("verification.0.withheld", {"eer": {}}, "verification[0].withheld.eer"),
        ("differences.0.figures.accuracy", "much", "differences[0].figures.accuracy"),
        ("identification.0.cmc.rate", [float("inf")] * 20, "identification[0].cmc.rate[0]"),
        ("groups.0.rows.0.fnmr", "low", "groups[0].rows[0].fnmr"),
        ("calibration.0.sizes.0.fmr_ci95", [0, None], "calibration[0].sizes[0].fmr_ci95[1]"),
        ("pictures.folder", "../elsewhere", "pictures.folder"),
        ("pictures.folder", "..", "pictures.folder"),
        ("pictures.grids.0.rows.0.tiles.0.file", "../../secret.png", "pictures.grids[0].rows[0].tiles[0].file"),
        ("pictures.grids.0.rows.0.tiles.0.file", "/etc/secret.png", "pictures.grids[0].rows[0].tiles[0].file"),
        ("pictures.failures.0.pairs.0.first_file", "a\\b.png", "pictures.failures[0].pairs[0].first_file"),
    ],
)
def test_malformed_records_are_refused_by_file_and_key(
    page_of: Page, tmp_path: Path, record: Record, path: str, value: Any, key: str
) -> None:
    with pytest.raises(UserError, match=re.escape(key)) as caught:
        page_of(broken(record, path, value))
    assert "record.json" in str(caught.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("key", ["run", "format", "recogniser", "figures"])
def test_missing_keys_are_refused(page_of: Page, new_record: Callable[[], Record], key: str) -> None:
    record = new_record()
    del (record if key in record else record["verification"][0])[key]
    with pytest.raises(UserError, match=key):
        page_of(record)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"format": NaN}', "\x00"])
def test_files_that_are_no_record_are_refused(page_of: Page, content: str) -> None:
    with pytest.raises(UserError, match=r"record\.json"):
        page_of(content)


def test_missing_file_no_file_and_a_folder_as_target_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json is missing"):
        main(Config(json=(tmp_path / "nowhere.json",), out=tmp_path / "report.html"))
    with pytest.raises(UserError, match="--json"):
        main(Config(out=tmp_path / "report.html"))
    with pytest.raises(UserError, match="is a folder"):
        main(Config(json=(tmp_path / "record.json",), out=tmp_path))
