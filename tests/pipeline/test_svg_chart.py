"""Charts: where values lie, which ticks are drawn, that the same input gives the same bytes."""

from __future__ import annotations

import re

import pytest

from pipeline.svg_axes import Axis, linear_axis, log_axis, percent_axis, probit_axis, size_axis
from pipeline.svg_chart import Bars, Chart, Line, Reference, dot_rows, render


def words(axis: Axis) -> list[str]:
    return [word for _, word in axis.ticks]


def test_axes_place_their_ends_and_middles() -> None:
    assert linear_axis("", 2.0, 6.0).place(3.0) == pytest.approx(0.25)
    assert log_axis("", 1e-4).place(1e-2) == pytest.approx(0.5)
    assert Axis("", 0.1, 0.9, [], "probit").place(0.5) == pytest.approx(0.5)
    assert Axis("", 0.02, 0.98, [], "probit").place(0.1586552539) == pytest.approx(0.5 - 1 / (2 * 2.0537489), abs=1e-6)


def test_values_beyond_an_axis_stand_on_its_end() -> None:
    assert log_axis("", 1e-3).place(0.0) == 0.0
    assert probit_axis("", 1e-3, 0.5).place(0.0) == 0.0
    assert linear_axis("", 0.0, 1.0).place(7.0) == 1.0


def test_ticks_are_round_and_in_percent() -> None:
    assert words(percent_axis("", [0.81, 0.97])) == ["85", "90", "95"]
    assert words(percent_axis("", [0.9912, 0.9952])) == ["99.1", "99.2", "99.3", "99.4", "99.5"]
    assert words(log_axis("", 3e-4)) == ["0.01", "0.1", "1", "10", "100"]
    assert words(probit_axis("", 0.004, 0.5)) == ["0.1", "1", "5", "20", "50"]
    assert words(size_axis([32, 8, 16, 16])) == ["8", "16", "32"]


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [1.0], [3.0, 4.0]])
def test_axes_of_constant_or_odd_values_still_have_a_range(values: list[float]) -> None:
    axis = percent_axis("", values)
    assert axis.high > axis.low
    assert axis.ticks


def chart(layers: list[Line | Bars]) -> Chart:
    y = percent_axis("rate, %", [0.0, 1.0])
    return Chart("A <b>title", linear_axis("x", 0, 10), y, layers, (Reference(3.0, "here"),), "Caption")


def test_lines_bands_markers_and_references_are_drawn() -> None:
    line = Line("DSR <i>", "dsr", [0, 5, 10], [0.2, 0.5, 0.8], [0.1, None, 0.7], [0.3, None, 0.9], marks=True)
    drawn = render(chart([line, Bars("bars", "s1", [0, 5, 10], [0.4, 0.6])]))
    assert drawn == render(chart([line, Bars("bars", "s1", [0, 5, 10], [0.4, 0.6])]))
    assert drawn.count('class="mark paint-dsr"') == 4  # three points, one in the legend
    assert 'class="band paint-dsr"' in drawn
    assert 'class="fill paint-s1"' in drawn
    assert ">here</text>" in drawn
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert "nan" not in drawn.lower().replace("genuine", "")


def test_series_differ_without_colour() -> None:
    styles = ("hr", "bicubic", "dsr", "s0", "s1", "s2", "s3", "s4", "s5")
    drawn = {style: render(chart([Line("one", style, [0, 1], [0, 1], marks=True)])) for style in styles}
    shapes = {style: re.sub(r"(ink|paint)-\w+", "", page) for style, page in drawn.items()}
    assert len({shapes[style] for style in ("hr", "bicubic", "dsr")}) == 3
    assert len({shapes[style] for style in ("s0", "s1", "s2", "s3", "s4", "s5")}) == 6


def test_rows_show_intervals_and_say_what_is_missing() -> None:
    drawn = dot_rows("FNMR by <b>", "FNMR, %", [("f", 0.1, (0.05, 0.2), ""), ("a" * 40, None, None, "too few errors")])
    assert drawn.count("<circle") == 1
    assert drawn.count("whisker") == 1
    assert "too few errors" in drawn
    assert "aaaa…" in drawn
    assert "<b>" not in drawn
