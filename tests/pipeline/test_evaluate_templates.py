"""Templates end to end on made-up people: the record, the table, the options, the refusals."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro

from common import cli
from common.errors import UserError
from common.files import sha256_of
from common.images import ImageStore
from facial_rec import metrics
from facial_rec.sources import StoreSource
from pipeline import evaluate_templates
from pipeline.chain import Chain
from pipeline.degradations import View, to_tensor
from pipeline.evaluate_templates import Config, embed_templates, evaluate, main
from pipeline.templates import pool, read_template_pairs, read_templates


@pytest.fixture
def config(people: Path, edgeface: Path, dsr: Path, tmp_path: Path) -> Config:
    """Six people with two templates each: images 1 and 2 (one medium), and image 3; all are compared."""
    lines, pairs = [], []
    for person in range(6):
        for photo in (1, 2, 3):
            template, medium = 10 * person + (photo == 3), 100 * person + (photo == 3)
            lines.append(f"P{person}_{photo:04d}.png {template} {medium}")
        pairs += [f"{10 * person} {10 * other + 1} {int(person == other)}" for other in range(6)]
    (tmp_path / "face_tid_mid.txt").write_text("\n".join(lines))
    (tmp_path / "template_pair_label.txt").write_text("\n".join(pairs))
    return Config(
        images=people,
        templates=tmp_path / "face_tid_mid.txt",
        pairs=tmp_path / "template_pair_label.txt",
        vlr_size=(8, 16),
        edgeface=(str(edgeface),),
        dsr=str(dsr),
        bootstrap=20,
        cache=False,
        json=tmp_path / "out.json",
    )


def test_record_has_every_size_and_method(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    record = main(replace(config, threshold=0.999))
    assert config.json is not None
    written = json.loads(config.json.read_text())
    assert written == json.loads(json.dumps(record))
    rows = [(one["protocol"], one["size"], one["method"]) for one in written["verification"]]
    low = [("templates", size, method) for size in (8, 16) for method in ("bicubic", "dsr")]
    assert rows == [("templates", None, "hr"), *low]
    for one in written["verification"]:
        assert one["pairs"] == {
            "genuine": 6, "impostor": 30, "people": 6, "folds": 1, "templates": 12, "images": 18
        }  # fmt: skip
        assert one["figures"]["accuracy"] is None  # there are no folds
        assert one["figures"]["reject_all_accuracy"] == pytest.approx(30 / 36)
        assert "tar@fmr=1e-3" in one["withheld"]
        assert len(one["curve"]["fmr"]) == len(one["curve"]["fnmr"])
    assert [(one["size"], one["minus"]) for one in written["differences"]] == [(8, "bicubic"), (16, "bicubic")]
    assert written["run"]["data"]["template_pair_label.txt"] == sha256_of(config.pairs)
    words = shlex.split(written["run"]["command"])
    assert tyro.cli(Config, args=words[3:]) == replace(config, threshold=0.999)
    printed = capsys.readouterr().out
    assert "6 genuine and 30 impostor pairs of 12 templates (18 images, 6 people" in printed
    assert "dsr - bicubic" in printed


def test_scores_are_those_of_pooled_embeddings(config: Config, recogniser: Any, monkeypatch: Any) -> None:
    store = ImageStore(config.images)
    templates = read_templates(config.templates, store.names)
    pairs = read_template_pairs(config.pairs, templates)
    chain, cfg = Chain({"r": recogniser}, batch_size=5), replace(config, dsr="none", bootstrap=0, threshold=0.8)
    views = [View("hr"), View("bicubic", 8)]
    whole = embed_templates(StoreSource(store), templates, chain, views, cfg)
    monkeypatch.setattr(evaluate_templates, "CHUNK", 4)
    parts = embed_templates(StoreSource(store), templates, chain, views, cfg)
    for key, vectors in whole.items():
        assert vectors.shape == (12, 147)
        np.testing.assert_allclose(parts[key], vectors, atol=1e-6)
    found = evaluate(StoreSource(store), templates, pairs, chain, cfg)["verification"][0]["figures"]
    rows = whole["r", View("hr")]
    scores = metrics.cosine_pairs(rows[pairs.first], rows[pairs.second])
    assert found["d_prime"] == pytest.approx(metrics.d_prime(scores, pairs.genuine))
    assert scores[pairs.genuine].min() > scores[~pairs.genuine].max()


@pytest.mark.parametrize("change", [{"by_medium": False}, {"keep_lengths": True}])
def test_options_change_how_templates_are_pooled(config: Config, recogniser: Any, change: dict[str, bool]) -> None:
    """Image 3 joins images 1 and 2 in a template, as a medium of its own; lengths differ by image."""
    store = ImageStore(config.images)

    def uneven(images: torch.Tensor) -> torch.Tensor:
        return recogniser(images) * images[:, :1, 0, 0]

    text = (
        config.templates.read_text()
        .replace("P0_0003.png 1 1", "P0_0003.png 0 1")
        .replace("P1_0003.png 11", "P1_0003.png 1")
    )
    config.templates.write_text(text)
    templates = read_templates(config.templates, store.names)
    chain = Chain({"r": uneven})
    plain, changed = (
        embed_templates(StoreSource(store), templates, chain, [View("hr")], cfg)["r", View("hr")]
        for cfg in (config, replace(config, **change))
    )
    assert np.abs(plain - changed).max() > 1e-4
    images = uneven(to_tensor([store.read(name) for name in templates.images]))
    expected = pool(images, templates.numbers, templates.media, **change)
    np.testing.assert_allclose(changed, expected, atol=1e-5)


def test_realistic_probes_and_the_cache(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(config, degradation="realistic-mild", vlr_size=(16,), cache=True)
    first = main(config)
    monkeypatch.setattr("pipeline.embedding._compute", lambda *_: pytest.fail("an image was embedded again"))
    assert main(config)["verification"] == first["verification"]


def test_command_line(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--images", str(config.images), "--templates", str(config.templates), "--pairs", str(config.pairs)]
    words += ["--vlr-size", "16", "24", "--edgeface", config.edgeface[0], "--bootstrap", "0", "--no-by-medium"]
    words += ["--dsr", "none"]
    cli.run(main, Config, words)
    assert "FMR at 0.35" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": Path("nowhere")}, "nowhere does not exist"),
        ({"templates": Path("nowhere.txt")}, "nowhere.txt is missing"),
        ({"pairs": Path("nowhere.txt")}, "nowhere.txt is missing"),
        ({"vlr_size": (4,)}, "--vlr-size is 4"),
        ({"threshold": 2.0}, "--threshold 2.0"),
        ({"bootstrap": -1}, "--bootstrap -1"),
        ({"edgeface": ("nowhere.pt",)}, "nowhere.pt is missing"),
    ],
)
def test_bad_settings_are_refused(config: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(config, **change))
