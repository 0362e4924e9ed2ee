"""A report from a made-up record that uses every section: what it says, and what it never lets through."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.images import write_png
from pipeline.report_pictures import BUDGET_BYTES
from pipeline.report_record import read_records

Record = dict[str, Any]
Page = Callable[..., str]

HOSTILE = '<script>alert("x")</script>'


class _Structure(HTMLParser):
    """Tags with their attributes, unclosed tags, and the text outside the style sheet."""

    VOID = ("meta", "img", "br", "path", "circle")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_every_section_is_there_and_named_in_the_contents(page_of: Page, record: Record) -> None:
    page = page_of(record)
    structure = _Structure(page)
    assert not structure.open
    links = [str(attrs["href"]) for tag, attrs in structure.tags if tag == "a"]
    anchors = [f"#{attrs['id']}" for tag, attrs in structure.tags if tag == "section"]
    assert links == anchors
    for title in (
        "Finding",
        "Verification, LR-HR",
        "Verification, LR-LR",
        "Identification",
        "Calibration and reject option",
        "Error rates by group",
        "Pictures",
        "What was run",
    ):
        assert f"<h2>{title}</h2>" in page
    for chart in (
        "ROC",
        "DET",
        "CMC",
        "Open set",
        "Scores, DSR",
        "Accuracy by size",
        "TAR at FMR 0.1 % by size",
        "Risk and coverage, DSR",
        "FMR at threshold 0.35 by size",
        "FNMR by sex",
    ):
        assert f"<h4>{chart}</h4>" in page


def test_lead_compares_the_methods_and_says_what_the_interval_shows(page_of: Page, record: Record) -> None:
    text = _Structure(page_of(record)).text
    assert "At 16 pixels (LR-HR, edgeface_xxs), DSR decides 92.20 %" in text
    assert "against 89.50 % [88.70, 90.30] with bicubic enlargement and 98.50 % [97.70, 99.30] with the full" in text
    assert (
        "DSR minus bicubic is +2.70 points, and its 95 % interval [+1.90, +3.50] excludes zero: DSR is better" in text
    )
    assert "the TAR at FMR 0.1 % is 76.60 %" in text
    assert "Fewer than 30 errors are behind some of these" in text


def test_intervals_of_a_set_without_people_are_called_too_narrow(page_of: Page, record: Record) -> None:
    words = "The set names no people: a person under several names makes the intervals too narrow."
    assert words not in _Structure(page_of(record)).text
    for entry in record["verification"]:
        entry["pairs"]["people"] = None
    assert words in _Structure(page_of(record)).text


@pytest.mark.parametrize(
    ("gap", "interval", "words"),
    [
        (
            0.004,
            [-0.002, 0.01],
            "its 95 % interval [-0.20, +1.00] includes zero: on these pairs the two cannot be told",
        ),
        (-0.02, [-0.03, -0.01], "excludes zero: DSR is worse than bicubic"),
        (0.02, None, "no interval was computed"),
    ],
)
def test_lead_claims_no_more_than_the_interval(
    page_of: Page, new_record: Callable[[], Record], gap: float, interval: list[float] | None, words: str
) -> None:
    record = new_record()
    for one in record["differences"]:
        one["figures"] |= {"accuracy": gap, "accuracy_ci95": interval}
    assert words in re.sub(r" ([.,])", r"\1", _Structure(page_of(record)).text)


def test_tables_have_intervals_baselines_flags_and_reasons(page_of: Page, record: Record) -> None:
    page = page_of(record)
    text = _Structure(page).text
    assert '92.20 <span class="interval">[91.40, 93.00]</span>' in page
    assert "rejecting every pair 50.00" in text
    assert "76.60* [75.80, 77.40]" in text
    assert "&lt; 0.16<sup" in page
    assert "1 false matches among 3,000 impostor pairs: fewer than 3" in text
    assert '<td class="marked">+2.70 <span class="interval">[+1.90, +3.50]</span></td>' in page
    assert "<td>+0.18 <span" in page  # its interval holds zero: not in bold


def test_what_was_run_is_told(page_of: Page, record: Record) -> None:
    text = _Structure(page_of(record)).text
    assert "python -m pipeline.evaluate_resolutions --images faces.zip" in text
    assert "0123456789abcdef0123456789abcdef01234567 with uncommitted changes" in text
    assert "torch 2.14.0" in text
    assert "cd" * 32 in text


def test_same_record_gives_the_same_bytes(page_of: Page, record: Record) -> None:
    assert page_of(record) == page_of(copy.deepcopy(record))


def test_page_asks_for_nothing_and_stays_small(page_of: Page, record: Record) -> None:
    page = page_of(record)
    assert "default-src 'none'" in page
    assert not re.search(r"(?:https?:|\s(?:href|src)=\"(?!#|data:image/(?:png|jpeg|webp);base64,))", page)
    assert "<script" not in page
    assert "url(" not in page
    assert len(page) < 1_500_000


def test_pictures_are_shown_with_words_and_a_notice(page_of: Page, record: Record) -> None:
    page = page_of(record)
    structure = _Structure(page)
    images = [attrs for tag, attrs in structure.tags if tag == "img"]
    assert len(images) == 2 * 3 * 4 + 2 * 4 * 2
    assert all(image["alt"] for image in images)
    assert "cos 0.687" in structure.text
    assert "Keep it out of git" in structure.text
    assert next(image["alt"] for image in images if image.get("class") == "pixels") == "Person 0/photo_0001.png, LR"


def test_charts_are_described_in_words(page_of: Page, record: Record) -> None:
    drawings = [attrs for tag, attrs in _Structure(page_of(record)).tags if attrs.get("class") == "plot"]
    assert len(drawings) > 20
    assert all(one["role"] == "img" and one["aria-label"] for one in drawings)


def test_text_of_records_is_escaped_everywhere(page_of: Page, record: Record) -> None:
    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: poison(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [poison(one, key) for one in value]
        kept = ("format", "file", "first_file", "second_file", "folder", "method", "minus", "set", "kind")
        return value + HOSTILE if isinstance(value, str) and key not in kept else value

    page = page_of(poison(record), title=HOSTILE)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not _Structure(page).open


def test_unknown_methods_protocols_sets_and_figures_are_shown_as_they_are(
    page_of: Page, new_record: Callable[[], Record]
) -> None:
    record = new_record()
    for one in record["verification"]:
        one["protocol"] = "lr-video"
        one["figures"]["warmth"] = 0.25
        one["method"] = "gan" if one["method"] == "dsr" else one["method"]
    text = _Structure(page_of(record)).text
    assert "Verification, LR-VIDEO" in text
    assert "warmth" in text
    assert "gan" in text


@pytest.mark.parametrize("section", ["verification", "differences", "identification", "groups", "calibration"])
def test_missing_sections_are_left_out(page_of: Page, new_record: Callable[[], Record], section: str) -> None:
    record = new_record()
    del record[section]
    without = page_of(record)
    assert not _Structure(without).open
    only = {
        key: value for key, value in new_record().items() if key in ("format", "title", "run", "threshold", section)
    }
    assert not _Structure(page_of(only)).open


def test_bare_record_says_that_it_holds_nothing(page_of: Page, new_record: Callable[[], Record]) -> None:
    bare = {key: new_record()[key] for key in ("format", "run")}
    assert "This report holds no figures" in page_of(bare)


def test_single_size_without_intervals_and_curves_is_shown(page_of: Page, new_record: Callable[[], Record]) -> None:
    record = new_record()
    entries = [one for one in record["verification"] if one["size"] in (16, None)]
    for one in entries:
        del one["curve"], one["histogram"], one["withheld"], one["few_errors"]
        one["figures"] = {key: value for key, value in one["figures"].items() if not key.endswith("_ci95")}
    page = page_of({"format": record["format"], "run": {}, "verification": entries})
    assert "Accuracy by size" not in page, "a line needs two sizes"
    assert "<h4>ROC</h4>" not in page
    assert "NaN" not in page


def test_records_are_joined_and_told_apart_where_they_clash(page_of: Page, new_record: Callable[[], Record]) -> None:
    first, second = new_record(), new_record()
    second["title"] = "Another DSR"
    for one in second["verification"]:
        one["figures"]["accuracy"] = 0.77
    text = _Structure(page_of(first, second)).text
    assert "edgeface_xxs (Another DSR)" in text
    assert "77.00" in text
    same = _Structure(page_of(first, copy.deepcopy(first))).text
    assert "edgeface_xxs (" not in same


def test_a_record_that_clashes_is_renamed_in_all_its_sections(new_record: Callable[[], Record], tmp_path: Path) -> None:
    made = [new_record() for _ in range(3)]
    paths = []
    for number, one in enumerate(made):
        one["title"] = "LFW"
        one["verification"][0]["figures"]["accuracy"] = 0.7 + number / 10
        paths.append(tmp_path / f"r{number}" / "lfw.json")
        paths[-1].parent.mkdir()
        paths[-1].write_text(json.dumps(one))
    joined = read_records(paths).sections
    names = [f"edgeface_xxs ({path})" for path in paths[1:]]
    for section in ("verification", "differences"):
        recognisers = {one["recogniser"] for one in joined[section]}
        assert recognisers >= {"edgeface_xxs", *names}, section


def test_whom_a_renamed_record_compares_with_is_renamed_too(new_record: Callable[[], Record], tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        one = new_record()
        one["title"] = f"DSR {number}"
        one["verification"][0]["figures"]["accuracy"] = 0.7 + number / 10
        one["differences"].append(one["differences"][0] | {"minus": "dsr of edgeface_xxs"})
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(one))
    found = [(one["recogniser"], one["minus"]) for one in read_records(paths).sections["differences"]]
    assert ("edgeface_xxs", "dsr of edgeface_xxs") in found
    assert ("edgeface_xxs (DSR 1)", "dsr of edgeface_xxs (DSR 1)") in found
    assert ("edgeface_xxs (DSR 1)", "bicubic") in found


def test_groups_and_thresholds_say_of_which_reduction_they_are(page_of: Page, new_record: Callable[[], Record]) -> None:
    canonical, severe = new_record(), new_record()
    for section in ("groups", "calibration"):
        for one in severe[section]:
            one["degradation"] = "realistic-severe"
    text = _Structure(page_of(canonical, severe)).text
    assert "edgeface_xxs (" not in text, "they do not clash"
    assert text.count("reduction realistic-severe") >= 2
    older, newer = new_record(), new_record()
    for one in newer["groups"]:
        one["degradation"] = "canonical"
    joined = _Structure(page_of(older, newer)).text
    assert joined.count("By sex: edgeface_xxs,") == _Structure(page_of(older)).text.count("By sex: edgeface_xxs,") > 0
    assert "reduction" not in _Structure(page_of(canonical)).text.partition("Error rates by group")[2][:2000]


def test_missing_and_false_pictures_become_a_visible_note(page_of: Page, tmp_path: Path, record: Record) -> None:
    folder = tmp_path / "record_pictures"
    (folder / "8_0_lr.png").unlink()
    (folder / "8_1_lr.png").write_text(f"<svg>{HOSTILE}</svg>")
    (folder / "8_2_lr.png").write_bytes((folder / "8_2_hr.png").read_bytes()[:100])
    (folder / "16_0_lr.png").unlink()
    write_png(tmp_path / "secret.png", np.full((8, 8, 3), 7, dtype=np.uint8))
    (folder / "16_0_lr.png").symlink_to(tmp_path / "secret.png")
    page = page_of(record)
    text = _Structure(page).text
    assert "4 picture(s) could not be shown" in text
    assert "8_0_lr.png is missing" in text
    assert "8_1_lr.png is not a PNG, JPEG or WebP image" in text
    assert "8_2_lr.png is truncated or damaged" in text
    assert "16_0_lr.png lies outside" in text
    assert "<svg>&lt;" not in page


def test_many_pictures_are_compressed_until_they_fit(
    page_of: Page, new_record: Callable[[], Record], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    rows = []
    for number in range(90):
        write_png(tmp_path / "many" / f"{number}.png", noise)
        rows.append({"name": f"{number}", "tiles": [{"label": "HR", "file": f"{number}.png", "cosine": 1.0}]})
    record = new_record() | {"pictures": {"folder": "many", "grids": [{"size": 16, "rows": rows}]}}
    page = page_of(record)
    assert len(page) < BUDGET_BYTES * 4 / 3 + 1_500_000
    assert "data:image/webp" in page
    assert "slightly compressed" in page
