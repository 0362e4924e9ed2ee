"""How figures are written for the terminal."""

from __future__ import annotations

from facial_rec.tables import format_table, has_few, judged, judged_parts, number, percent


def test_figures_with_intervals_and_signs() -> None:
    assert percent(0.1235, (0.1, 0.2)) == "12.35 [10.00, 20.00]"
    assert percent(None) == number(None) == "-"
    assert number(1.5, (1.0, 2.0), 1, signed=True) == "+1.5 [+1.0, +2.0]"


def test_judged_figures_carry_their_mark_or_bound() -> None:
    entry = {
        "figures": {"accuracy": None, "eer": 0.1, "eer_ci95": (0.05, 0.2), "fmr@threshold": None, "auc": None},
        "withheld": {"accuracy": {"upper95": 0.001}, "fmr@threshold": {"upper95": 0.002}, "auc": {"upper95": None}},
        "few_errors": {"eer": 12.0},
    }
    assert judged(entry, "eer") == "10.00* [5.00, 20.00]"
    assert judged_parts(entry, "eer") == ("10.00*", "[5.00, 20.00]")
    assert judged(entry, "accuracy") == "> 99.90"
    assert judged(entry, "fmr@threshold") == "< 0.20"
    assert judged(entry, "auc") == judged(entry, "psnr") == "-"
    assert has_few([entry])
    assert not has_few([{"figures": {}}])


def test_columns_line_up() -> None:
    lines = format_table(["", "a"], [["name", "1"], ["n", "1000"]]).splitlines()
    assert lines == ["         a", "----------", "name     1", "n     1000"]
