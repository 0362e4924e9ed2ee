"""Calls take turns, and the median of those that count is given; on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from facial_rec.timing import time_in_turns

CPU = torch.device("cpu")


@pytest.fixture
def call_taking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], object]]:
    """A function that takes so many milliseconds each time, and says so in a list."""
    now = 0.0

    def make(name: str, durations: list[float], said: list[str]) -> Callable[[], object]:
        left = list(durations)

        def call() -> None:
            nonlocal now
            said.append(name)
            now += left.pop(0) / 1000

        return call

    monkeypatch.setattr("facial_rec.timing.time.perf_counter", lambda: now)
    return make


def test_median_of_the_rounds_that_count(call_taking: Callable[..., Callable[[], object]]) -> None:
    said: list[str] = []
    calls = {"a": call_taking("a", [90, 1, 5, 2], said), "b": call_taking("b", [90, 7, 7, 50], said)}
    found = time_in_turns(calls, rounds=3, device=CPU, warm_up=1)
    assert found == {"a": pytest.approx(2.0), "b": pytest.approx(7.0)}
    assert "".join(said) == "abababab"


def test_settling_calls_do_not_count(call_taking: Callable[..., Callable[[], object]]) -> None:
    said: list[str] = []
    calls = {1: call_taking("a", [90, 1, 90, 3, 90, 8], said), 2: call_taking("b", [90, 4] * 3, said)}
    found = time_in_turns(calls, rounds=3, device=CPU, warm_up=0, settle=True)
    assert found == {1: pytest.approx(3.0), 2: pytest.approx(4.0)}
    assert "".join(said) == "aabb" * 3
