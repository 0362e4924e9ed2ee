"""Batches of concurrent requests: who gets what, and what an error does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from common.errors import UserError
from pipeline.api_batches import MOST, Batcher
from pipeline.api_errors import ApiError
from pipeline.api_limits import Bound, Held, Limits


def batched(run: Any, *requests: Sequence[int]) -> tuple[list[Any], list[list[int]]]:
    """The answers, or errors, of concurrent requests, and what each call of `run` got."""
    calls: list[list[int]] = []

    def noted(items: Sequence[int]) -> list[int]:
        calls.append(list(items))
        return [run(item) for item in items]

    async def ask() -> list[Any]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(noted, executor)
            worker = asyncio.create_task(batcher.work())
            answers: list[Awaitable[list[int]]] = [batcher(items) for items in requests]
            found = await asyncio.gather(*answers, return_exceptions=True)
            worker.cancel()
            return list(found)

    return asyncio.run(ask()), calls


def test_requests_go_together_and_keep_their_order() -> None:
    answers, calls = batched(lambda item: 10 * item, [1, 2], [3], [4, 5, 6])
    assert answers == [[10, 20], [30], [40, 50, 60]]
    assert calls == [[1, 2, 3, 4, 5, 6]]


def test_a_batch_is_not_too_large() -> None:
    answers, calls = batched(lambda item: item, list(range(MOST - 2)), [1, 2, 3], [4], list(range(2 * MOST)))
    assert [len(call) for call in calls] == [MOST - 2, 4, 2 * MOST]
    assert answers[1:3] == [[1, 2, 3], [4]]


def test_only_the_request_at_fault_gets_the_error() -> None:
    def run(item: int) -> int:
        if item == 2:
            raise UserError("two is broken")
        return item

    answers, calls = batched(run, [1], [2, 3], [4])
    assert (answers[0], answers[2]) == ([1], [4])
    assert isinstance(answers[1], UserError)
    assert calls == [[1, 2, 3, 4], [1], [2, 3], [4]]


def test_a_mistake_reaches_everybody_and_ends_nothing() -> None:
    def run(item: int) -> int:
        return 1 // item

    answers, _ = batched(run, [0], [1])
    assert [type(one) for one in answers] == [ZeroDivisionError, ZeroDivisionError]
    answers, _ = batched(run, [1])
    assert answers == [[1]]


def test_a_request_that_gave_up_is_left_out() -> None:
    seen: list[list[int]] = []

    def run(items: Sequence[int]) -> list[int]:
        seen.append(list(items))
        return list(items)

    async def ask() -> list[int]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(run, executor, wait=0.05)
            worker = asyncio.create_task(batcher.work())
            late = asyncio.create_task(batcher([1]))
            kept = asyncio.create_task(batcher([2]))
            await asyncio.sleep(0.01)
            late.cancel()
            found = await kept
            worker.cancel()
            return found

    assert asyncio.run(ask()) == [2]
    assert seen == [[2]]


def test_bounds() -> None:
    bound = Bound(3, "full")
    held = Held(bound)
    held.add(2)
    with pytest.raises(ApiError) as caught:
        held.add(2)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "1")
    with bound.one(), pytest.raises(ApiError):
        bound.require_room()
    held.release()
    held.release()
    assert bound.taken == 0
    with pytest.raises(UserError, match="--max-faces 0: expected more than 0"):
        Limits(max_faces=0).check()
