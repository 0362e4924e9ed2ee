"""The routes of the API: each reads a form, asks the service, and answers."""

from __future__ import annotations

import asyncio
import io
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi import Path as InPath
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from PIL import Image

from common.images import RgbImage
from pipeline.api_answers import (
    DeleteAnswer,
    EmbedAnswer,
    EnrolAnswer,
    HealthAnswer,
    IdentifyAnswer,
    PeopleAnswer,
    VerifyAnswer,
    WelcomeAnswer,
    embed_answer,
    face_answer,
    identify_answer,
    models_answer,
    verify_answer,
)
from pipeline.api_errors import error_responses
from pipeline.api_examples import example
from pipeline.api_forms import EmbedForm, EnrolForm, IdentifyForm, UpscaleForm, VerifyForm, request_body
from pipeline.api_guard import Access
from pipeline.api_people import checked
from pipeline.api_service import Service
from pipeline.gallery import LONGEST_NAME

NAME = "DSR-EdgeFace"
ON_UPLOADS = (400, 403, 408, 413, 415, 422, 429, 503)
ON_PEOPLE = (401, 403, 503)
router = APIRouter()


def service_of(request: Request) -> Service:
    """The service of the app that was asked."""
    found: Service = request.app.state.service
    return found


def access_of(request: Request) -> Access:
    """Who may do what."""
    found: Access = request.app.state.access
    return found


BEARER = HTTPBearer(auto_error=False)


def with_token(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]) -> None:
    """Let nobody pass without the token, where there is one. Raises ApiError as `Access.check_token`."""
    access_of(request).check_token(None if given is None else given.credentials.strip())


async def may_list(request: Request) -> bool:
    """Whether who asks may be told of people whom a photo does not show."""
    given = await BEARER(request)  # not by `Security`, which would describe the token as needed
    return access_of(request).may_list(None if given is None else given.credentials.strip())


Serving = Annotated[Service, Depends(service_of)]
Allowed = Annotated[None, Depends(with_token)]
Listing = Annotated[bool, Depends(may_list)]


class Png(Response):
    """A picture."""

    media_type = "image/png"


def answers(status: int, name: str, *errors: int) -> dict[int | str, dict[str, Any]]:
    """For the description of a route: an answer that was given, and the refusals there are."""
    return {status: {"content": {"application/json": {"example": example(name)}}}, **error_responses(*errors)}


@router.get("/", responses=answers(200, "welcome"))
async def welcome(request: Request) -> WelcomeAnswer:
    """What there is to ask."""
    paths = request.app.openapi()["paths"]
    routes = {f"{way.upper()} {path}": one["summary"] for path, ways in paths.items() for way, one in ways.items()}
    page = "/ui/" if request.app.state.has_ui else None
    return WelcomeAnswer(name=NAME, version=version("dsr-edgeface"), docs="/docs", ui=page, routes=routes)


@router.get("/healthz", responses=answers(200, "healthz"))
async def healthz(request: Request, service: Serving) -> HealthAnswer:
    """Whether the server works, and with which models."""
    return HealthAnswer(
        status="ok",
        version=version("dsr-edgeface"),
        waiting=service.queue.taken,
        upscale=service.dsr is not None,
        people=access_of(request).people_open,
        models=models_answer(service.recogniser),
    )


@router.post("/verify", responses=answers(200, "verify", *ON_UPLOADS), openapi_extra=request_body(VerifyForm))
async def verify(request: Request, service: Serving) -> VerifyAnswer:
    """Do two photos show one person?

    `distance` is at most `threshold` where they `match`: cosine, 1 - s <= 0.65; or euclidean, between embeddings of
    length 1, <= 1.140. `verdict` is the calibrated answer for the size of the smaller face, and may be "cannot tell".

        curl -F image1=@a.jpg -F image2=@b.jpg -F metric=cosine http://localhost:8000/verify
    """
    async with service.uploaded(request, VerifyForm) as form:
        crops = await asyncio.gather(
            service.one_face("image1", form.image1, form.aligned, form.largest),
            service.one_face("image2", form.image2, form.aligned, form.largest),
        )
        first, second = await service.embed(crops)
        return verify_answer(service.recogniser, first, second, form.metric)


