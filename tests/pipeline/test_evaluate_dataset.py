"""Identification end to end on made-up people: every layout, every option, every refusal."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro

from common import cli, paths
from common.errors import UserError
from common.files import sha256_of
from common.images import RgbImage, write_png
from pipeline.chain import Chain
from pipeline.evaluate_dataset import CSV_COLUMNS, Config, main, match
from pipeline.probes import load_probes

MadeFace = Callable[..., RgbImage]


@pytest.fixture
def processed(tmp_path: Path, face: MadeFace) -> Path:
    """hr_images and vlr_images: four people with three images, one (lone) with a single one."""
    root = tmp_path / "test_processed"
    for person in range(4):
        for photo in (1, 2, 3):
            write_png(root / "hr_images" / f"ann_{person}_{photo}.png", face(person, photo))
            write_png(root / "vlr_images" / f"ann_{person}_{photo}.png", face(person, photo, 16))
    write_png(root / "hr_images" / "lone_1.png", face(9, 1))
    write_png(root / "vlr_images" / "lone_1.png", face(9, 1, 16))
    return root


@pytest.fixture
def config(processed: Path, edgeface: Path, dsr: Path, tmp_path: Path) -> Config:
    return Config(
        dataset_root=processed,
        edgeface=str(edgeface),
        dsr=str(dsr),
        bootstrap=20,
        dump_results=tmp_path / "out.csv",
        json=tmp_path / "out.json",
    )


def matched(root: Path, recogniser: Any, vlr_size: int = 16, gallery_via_dsr: bool = False) -> Any:
    return match(load_probes(root, None, None, vlr_size), Chain({"r": recogniser}, batch_size=5), gallery_via_dsr)


def test_json_and_csv_have_what_was_promised(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(config, threshold=0.99999)  # nearly all are rejected: enough errors to give the figures
    result = main(config)
    assert config.json is not None
    assert config.dump_results is not None
    written = json.loads(config.json.read_text())
    assert list(written["methods"]) == ["hr", "bicubic", "dsr"]
    for figures in written["methods"].values():
        assert (figures["probes"], figures["mated"], figures["nonmated"]) == (13, 12, 1)
        assert figures["reject_all_accuracy"] == pytest.approx(1 / 13)
        assert 0 <= figures["accuracy_ci95"][0] <= figures["accuracy"] <= figures["accuracy_ci95"][1] <= 1
        assert figures["per_subject"].keys() == {"ann_0", "ann_1", "ann_2", "ann_3", "lone"}
    assert written["vlr_sizes"] == {"16": 13}
    assert written["vlr_made"] is False
    assert written["gallery"] == {"images": 13, "people": 5, "via_dsr": False}
    assert written["weights"]["tiny_face.pt"] == sha256_of(Path(config.edgeface))
    words = shlex.split(result["command"])
    assert tyro.cli(Config, args=words[3:]) == config
    with open(config.dump_results, newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 3 * 13
    for method, figures in written["methods"].items():
        right = [r for r in rows if r["method"] == method and r["decision"] in ("correct", "correct_rejection")]
        assert len(right) / 13 == pytest.approx(figures["accuracy"])
        assert figures["few_errors"]["accuracy"] == 13 - len(right)
    lone = next(row for row in rows if row["subject"] == "lone")
    assert (lone["mated"], lone["own_best_score"], lone["rank"]) == ("0", "", "")
    printed = capsys.readouterr().out
    assert "Gallery: 13 HR images of 5 people" in printed
    assert "Per subject: correct / unknown / false accepts" in printed


def test_figures_with_too_few_errors_are_withheld(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    figures = main(replace(config, threshold=-1.0))["methods"]["bicubic"]
    assert figures["unknown_rate"] is figures["unknown_rate_ci95"] is None
    assert figures["withheld"]["unknown_rate"]["errors"] == 0
    assert figures["withheld"]["unknown_rate"]["upper95"] == pytest.approx(1 - 0.05 ** (1 / 13))
    assert "0 probes below the threshold among 13 probes" in figures["withheld"]["unknown_rate"]["reason"]
    printed = capsys.readouterr().out
    assert "< 20.58" in printed
    assert "Fewer than 3: no figure" in printed


def test_people_are_told_apart(processed: Path, recogniser: Any) -> None:
    for _, matches in matched(processed, recogniser).values():
        assert matches.mated.sum() == 12
        assert (matches.ranks[matches.mated] == 1).all()
        assert matches.decisions(0.7).count("correct") == 12
        assert (matches.own_scores[matches.mated] < 0.9999).all()  # its own HR image would score 1


@pytest.mark.parametrize("layout", ["folders", "zip of folders"])
def test_vlr_images_are_made_where_there_are_none(
    config: Config, people: Path, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = people
    if layout != "folders":
        root = Path(shutil.make_archive(str(tmp_path / "set"), "zip", people))
    result = main(replace(config, dataset_root=root, vlr_size=24))
    assert result["vlr_made"] is True
    assert result["vlr_sizes"] == {"24": 18}
    assert result["methods"]["hr"]["mated"] == 18
    assert "they are made from the HR images by the canonical reduction" in capsys.readouterr().out


def test_made_vlr_images_equal_files_of_the_canonical_reduction(processed: Path, recogniser: Any) -> None:
    with_files = matched(processed, recogniser)
    without = matched(processed / "hr_images", recogniser)
    np.testing.assert_allclose(with_files["bicubic"][1].scores, without["bicubic"][1].scores)


def test_zip_of_the_processed_layout(config: Config, processed: Path, tmp_path: Path) -> None:
    archive = tmp_path / "processed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in processed.rglob("*.png"):
            file.write(path, path.relative_to(processed.parent))
    zipped, plain = main(replace(config, dataset_root=archive)), main(config)
    assert zipped["vlr_made"] is False
    assert zipped["methods"] == plain["methods"]


def test_hr_and_vlr_dirs_alone(config: Config, processed: Path, tmp_path: Path) -> None:
    shutil.move(processed / "hr_images", tmp_path / "originals")
    shutil.move(processed / "vlr_images", processed / "small")
    found = main(replace(config, hr_dir=tmp_path / "originals", vlr_dir=Path("small")))
    assert found["methods"]["dsr"]["probes"] == 13
    alone = replace(config, dataset_root=None, hr_dir=tmp_path / "originals", vlr_dir=processed / "small")
    assert main(alone)["methods"] == found["methods"]


def test_default_dataset(config: Config, processed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = processed.parent
    (root / "dataset").mkdir()
    processed.rename(root / "dataset" / "test_processed")
    monkeypatch.chdir(root)
    assert main(replace(config, dataset_root=None))["methods"]["hr"]["probes"] == 13


def test_several_sizes_in_one_set(config: Config, processed: Path, face: MadeFace) -> None:
    plain = main(config)["methods"]["bicubic"]["per_subject"]
    for photo, size in ((1, 8), (2, 33), (3, 64)):
        write_png(processed / "vlr_images" / f"ann_0_{photo}.png", face(0, photo, size))
    result = main(config)
    assert result["vlr_sizes"] == {"8": 1, "16": 10, "33": 1, "64": 1}
    assert result["methods"]["bicubic"]["per_subject"]["ann_1"] == plain["ann_1"]


@pytest.mark.parametrize("size", [8, 16])
def test_gallery_via_dsr_enlarges_the_gallery_alike(processed: Path, recogniser: Any, size: int) -> None:
    root = processed / "hr_images"
    plain, alike = (matched(root, recogniser, size, via) for via in (False, True))
    assert (alike["bicubic"][1].scores > plain["bicubic"][1].scores).mean() > 0.6
    assert (alike["hr"][1].scores == plain["hr"][1].scores).all()


def test_gallery_via_dsr_command(config: Config) -> None:
    result = main(replace(config, gallery_via_dsr=True))
    assert result["gallery"]["via_dsr"] is True
    assert "--gallery-via-dsr" in result["command"]


def test_limit_spreads_the_probes(config: Config) -> None:
    result = main(replace(config, limit=5))
    assert result["methods"]["dsr"]["probes"] == 5
    assert len(result["methods"]["dsr"]["per_subject"]) >= 4
    assert result["gallery"]["images"] == 13
    with pytest.raises(UserError, match="--limit 0"):
        main(replace(config, limit=0))


def test_the_dsr_in_checkpoints_is_used_unless_another_or_none_is_named(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dsr: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "REPOSITORY_ROOT", tmp_path)
    assert list(main(replace(config, dsr="none"))["methods"]) == ["hr", "bicubic"]
    by_default = replace(config, dsr=Config().dsr)
    with pytest.raises(UserError, match=r"dsr\.pt is missing: train one with .* also none: bicubic only"):
        main(by_default)
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(dsr, tmp_path / "checkpoints" / "dsr.pt")
    result = main(by_default)
    assert list(result["methods"]) == ["hr", "bicubic", "dsr"]
    assert "dsr.pt" in result["weights"]


def test_strangers_and_probes_without_twin_are_warned_of(
    config: Config, processed: Path, face: MadeFace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(processed / "vlr_images" / "zoe_1.png", face(20, 1, 16))
    write_png(processed / "vlr_images" / "ann_0_4.png", face(0, 4, 16))
    methods = main(config)["methods"]
    printed = capsys.readouterr().out
    assert "Warning: 2 probes have no HR image of the same name" in printed
    assert "Warning: 1 people are not in the gallery (non-mated): zoe." in printed
    assert (methods["bicubic"]["probes"], methods["bicubic"]["nonmated"]) == (15, 2)
    assert methods["hr"]["probes"] == 13


def test_command_line(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dataset-root", str(config.dataset_root), "--threshold", "0.35", "--dsr", str(config.dsr)]
    words += ["--edgeface", config.edgeface, "--device", "cpu", "--bootstrap", "0", "--no-gallery-via-dsr"]
    cli.run(main, Config, words)
    assert "accuracy at 0.35" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "words"), [((7, 7), "is 7x7"), ((65, 65), "is 65x65"), ((112, 112), "is 112x112"), ((16, 20), "is 20x16")]
)
def test_vlr_images_of_another_shape_are_refused(
    config: Config, processed: Path, size: tuple[int, int], words: str
) -> None:
    write_png(processed / "vlr_images" / "ann_2_1.png", np.zeros((*size, 3), np.uint8))
    with pytest.raises(UserError, match=f"ann_2_1.png {words}: a VLR image must be square, 8 to 64 pixels"):
        main(config)


@pytest.mark.parametrize("folder", ["hr_images", "vlr_images"])
@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"no image", "is not a PNG"), (None, "truncated or damaged")]
)
def test_bad_images_are_refused_by_name(
    config: Config, processed: Path, folder: str, content: bytes | None, words: str
) -> None:
    victim = processed / folder / "ann_2_1.png"
    victim.write_bytes(victim.read_bytes()[:200] if content is None else content)
    with pytest.raises(UserError, match=words) as caught:
        main(config)
    assert f"{folder}/ann_2_1.png" in str(caught.value)


def test_hr_images_of_another_size_are_refused(config: Config, processed: Path) -> None:
    write_png(processed / "hr_images" / "ann_2_1.png", np.zeros((96, 96, 3), np.uint8))
    with pytest.raises(UserError, match=r"ann_2_1\.png is 96x96, expected 112x112"):
        main(config)


def test_folders_that_do_not_belong_together_are_refused(config: Config, processed: Path, face: MadeFace) -> None:
    shutil.rmtree(processed / "vlr_images")
    write_png(processed / "vlr_images" / "bob_1.png", face(1, 1, 16))
    with pytest.raises(UserError, match=r"No VLR image of .* has an HR twin .*bob_1.png"):
        main(config)


def test_one_identity_is_refused(config: Config, people: Path) -> None:
    with pytest.raises(UserError, match="1 identity: at least 2 are needed"):
        main(replace(config, dataset_root=people / "P0"))


def test_vlr_images_without_hr_images_are_refused(config: Config, processed: Path) -> None:
    shutil.rmtree(processed / "hr_images")
    with pytest.raises(UserError, match="holds vlr_images but no hr_images"):
        main(config)


@pytest.mark.parametrize("folder", ["hr_images", "vlr_images"])
def test_empty_folders_are_refused(config: Config, processed: Path, folder: str) -> None:
    shutil.rmtree(processed / folder)
    (processed / folder).mkdir()
    with pytest.raises(UserError, match=f"{folder} holds no image"):
        main(config)


def test_no_dataset_at_all_says_how_to_make_one(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "REPOSITORY_ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"give --dataset-root, or make one with `python -m dsr.prepare_dataset`"):
        main(replace(config, dataset_root=None))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset_root": Path("nowhere")}, "nowhere does not exist"),
        ({"hr_dir": Path("nowhere")}, "nowhere does not exist"),
        ({"vlr_dir": Path("nowhere")}, "nowhere does not exist"),
        ({"dsr": "nowhere.pt"}, "nowhere.pt is missing"),
        ({"edgeface": "nowhere.pt"}, "nowhere.pt is missing"),
        ({"vlr_size": 4}, "--vlr-size is 4"),
        ({"bootstrap": -1}, "--bootstrap -1"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"threshold": 1.5}, "--threshold 1.5: expected a cosine"),
        ({"threshold": float("nan")}, "--threshold nan"),
        ({"threads": -2}, "--threads -2"),
        ({"device": "warp"}, "--device warp"),
    ],
)
def test_bad_settings_are_refused(config: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(config, **change))


def test_cuda_without_cuda_names_the_cpu(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cpu"):
        main(replace(config, device="cuda"))
