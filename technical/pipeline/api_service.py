"""The recogniser behind the API: photos are looked at in threads, faces of concurrent requests embedded in batches."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import Request

from common.images import RgbImage
from pipeline.api_batches import Batcher
from pipeline.api_errors import ApiError
from pipeline.api_forms import Form
from pipeline.api_limits import Bound, Held, Limits
from pipeline.api_people import People
from pipeline.api_photos import Looker, SmallFace, upscaled
from pipeline.api_uploads import read_form
from pipeline.face_crops import EmbeddedFace, FaceCrop
from pipeline.onnx_models import OnnxModel
from pipeline.recogniser import Recogniser

T = TypeVar("T")
FormT = TypeVar("FormT", bound=Form)
NO_DSR = (
    "This server has no DSR to make pictures with. Make one, where torch is: "
    "python -m pipeline.export --to onnx --what dsr --out checkpoints/dsr.onnx"
)


class Service:
    """What the routes share. `run` starts and ends it; all methods belong to its event loop."""

    def __init__(self, recogniser: Recogniser, dsr: OnnxModel | None, people: People, limits: Limits) -> None:
        self.recogniser, self.dsr, self.people, self.limits = recogniser, dsr, people, limits
        self.looker = Looker(recogniser, limits)
        self.senders = Bound(limits.senders, "Too many uploads are on their way")
        self.queue = Bound(limits.queue, "The queue is full")
        self.held = Bound(limits.held_bytes, "Too many bytes of photos are waiting to be looked at")

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """The threads and batches, for the length of an `async with` block."""
        self._lookers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="look")
        self._keepers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="gallery")
        networks = ThreadPoolExecutor(1, thread_name_prefix="networks")
        self._embedder = Batcher(self.recogniser.embed, networks)
        self._upscaler = Batcher(self._upscaled, networks)
        workers = [asyncio.create_task(one.work()) for one in (self._embedder, self._upscaler)]
        try:
            yield
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._lookers.shutdown(cancel_futures=True)
            self._keepers.shutdown(cancel_futures=True)
            networks.shutdown(cancel_futures=True)
            self.people.close()

    @asynccontextmanager
    async def uploaded(self, request: Request, form: type[FormT]) -> AsyncIterator[FormT]:
        """A request's form and, for the length of the block, a place in the queue and limited time.

        Raises ApiError as `read_form`, for a full queue (429), and for a block that takes too long (503).
        """
        self.queue.require_room()  # before anything is read
        held = Held(self.held)
        try:
            with self.senders.one():
                values = await read_form(request, form, self.limits, held)
            with self.queue.one():
                async with asyncio.timeout(self.limits.answer_seconds):
                    yield values
        except TimeoutError as error:
            raise ApiError(503, "too_slow", "The answer took too long.", {"Retry-After": "5"}) from error
        finally:
            held.release()

    async def in_thread(self, work: Callable[..., T], *values: object) -> T:
        """`work(*values)` in one of the threads that look at photos."""
        return await asyncio.get_running_loop().run_in_executor(self._lookers, work, *values)

    async def in_gallery(self, work: Callable[..., T], *values: object) -> T:
        """`work(*values)` in one of the threads that may wait for the gallery, so that photos need not."""
        return await asyncio.get_running_loop().run_in_executor(self._keepers, work, *values)

    async def one_face(self, field: str, photo: bytes, aligned: bool, largest: bool) -> FaceCrop:
        """As `Looker.one`."""
        return await self.in_thread(self.looker.one, field, photo, aligned, largest)

    async def embed(self, crops: Sequence[FaceCrop]) -> list[EmbeddedFace]:
        """Embeddings of length 1, in the order of `crops`, computed together with those of other requests."""
        return await self._embedder(crops)

    async def faces(self, field: str, photo: bytes, aligned: bool) -> list[EmbeddedFace]:
        """All faces of a photo, embedded. Raises ApiError as `Looker.several`."""
        return await self.embed(await self.in_thread(self.looker.several, field, photo, aligned))

    async def upscale(
        self, field: str, photo: bytes, aligned: bool, largest: bool, side: int | None
    ) -> tuple[SmallFace, RgbImage]:
        """The face as `Looker.small` takes it, and what the DSR makes of it. Raises ApiError (503) without a DSR."""
        if self.dsr is None:
            raise ApiError(503, "no_dsr", NO_DSR)
        small = await self.in_thread(self.looker.small, field, photo, aligned, largest, side)
        (large,) = await self._upscaler([small])
        return small, large

    def _upscaled(self, faces: Sequence[SmallFace]) -> list[RgbImage]:
        assert self.dsr is not None
        return upscaled(self.dsr, faces)
