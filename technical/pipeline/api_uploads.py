"""Reading a form under limits of bytes, time and parts: in memory only, and without the names of its files."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import Request
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from pipeline.api_errors import ApiError, invalid
from pipeline.api_forms import Form
from pipeline.api_limits import Held, Limits

FormT = TypeVar("FormT", bound=Form)
FIELD_BYTES = 2048  # of a field that is no file; a name of 200 characters has at most 800
OVERHEAD_BYTES = 64 * 1024  # for fields, headers of parts, and boundaries


class _InMemory(MultiPartParser):
    spool_max_size = 0  # to `tempfile.SpooledTemporaryFile`: never to the disk


async def read_form(request: Request, form: type[FormT], limits: Limits, held: Held) -> FormT:
    """The fields of a request, checked; `held` counts their bytes as they come.

    Raises ApiError for another content type (415), a broken form (400), too many bytes (413, also where only one photo
    is too large), too long a time (408), missing, unknown, repeated or wrong fields (422), and a full memory (429).
    """
    kind, _ = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise ApiError(415, "not_a_form", "Expected a form (multipart/form-data) with a file for each photo.")
    most = form.photos * limits.max_bytes + OVERHEAD_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(most)
    with _broken_forms():
        parser = _InMemory(
            request.headers,
            _chunks(request, most, held),
            max_files=form.photos,
            max_fields=len(form.model_fields),
            max_part_size=FIELD_BYTES,
        )
        async with asyncio.timeout(limits.upload_seconds):
            fields = await parser.parse()
    try:
        return form.model_validate(await _values(fields, form, limits))
    except ValidationError as error:
        raise invalid(error) from None  # it holds the photos


async def _chunks(request: Request, most: int, held: Held) -> AsyncGenerator[bytes, None]:
    """The body as it arrives: what the client says of its length is not believed."""
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > most:
            raise _too_large(most)
        held.add(len(chunk))
        yield chunk


async def _values(fields: FormData, form: type[Form], limits: Limits) -> dict[str, Any]:
    """By name: text, bytes, or for a list of photos a list. ApiError for a field given twice and large photos."""
    found: dict[str, list[str | bytes]] = defaultdict(list)
    for name, value in fields.multi_items():
        if isinstance(value, UploadFile):
            found[name].append(await value.read())
            await value.close()
        else:
            found[name].append(value)
    values: dict[str, Any] = {}
    for name, given in found.items():
        called = name if name in form.model_fields else "a field"
        if any(isinstance(one, bytes) != (name in form.files) for one in given) and name in form.model_fields:
            kind = "a file, with a file name" if name in form.files else "text, not a file"
            raise ApiError(422, "invalid", f"{called}: expected {kind}.")
        if any(len(one) > limits.max_bytes for one in given):
            raise ApiError(413, "too_large", f"{called}: the file has more than {limits.max_bytes:,} bytes.")
        several = name in form.files and form.photos > len(form.files)
        if len(given) > 1 and not several:
            raise ApiError(422, "invalid", f"{called}: given {len(given)} times, expected once.")
        values[name] = given if several else given[0]
    return values


@contextmanager
def _broken_forms() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ApiError(408, "too_slow", "The upload took too long. Send a smaller photo.") from error
    except MultiPartException as error:
        raise ApiError(400, "bad_form", error.message) from error
    except UnicodeError as error:
        raise ApiError(400, "bad_form", "The form's charset cannot be read. Send it as UTF-8.") from error
    except ClientDisconnect as error:
        raise ApiError(400, "disconnected", "The upload ended before its end.") from error


def _too_large(most: int) -> ApiError:
    return ApiError(413, "too_large", f"The request has more than {most:,} bytes. Send smaller photos.")
