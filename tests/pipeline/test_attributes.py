"""A table of attributes: what is read, how columns become groups, and an error with line and key for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from pipeline.attributes import grouped, read_attributes


def written(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "people.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_people_and_their_values(tmp_path: Path) -> None:
    read = read_attributes(written(tmp_path, "sex,subject,age\r\nf,Ann, 34\r\n\r\nm,Bo,NA\r\n", "utf-8-sig"))
    assert read.key == "subject"
    assert read.columns == {"sex": {"Ann": "f", "Bo": "m"}, "age": {"Ann": "34", "Bo": None}}
    assert read.values("sex", ["Bo", "Cy", "Ann"]) == ["m", None, "f"]


def test_images_by_name_or_last_part(tmp_path: Path) -> None:
    read = read_attributes(written(tmp_path, "image,subject,camera\nAnn/1.jpg,Ann,x\n2.jpg,Ann,y\n"))
    assert read.key == "image"
    assert read.values("camera", ["Ann/1.jpg", "Ann/2.jpg", "Bo/1.jpg"]) == ["x", "y", None]
    with pytest.raises(UserError, match=r"key '2\.jpg' fits several images"):
        read.values("camera", ["Ann/2.jpg", "Bo/2.jpg"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("name,sex\nAnn,f\n", "line 1: expected distinct column names, one of them `subject` or `image`"),
        ("subject,sex,sex\n", "line 1: expected distinct"),
        ("subject,\n", "line 1: expected distinct"),
        ("subject,sex\nAnn\n", r"line 2: expected 2 values \(subject, sex\), found 1"),
        ("subject,sex\nAnn,f\n,m\n", "line 3: the key `subject` is empty"),
        ("subject,sex\nAnn,f\nBo,m\nAnn,m\n", "line 4: key 'Ann' stands on line 2 already"),
        ('subject,sex\n"Ann,f\n', "not a readable CSV"),
    ],
)
def test_malformed_files_are_refused_by_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_attributes(written(tmp_path, text))


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing: expected a CSV"):
        read_attributes(tmp_path / "absent.csv")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xff\xfe\x00subject")
    with pytest.raises(UserError, match="not a readable CSV"):
        read_attributes(path)


def test_keys_that_match_nothing_and_unknown_columns_are_refused(tmp_path: Path) -> None:
    read = read_attributes(written(tmp_path, "subject,sex\nann,f\nbo,m\n"))
    with pytest.raises(UserError, match=r"0 of 2 subjects .* among its 2 keys \(it has 'ann', the evaluation 'Ann'\)"):
        read.values("sex", ["Ann", "Bo"])
    with pytest.raises(UserError, match="no column 'age': it has sex"):
        read.values("age", ["ann"])


def test_words_are_groups_in_alphabetical_order() -> None:
    values = ["m", None, "f", "m"]
    assert grouped(values, "sex") == (values, ["f", "m"])


def test_few_numbers_are_groups_in_rising_order() -> None:
    values = [str(n) for n in (10, 9, 2, 9)]
    assert grouped(values, "year") == (values, ["2", "9", "10"])


def test_many_numbers_are_cut_at_quartiles() -> None:
    groups, order = grouped([str(n) for n in range(1, 13)] + [None], "age")
    assert order == ["below 4", "4 to below 7", "7 to below 10", "from 10"]
    assert [groups.count(name) for name in order] == [3, 3, 3, 3]
    assert groups[-1] is None
    assert groups[3] == "4 to below 7", "a cut point belongs to the group above it"


def test_numbers_are_cut_where_asked() -> None:
    assert grouped(["17", "18", "70", None], "age", [18, 65]) == (
        ["below 18", "18 to below 65", "from 65", None],
        ["below 18", "18 to below 65", "from 65"],
    )


@pytest.mark.parametrize(
    ("values", "points", "words"),
    [
        (["f", "3"], [1.0], "holds 'f': only a column of numbers"),
        (["3"], [2.0, 1.0], "expected rising cut points"),
        ([f"n{n}" for n in range(51)], None, "51 different values: expected at most 50"),
    ],
)
def test_columns_that_cannot_be_grouped_are_refused(values: list[str], points: list[float] | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        grouped(values, "column", points)


def test_cut_points_that_agree_in_six_digits_are_told_apart() -> None:
    dates = [str(20230101 + day) for day in range(28)]
    groups, order = grouped(dates, "taken")
    assert len(order) == len(set(order)) == 4
    assert {groups.count(name) for name in order} == {7}
    assert order[0] == "below 20230108"
