"""What a browser is shown: the documentation, and the page where it is built. Every file comes from this server."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

from common.errors import UserError
from pipeline.api_errors import ApiError
from pipeline.recogniser import Recogniser

BUILT = Path(__file__).parent / "web" / "dist"
BUILD = "cd technical/pipeline/web && npm ci && npm run build"
SWAGGER = ("swagger-ui-bundle.js", "swagger-ui.css")
_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DSR-EdgeFace API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = "SwaggerUIBundle({url: '/openapi.json', dom_id: '#swagger-ui', deepLinking: true, tryItOutEnabled: true});\n"


def add_docs(app: FastAPI) -> None:
    """Serve /docs with Swagger UI's own files, from the wheel of fastapi-offline rather than from a CDN."""
    spec = find_spec("fastapi_offline")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "static"

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_DOCS)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    @app.get("/docs/{file}", include_in_schema=False)
    async def asset(file: str) -> FileResponse:
        if file not in SWAGGER:
            raise ApiError(404, "not_found", "There is no such file.")
        return FileResponse(folder / file)


def differing_models(folder: Path | None, recogniser: Recogniser) -> str | None:
    """In what the page's models, as `pipeline.web_models` wrote them, differ from the recogniser's; None in nothing."""
    try:
        page = json.loads(((folder or BUILT) / "models" / "models.json").read_text(encoding="utf-8"))
        weights, thresholds = dict(page["source_sha256"]), page["thresholds"]
    except (OSError, ValueError, TypeError, KeyError):
        return None  # the page says so itself
    if weights != dict(recogniser.models[1].metadata.source_sha256):
        return "weights"
    own = None if recogniser.thresholds is None else recogniser.thresholds.values()
    return None if thresholds == json.loads(json.dumps(own)) else "thresholds"


def add_ui(app: FastAPI, folder: Path | None) -> bool:
    """Serve the built page at /ui, from `folder` or from where it is built; whether there is one.

    Raises UserError for a `folder` that was named and holds no page.
    """
    if folder is not None and not (folder / "index.html").is_file():
        raise UserError(f"--ui {folder} holds no index.html. Build the page: {BUILD}")
    built = folder or BUILT
    if (built / "index.html").is_file():
        app.mount("/ui", StaticFiles(directory=built, html=True))
        return True

    @app.get("/ui", include_in_schema=False)
    async def missing() -> PlainTextResponse:
        return PlainTextResponse(f"The page is not built here. Build it, and start the server again:\n{BUILD}\n", 404)

    return False
