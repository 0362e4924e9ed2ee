"""`python -m dsr.prepare_dataset`: layout, disjoint splits, fixed labels, whole or nothing on disk, every refusal."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from dsr import prepare_dataset
from dsr.degradation import canonical_reduce
from dsr.face_import import read_labelled, safe_names
from dsr.prepare_dataset import Config, Folder, Synthetic, ensure_training_data, main
from dsr.synthetic import render_aligned
from dsr.synthetic_set import divide

SPLITS = ("train", "val", "test")


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def people_in(out: Path, split: str) -> set[str]:
    return {path.stem.rpartition("_")[0] for path in (out / f"{split}_processed/hr_images").iterdir()}


def face(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five people with two images each, a folder per person."""
    root = tmp_path / "faces"
    for index, person in enumerate(("Ann_Lee", "Bob", "Cy", "Dee", "Eve")):
        (root / person).mkdir(parents=True)
        for number in (1, 2):
            face(10 * index + number).save(root / person / f"{person}_{number}.png")
    return root


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    main(Config(Synthetic(identities=4, images=2, out=out, workers=1)))
    return out


def test_synthetic_layout(synthetic: Path) -> None:
    for split in SPLITS:
        folder = synthetic / f"{split}_processed"
        names = sorted(path.name for path in (folder / "hr_images").iterdir())
        assert names == sorted(path.name for path in (folder / "vlr_images").iterdir())
        assert names[0].endswith("_0001.png")
        with Image.open(folder / "hr_images" / names[0]) as hr, Image.open(folder / "vlr_images" / names[0]) as vlr:
            assert (hr.size, hr.mode, vlr.size, vlr.mode) == ((112, 112), "RGB", (16, 16), "RGB")
        meta = json.loads((folder / "meta.json").read_text())
        assert meta["images"] == len(names)
        assert meta["identities"] == len(people_in(synthetic, split))
        assert meta["command"].startswith("python -m dsr.prepare_dataset synthetic --identities 4 --images 2 --seed 0")
        assert meta.keys() >= {"seed", "source", "options", "reduction", "split"}
    assert not list(synthetic.glob(".*")), "temporary folders were left"


def test_synthetic_pictures_are_those_of_the_renderer(synthetic: Path) -> None:
    pixels = np.asarray(Image.open(synthetic / "train_processed/hr_images/synthetic00000_0002.png"))
    assert np.array_equal(pixels, render_aligned(0, 0, 1))


def test_low_resolution_images_are_the_canonical_reduction(synthetic: Path) -> None:
    folder = synthetic / "val_processed"
    for path in (folder / "hr_images").iterdir():
        hr = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255
        vlr = np.asarray(Image.open(folder / "vlr_images" / path.name))
        expected = canonical_reduce(hr, 16).mul(255).round()[0].permute(1, 2, 0).numpy()
        assert np.array_equal(vlr, expected)


def test_number_of_workers_changes_nothing(synthetic: Path, tmp_path: Path) -> None:
    main(Config(Synthetic(identities=4, images=2, out=tmp_path, workers=2)))
    ours, theirs = files_under(synthetic), files_under(tmp_path)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] == theirs[name] for name in ours if name.endswith(".png"))


def test_synthetic_splits_are_disjoint(synthetic: Path) -> None:
    people = [people_in(synthetic, split) for split in SPLITS]
    assert len(set.union(*people)) == sum(map(len, people)) == 4


def test_plain_command_means_the_synthetic_set(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Config] = []

    def note(cfg: Config) -> None:
        made.append(cfg)

    note.__module__ = prepare_dataset.__name__
    prepare_dataset.run(note, Config, [])
    prepare_dataset.run(note, Config, ["synthetic", "--identities", "7"])
    prepare_dataset.run(note, Config, ["folder", "--source", "a", "--source", "b.zip", "--vlr-size", "24"])
    assert made == [
        Config(Synthetic()),
        Config(Synthetic(identities=7)),
        Config(Folder(source=(Path("a"), Path("b.zip")), vlr_size=24)),
    ]


