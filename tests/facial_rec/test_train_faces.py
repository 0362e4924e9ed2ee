"""facial_rec.labelled_faces, facial_rec.train_faces and facial_rec.pack_records: sets, refusals, splits, batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from common import cli
from common.errors import UserError
from common.images import RgbImage, write_png
from facial_rec import pack_records, record_file
from facial_rec.labelled_faces import FolderFaces, RecordFaces, load_faces
from facial_rec.record_file import RecordFile, RecordWriter, write_people
from facial_rec.train_faces import BatchPlan, TrainingSet, held_out, order_of, read_batches, whole_set


def png(image: RgbImage) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


@pytest.fixture
def packed(tmp_path: Path, face: Callable[..., RgbImage]) -> Path:
    """Four people with 1, 2, 3 and 4 photos in InsightFace's layout."""
    path = tmp_path / "train.rec"
    write_people(path, [[png(face(person, photo)) for photo in range(person + 1)] for person in range(4)])
    return path


def written(path: Path, labels: dict[int, object], image: bytes) -> Path:
    """A `.rec` with one image under these labels, by key."""
    with RecordWriter(path) as writer:
        for key, label in labels.items():
            writer.add(key, label, image)  # type: ignore[arg-type]
    return path


def test_a_folder_numbers_people_by_name(people: Path, face: Callable[..., RgbImage]) -> None:
    write_png(people / "unlabelled" / "x.png", face(9, 9))
    faces = load_faces(people, ["unlabelled"])
    assert faces.labels.tolist() == [person for person in range(6) for _ in range(3)]
    assert [faces.name(index) for index in (0, 17)] == ["P0/P0_0001.png", "P5/P5_0003.png"]
    np.testing.assert_array_equal(faces.read("P5/P5_0003.png"), face(5, 3))


def test_a_rec_gives_the_same(packed: Path, face: Callable[..., RgbImage]) -> None:
    for faces in (load_faces(packed), load_faces(packed.parent)):
        assert isinstance(faces, RecordFaces)
        assert faces.labels.tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
        assert faces.name(9) == "3/10"
        np.testing.assert_array_equal(faces.read("3/10"), face(3, 3))