@router.post("/embed", responses=answers(200, "embed", *ON_UPLOADS), openapi_extra=request_body(EmbedForm))
async def embed(request: Request, service: Serving) -> EmbedAnswer:
    """All faces of a photo, with their embeddings: 512 numbers of length 1.

    curl -F image=@party.jpg http://localhost:8000/embed
    """
    async with service.uploaded(request, EmbedForm) as form:
        return embed_answer(service.recogniser, await service.faces("image", form.image, form.aligned))


@router.post(
    "/upscale",
    response_class=Png,
    responses={
        200: {
            "description": "The face, 112x112, as the DSR restores it",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "Face-Resolution": {"description": "Side of the face in the photo", "schema": {"type": "integer"}},
                "Dsr-Input": {"description": "Side of what the DSR saw", "schema": {"type": "integer"}},
            },
        },
        **error_responses(*ON_UPLOADS),
    },
    openapi_extra=request_body(UpscaleForm),
)
async def upscale(request: Request, service: Serving) -> Png:
    """A small face as the DSR restores it, as a PNG of 112x112 pixels. Details it adds are guesses.

    curl -F image=@small.jpg -o restored.png http://localhost:8000/upscale
    """
    async with service.uploaded(request, UpscaleForm) as form:
        small, large = await service.upscale("image", form.image, form.aligned, form.largest, form.size)
        headers = {"Face-Resolution": str(small.face.resolution), "Dsr-Input": str(len(small.pixels))}
        return Png(await service.in_thread(as_png, large), headers=headers)


@router.post(
    "/identify", responses=answers(200, "identify", *ON_UPLOADS, 404), openapi_extra=request_body(IdentifyForm)
)
async def identify(request: Request, service: Serving, listing: Listing) -> IdentifyAnswer:
    """Who is in a photo, of the people enrolled: an answer for each face.

    Who may not ask for `/people` is told whom the photo shows, and of no other candidate.

        curl -F image=@party.jpg -F top=3 http://localhost:8000/identify
    """
    async with service.uploaded(request, IdentifyForm) as form:
        faces = await service.faces("image", form.image, form.aligned)
        found = await service.in_gallery(service.people.identify, faces, form.top)
        return identify_answer(service.recogniser, found, listing)


@router.get("/people", responses=answers(200, "people", *ON_PEOPLE))
async def list_people(service: Serving, _: Allowed) -> PeopleAnswer:
    """Everybody enrolled.

    curl -H "Authorization: Bearer $TOKEN" http://localhost:8000/people
    """
    return PeopleAnswer.model_validate({"people": await service.in_gallery(service.people.known)})


@router.post(
    "/people",
    status_code=201,
    responses=answers(201, "enrol", *ON_UPLOADS, 401),
    openapi_extra=request_body(EnrolForm),
)
async def enrol(request: Request, service: Serving, _: Allowed) -> EnrolAnswer:
    """Keep somebody's faces under a name: all of the photos, or none. Only embeddings are kept, no photo.

        curl -H "Authorization: Bearer $TOKEN" -F name="Ann Lee" -F image=@1.jpg -F image=@2.jpg \
            http://localhost:8000/people
    """
    async with service.uploaded(request, EnrolForm) as form:
        name = checked(form.name)
        crops = [
            service.one_face(f"image {number}", photo, form.aligned, form.largest)
            for number, photo in enumerate(form.image, start=1)
        ]
        faces = await service.embed(await asyncio.gather(*crops))
    # Out of the limited time: what is kept must not be answered "too slow", for whoever asks again keeps it twice.
    with service.queue.one():
        kept = await service.in_gallery(service.people.enrol, name, faces)
    return EnrolAnswer(name=kept.name, faces=[face_answer(one) for one in kept.faces])


@router.delete("/people/{name:path}", responses=answers(200, "delete", *ON_PEOPLE, 404, 422))
async def delete(
    service: Serving, _: Allowed, name: Annotated[str, InPath(min_length=1, max_length=LONGEST_NAME)]
) -> DeleteAnswer:
    """Remove somebody with all embeddings, for good: what is deleted is overwritten.

    curl -X DELETE -H "Authorization: Bearer $TOKEN" http://localhost:8000/people/Ann%20Lee
    """
    removed = await service.in_gallery(service.people.delete, name)
    return DeleteAnswer(name=name, embeddings=removed)


def as_png(image: RgbImage) -> bytes:
    """The file's bytes."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()
