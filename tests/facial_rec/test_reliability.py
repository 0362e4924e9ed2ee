"""The rules of 3 and 30, and the bound that stands in for a withheld rate."""

from __future__ import annotations

import pytest
from scipy import stats

from facial_rec.reliability import Support, judge, upper_bound


def test_fewer_than_three_errors_withhold_and_fewer_than_thirty_flag() -> None:
    support = {
        "two": Support(2, 3000, "false matches among 3,000 impostor pairs"),
        "three": Support(0.001 * 3000, 3000, "expected false matches", observed=False),
        "twenty-nine": Support(29, 3000, "misses"),
        "thirty": Support(30, 3000, "misses"),
    }
    judged = judge(dict.fromkeys(support, 0.5) | {"unruled": 1.0}, support)
    assert judged.figures == {"two": None, "three": 0.5, "twenty-nine": 0.5, "thirty": 0.5, "unruled": 1.0}
    assert judged.withheld["two"]["reason"].startswith("2 false matches among 3,000 impostor pairs: fewer than 3")
    assert judged.withheld["two"]["upper95"] == pytest.approx(stats.beta.ppf(0.95, 3, 2998))
    assert judged.few_errors == {"three": 3.0, "twenty-nine": 29}


def test_expected_errors_have_no_upper_bound_and_absent_figures_stay_absent() -> None:
    support = {"tar": Support(0.3, 300, "expected false matches", observed=False), "none": Support(0, 9, "misses")}
    judged = judge({"tar": 0.9, "none": None}, support)
    assert judged.withheld["tar"]["upper95"] is None
    assert judged.figures["none"] is None
    assert "none" not in judged.withheld


@pytest.mark.parametrize(("errors", "trials"), [(0, 10), (0, 3000), (1, 50), (2, 100_000)])
def test_upper_bound_is_clopper_pearson(errors: int, trials: int) -> None:
    assert upper_bound(errors, trials) == pytest.approx(stats.beta.ppf(0.95, errors + 1, trials - errors), rel=1e-9)


def test_upper_bound_at_the_ends() -> None:
    assert upper_bound(0, 0) is None
    assert upper_bound(5, 5) == 1.0
