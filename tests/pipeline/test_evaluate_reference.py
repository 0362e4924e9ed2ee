"""pipeline.evaluate_reference on made-up people in LFW's place, and the bounds on figures that are known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common import paths
from common.errors import UserError
from common.files import sha256_of
from dsr import mirror
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset
from dsr.prepare_dataset import Synthetic, make_synthetic
from facial_rec.edgeface import get_model
from pipeline import evaluate_reference, reference_bounds, reference_cards
from pipeline.evaluate_reference import Config, check_files, main
from pipeline.reference_bounds import Names, bound_rows, bounds_table
from pipeline.reference_tables import fill_in
from pipeline.train_reference import STAGES

PAIRS = "2\t3\n" + "".join(
    "".join(f"P{a}\t1\t2\n" for a in people) + "".join(f"P{a}\t1\tP{b}\t3\n" for a, b in pairs)
    for people, pairs in (((0, 1, 2), ((0, 1), (1, 2), (2, 0))), ((3, 4, 5), ((3, 4), (4, 5), (5, 3))))
)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose checkpoints/ holds tiny networks and their list."""
    folder = tmp_path / "repository" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(get_model("edgeface_tiny").state_dict(), folder / "edgeface_xxs_dsr.pth")
    for name in ("dsr.pt", "dsr_large.pt"):
        save_dsr(folder / name, Dsr(preset("tiny")), {"note": name})
    mirror.main(mirror.Config(str(folder / "dsr.pt"), folder / "dsr_mirrored.pt"))
    names = ("edgeface_xxs_dsr.pth", "dsr.pt", "dsr_large.pt", "dsr_mirrored.pt")
    (folder / "SHA256SUMS").write_text("".join(f"{sha256_of(folder / name)}  {name}\n" for name in names))
    monkeypatch.setattr(paths, "REPOSITORY_ROOT", folder.parent)
    monkeypatch.setattr(evaluate_reference, "REPOSITORY_ROOT", folder.parent)
    return folder


