"""`benchmarks/dsr_below.py`: run on made-up people, and the size it names from rows whose answer is known."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "dsr_below.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The names in the script."""
    return runpy.run_path(str(SCRIPT), run_name="dsr_below")


@pytest.mark.parametrize(
    ("helps", "below"),
    [("yyn", 16), ("nyn", 16), ("ynn", 12), ("nnn", 0), ("yyy", 17), ("yny", 17), ("nny", 17)],
)
def test_the_size_after_the_last_that_it_helps(helps: str, below: int, script: dict[str, Any]) -> None:
    interval = {"y": (0.01, 0.03), "n": (-0.01, 0.03)}
    rows = [
        script["Row"](size, {"bicubic": 0.5, "dsr": 0.52}, 0.02, interval[answer])
        for size, answer in zip((8, 12, 16), helps, strict=True)
    ]
    assert script["helps_below"](rows) == below


def test_it_measures_both_ways(
    script: dict[str, Any], people: Path, edgeface: Path, dsr: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"images": people, "edgeface": str(edgeface), "dsr": str(dsr), "vlr_size": (16, 8), "bootstrap": 20}
    below = script["main"](script["Config"](fmr=0.1, **given))
    out = capsys.readouterr().out
    assert "18 images of 6 people, 18 genuine and 135 impostor pairs" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("8 ", "16 "))]
    assert [row[0] for row in rows] == ["8", "16"]
    for row in rows:
        bicubic, dsr_share, gain = (float(cell) for cell in row[1:4])
        assert gain == pytest.approx(dsr_share - bicubic, abs=0.011)
    assert (f"helps below {below} pixels" in out) == (below > 0)
    for changes, words in (({"fmr": 1e-3}, "too few"), ({"bootstrap": 0}, "--bootstrap 0")):
        with pytest.raises(UserError, match=words):
            script["main"](script["Config"](**{**given, **changes}))


def test_lfw_is_refused(script: dict[str, Any], people: Path) -> None:
    lfw = people.rename(people.with_name("lfw"))
    with pytest.raises(UserError, match="looks like LFW"):
        script["main"](script["Config"](images=lfw))
