"""The folder of models that the browser page reads: the graphs, and `models.json`, which says how they are used.

    python -m pipeline.web_models --out technical/pipeline/web/public/models

EdgeFace and DSR are those of `pipeline.export`; the page puts them in a row by itself, because it shows what lies
between, and compares with `--chain` when it starts. MTCNN's graphs are built from the installed package, and
`checkpoints/landmarks.onnx` is taken along where it is, as the Python detector does. The thresholds are those inside
the models or of `--calibration`, measured accuracy by size is that of `--results` or `checkpoints/results.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import cli
from common.errors import UserError
from common.fields import Fields
from common.files import read_json, sha256_of, write_json, write_with
from common.paths import find_weights
from facial_rec.alignment import TEMPLATE_SIZE
from facial_rec.detector_mtcnn import CascadeSettings
from facial_rec.landmark_crops import CROP
from facial_rec.landmark_refiner import load_refiner
from facial_rec.mtcnn_networks import mtcnn_onnx
from pipeline.decisions import thresholds_for
from pipeline.face_crops import DSR_BELOW, LARGEST, SMALLEST
from pipeline.onnx_models import OnnxModel, load_chain_onnx, load_dsr_onnx, load_edgeface_onnx
from pipeline.recogniser import CHAIN, EDGEFACE, require_models, shared_sha256, unit
from pipeline.run_record import FORMAT as RECORD_FORMAT

FORMAT = "dsr-edgeface-web-1"
SELF_TEST_SIDE = 16
RESULTS = "results.json"
AGAIN = "Make it with `python -m pipeline.evaluate_resolutions --json`."


@dataclass(frozen=True)
class Config:
    """Which models, and where to."""

    out: Path = Path("technical/pipeline/web/public/models")
    """Folder to write into; files of the same name are replaced."""
    edgeface: str = EDGEFACE
    """EdgeFace as ONNX; looked up in checkpoints/ too."""
    dsr: str = "dsr.onnx"
    """DSR as ONNX, which shows the enlarged face; looked up in checkpoints/ too."""
    chain: str = CHAIN
    """The same DSR and EdgeFace in one, which the page must agree with; looked up in checkpoints/ too."""
    calibration: Path | None = None
    """Threshold file of pipeline.calibrate (default: the table inside the models, else 0.35 everywhere)."""
    results: Path | None = None
    """Record of pipeline.evaluate_resolutions: the page's plot of accuracy by size (default: results.json, here or in
    checkpoints/, if it is of these weights)."""


def main(cfg: Config) -> Path:
    """Write the folder and return the path of `models.json`. Raises UserError for models that do not fit together."""
    require_models(cfg.edgeface, cfg.chain)
    models = {
        "edgeface": load_edgeface_onnx(cfg.edgeface),
        "dsr": load_dsr_onnx(cfg.dsr),
        "chain": load_chain_onnx(cfg.chain),
    }
    check_together(models)
    chain, edgeface = models["chain"], models["edgeface"]
    thresholds = thresholds_for(chain.metadata, edgeface.metadata, cfg.calibration)
    curve = curve_for(cfg.results, chain.metadata.source_sha256)
    contents = mtcnn_onnx() | {name: models[name].path.read_bytes() for name in ("edgeface", "dsr")}
    refiner = load_refiner()
    if refiner is not None:
        contents["landmarks"] = refiner.path.read_bytes()
    files = {name: _write(cfg.out / f"{name}.onnx", content) for name, content in contents.items()}
    target = cfg.out / "models.json"
    write_json(
        target,
        {
            "format": FORMAT,
            "files": files,
            "variant": chain.metadata.variant,
            "licence": chain.metadata.licence,
            "source_sha256": dict(chain.metadata.source_sha256),
            "detector": asdict(CascadeSettings()),
            "refiner": None if refiner is None else {"side": CROP, "passes": refiner.passes},
            "crops": {"dsr_below": DSR_BELOW, "smallest": SMALLEST, "largest": LARGEST},
            "thresholds": None if thresholds is None else thresholds.values(),
            "curve": curve,
            "self_test": _self_test(edgeface, chain),
        },
    )
    size = sum(one["bytes"] for one in files.values())
    print(f"[web_models] {len(files)} networks ({size:,} bytes): {chain.metadata.variant}")
    print(f"[web_models] thresholds: {'none, 0.35 everywhere' if thresholds is None else thresholds.development_set}")
    print(f"[web_models] accuracy by size: {'none' if curve is None else curve['title']}")
    print(f"[web_models] written: {target}")
    return target


def check_together(models: Mapping[str, OnnxModel]) -> None:
    """Raise UserError unless the models hold the same EdgeFace and the same DSR."""
    shared_sha256(models["edgeface"], models["chain"])
    alone, joined = (models[name].metadata.source_sha256.get("dsr") for name in ("dsr", "chain"))
    if alone != joined:
        raise UserError(
            f"{models['dsr'].path} and {models['chain'].path} hold different DSRs ({str(alone)[:12]}… and "
            f"{str(joined)[:12]}…): the page would show another face than the one compared. Export both from one."
        )


def curve_for(given: Path | None, weights: Mapping[str, str]) -> dict[str, Any] | None:
    """`accuracy_curve` of `given`, or of `results.json` where that is of these weights. UserError for `given` only."""
    path = given or find_weights(RESULTS)
    if path is None:
        return None
    try:
        return accuracy_curve(path, weights)
    except UserError as error:
        if given is not None:
            raise
        print(f"[web_models] {path} was left out: {error}")
        return None


def accuracy_curve(path: Path, weights: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy by protocol, method and size from the record at `path`, as `models.json` holds it.

    Of several recognisers the one whose SHA-256 is in `weights` (by `edgeface` and `dsr`). Raises UserError for a file
    that is no such record, and for one of other weights.
    """
    record = Fields(path, "", read_json(path), AGAIN)
    if record.get("format") != RECORD_FORMAT:
        raise record.error("format", f"expected '{RECORD_FORMAT}'")
    run = record.section("run")
    measured = {str(checksum): file for file, checksum in run.section("weights").values.items()}
    missing = sorted(name for name, checksum in weights.items() if checksum not in measured)
    if missing:
        raise UserError(
            f"{path}, key 'run.weights': measured with another {' and '.join(missing)} than the models hold. "
            "Evaluate the weights that were exported."
        )
    cases = record.get("verification")
    if not isinstance(cases, list) or not cases:
        raise record.error("verification", "expected a list with at least one case", show=False)
    every = [Fields(path, f"verification[{index}].", case, AGAIN) for index, case in enumerate(cases)]
    file = measured[weights["edgeface"]]
    rows = [row for row in every if _is_of(row.text("recogniser"), file)]
    if not rows:
        raise record.error("verification", f"expected cases of {file}", show=False)
    points = [_point(row) for row in rows]
    return {
        "title": record.text("title"),
        "recogniser": rows[0].text("recogniser"),
        "degradation": rows[0].text("degradation"),
        "command": run.text("command"),
        "points": [point for point in points if point is not None],
    }


