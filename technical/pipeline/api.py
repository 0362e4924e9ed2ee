"""The verify API: HTTP on onnxruntime, without torch.

    python -m pipeline.api --port 8000
    DSR_API_TOKEN=... python -m pipeline.api --host 0.0.0.0

Then http://localhost:8000/docs describes every route, and http://localhost:8000/ui/ is the page, where it is built.
`pipeline.export` makes the models: edgeface.onnx and chain.onnx and, for /upscale, dsr.onnx.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from common import cli
from common.errors import UserError
from common.paths import find_weights
from pipeline.onnx_models import OnnxModel, load_dsr_onnx
from pipeline.recognise import GALLERY
from pipeline.recogniser import Recogniser, RecogniserSettings

try:
    from pipeline.api_app import create_app
    from pipeline.api_guard import Access, is_loopback
    from pipeline.api_limits import Limits
    from pipeline.api_people import People
    from pipeline.api_server import serve
    from pipeline.api_service import Service
except ModuleNotFoundError as missing:
    if missing.name not in ("fastapi", "uvicorn", "python_multipart", "starlette", "pydantic"):
        raise
    raise SystemExit(
        f"error: {missing.name} is not installed. The API is an extra: poetry install --extras api"
    ) from None

TOKEN = "DSR_API_TOKEN"
DSR = "dsr.onnx"


@dataclass(frozen=True, kw_only=True)
class Config(RecogniserSettings, Limits):
    """Where to listen, with which models, and for whom."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is the whole network."""
    port: int = 8000
    """Port to listen on."""
    dsr: str = DSR
    """DSR as ONNX, for /upscale; looked up in checkpoints/ too, and left out where there is none."""
    gallery: str = GALLERY
    """People enrolled: SQLite file, made when somebody is, or postgresql:// URL."""
    ui: Path | None = None
    """Folder of the built page (default: technical/pipeline/web/dist, if there)."""
    token_file: Path | None = None
    """File with the token that /people needs (default: the variable DSR_API_TOKEN)."""
    allow_origin: tuple[str, ...] = ()
    """Web pages elsewhere that may ask, such as https://example.org."""
    host_name: tuple[str, ...] = ()
    """Further names of this server, where a proxy on this machine stands before it."""


def main(cfg: Config) -> None:
    """Serve until stopped. Raises UserError for a model, gallery, page or token that cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    cfg.check()
    access = Access(is_loopback(cfg.host), read_token(cfg.token_file), cfg.host_name, cfg.allow_origin)
    recogniser = Recogniser(cfg)
    recogniser.detector  # noqa: B018  its errors belong here, not into the first answer
    service = Service(recogniser, load_dsr(cfg.dsr, recogniser), People(recogniser, cfg.gallery), cfg)
    app = create_app(service, access, cfg.ui)
    if not access.people_open:
        logging.getLogger("pipeline.api").info("no token: /people is closed, because %s is not this machine", cfg.host)
    serve(app, cfg.host, cfg.port, cfg)


def read_token(file: Path | None) -> str | None:
    """The token in `file`, else that of the environment; None without either. UserError for a file without one."""
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}): expected a file with a token.") from error
    if not token:
        raise UserError(f"{file} is empty: expected a token.")
    return token


def load_dsr(name: str, recogniser: Recogniser) -> OnnxModel | None:
    """The DSR of the chain on its own; None where the default one is not there, or is of another chain.

    Raises UserError for another name that is not there, and for a DSR of other weights than the chain's.
    """
    if name == DSR and find_weights(name) is None:
        return None
    dsr = load_dsr_onnx(name, recogniser.settings.threads, recogniser.settings.batch_size)
    _, chain = recogniser.models
    if dsr.metadata.source_sha256.get("dsr") != chain.metadata.source_sha256["dsr"]:
        told = f"{dsr.path} and {chain.path} hold different DSRs. Export both from the same checkpoint."
        if name != DSR:
            raise UserError(told)
        print(f"[api] no /upscale: {told}")
        return None
    return dsr


if __name__ == "__main__":
    cli.run(main, Config)