@pytest.fixture
def config(shipped: Path, people: Path, edgeface: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    shared = tmp_path / "shared"
    (shared / "data/lfw").mkdir(parents=True)
    (shared / "weights").mkdir()
    made = shutil.make_archive(str(shared / "data/lfw/lfw_112"), "zip", people)
    assert made.endswith("lfw_112.zip")
    (shared / "data/lfw/pairs.txt").write_text(PAIRS)
    shutil.copy(edgeface, shared / "weights/edgeface_xxs_q.pt")
    return Config(
        shared=shared,
        edgeface="edgeface_xxs_dsr.pth",
        bootstrap=20,
        threads=1,
        synthetic=tmp_path / "drawn",
        json=Path("out.json"),
    )


def test_one_run_measures_everything_and_judges_every_bound(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    record = main(config)
    assert config.json is not None
    saved = json.loads(config.json.read_text())
    assert saved.keys() == record.keys()
    realistic = {"realistic-mild", "realistic-medium", "realistic-severe"}
    assert record.keys() >= {"canonical", "identification", "large", "mirrored", "bounds", *realistic}
    names = [row["name"] for row in record["bounds"]]
    for name in (
        "LR-LR 16 accuracy, %",
        "LR-HR 32 accuracy, %",
        "LR-HR 16 TAR at FMR 1e-3, %",
        "HR-HR accuracy, %",
        "PSNR 16, dB",
        "SSIM 8",
        "identity loss 32, original EdgeFace",
        "identity loss 16, shipped chain",
        "rank-1 at 16, %",
        "LR-LR 12 accuracy, canonical, %",
        "PSNR 32, realistic-severe, dB",
    ):
        assert name in names
    assert len(set(names)) == len(names)
    # An untrained DSR is bicubic: no gain, so what asks for one is not reached, and nothing is below.
    judged = {row["name"]: row["reached"] for row in record["bounds"]}
    assert not judged["PSNR 16, dB"]
    assert not judged["SSIM 16"]
    assert judged["PSNR 12, canonical, dB"]
    printed = capsys.readouterr().out
    assert "all as listed" in printed
    assert f"Reached: {sum(judged.values())} of {len(judged)}." in printed
    for line in ("24, default", "24, larger", "24, mirrored"):
        assert line in printed


def test_cards_are_written_from_the_records(config: Config, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_cards, "REPOSITORY_ROOT", shipped.parent)
    stage = {"config": {"seed": 3}, "seconds": 120.0, "epochs": [{"epoch": 1}]}
    history = {
        "stages": dict.fromkeys(STAGES, stage)
        | {
            "large": {**stage, "mixture": {"alpha": 0.25}},
            STAGES[1]: {**stage, "config": {"seed": 3, "teachers_sha256": ["a", "b"]}},
            "chain_second": {**stage, "config": {"seed": 3, "machine": "made-up GPU"}},
        },
        "finetuned": {
            "variant": "edgeface_tiny",
            "alpha": 0.85,
            "normalisation": {"chosen": {"centre": 0.5, "residual": 1.0, "within": 0.0}},
        },
        "machine": "2 CPU cores, made up",
        "git_commit": "abc",
        "git_dirty": False,
        "versions": {"torch": "9"},
    }
    (shipped / "reference.json").write_text(json.dumps(history))
    pages = {"README.md": "bounds by-size realistic large mirrored", "technical/facial_rec/README.md": "finetuned"}
    for name, places in pages.items():
        page = shipped.parent / name
        page.parent.mkdir(parents=True, exist_ok=True)
        empty = "".join(f"<!-- TABLE {place} -->\nold\n<!-- END TABLE -->\nkept\n" for place in places.split())
        page.write_text(f"before\n{empty}")
    record = main(config)
    assert config.json is not None
    written = reference_cards.main(reference_cards.Config(results=config.json))
    cards = {"dsr.md", "dsr_large.md", "dsr_mirrored.md", "edgeface_xxs_dsr.md", "chain.md"}
    assert {path.name for path in written} == {*cards, "results.json", "README.md"}
    taught = "In `finetune` 2 larger EdgeFaces, named in the recipe, taught it too."
    normalised = "normalised afterwards (`pipeline.normalise_head`: centre 0.5, residual 1, within 0)."
    assert all(words in (shipped / "edgeface_xxs_dsr.md").read_text() for words in (taught, normalised))
    assert "0.85 of the fine-tuned weights and 0.15 of the original's" in (shipped / "edgeface_xxs_dsr.md").read_text()
    for name in cards:
        text = (shipped / name).read_text()
        for words in ("CC BY-NC-SA 4.0", "**Not for** identifying people", "**Limits.**"):
            assert words in text
        if name != "chain.md":
            for words in (" (1 epochs, 2 minutes)", "; seed 3; wall", "made up", "git commit\n`abc`.", "**Data.**"):
                assert words in text
            assert text.count("| LR-HR 16 |") == (4 if name == "edgeface_xxs_dsr.md" else 1)
    assert "`chain_second` (1 epochs, 2 minutes on one made-up GPU)" in (shipped / "dsr.md").read_text()
    assert "`large` (1 epochs, 2 minutes, 0.75 of its start mixed in)" in (shipped / "dsr_large.md").read_text()
    assert "averages both, which takes twice" in (shipped / "dsr_mirrored.md").read_text()
    assert "averages both" not in (shipped / "dsr.md").read_text()
    shown = (shipped.parent / "README.md").read_text()
    assert shown.startswith("before\n<!-- TABLE bounds -->\n\n|  | bicubic, original EdgeFace | shipped |")
    assert (shown.count("kept"), shown.count("old"), shown.count("\n\n<!-- END TABLE -->\n")) == (5, 0, 5)
    bound = record["bounds"][0]
    verdict = "yes" if bound["reached"] else "**no**"
    assert f"| {bound['name']} | {bound['baseline']} | {bound['chain']} | {bound['difference']} |" in shown
    assert f"| {bound['asked']} | {verdict} |" in shown
    assert shown.count("| realistic-") == 6
    tuned = (shipped.parent / "technical/facial_rec/README.md").read_text()
    assert tuned.count("| accuracy |") == tuned.count("| TAR |") == 6
    (gain,) = (row for row in record["bounds"] if row["name"] == "PSNR 16, dB")
    assert f"| 16 | {gain['baseline']} | {gain['chain']} |" in (shipped / "dsr.md").read_text()
    assert json.loads((shipped / "results.json").read_text())["run"]["weights"].keys() >= {"dsr.pt"}
    results = json.loads(config.json.read_text())
    results["run"]["weights"]["candidate.pt"] = results["run"]["weights"].pop("dsr.pt")
    config.json.write_text(json.dumps(results))
    with pytest.raises(UserError, match=r"of other files than checkpoints/SHA256SUMS lists: dsr\.pt"):
        reference_cards.main(reference_cards.Config(results=config.json))
    (shipped / "SHA256SUMS").write_text(f"{'0' * 64}  dsr.pt\n")
    with pytest.raises(UserError, match=r"of other files than checkpoints/SHA256SUMS lists: dsr\.pt"):
        reference_cards.main(reference_cards.Config(results=config.json))


def test_an_unknown_table_is_named() -> None:
    assert fill_in("no place", {}, "README.md") == "no place"
    with pytest.raises(UserError, match=r"README\.md has a place for a table 'speed': expected one of bounds\."):
        fill_in("<!-- TABLE speed -->\n<!-- END TABLE -->", {"bounds": ""}, "README.md")


def test_without_lfw_the_synthetic_people_are_recognised(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    made_up = replace(config, shared=Path("nowhere"))
    record = main(made_up)
    assert made_up.json is not None
    assert json.loads(made_up.json.read_text())["synthetic"]["vlr_sizes"] == record["synthetic"]["vlr_sizes"]
    meta = json.loads((config.synthetic / "test_processed" / "meta.json").read_text())["options"]
    assert (meta["identities"], meta["seed"]) == (config.synthetic_people, config.seed)
    assert list(record["synthetic"]["vlr_sizes"]) == ["16"]
    assert record["synthetic"]["methods"].keys() == {"hr", "bicubic", "dsr"}
    printed = capsys.readouterr().out
    assert "nowhere/data/lfw/lfw_112.zip is not there: the synthetic people instead" in printed


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (None, "its meta.json is missing"),
        ({"source": ["mine.zip"], "options": {}}, r"its meta.json says \['mine.zip'\]"),
        ([], "its meta.json says None"),
    ],
)
def test_a_test_set_that_is_not_synthetic_is_left_alone(config: Config, meta: Any, words: str) -> None:
    own = config.synthetic / "test_processed"
    (own / "hr_images").mkdir(parents=True)
    (own / "hr_images" / "me_1.png").write_bytes(b"mine")
    if meta is not None:
        (own / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=rf"drawn/test_processed would be overwritten.*{words}.*another --synthetic"):
        main(replace(config, shared=Path("nowhere")))
    assert (own / "hr_images" / "me_1.png").read_bytes() == b"mine"


def test_a_synthetic_set_is_drawn_anew_for_other_people_only(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(evaluate_reference, "make_synthetic", lambda cfg, leave: drawn.append(cfg.seed))
    monkeypatch.setattr(evaluate_reference.evaluate_dataset, "main", lambda _: {})
    made = Synthetic(2, images=1, val_fraction=0.0, test_fraction=0.5, seed=3, out=config.synthetic)
    make_synthetic(made, leave=frozenset({"train"}))
    for seed in (3, 4):
        evaluate_reference.synthetic(replace(config, synthetic_people=2, seed=seed))
    assert drawn == [4]


def test_every_shipped_file_is_checked(shipped: Path) -> None:
    assert [one["file"] for one in check_files()] == [
        "edgeface_xxs_dsr.pth",
        "dsr.pt",
        "dsr_large.pt",
        "dsr_mirrored.pt",
    ]
    (shipped / "dsr.pt").write_bytes(b"other")
    with pytest.raises(UserError, match=r"dsr\.pt is not the file that SHA256SUMS lists: `git checkout"):
        check_files()
    (shipped / "dsr.pt").unlink()
    with pytest.raises(UserError, match=r"dsr\.pt is missing"):
        check_files()
    (shipped / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="SHA256SUMS is missing or empty"):
        check_files()


def test_resamples_are_needed(config: Config) -> None:
    with pytest.raises(UserError, match="--bootstrap 0: expected 1 or more"):
        main(replace(config, bootstrap=0))


NAMES = Names("first", "second")
FIGURES = {"accuracy": 0.95, "tar@fmr=1e-3": 0.5, "psnr": 25.0, "ssim": 0.7, "identity_loss": 0.4}


def record_of(
    ours: Mapping[str, float], gap: Mapping[str, Any], size: int = 16, degradation: str = "canonical"
) -> dict[str, Any]:
    """A verification record with one size: `ours` are the DSR's figures, FIGURES all others, `gap` every difference."""
    cases: list[dict[str, Any]] = []
    gaps: list[dict[str, Any]] = []
    for recogniser in ("first", "second"):
        for protocol in ("lr-lr", "lr-hr"):
            keys = {"recogniser": recogniser, "protocol": protocol, "degradation": degradation}
            cases.append({**keys, "size": None, "method": "hr", "figures": FIGURES})
            cases.append({**keys, "size": size, "method": "bicubic", "figures": FIGURES})
            cases.append({**keys, "size": size, "method": "dsr", "figures": {**FIGURES, **ours}})
            figures = {**dict.fromkeys(FIGURES, 0.0), **gap}
            for minus in ("bicubic", "bicubic of first"):
                gaps.append({**keys, "size": size, "method": "dsr", "minus": minus, "figures": figures})
            gaps.append({**keys, "size": None, "method": "hr", "minus": "hr of first", "figures": figures})
    return {"verification": cases, "differences": gaps}


def judged(record: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """By name whether each bound at 16 pixels is reached, for a record of this size alone."""
    only = {key: value for key, value in reference_bounds.ACCURACY.items() if key[1] == 16}
    monkeypatch.setattr(reference_bounds, "ACCURACY", only)
    monkeypatch.setattr(reference_bounds, "IDENTITY", {})
    monkeypatch.setattr(reference_bounds, "UNBOUND_SIZES", ())
    rows = bound_rows({"canonical": record}, NAMES)
    assert len(bounds_table(rows).splitlines()) == 2 + len(rows)
    return {row.name: row.reached for row in rows}


@pytest.mark.parametrize(
    ("name", "figure", "enough", "too_little"),
    [
        ("LR-LR 16 accuracy, %", "accuracy", 0.97, 0.9699),
        ("LR-HR 16 accuracy, %", "accuracy", 0.98, 0.9799),
        ("LR-HR 16 TAR at FMR 1e-3, %", "tar@fmr=1e-3", 0.90, 0.8999),
        ("PSNR 16, dB", "psnr", 26.5, 26.49),
        ("SSIM 16", "ssim", 0.7001, 0.7),
        ("identity loss 16, original EdgeFace", "identity_loss", 0.3, 0.3001),
        ("identity loss 16, shipped chain", "identity_loss", 0.24, 0.2401),
    ],
)
def test_a_bound_is_reached_from_its_figure_on(
    name: str, figure: str, enough: float, too_little: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judged(record_of({figure: enough}, {}), monkeypatch)[name]
    assert not judged(record_of({figure: too_little}, {}), monkeypatch)[name]


def test_not_below_is_judged_by_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(interval: list[float]) -> dict[str, bool]:
        gap = {"accuracy": -0.01, "accuracy_ci95": interval, "psnr": 0.1}
        monkeypatch.setattr(reference_bounds, "UNBOUND_SIZES", ())
        low = record_of({}, gap, degradation="realistic-mild")
        found = bound_rows({"canonical": record_of({}, {}), "realistic-mild": low}, NAMES)
        return {row.name: row.reached for row in found}

    only = {key: value for key, value in reference_bounds.ACCURACY.items() if key[1] == 16}
    monkeypatch.setattr(reference_bounds, "ACCURACY", only)
    monkeypatch.setattr(reference_bounds, "IDENTITY", {})
    within, below = rows([-0.02, 0.0]), rows([-0.02, -0.001])
    assert within["LR-LR 16 accuracy, realistic-mild, %"]
    assert not below["LR-LR 16 accuracy, realistic-mild, %"]
    assert below["PSNR 16, realistic-mild, dB"]
