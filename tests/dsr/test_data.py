"""dsr.data: sizes, orders and splits that a seed fixes, and faces read alike from memory and from disk."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.images import write_png
from dsr.data import FaceReader, SizeChoice, evenly_spaced, split_identities, to_float
from facial_rec.faceset import FaceSet
from facial_rec.identities import split_people
from facial_rec.seeds import epoch_order, mixed_seed


def draws(texts: list[str], count: int = 2000, seed: int = 0) -> Counter[int]:
    choice, generator = SizeChoice.parse(texts), torch.Generator().manual_seed(seed)
    return Counter(choice.draw(generator) for _ in range(count))


@pytest.mark.parametrize(
    ("texts", "entries"),
    [
        (["16"], ((16, 16),)),
        (["16", "24", "32"], ((16, 16), (24, 24), (32, 32))),
        (["8-64"], ((8, 64),)),
        (["16", "16", "8-64"], ((16, 16), (16, 16), (8, 64))),
        (["16,24 32-48"], ((16, 16), (24, 24), (32, 48))),
        (["12-12"], ((12, 12),)),
    ],
)
def test_sizes_are_parsed(texts: list[str], entries: tuple[tuple[int, int], ...]) -> None:
    assert SizeChoice.parse(texts).entries == entries


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7", "outside 8 to 64"),
        ("65", "outside 8 to 64"),
        ("32-16", "outside 8 to 64"),
        ("8-200", "outside 8 to 64"),
        ("big", "is not a size"),
        ("8-", "is not a size"),
        ("-8", "is not a size"),
        ("16.5", "is not a size"),
        ("8-16-24", "is not a size"),
        ("²", "is not a size"),
        ("", "is empty"),
    ],
)
def test_other_sizes_are_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"--vlr-size .*{words}"):
        SizeChoice.parse([text])


def test_every_entry_is_drawn_equally_often() -> None:
    counts = draws(["16", "16", "24"])
    assert counts.keys() == {16, 24}
    assert counts[16] / 2000 == pytest.approx(2 / 3, abs=0.05)


def test_ranges_are_drawn_whole_and_log_uniformly() -> None:
    counts = draws(["8-64"], count=20_000)
    assert set(counts) == set(range(8, 65))
    octaves = [sum(counts[size] for size in range(low, 2 * low)) / 20_000 for low in (8, 16, 32)]
    assert octaves == pytest.approx([1 / 3] * 3, abs=0.02)


def test_draws_follow_the_seed() -> None:
    assert draws(["8-64"], seed=1) == draws(["8-64"], seed=1) != draws(["8-64"], seed=2)


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        (["16"], [16]),
        (["32", "16", "16"], [16, 32]),
        (["8-64"], [16, 24, 32]),
        (["20-40", "8"], [8, 24, 32]),
        (["40-64"], [40, 64]),
    ],
)
def test_validation_sizes(texts: list[str], sizes: list[int]) -> None:
    assert SizeChoice.parse(texts).validation_sizes() == sizes


def test_epoch_order_is_a_permutation_of_its_seed_and_epoch() -> None:
    order = epoch_order(50, seed=3, epoch=2)
    assert sorted(order) == list(range(50))
    assert order == epoch_order(50, seed=3, epoch=2)
    assert order not in (epoch_order(50, 3, 3), epoch_order(50, 4, 2), list(range(50)))


def test_mixed_seeds_differ() -> None:
    seeds = {mixed_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_faces_are_served_where_they_are_held(people: Path) -> None:
    elsewhere = torch.device("meta")  # stands for a GPU
    held, on_disk = FaceReader(FaceSet(people)), FaceReader(FaceSet(people), cache_gb=0.0)
    for reader, device in ((held, elsewhere), (on_disk, torch.device("cpu"))):
        reader.hold_on(elsewhere)
        assert reader.read([0, 1]).device == device, "what is read from disk each time stays on CPU"


def test_faces_are_the_same_from_memory_and_from_disk(people: Path) -> None:
    faces = FaceSet(people)
    cached, uncached = FaceReader(faces), FaceReader(faces, cache_gb=0.0)
    assert len(cached) == len(uncached) == 24
    order = [5, 3, 23, 0, 3]
    expected = np.stack([faces.read(faces.faces[index]).transpose(2, 0, 1) for index in order])
    for reader in (cached, uncached):
        pixels = reader.read(order)
        assert pixels.dtype == torch.uint8
        assert np.array_equal(pixels.numpy(), expected)


@pytest.mark.parametrize("cache_gb", [4.0, 0.0])
@pytest.mark.parametrize("batch_size", [1, 5, 24, 100])
def test_batches_keep_the_order(people: Path, cache_gb: float, batch_size: int) -> None:
    reader = FaceReader(FaceSet(people), cache_gb=cache_gb)
    order = epoch_order(24, 0, 0)
    batches = list(reader.batches(order, batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.equal(torch.cat(batches), reader.read(order))


def test_a_reader_of_chosen_faces(people: Path) -> None:
    faces = FaceSet(people)
    reader = FaceReader(faces, faces.faces[20:])
    assert torch.equal(reader.read([0]), FaceReader(faces).read([20]))


def test_to_float_spans_zero_to_one() -> None:
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0.0, 0.2, 1.0])


@pytest.mark.parametrize("kind", ["truncated", "wrong size", "text"])
@pytest.mark.parametrize("cache_gb", [4.0, 0.0])
def test_a_bad_image_is_named_before_training(tmp_path: Path, kind: str, cache_gb: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    for index in range(6):
        write_png(tmp_path / "ann" / f"{index}.png", noise)
    bad = tmp_path / "ann" / "3.png"
    if kind == "truncated":
        bad.write_bytes(bad.read_bytes()[:5000])
    elif kind == "wrong size":
        write_png(bad, noise[:16, :16])
    else:
        bad.write_text("hello")
    with pytest.raises(UserError, match=r"ann/3\.png is"):
        FaceReader(FaceSet(tmp_path), cache_gb=cache_gb)


def test_split_is_by_person_and_seed(people: Path) -> None:
    faces = FaceSet(people)
    kept, held = split_identities(faces, 0.34, seed=0)
    assert {face.subject for face in kept}.isdisjoint(face.subject for face in held)
    assert len({face.subject for face in held}) == 2
    assert sorted(face.name for face in kept + held) == [face.name for face in faces.faces]
    assert split_identities(faces, 0.34, seed=0) == (kept, held)
    later = {face.subject for face in split_people(faces.faces, 0.5, 0)[1]}
    assert {face.subject for face in held} <= later, "fine-tuning validates on nobody that the DSR was trained on"
    assert any(split_identities(faces, 0.34, seed) != (kept, held) for seed in (1, 2, 3))


@pytest.mark.parametrize(("fraction", "held"), [(0.0, 1), (0.01, 1), (1.0, 5)])
def test_neither_side_is_empty(people: Path, fraction: float, held: int) -> None:
    assert len({face.subject for face in split_identities(FaceSet(people), fraction, 0)[1]}) == held


def test_one_identity_cannot_be_split(people: Path, tmp_path: Path) -> None:
    shutil.copytree(people / "p0", tmp_path / "p0")
    with pytest.raises(UserError, match=r"holds 4 images of 1 identity: at least 2 are needed"):
        split_identities(FaceSet(tmp_path), 0.1, 0)


def test_evenly_spaced(people: Path) -> None:
    faces = FaceSet(people).faces
    assert evenly_spaced(faces, 0) == evenly_spaced(faces, 100) == faces
    assert evenly_spaced(faces, 4) == [faces[0], faces[6], faces[12], faces[18]]