def test_command_line_reports_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dsr.prepare_dataset", "folder", "--source", str(tmp_path / "none")]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "none does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identities": 2}, "2 people cannot be split"),
        ({"identities": 0}, "cannot be split"),
        ({"images": 0}, "--images 0"),
        ({"seed": -1}, "--seed -1"),
        ({"workers": -1}, "--workers -1"),
        ({"vlr_size": 7}, "--vlr-size 7"),
        ({"vlr_size": 65}, "--vlr-size 65"),
        ({"val_fraction": -0.1}, "--val-fraction -0.1"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave something for training"),
    ],
)
def test_synthetic_refusals(tmp_path: Path, changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(Config(replace(Synthetic(out=tmp_path / "out"), **changes)))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_divide_counts() -> None:
    assert divide(60, {"val": 0.15, "test": 0.25}) == {"train": 36, "val": 9, "test": 15}
    assert divide(3, {"val": 0.01, "test": 0.01}) == {"train": 1, "val": 1, "test": 1}
    assert divide(2, {"val": 0.0, "test": 0.5}) == {"train": 1, "test": 1}


def convert(source: Path, out: Path, **options: object) -> None:
    main(Config(Folder(source=(source,), out=out, **options)))  # type: ignore[arg-type]


def as_zip(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


@pytest.mark.parametrize("packed", [False, True])
def test_folder_and_zip_give_the_same_disjoint_splits(source: Path, tmp_path: Path, packed: bool) -> None:
    out = tmp_path / "out"
    convert(as_zip(source) if packed else source, out)
    people = {split: people_in(out, split) for split in SPLITS}
    assert set.union(*people.values()) == {"Ann_Lee", "Bob", "Cy", "Dee", "Eve"}
    assert {split: len(found) for split, found in people.items()} == {"train": 3, "val": 1, "test": 1}
    for split in SPLITS:
        for path in (out / f"{split}_processed/hr_images").iterdir():
            person, _, number = path.stem.rpartition("_")
            original = Image.open(source / person / f"{person}_{int(number)}.png")
            assert np.array_equal(np.asarray(Image.open(path)), np.asarray(original))


def test_seed_deals_the_people(source: Path, tmp_path: Path) -> None:
    held = set()
    for seed in range(6):
        convert(source, tmp_path / str(seed), seed=seed)
        held |= people_in(tmp_path / str(seed), "test")
    convert(source, tmp_path / "again", seed=3)
    assert people_in(tmp_path / "again", "test") == people_in(tmp_path / "3", "test")
    assert len(held) > 1


def test_processed_split_can_be_split_again(synthetic: Path, tmp_path: Path) -> None:
    convert(synthetic / "train_processed", tmp_path, val_fraction=0.5, test_fraction=0)
    assert people_in(tmp_path, "train") | people_in(tmp_path, "val") == people_in(synthetic, "train")
    assert not (tmp_path / "test_processed").exists()


def test_names_become_safe_and_stay_distinct() -> None:
    people = ["Ann_Lee", "ann_lee", "José", "Jose", "a/b", "a b", "a-b", "..", "王", "x" * 300, "x" * 299]
    names = safe_names(people)
    assert len({name.casefold() for name in names.values()}) == len(people)
    assert names["Jose"] == "Jose"
    assert names["a-b"] == "a-b"
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for name in names.values()
    )
    assert all(0 < len(name) < 100 and not name.startswith(".") for name in names.values())
    assert safe_names([*people, "another"])["José"] == names["José"], "a name must not depend on the others"


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_image(path: Path) -> None:
    path.write_text("not an image")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def wrong_size(path: Path) -> None:
    Image.new("RGB", (96, 112)).save(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (empty, "Cy_2.png is empty"),
        (no_image, "Cy_2.png is not a PNG"),
        (truncated, "Cy_2.png is truncated"),
        (wrong_size, "Cy_2.png is 96x112, expected 112x112"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_file_is_named_and_nothing_is_written(
    source: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str, packed: bool
) -> None:
    out = tmp_path / "out"
    convert(source, out)
    before = files_under(out)
    spoil(source / "Cy/Cy_2.png")
    with pytest.raises(UserError, match=message):
        convert(as_zip(source) if packed else source, out, overwrite=True)
    assert files_under(out) == before
    assert sorted(path.name for path in out.iterdir()) == ["test_processed", "train_processed", "val_processed"]


def test_folder_refusals(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="gone does not exist"):
        convert(tmp_path / "gone", out)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="bare holds no image"):
        convert(tmp_path / "bare", out)
    no_image(tmp_path / "bad.zip")
    with pytest.raises(UserError, match=r"bad\.zip is not a readable zip"):
        convert(tmp_path / "bad.zip", out)
    with pytest.raises(UserError, match="one identity"):
        convert(source / "Bob", out)
    with pytest.raises(UserError, match="5 people cannot be split"):
        convert(source, out, val_fraction=0.45, test_fraction=0.54)
    with pytest.raises(UserError, match="--vlr-size 4"):
        convert(source, out, vlr_size=4)
    with pytest.raises(UserError, match="no --source"):
        main(Config(Folder(source=(), out=out)))
    assert not out.exists()


def test_existing_split_is_replaced_only_when_told(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mine = out / "val_processed/hr_images/mine_1.png"
    mine.parent.mkdir(parents=True)
    face(0).save(mine)
    with pytest.raises(UserError, match="val_processed is not empty"):
        convert(source, out)
    assert mine.is_file()
    assert not (out / "train_processed").exists()
    convert(source, out, overwrite=True)
    assert not mine.exists()
    assert not list(out.glob(".*"))


def test_interrupt_leaves_no_half_split(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr("dsr.split_writer.write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(source, out)
    assert list(out.iterdir()) == []


def test_leftovers_of_a_killed_run_are_cleared_and_the_old_split_comes_back(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, out)
    before = files_under(out / "test_processed")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = out / f".train_processed.{os.getppid()}.part"
    for part in (out / f".train_processed.{dead.pid}.part", alive):
        part.mkdir()
    # Killed after the old folder was moved aside, before the new one took its place.
    (out / "test_processed").rename(out / ".test_processed.old")
    with pytest.raises(UserError, match="is not empty"):
        convert(source, out)
    assert files_under(out / "test_processed") == before
    convert(source, out, overwrite=True)
    assert sorted(path.name for path in out.glob(".*")) == [alive.name]


def write_labels(path: Path, rows: Sequence[tuple[str, ...]], columns: str = "file,identity,source,split,zip") -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return path


def test_labels_fix_people_and_splits(source: Path, tmp_path: Path) -> None:
    rows = [(f"{p}/{p}_{n}.png", p, "x", "train", "faces.zip") for p in ("Ann_Lee", "Bob", "Cy") for n in (1, 2)]
    rows += [("Dee/Dee_1.png", "", "x", "val", "faces.zip"), ("Dee/Dee_2.png", "", "x", "val", "faces.zip")]
    rows += [("Zoe/Zoe_1.png", "Zoe", "x", "train", "other.zip")]
    labels = write_labels(tmp_path / "faces.csv", rows)
    out = tmp_path / "out"
    main(Config(Folder(source=(as_zip(source),), labels=labels, out=out)))
    assert people_in(out, "train") == {"Ann_Lee", "Bob", "Cy"}
    assert len(people_in(out, "val")) == 2, "a file without identity is a person of its own"
    assert not (out / "test_processed").exists()


def test_a_row_is_of_the_zip_that_it_names(source: Path, tmp_path: Path) -> None:
    """Both zips hold files of these names; the table gives the second one's to other people."""
    first, second = as_zip(source), tmp_path / "other.zip"
    shutil.copyfile(first, second)
    names = [f"{p}/{p}_1.png" for p in ("Ann_Lee", "Bob")]
    rows = [(name, f"other{index}", "x", "train", "other.zip") for index, name in enumerate(names)]
    rows += [(name, "", "x", "train", "faces.zip") for name in names]
    labels = write_labels(tmp_path / "faces.csv", rows)
    faces = read_labelled([first, second], labels)
    assert [(face.faces.root.name, face.person) for face in faces[:3]] == [
        *(("other.zip", "other0"), ("other.zip", "other1")),
        ("faces.zip", "Ann_Lee/Ann_Lee_1"),
    ]
    assert [face.person for face in read_labelled([first], labels)] == [name[:-4] for name in names]


def test_a_split_that_is_a_link_is_replaced_where_it_leads(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "disk")
    out = tmp_path / "out"
    out.mkdir()
    (out / "train_processed").symlink_to(tmp_path / "disk" / "train_processed", target_is_directory=True)
    for _ in range(2):
        convert(source, out, overwrite=True)
    assert (out / "train_processed").is_symlink()
    assert sorted(path.name for path in (tmp_path / "disk").iterdir() if path.name.startswith(".")) == []


def test_labels_without_splits_are_dealt_by_fraction(source: Path, tmp_path: Path) -> None:
    rows = [(f"{p}/{p}_1.png", p, "x", "", "") for p in ("Ann_Lee", "Bob", "Cy", "Dee")]
    main(Config(Folder(source=(source,), labels=write_labels(tmp_path / "l.csv", rows), out=tmp_path / "out")))
    assert [len(people_in(tmp_path / "out", split)) for split in SPLITS] == [2, 1, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("Bob/none.png", "Bob", "x", "train", "")], "line 2: Bob/none.png is in no --source"),
        ([("Bob/Bob_1.png", "Bob", "x", "training", "")], "line 2: split 'training'"),
        ([("Bob/Bob_1.png", "Bob", "x", "val", "")] * 2, "line 3: Bob/Bob_1.png is listed twice"),
        ([("Bob/Bob_1.png", "Bob", "x", "val", ""), ("Bob/Bob_2.png", "Bob", "x", "train", "")], "one identity"),
        (
            [
                (f"{p}/{p}_{n}.png", p, "x", s, "")
                for p, n, s in (("Bob", 1, "val"), ("Bob", 2, "train"), ("Cy", 1, ""))
            ],
            "'Bob' is labelled 'val' and 'train'",
        ),
        ([], "lists no file"),
    ],
)
def test_label_refusals(source: Path, tmp_path: Path, rows: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(source, tmp_path / "out", labels=write_labels(tmp_path / "l.csv", rows))


def test_unreadable_label_tables_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.csv is missing"):
        convert(source, tmp_path / "out", labels=tmp_path / "gone.csv")
    table = write_labels(tmp_path / "l.csv", [("a", "b")], columns="file,identity")
    with pytest.raises(UserError, match="lacks the column source, split, zip"):
        convert(source, tmp_path / "out", labels=table)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a CSV table in UTF-8"):
        convert(source, tmp_path / "out", labels=table)


def test_training_data_is_made_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare_dataset, "REPOSITORY_ROOT", tmp_path)
    monkeypatch.setattr(
        prepare_dataset, "Synthetic", lambda **given: Synthetic(**given, identities=3, images=1, workers=1)
    )
    folders = {split: tmp_path / f"dataset/{split}_processed" for split in SPLITS}
    monkeypatch.setattr(
        prepare_dataset, "default_dataset", lambda split: folders[split] if folders[split].is_dir() else None
    )
    own = folders["val"] / "hr_images/mine_1.png"
    own.parent.mkdir(parents=True)
    face(1).save(own)
    assert ensure_training_data(seed=5) == folders["train"]
    assert "making the synthetic set there" in capsys.readouterr().out
    assert own.is_file(), "the user's validation split stays"
    assert json.loads((folders["train"] / "meta.json").read_text())["seed"] == 5
    before = files_under(tmp_path)
    assert ensure_training_data(seed=6) == folders["train"]
    assert files_under(tmp_path) == before


def test_shared_faces_keep_their_validation_people(shared: Path, tmp_path: Path) -> None:
    """A few people of one shared zip, converted with the shared table."""
    table = shared / "data/train/faces.csv"
    with open(table, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["zip"] == "faces_112_0.zip"]
    fixed = {split: [row for row in rows if row["split"] == split][:40] for split in ("train", "val")}
    packed = tmp_path / "faces_112_0.zip"
    with zipfile.ZipFile(shared / "data/train/faces_112_0.zip") as whole, zipfile.ZipFile(packed, "w") as part:
        for row in fixed["train"] + fixed["val"]:
            part.writestr(row["file"], whole.read(row["file"]))
    some = write_labels(tmp_path / "faces.csv", [tuple(row.values()) for row in fixed["train"] + fixed["val"]])
    main(Config(Folder(source=(packed,), labels=some, out=tmp_path / "out")))
    for split, chosen in fixed.items():
        made = json.loads((tmp_path / f"out/{split}_processed/meta.json").read_text())
        assert made["images"] == len(chosen)
        named = {row["identity"] for row in chosen if row["identity"]}
        assert len(named) <= made["identities"]


def test_files_without_person_stay_apart_whatever_they_are_called(source: Path, tmp_path: Path) -> None:
    first, second = as_zip(source), tmp_path / "other.zip"
    shutil.copyfile(first, second)
    name = "Bob/Bob_1.png"
    rows = [(name, "", "x", "", place) for place in ("faces.zip", "other.zip")]
    labels = write_labels(tmp_path / "faces.csv", [*rows, ("Cy/Cy_1.png", "", "x", "", "faces.zip")])
    people = [face.person for face in read_labelled([first, second], labels)]
    assert people == ["faces.zip-1/Bob/Bob_1.png", "other.zip-2/Bob/Bob_1.png", "Cy/Cy_1"]
    (tmp_path / "twice").mkdir()
    shutil.copyfile(first, tmp_path / "twice" / "other.zip")
    with pytest.raises(UserError, match="two zips among --source have one name"):
        read_labelled([second, tmp_path / "twice" / "other.zip"], labels)


def test_nobody_comes_into_two_splits_when_some_are_replaced(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, out, seed=0)
    before = files_under(out)
    with pytest.raises(UserError, match=r"\w+ of the new splits is in .*test_processed too, which would stay"):
        convert(source, out, seed=1, test_fraction=0.0, overwrite=True)
    assert files_under(out) == before
    assert not list(out.glob(".*"))


def test_a_replacement_that_fails_half_way_is_taken_back(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    convert(source, out, seed=0)
    before = files_under(out)
    rename = os.rename

    def fail(old: Any, new: Any) -> None:
        if Path(old).suffix == ".part" and "val" in Path(old).name:
            raise OSError("no more")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="no more"):
        convert(source, out, seed=1, overwrite=True)
    assert files_under(out) == before
    assert not list(out.glob(".*"))


@pytest.mark.parametrize(("there", "renamed"), [(SPLITS, ("train",)), (("train",), ("train", "val")), (SPLITS, ())])
def test_a_replacement_killed_amid_its_renames_is_taken_back_in_all_splits(
    source: Path, tmp_path: Path, there: tuple[str, ...], renamed: tuple[str, ...]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    convert(source, out, seed=0, **({} if there == SPLITS else {"val_fraction": 0.0, "test_fraction": 0.0}))
    before = files_under(out)
    convert(source, other, seed=1)
    (out / ".replacing.json").write_text(json.dumps({split: split in there for split in SPLITS}))
    for split in there:
        (out / f"{split}_processed").rename(out / f".{split}_processed.old")
    for split in renamed:  # and the kill before the next
        (other / f"{split}_processed").rename(out / f"{split}_processed")
    with pytest.raises(UserError, match="is not empty"):
        convert(source, out)
    assert files_under(out) == before
    assert not list(out.glob(".*"))


def test_only_splits_are_put_back(source: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    for folder in (out, other):
        folder.mkdir()
    (other / "mine.txt").write_text("mine")
    for content in ({str(other): False}, {"../other": False}, ["train"], 3):
        (out / ".replacing.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"\.replacing\.json is not what a replacement of splits leaves"):
            convert(source, out)
        assert (other / "mine.txt").is_file()


def test_leftovers_that_cannot_be_removed_cost_no_split(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    convert(source, out, seed=0)
    before = files_under(out / "train_processed")
    (out / ".train_processed.old").mkdir()
    (out / ".train_processed.old" / "rest").write_text("of an older run")

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(PermissionError):
        convert(source, out, seed=1, overwrite=True)
    assert files_under(out / "train_processed") == before
