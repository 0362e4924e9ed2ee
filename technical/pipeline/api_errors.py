"""What the API refuses, and how it says so: `{"error": <a fixed word>, "message": <a sentence>}` with a 4xx or 5xx."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException

from common.errors import UserError

RETRY_SECONDS = 1
log = logging.getLogger("pipeline.api")


class ErrorAnswer(BaseModel):
    """A refusal."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"error": "no_face", "message": "image1: mtcnn found no face. Is it the right way up?"}]
        },
    )
    error: str
    """Fixed, for programs."""
    message: str
    """For people."""


class ApiError(Exception):
    """A refusal with its HTTP status. The message holds nothing of the upload but the name of the form's field."""

    def __init__(self, status: int, error: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.error, self.message, self.headers = status, error, message, headers or {}


def busy(what: str) -> ApiError:
    """The server has as much to do as it takes on."""
    return ApiError(429, "busy", f"{what}. Try again in a moment.", {"Retry-After": str(RETRY_SECONDS)})


def answer_of(error: ApiError) -> JSONResponse:
    """The response that says so."""
    return JSONResponse({"error": error.error, "message": error.message}, error.status, error.headers)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the description of a route: which refusals it can answer with."""
    words = {
        400: "Not a form, or a broken one; or a host name that is not this server's",
        401: "The token is missing or wrong",
        403: "Asked from another web page, or not allowed from the network",
        404: "Nobody of that name, or nobody at all, is enrolled",
        408: "The upload took too long",
        413: "Too many bytes or pixels",
        415: "Not a form with files, or a file that is no PNG, JPEG, BMP or WebP",
        422: "A field is missing or wrong, the photo is damaged, or it shows no face, or too many",
        429: "Busy: the queue is full (see Retry-After)",
        503: "A model or the gallery cannot be used, or the answer took too long",
    }
    content = {"application/json": {"schema": ErrorAnswer.model_json_schema()}}  # also where an answer is a picture
    return {status: {"description": words[status], "content": content} for status in statuses}


def add_handlers(app: FastAPI) -> None:
    """Let every error of `app` be answered in one form; none shows a traceback, a path or a pixel."""

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        return answer_of(error)

    @app.exception_handler(UserError)
    async def unusable(_: Request, error: UserError) -> JSONResponse:
        log.error("%s", error)  # it may name files of this machine, which are none of the client's business
        return answer_of(ApiError(503, "unavailable", "The server cannot do this now; its log says why."))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer_of(ApiError(422, "invalid", _sentence(error.errors())))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        named = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        headers = dict(error.headers or {})
        path = getattr(request.scope.get("route"), "path_format", "")
        if error.status_code == 405 and path in app.openapi()["paths"]:
            # Starlette names the methods of the first of several routes with this path.
            headers["Allow"] = ", ".join(method.upper() for method in app.openapi()["paths"][path])
        return answer_of(ApiError(error.status_code, named, str(error.detail), headers))

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> JSONResponse:
        return answer_of(ApiError(500, "internal", "The server made a mistake; its log has the details."))


def invalid(error: ValidationError) -> ApiError:
    """What is wrong with the fields of a form, without what they held."""
    return ApiError(422, "invalid", _sentence(error.errors(include_input=False, include_url=False)))


def _sentence(errors: Any) -> str:
    """`metric: Input should be 'cosine' or 'euclidean'`, for each; the first place is FastAPI's word for where."""
    parts = [
        f"{'.'.join(str(part) for part in one['loc'] if part not in ('body', 'path', 'query'))}: {one['msg']}"
        for one in errors
    ]
    return "; ".join(parts)