def test_labels_without_peoples_records(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    """Plain labels, listed ones, and an index without record 0."""
    path = written(tmp_path / "x.rec", {5: 1.0, 3: (0.0, 1.0), 8: 1.0}, png(face(0, 0)))
    faces = RecordFaces(path)
    assert faces.labels.tolist() == [0, 1, 1]
    assert [faces.name(index) for index in range(3)] == ["0/3", "1/5", "1/8"]


def test_peoples_records_that_leave_images_out_are_not_relied_on(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    image = png(face(0, 0))
    with RecordWriter(tmp_path / "x.rec") as writer:
        for key, label in ((1, 4.0), (2, 4.0), (3, 6.0)):
            writer.add(key, label, image)
        writer.add(4, (1.0, 3.0))
        writer.add(0, (4.0, 5.0))
    assert RecordFaces(tmp_path / "x.rec").labels.tolist() == [4, 4, 6]


def test_an_image_whose_label_contradicts_its_persons_record(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    with RecordWriter(tmp_path / "x.rec") as writer:
        for key, label in ((1, 0.0), (2, 1.0), (3, 1.0)):
            writer.add(key, label, png(face(0, 0)))
        writer.add(4, (1.0, 3.0))
        writer.add(5, (3.0, 4.0))
        writer.add(0, (4.0, 6.0))
    faces = RecordFaces(tmp_path / "x.rec")
    assert faces.labels.tolist() == [0, 0, 1]
    with pytest.raises(UserError, match=r"x\.rec, record 2 is labelled 1, but its person's record says 0"):
        faces.read(faces.name(1))


@pytest.mark.parametrize(("label", "found"), [(-1.0, "-1"), (0.5, "0.5"), (float("inf"), "inf"), (1e15, "1e\\+15")])
def test_labels_that_are_no_numbers_of_people(tmp_path: Path, label: float, found: str) -> None:
    path = written(tmp_path / "x.rec", {1: 0.0, 2: label}, b"image")
    with pytest.raises(UserError, match=rf"x\.rec, record 2 has the label {found}: expected a whole number"):
        RecordFaces(path)


@pytest.mark.parametrize("header", [(float("inf"), float("inf")), (float("nan"), 9.0), (2.0**25, 2.0**25 + 4)])
def test_a_header_of_no_use_is_not_relied_on(
    tmp_path: Path, header: tuple[float, float], face: Callable[..., RgbImage]
) -> None:
    with RecordWriter(tmp_path / "x.rec") as writer:
        for key in (1, 2):
            writer.add(key, key - 1.0, png(face(0, 0)))
        writer.add(0, header)
    assert RecordFaces(tmp_path / "x.rec").labels.tolist() == [0, 1]


def test_keys_too_large_for_a_float_bring_no_ranges(
    tmp_path: Path, face: Callable[..., RgbImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_file, "EXACT", 5)
    image = png(face(0, 0))
    assert write_people(tmp_path / "x.rec", [[image, image], [image, image]]) == (4, 2)
    assert 0 not in RecordFile(tmp_path / "x.rec")
    assert RecordFaces(tmp_path / "x.rec").labels.tolist() == [0, 0, 1, 1]


def test_a_rec_without_image_and_one_with_a_bad_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"empty\.rec holds no image"):
        RecordFaces(written(tmp_path / "empty.rec", {1: 0.0}, b""))
    faces = RecordFaces(written(tmp_path / "bad.rec", {1: 0.0, 2: 0.0}, b"no image"))
    with pytest.raises(UserError, match=r"bad\.rec, record 2 is not a PNG, JPEG"):
        faces.read(faces.name(1))


def test_gaps_in_the_numbers_are_refused_with_the_way_out(
    tmp_path: Path, face: Callable[..., RgbImage], capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "x.rec", {1: 0.0, 2: 0.0, 3: 2.0, 4: 7.0}, png(face(0, 0)))
    with pytest.raises(UserError, match=r"up to 7, but 5 of the numbers have no face \(1, 3, 4, 5, 6\).*pack_records"):
        whole_set(load_faces(path))
    cli.run(pack_records.main, pack_records.Config, ["--faces", str(path), "--out", str(tmp_path / "y.rec")])
    assert "4 images of 3 people" in capsys.readouterr().out
    assert whole_set(load_faces(tmp_path / "y.rec")).labels.tolist() == [0, 0, 1, 2]


def test_a_huge_number_takes_no_memory(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    path = written(tmp_path / "x.rec", {1: 0.0, 2: 2.0**30}, png(face(0, 0)))
    with pytest.raises(UserError, match=r"up to 1073741824, but 1,073,741,823 of the numbers have no face \(1, 2, 3, "):
        whole_set(load_faces(path))


def test_one_identity_is_refused(people: Path) -> None:
    with pytest.raises(UserError, match=r"P3 holds 3 images of 1 people to train on: at least 2 are needed"):
        whole_set(FolderFaces(people / "P3"))


def test_two_images_in_all_are_refused(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    for person in range(2):
        write_png(tmp_path / "two" / f"p{person}_1.png", face(person, 1))
    with pytest.raises(UserError, match="holds 2 images of 2 people, one each: photos of one person that belong toget"):
        whole_set(FolderFaces(tmp_path / "two"))


def test_everybody_unlabelled_is_refused(people: Path) -> None:
    with pytest.raises(UserError, match="holds 0 images of 0 people to train on"):
        whole_set(FolderFaces(people, [f"P{person}" for person in range(6)]))


@pytest.mark.parametrize("kind", ["folder", "rec"])
def test_held_out_people_are_others(kind: str, people: Path, packed: Path) -> None:
    faces = load_faces(people if kind == "folder" else packed)
    kept, source, pairs = held_out(faces, 0.1, seed=0)
    trained = {faces.name(int(index)).split("/")[0] for index in kept.indices}
    validated = {name.split("/")[0] for name in source.names}
    assert len(validated) == 2
    assert not trained & validated
    assert kept.people == len(trained) == kept.labels.max() + 1
    assert len(kept) + len(source.names) == len(faces.labels)
    assert {pair.first_subject for pair in pairs.pairs} <= validated
    assert pairs.genuine.any()
    assert not pairs.genuine.all()
    assert source.read(source.names[0]).shape == (112, 112, 3)
    again = held_out(faces, 0.1, seed=0)
    assert again[1].names == source.names
    assert len(source.fingerprint(source.names[0])) == 64


def test_too_few_people_to_hold_out(people: Path) -> None:
    names = [f"P{person}" for person in range(2, 6)]
    with pytest.raises(UserError, match=r"has 2 people with two photos: 2 would be held out.*Give --val-root"):
        held_out(FolderFaces(people, names), 0.1, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_read_in_order(people: Path, workers: int, face: Callable[..., RgbImage]) -> None:
    faces = whole_set(load_faces(people))
    batches = list(read_batches(faces, [np.array([0, 5]), np.array([17])], workers))
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [5]]
    expected = torch.from_numpy(face(1, 3)).permute(2, 0, 1)
    assert torch.equal(batches[0][0][1], expected)
    assert torch.equal(faces[5][0], expected)
    assert batches[0][0].dtype == torch.uint8


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_named_from_a_worker_too(people: Path, workers: int) -> None:
    (people / "P0" / "P0_0002.png").write_bytes(b"broken")
    faces = whole_set(load_faces(people))
    with pytest.raises(UserError, match=r"^\S+P0_0002\.png is not a PNG, JPEG"):
        list(read_batches(faces, [np.array([0, 1])], workers))


def test_a_batch_is_the_same_for_any_number_of_processes(people: Path) -> None:
    faces = whole_set(load_faces(people))
    plan = BatchPlan(len(faces), 8)
    order = order_of(faces, seed=1, epoch=0)
    assert sorted(order.tolist()) == list(range(18))
    assert plan.steps == 2
    for step in range(plan.steps):
        whole = plan.share(order, step, 0, 1)
        shares = [plan.share(order, step, rank, 4) for rank in range(4)]
        assert np.concatenate(shares).tolist() == whole.tolist() == order[8 * step : 8 * step + 8].tolist()
    assert order_of(faces, 1, 0).tolist() == order.tolist()
    assert order_of(faces, 1, 1).tolist() != order.tolist() != order_of(faces, 2, 0).tolist()
    small = BatchPlan(5, 8)
    assert (small.steps, [len(small.share(np.arange(5), 0, rank, 2)) for rank in range(2)]) == (1, [2, 2])


def test_photos_of_a_person_can_come_together(people: Path) -> None:
    faces = whole_set(load_faces(people))
    order = order_of(faces, 0, 0, photos_together=3)
    assert sorted(order.tolist()) == list(range(18))
    groups = faces.labels[order].reshape(-1, 3)
    assert (groups == groups[:, :1]).all()


def test_the_digest_tells_sets_apart(people: Path) -> None:
    faces = load_faces(people)
    whole = whole_set(faces)
    assert whole.digest() == whole_set(load_faces(people)).digest()
    fewer = TrainingSet(faces, whole.indices[:-1], whole.labels[:-1], 6)
    swapped = TrainingSet(faces, whole.indices, whole.labels[::-1].copy(), 6)
    assert len({whole.digest(), fewer.digest(), swapped.digest()}) == 3


def test_packing_keeps_the_files(people: Path, tmp_path: Path) -> None:
    path = pack_records.main(pack_records.Config(people, tmp_path / "made.rec"))
    faces = load_faces(path)
    assert faces.labels.tolist() == load_faces(people).labels.tolist()
    assert faces.read_bytes(faces.name(4)) == (people / "P1" / "P1_0002.png").read_bytes()
    with pytest.raises(UserError, match=r"made\.rec exists already"):
        pack_records.main(pack_records.Config(people, path))
    with pytest.raises(UserError, match="has nobody with 4 photos: lower --least-photos"):
        pack_records.main(pack_records.Config(people, tmp_path / "other.rec", least_photos=4))
    with pytest.raises(UserError, match="must be at least 1"):
        pack_records.main(pack_records.Config(people, tmp_path / "other.rec", least_photos=0))
    (people / "P1" / "P1_0002.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"P1_0002\.png is not a PNG"):
        pack_records.main(pack_records.Config(people, tmp_path / "other.rec"))
    assert not (tmp_path / "other.rec").exists()
