"""Identification of any set of faces end to end on made-up people: the record, the table, every refusal."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro

from common import cli
from common.errors import UserError
from common.files import sha256_of
from common.images import ImageStore, RgbImage, write_png
from facial_rec.faceset import FaceSet
from facial_rec.sources import StoreSource
from pipeline import evaluate_identification
from pipeline.chain import Chain
from pipeline.evaluate_identification import Config, evaluate, main
from pipeline.identification_protocols import closed_set, open_set

MadeFace = Callable[..., RgbImage]


@pytest.fixture
def config(people: Path, edgeface: Path, dsr: Path, tmp_path: Path) -> Config:
    return Config(
        images=people,
        vlr_size=(8, 16),
        edgeface=(str(edgeface),),
        dsr=str(dsr),
        bootstrap=20,
        cache=False,
        json=tmp_path / "out.json",
    )


def test_record_has_every_size_method_and_set(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    record = main(config)
    assert config.json is not None
    written = json.loads(config.json.read_text())
    assert written == json.loads(json.dumps(record))
    assert written["format"] == "dsr-edgeface-evaluation-1"
    rows = [(one["set"], one["size"], one["method"]) for one in written["identification"]]
    expected = [(name, None, "hr") for name in ("closed", "open")]
    for size in (8, 16):
        expected += [(name, size, method) for name in ("closed", "open") for method in ("bicubic", "dsr")]
    assert rows == expected
    for one in written["identification"]:
        closed = one["set"] == "closed"
        assert one["recogniser"] == "tiny_face"
        assert one["degradation"] == "canonical"
        mated = {"gallery": 6, "people": 6, "mated": 12, "nonmated": 0}
        assert one["counts"] == (mated if closed else {"gallery": 3, "people": 6, "mated": 6, "nonmated": 3})
        assert one["cmc"]["rank"] == list(range(1, 51))
        assert (one["open_set"] is None) is closed
    assert [(one["set"], one["size"]) for one in written["differences"]] == [
        (name, size) for size in (8, 16) for name in ("closed", "open")
    ]
    assert written["run"]["weights"]["tiny_face.pt"] == sha256_of(Path(config.edgeface[0]))
    assert list(written["run"]["data"]) == ["people"]
    words = shlex.split(written["run"]["command"])
    assert words[:3] == ["python", "-m", "pipeline.evaluate_identification"]
    assert tyro.cli(Config, args=words[3:]) == config
    printed = capsys.readouterr().out
    assert "closed set: gallery of 6 people; 12 mated and 0 non-mated probes of 6 people" in printed
    assert "dsr - bicubic" in printed


def test_figures_follow_the_faces(people: Path, recogniser: Any, face: MadeFace) -> None:
    """With a recogniser that works everyone is found; with the names of two people swapped, they are not."""
    write_png(people / "P0" / "P0_0003.png", face(1, 9))
    write_png(people / "P1" / "P1_0003.png", face(0, 9))
    write_png(people / "P2" / "P2_0003.png", face(3, 9))
    cfg = Config(images=people, vlr_size=(16,), bootstrap=0, threshold=0.9)
    source = StoreSource(ImageStore(people))
    splits = [closed_set(FaceSet(people).faces)]
    found = evaluate(source, splits, Chain({"r": recogniser}, batch_size=5), cfg)["identification"]
    assert [one["figures"]["rank1"] for one in found] == [9 / 12, 9 / 12]
    assert all(one["few_errors"] == {"rank1": 3} for one in found)
    assert found[0]["cmc"]["rate"][-1] == 1.0


def test_sizes_are_embedded_for_probes_only(people: Path, recogniser: Any) -> None:
    cfg = Config(images=people, vlr_size=(16, 16, 24), bootstrap=0)
    faces = FaceSet(people).faces
    seen: list[int] = []

    def counting(images: Any) -> Any:
        seen.append(len(images))
        return recogniser(images)

    found = evaluate(
        StoreSource(ImageStore(people)), [closed_set(faces), open_set(faces, 0)], Chain({"r": counting}), cfg
    )
    probes = {face.name for split in (closed_set(faces), open_set(faces, 0)) for face in split.probes}
    assert sum(seen) == 18 + 2 * len(probes)
    assert [one["size"] for one in found["identification"]] == [None, None, 16, 16, 24, 24]
    assert found["differences"] == []


def test_a_second_run_reads_the_cache_and_finds_the_same(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSR_CACHE", str(tmp_path / "cache.sqlite"))
    config = replace(config, cache=True)
    first = main(config)
    with monkeypatch.context() as forbidden:
        forbidden.setattr("pipeline.embedding._compute", lambda *_: pytest.fail("an image was embedded again"))
        again = main(config)
    assert first["identification"] == again["identification"] == main(replace(config, cache=False))["identification"]
    assert (tmp_path / "cache.sqlite").is_file()


def test_zip_several_recognisers_and_realistic_probes(
    config: Config, people: Path, edgeface: Path, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "set"), "zip", people))
    other = tmp_path / "other.pt"
    shutil.copy(edgeface, other)
    both = replace(
        config, images=archive, edgeface=(str(edgeface), str(other)), degradation="realistic-mild", vlr_size=(16,)
    )
    record = main(both)
    assert {one["recogniser"] for one in record["identification"]} == {"tiny_face", "other"}
    assert record["run"]["data"] == {"set.zip": sha256_of(archive)}
    assert record["identification"][2]["degradation"] == "realistic-mild"


def test_limit_and_sets(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    record = main(replace(config, limit=3, sets=("closed",), dsr="none", bootstrap=0))
    assert {one["counts"]["gallery"] for one in record["identification"]} == {3}
    assert {one["set"] for one in record["identification"]} == {"closed"}
    assert record["differences"] == []
    assert "In brackets" not in capsys.readouterr().out


def test_command_line(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--images", str(config.images), "--vlr-size", "16", "24", "--dsr", "none"]
    words += ["--edgeface", config.edgeface[0]]
    cli.run(main, Config, [*words, "--bootstrap", "0", "--sets", "closed", "--no-cache"])
    assert "rank-10" in capsys.readouterr().out


def test_every_tie_of_a_recogniser_without_judgement_counts_against_it(people: Path) -> None:
    """One that answers the same to everything is never right."""
    cfg = Config(images=people, vlr_size=(16,), bootstrap=0)
    constant = Chain({"r": lambda images: images.mean(dim=(1, 2, 3), keepdim=False)[:, None] * 0 + 1.0})
    (hr, *_) = evaluate(StoreSource(ImageStore(people)), [closed_set(FaceSet(people).faces)], constant, cfg)[
        "identification"
    ]
    assert hr["figures"]["rank1"] == 0.0
    assert np.argmax(np.array(hr["cmc"]["rate"]) > 0) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": Path("nowhere")}, "nowhere does not exist"),
        ({"vlr_size": (16, 4)}, "--vlr-size is 4"),
        ({"vlr_size": (65,)}, "--vlr-size is 65"),
        ({"threshold": 1.5}, "--threshold 1.5"),
        ({"threshold": float("nan")}, "--threshold nan"),
        ({"bootstrap": -1}, "--bootstrap -1"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"sets": ()}, "--sets is empty: expected closed, open or both"),
        ({"limit": 1}, "--limit 1"),
        ({"limit": 3}, "the open set needs 4"),
        ({"edgeface": ("nowhere.pt",)}, "nowhere.pt is missing"),
        ({"dsr": "nowhere.pt"}, "nowhere.pt is missing"),
        ({"threads": -2}, "--threads -2"),
        ({"device": "warp"}, "--device warp"),
    ],
)
def test_bad_settings_are_refused(config: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(config, **change))


def test_images_that_cannot_be_used_are_refused_by_name(config: Config, people: Path) -> None:
    write_png(people / "P2" / "P2_0002.png", np.zeros((96, 96, 3), np.uint8))
    with pytest.raises(UserError, match=r"P2/P2_0002\.png is 96x96, expected 112x112"):
        main(config)
    (people / "P2" / "P2_0002.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"P2/P2_0002\.png is empty"):
        main(config)


def test_one_person_and_single_images_are_refused(config: Config, people: Path) -> None:
    with pytest.raises(UserError, match="1 identity"):
        main(replace(config, images=people / "P0"))
    for photo in people.rglob("*_000[23].png"):
        photo.unlink()
    with pytest.raises(UserError, match="Each of the 6 people has a single image"):
        main(config)


def test_sizes_by_default_are_the_ones_of_the_record() -> None:
    assert Config(images=Path("x")).vlr_size == evaluate_identification.SIZES == (8, 12, 16, 20, 24, 28, 32)
