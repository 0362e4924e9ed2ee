"""Concurrent requests as one call: what arrives within milliseconds, or while a batch is at work, goes together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from common.errors import UserError

WAIT_SECONDS = 0.003
MOST = 32  # items of a batch; a single request with more is a batch of its own
In = TypeVar("In")
Out = TypeVar("Out")
log = logging.getLogger("pipeline.api")


@dataclass(frozen=True, eq=False)
class _Request(Generic[In, Out]):
    items: Sequence[In]
    answer: asyncio.Future[list[Out]]


class Batcher(Generic[In, Out]):
    """Calls `run(items)` for several requests at once, in a thread of `executor`; answers come in the items' order.

    Where a batch raises UserError each request is tried alone, so that only the one at fault gets the error.
    """

    def __init__(
        self, run: Callable[[Sequence[In]], list[Out]], executor: Executor, wait: float = WAIT_SECONDS
    ) -> None:
        self._run, self._executor, self._wait = run, executor, wait
        self._waiting: list[_Request[In, Out]] = []
        self._arrived = asyncio.Event()
        self.batches = 0
        """How many calls there were."""

    async def __call__(self, items: Sequence[In]) -> list[Out]:
        """What `run` gives for these items. Raises what it raises."""
        request: _Request[In, Out] = _Request(items, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._arrived.set()
        return await request.answer

    async def work(self) -> None:
        """Serve requests until cancelled."""
        while True:
            await self._arrived.wait()
            if sum(len(one.items) for one in self._waiting) < MOST:
                await asyncio.sleep(self._wait)
            batch = self._take()
            if batch:
                await self._serve(batch)

    def _take(self) -> list[_Request[In, Out]]:
        """The oldest requests that fit into a batch, at least one; those nobody waits for any more are dropped."""
        waiting = [one for one in self._waiting if not one.answer.done()]
        count = items = 0
        for one in waiting:
            if count and items + len(one.items) > MOST:
                break
            count, items = count + 1, items + len(one.items)
        self._waiting = waiting[count:]
        if not self._waiting:
            self._arrived.clear()
        return waiting[:count]

    async def _serve(self, batch: list[_Request[In, Out]]) -> None:
        self.batches += 1
        items = [item for one in batch for item in one.items]
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._run, items)
        await asyncio.wait([work])
        error = work.exception()
        if isinstance(error, UserError) and len(batch) > 1:
            log.warning("a batch of %d requests failed: they are tried one by one", len(batch))
            for one in batch:
                await self._serve([one])
            return
        place = 0
        for one in batch:
            if one.answer.done():  # its request has run out of time
                pass
            elif error is not None:
                one.answer.set_exception(error)
            else:
                one.answer.set_result(work.result()[place : place + len(one.items)])
            place += len(one.items)
