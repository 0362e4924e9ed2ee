"""The API as an ASGI application: routes, limits, who may ask, the documentation and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from pipeline.api_errors import add_handlers
from pipeline.api_guard import Access, Guard, log
from pipeline.api_pages import BUILD, add_docs, add_ui, differing_models
from pipeline.api_routes import NAME, router
from pipeline.api_service import Service
from pipeline.face_crops import DSR_BELOW

DESCRIPTION = f"""Recognise faces, of 16 pixels too: super-resolution (DSR), then EdgeFace, on onnxruntime.

A photo is JPEG, PNG, WebP or BMP, and is forgotten when it is answered; of people who are enrolled the embeddings are
kept. A face below {DSR_BELOW} pixels goes through the DSR. Every refusal of a route is
`{{"error", "message"}}`. The examples are
answers to made-up faces."""


def create_app(service: Service, access: Access, ui: Path | None = None) -> FastAPI:
    """The application; `ui` is the folder of the built page. Raises UserError as `add_ui`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.run():
            yield

    app = FastAPI(
        title=NAME,
        version=version("dsr-edgeface"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its page loads from another server
        redoc_url=None,
    )
    app.state.service, app.state.access = service, access
    app.include_router(router)
    add_handlers(app)
    add_docs(app)
    app.state.has_ui = add_ui(app, ui)
    if app.state.has_ui and (other := differing_models(ui, service.recogniser)):
        log.warning("The page at /ui/ was built with other %s than this server has. Build it again: %s", other, BUILD)
    if access.token is None:
        describe_without_token(app)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization"],
            expose_headers=["Face-Resolution", "Dsr-Input", "Retry-After"],
        )
    app.add_middleware(Guard, access=access)
    return app


def describe_without_token(app: FastAPI) -> None:
    """Take the token out of the description: this server wants none."""
    described = app.openapi()  # kept by the app, as long as no route is added
    described["components"].pop("securitySchemes")
    for ways in described["paths"].values():
        for route in ways.values():
            route.pop("security", None)