def _is_of(recogniser: str, file: str) -> bool:
    """Whether a record calls the recogniser of the weights `file` so: by its stem or, where two agree, by its path."""
    return recogniser in (file, Path(file).stem) or Path(recogniser).name == file


def _point(row: Fields) -> dict[str, Any] | None:
    figures = row.section("figures")
    accuracy = figures.number_or_none("accuracy", 0, 1)
    if accuracy is None:  # withheld: too few errors behind it
        return None
    return {
        "protocol": row.text("protocol"),
        "method": row.text("method"),
        "size": None if row.get("size") is None else row.count("size"),
        "accuracy": accuracy,
        "interval": figures.get("accuracy_ci95"),
    }


def self_test_image(side: int) -> NDArray[np.uint8]:
    """RGB `(side, side, 3)`: ramps that the page computes too, to compare its embeddings with Python's."""
    y, x, channel = np.ogrid[:side, :side, :3]
    return (16 + x * 120 // side + y * (channel + 1) * 36 // side).astype(np.uint8)


def _self_test(edgeface: OnnxModel, chain: OnnxModel) -> dict[str, Any]:
    small, large = (self_test_image(side).transpose(2, 0, 1)[None] for side in (SELF_TEST_SIDE, TEMPLATE_SIZE))
    embedded = unit(edgeface(large.astype(np.float32) / 127.5 - 1))
    return {"side": SELF_TEST_SIDE, "small": chain(small)[0].tolist(), "large": embedded[0].tolist()}


def _write(path: Path, content: bytes) -> dict[str, Any]:
    write_with(path, lambda temporary: temporary.write_bytes(content))
    return {"file": path.name, "bytes": len(content), "sha256": sha256_of(path)}


if __name__ == "__main__":
    cli.run(main, Config)
