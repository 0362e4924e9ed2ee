"""Model cards of the shipped models, and the READMEs' tables, from the records of their training and evaluation.

    python -m pipeline.reference_cards --results runs/reference.json

`checkpoints/reference.json` says how they were trained (`pipeline.train_reference` writes it), `--results` what they
do on LFW (`pipeline.evaluate_reference --json`). No figure of a card or of these tables is typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import cli
from common.errors import UserError
from common.files import read_json, write_json, write_text
from common.paths import REPOSITORY_ROOT
from common.shipped import shipped_files
from dsr.checkpoint import load_dsr
from facial_rec.edgeface import count_parameters, get_model
from facial_rec.tables import number
from pipeline.reference_bounds import OTHERS, Names, figures, sizes_of
from pipeline.reference_tables import fill_in, markdown, tables_of, verification_table
from pipeline.train_reference import CHAINS, EDGEFACE, HISTORY, LAST_DSR, STAGES

RESULTS = "results.json"
READMES = ("README.md", "technical/facial_rec/README.md")
TERMS = (
    "CC BY-NC-SA 4.0: research, not commerce; pass it on under the same terms, and name the authors of EdgeFace "
    "(A. George et al., Idiap), against whose weights it was trained."
)
DATA = (
    "16,584 aligned photos of 2,181 people (CelebA, Pins-105, a sample of Glint360K: each for non-commercial research) "
    "and 1,000 faces that StyleGAN2 made (omi, CC BY-NC-SA 4.0); 60 further people for validation. No LFW. No picture "
    "is in the file, only weights."
)
USE = (
    "**For** research on the recognition of low-resolution faces, by people with the right to process the pictures. "
    "**Not for** identifying people without their consent or a legal basis, surveillance, evidence (what the DSR "
    "draws is a guess that fits the pixels, not a picture of the person), or decisions about people on a match alone."
)
LIMITS = (
    "The training people are mostly public figures, unevenly by age, sex and skin tone; error rates differ between "
    "groups, and were not measured by group. Faces must be aligned. Figures on LFW say little about other cameras."
)


@dataclass(frozen=True)
class Config:
    """Which figures."""

    results: Path
    """What `pipeline.evaluate_reference --json` wrote, with LFW."""


def main(cfg: Config) -> list[Path]:
    """Write the cards and results.json (for the page's plot) into checkpoints/, fill the READMEs; return the paths."""
    folder = REPOSITORY_ROOT / "checkpoints"
    results, history = read_json(cfg.results), read_json(folder / HISTORY)
    if "canonical" not in results:
        raise UserError(f"{cfg.results} has no figures on LFW: run pipeline.evaluate_reference with --shared first.")
    if absent := [name for name in OTHERS if name not in results]:
        named = " and ".join(OTHERS[name] for name in absent)
        raise UserError(f"{cfg.results} has no figures of the {named} DSR: run pipeline.evaluate_reference with it.")
    names = Names(**results["names"])
    _check_same(results)
    cards = {
        "dsr.md": _dsr_card(folder, "dsr.pt", TRAINED, results["canonical"], names, history),
        "dsr_large.md": _dsr_card(folder, "dsr_large.pt", LARGER, results["large"], names, history),
        "dsr_mirrored.md": _dsr_card(folder, "dsr_mirrored.pt", TRAINED, results["mirrored"], names, history),
        "edgeface_xxs_dsr.md": _edgeface_card(results, names, history),
        "chain.md": _chain_card(folder),
    }
    for name, text in cards.items():
        write_text(folder / name, text)
    write_json(folder / RESULTS, results["canonical"])
    written = [folder / name for name in (*cards, RESULTS)]
    tables = tables_of(results)
    for name in READMES:
        page = REPOSITORY_ROOT / name
        write_text(page, fill_in(page.read_text(encoding="utf-8"), tables, name))
        written.append(page)
    print("written: " + ", ".join(map(str, written)))
    return written


def _check_same(results: Mapping[str, Any]) -> None:
    listed, measured = shipped_files(), results["run"]["weights"]
    shipped = [name for name in ("dsr.pt", EDGEFACE, "dsr_large.pt", "dsr_mirrored.pt") if name in listed]
    other = [name for name in shipped if measured.get(name) != listed[name]]
    other += [name for name, sha256 in measured.items() if listed.get(name, sha256) != sha256 and name not in other]
    if other:
        raise UserError(f"the results are of other files than checkpoints/SHA256SUMS lists: {', '.join(other)}.")


def _dsr_card(
    folder: Path, file: str, stages: Sequence[str], record: Mapping[str, Any], names: Names, history: Mapping[str, Any]
) -> str:
    model, info = load_dsr(folder / file)
    config = info.config
    start = f" grown from the DSR of `{LAST_DSR}`" if "large" in stages else ""
    about = (
        f"DSR generator: a square face of 8 to 64 pixels to 112x112. {count_parameters(model):,} parameters "
        f"({config.blocks} blocks of {config.channels} channels{start}), float32. sha256 `{info.sha256}`."
    )
    if config.mirrored:
        about += (
            " The weights of [dsr.pt](dsr.md); it restores the mirror image too and averages both, which takes twice "
            "the time (`python -m dsr.mirror`)."
        )
    header = ["size", *(f"{figure}: {method}" for figure in ("PSNR", "SSIM", "identity loss") for method in METHODS)]
    rows = []
    for size in sizes_of(record):
        cells = [str(size)]
        for figure, show in (("psnr", decibels), ("ssim", plain), ("identity_loss", plain)):
            for method in METHODS:
                found = figures(record, names.original, "lr-lr", size, method)
                cells.append(show(found[figure], found.get(f"{figure}_ci95")))
        rows.append(cells)
    verified = verification_table(record, names.original, names.original)
    return _card(
        file,
        about,
        history,
        stages,
        [
            "Images, canonical reduction; identity loss: 1 - cosine to the HR face, original EdgeFace-XXS:\n\n"
            + markdown(header, rows),
            "Verification with the original EdgeFace-XXS, %:\n\n" + verified,
        ],
    )


def _edgeface_card(results: Mapping[str, Any], names: Names, history: Mapping[str, Any]) -> str:
    tuned = history["finetuned"]
    parameters = count_parameters(get_model(str(tuned["variant"])))
    sha256 = next(one["sha256"] for one in results["files"] if one["file"] == EDGEFACE)
    about = (
        f"EdgeFace-XXS, fine-tuned on what `dsr.pt` makes of small faces; aligned 112x112 RGB faces to 512 numbers, "
        f"compared by cosine. {parameters:,} parameters, float32 state dict: {tuned['alpha']} of the fine-tuned "
        f"weights and {1 - tuned['alpha']:g} of the original's, chosen on the validation people. It embeds both "
        f"sides of a comparison: its embeddings and the original's do not mix.{_teachers(history)}{_normalised(tuned)} "
        f"sha256 `{sha256}`."
    )
    table = verification_table(results["canonical"], names.shipped, names.original)
    realistic = [
        f"The same under {name}:\n\n" + verification_table(results[name], names.shipped, names.original)
        for name in results
        if name.startswith("realistic")
    ]
    text = (
        "Verification, %, the shipped chain (DSR and this EdgeFace) beside bicubic and the original EdgeFace-XXS:\n\n"
    )
    return _card(EDGEFACE, about, history, TUNINGS, [text + table, *realistic])


def _teachers(history: Mapping[str, Any]) -> str:
    """Who else taught, where it was anybody."""
    taught = {stage: len(history["stages"][stage]["config"].get("teachers_sha256", ())) for stage in TUNINGS}
    stages = [f"`{stage}`" for stage, others in taught.items() if others]
    if not stages:
        return ""
    named = " and ".join([", ".join(stages[:-1]), stages[-1]] if stages[1:] else stages)
    return f" In {named} {max(taught.values())} larger EdgeFaces, named in the recipe, taught it too."


def _normalised(tuned: Mapping[str, Any]) -> str:
    """How its last layer was normalised, where it was."""
    chosen = tuned.get("normalisation", {}).get("chosen", {})
    if not any(chosen.values()):
        return ""
    strengths = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
    return f" Its last layer was normalised afterwards (`pipeline.normalise_head`: {strengths})."


def _chain_card(folder: Path) -> str:
    files = "\n".join(f"| `{name}` | {what} |" for name, what in ONNX.items() if (folder / name).is_file())
    return f"""# edgeface.onnx, chain.onnx, dsr.onnx, thresholds.json

The weights of [dsr.pt](dsr.md) and [{EDGEFACE}](edgeface_xxs_dsr.md) for onnxruntime, weights in 16 bit, computed in 32
(`python -m pipeline.export --precision fp16`); each was compared with PyTorch on faces before it was kept.

| file | what |
|---|---|
{files}
| `thresholds.json` | scores for a false match rate of 0.1 %, by probe resolution; also inside the ONNX files |

The thresholds come from the 60 validation people (`python -m pipeline.calibrate`), by whom the DSR and the EdgeFace
were chosen too, so they may flatter a little.

**Terms.** {TERMS}

**Use.** {USE}

**Limits.** {LIMITS}
"""


ONNX = {
    "edgeface.onnx": "aligned 112x112 faces to embeddings",
    "chain.onnx": "faces of 8 to 64 pixels, uint8, to embeddings of length 1",
    "dsr.onnx": "faces of 8 to 64 pixels to 112x112",
}
METHODS = ("bicubic", "dsr")
FIRST = tuple(stage for stage in STAGES if stage.startswith("dsr") and stage != LAST_DSR)
TRAINED = (*FIRST, *CHAINS, LAST_DSR)
LARGER = (*TRAINED, "large")
TUNINGS = (*(stage for stage in STAGES if stage.startswith("finetune")), *CHAINS)
decibels = partial(number, decimals=2)
plain = partial(number, decimals=4)


def _elsewhere(stage: Mapping[str, Any]) -> str:
    """The GPU it ran on, where it did."""
    machine = stage["config"].get("machine", "cpu")
    return f" on one {machine}" if machine != "cpu" else ""


def _mixed(stage: Mapping[str, Any]) -> str:
    """How much of the weights that the stage began with is in those it left, where it is any."""
    alpha = stage.get("mixture", {}).get("alpha", 1.0)
    return f", {1.0 - alpha:g} of its start mixed in" if alpha < 1.0 else ""


def _card(file: str, about: str, history: Mapping[str, Any], stages: Sequence[str], metrics: Sequence[str]) -> str:
    trained = {stage: history["stages"][stage] for stage in stages}
    parts = [
        f"`{name}` ({len(one['epochs'])} epochs, {one['seconds'] / 60:.0f} minutes{_elsewhere(one)}"
        f"{_mixed(one) if file.startswith('dsr') else ''})"
        for name, one in trained.items()
    ]
    seeds = sorted({str(one["config"].get("seed", 0)) for one in trained.values()})
    measured = "\n\n".join(metrics)
    dirty = ", with changes" if history["git_dirty"] else ""
    return f"""# {file}

{about}

**Terms.** {TERMS}

**Data.** {DATA}

**Training.** `python -m pipeline.train_reference --recipe recipes/reference.toml`, one after the other
{", ".join(parts)}; seed {", ".join(seeds)}; wall time
on {history["machine"]}, shared with other work; torch {history["versions"].get("torch")}. Put together at git commit
`{history["git_commit"]}`{dirty}. Every epoch's figures are in [{HISTORY}]({HISTORY}).

**Measured** on LFW View 2, which had no part in training, and in one choice
(the README says which): 6,000 pairs, ten folds; in brackets 95 %
intervals, people resampled. Printed by `python -m pipeline.evaluate_reference --shared <folder with data/lfw>`.
Rejecting every pair scores 50 %. TAR at FMR 1e-3 rests on 3 impostor pairs.

{measured}

**Use.** {USE}

**Limits.** {LIMITS}
"""


if __name__ == "__main__":
    cli.run(main, Config)
