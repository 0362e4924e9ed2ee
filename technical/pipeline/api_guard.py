"""What stands between the network and the routes: who may ask, which headers go out, and what is logged."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import UserError
from pipeline.api_errors import ApiError, answer_of

log = logging.getLogger("pipeline.api")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""For the page, whose `csp.ts` says the same, and the documentation: own files only, no script or style inside HTML;
WebAssembly may be compiled."""
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    # Alone in its process, a page may use threads in WebAssembly.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LEFTOVER_BYTES = 64 * 1024 * 1024
LEFTOVER_SECONDS = 3.0


@dataclass(frozen=True)
class Access:
    """Who may do what. Raises UserError for a token or origin that is none."""

    loopback: bool
    """The server listens on this machine only."""
    token: str | None = None
    hosts: tuple[str, ...] = ()
    """Further names of this server, such as that of a proxy before it; looked at on loopback only."""
    origins: tuple[str, ...] = ()
    """Web pages elsewhere that may ask, such as https://example.org."""

    def __post_init__(self) -> None:
        if self.token is not None and (
            len(self.token) < 16 or not self.token.isascii() or not self.token.isprintable()
        ):
            raise UserError("The token is too short or no plain text: expected 16 letters and digits or more.")
        for origin in self.origins:
            parts = _split(origin)
            if (
                parts is None
                or parts.scheme not in ("http", "https")
                or not parts.netloc
                or origin != f"{parts.scheme}://{parts.netloc}".lower()
            ):
                words = "expected such as https://example.org, in small letters and without a path."
                raise UserError(f"--allow-origin {origin}: {words}")

    @property
    def people_open(self) -> bool:
        """Whether somebody can be enrolled or deleted at all."""
        return self.loopback or self.token is not None

    def may_list(self, given: str | None) -> bool:
        """Whether who gave this bearer token, or none, may be told who is enrolled."""
        try:
            self.check_token(given)
        except ApiError:
            return False
        return True

    def check_token(self, given: str | None) -> None:
        """Raise ApiError unless who gave this bearer token, or none, may see, enrol and delete people."""
        if not self.people_open:
            what = "Started for the network without a token, this server enrols, lists and deletes nobody."
            raise ApiError(403, "people_closed", f"{what} Its owner can set DSR_API_TOKEN.")
        if self.token is None:
            return
        if not hmac.compare_digest((given or "").encode(), self.token.encode()):
            words = "Send the token of this server: `Authorization: Bearer <token>`."
            raise ApiError(401, "no_token", words, {"WWW-Authenticate": "Bearer"})

    def check_sender(self, method: str, headers: Headers) -> None:
        """Raise ApiError for a request from a web page elsewhere, or for a host name that is not this server's.

        Without this any page open in a browser on this machine could enrol and delete people here.
        """
        host = headers.get("host", "")
        if self.loopback and not self._is_own(host):
            what = "This is no name of this server. Its owner can add one: --host-name."
            raise ApiError(400, "wrong_host", what)
        origin = headers.get("origin")
        sender = None if origin is None else _split(origin)
        own = origin is None or origin in self.origins or (sender is not None and sender.netloc == host)
        elsewhere = headers.get("sec-fetch-site") == "cross-site" and origin not in self.origins
        if method not in SAFE_METHODS and (not own or elsewhere):
            what = "Web pages elsewhere may not ask this server. Its owner can let one: --allow-origin."
            raise ApiError(403, "cross_origin", what)

    def _is_own(self, host: str) -> bool:
        parts = _split(f"//{host}")
        name = "" if parts is None else parts.hostname or ""
        return is_loopback(name) or name in {one.lower() for one in self.hosts}


def _split(address: str) -> SplitResult | None:
    """The parts of an address, or None where it is none, such as one with half a bracket."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine, and is reached from nowhere else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Middleware: checks the sender, adds the headers, logs a line without names, and takes in what is left of a body.

    A client that is still sending when the answer is ready would often not see it: so a little more is read first.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.perf_counter()
        body = _Body(receive, Headers(scope=scope))
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-cache" if _is_page(scope) else "no-store")
                if not await body.taken_in():
                    headers["Connection"] = "close"
            await send(message)

        try:
            try:
                self.access.check_sender(scope["method"], body.headers)
            except ApiError as error:
                await answer_of(error)(scope, receive, answer)
                return
            await self.app(scope, body.receive, answer)
        finally:
            log.info("%s %s %d, %.0f ms", scope["method"], _route(scope), status, 1000 * (time.perf_counter() - begin))


class _Body:
    """A request's body, and how much of it has been read."""

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive, self.headers = receive, headers
        self._asked = False
        self._ended = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"

    async def receive(self) -> Message:
        """The next piece."""
        self._asked = True
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._ended = True
        return message

    async def taken_in(self) -> bool:
        """Read on, for a short while, and forget what comes; whether the body has ended."""
        if not self._ended and not self._asked and "expect" in self.headers:
            return False  # it waits to be asked for the body, and never will be
        count = 0
        try:
            async with asyncio.timeout(LEFTOVER_SECONDS):
                while not self._ended and count < LEFTOVER_BYTES:
                    count += len((await self.receive()).get("body", b""))
        except TimeoutError:
            return False
        return self._ended


def _is_page(scope: Scope) -> bool:
    return str(scope["path"]).startswith(("/ui/", "/docs/"))


def _route(scope: Scope) -> str:
    """The route, not the path: a path may hold somebody's name."""
    return getattr(scope.get("route"), "path", "a page" if _is_page(scope) else "no route")
