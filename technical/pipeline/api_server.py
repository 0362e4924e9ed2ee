"""uvicorn, with a deadline for slow senders of headers and for those who do not read, and a quiet end."""

from __future__ import annotations

import asyncio
import signal
from math import ceil
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.api_limits import Limits

KEEP_ALIVE_SECONDS = 15
UNREAD_SECONDS = 30.0
MOST_CONNECTIONS = 500
_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class PromptProtocol(H11Protocol):
    """HTTP that waits for the head of a request, and for an answer to be read, for a limited time only: uvicorn itself
    would wait for ever.

    The bodies of requests have a deadline of their own, in `pipeline.api_uploads`.
    """

    head_seconds: float
    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.trailing_data[0]:  # the next request has begun; else uvicorn keeps the connection for a while
            self._watch()
        else:
            self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()
        self.resume_writing()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch(self) -> None:
        """Whoever is not waiting for an answer must send: from now on the time runs, however little comes."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._rest()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self._end)

    def _rest(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.write(_LATE)
            self.transport.close()


def serve(app: FastAPI, host: str, port: int, limits: Limits) -> None:
    """Serve until SIGTERM or SIGINT; what is on its way then is still received and answered, within its limits."""

    class Protocol(PromptProtocol):
        head_seconds = limits.head_seconds

    options: dict[str, Any] = {"access_log": False, "log_config": None, "server_header": False, "ws": "none"}
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Protocol,
        loop="asyncio",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ceil(limits.upload_seconds + limits.answer_seconds),
        **options,
    )
    # uvicorn raises the signal again when it is done, which would make an orderly end look like a violent one.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.Server(config).run()
