"""common.runlog: records survive a kill, and a resumed run does not write an epoch twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.runlog import NullLogger, append_record, keep_records, read_records, wandb_logger


def records(count: int) -> list[dict[str, float]]:
    return [{"epoch": epoch, "psnr": 20.0 + epoch} for epoch in range(1, count + 1)]


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    for record in records(3):
        append_record(path, record)
    return path


def test_records_are_read_as_they_were_written(metrics: Path) -> None:
    assert read_records(metrics) == records(3)


def test_a_run_that_has_not_begun_has_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "metrics.jsonl") == []


def test_a_line_cut_short_by_a_kill_is_left_out(metrics: Path) -> None:
    metrics.write_text(metrics.read_text() + '{"epoch": 4, "ps')
    assert read_records(metrics) == records(3)


def test_a_resumed_run_starts_after_the_last_whole_epoch(metrics: Path) -> None:
    metrics.write_text(metrics.read_text() + '{"epoch": 4, "ps')
    keep_records(metrics, last_epoch=2)
    append_record(metrics, records(3)[2])
    assert read_records(metrics) == records(3)


def test_a_number_that_json_does_not_have_is_refused(metrics: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        append_record(metrics, {"epoch": 4, "psnr": float("nan")})
    assert read_records(metrics) == records(3)


def test_disabled_means_nothing_happens(tmp_path: Path) -> None:
    logger = wandb_logger("disabled", "project", tmp_path, {})
    assert isinstance(logger, NullLogger)
    logger.log({"psnr": 1.0})
    logger.close()
    assert list(tmp_path.iterdir()) == []


def test_offline_keeps_the_run_in_its_folder(tmp_path: Path) -> None:
    logger = wandb_logger("offline", "project", tmp_path / "run", {"seed": 0})
    logger.log({"psnr": 1.0})
    logger.close()
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
