"""Print, one line each, what the commands say to bad input.

    python tools/show_refusals.py

Makes its own broken files in a temporary folder; needs no data and no network. The tests check the same refusals.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError
from common.images import write_png
from dsr import prepare_dataset, train_dsr
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset
from facial_rec import finetune_edgeface, train_edgeface
from facial_rec.bin_sets import write_bin
from facial_rec.edgeface import get_model
from facial_rec.embedder import load_embedder
from facial_rec.record_file import RecordWriter, write_people
from pipeline import evaluate_dataset, evaluate_pairs, report


class Hostile:
    """A pickle of this would make a file when opened without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.target),)


def main() -> None:
    """Show every refusal; exit with an error if something bad was accepted or a hostile pickle ran."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        accepted = [what for what, call in cases(folder).items() if not refused(what, call, folder)]
        ran = (folder / "ran").exists()
    if accepted or ran:
        raise SystemExit(f"accepted: {accepted}; hostile pickle ran: {ran}")


def refused(what: str, call: Callable[[], object], folder: Path) -> bool:
    """Whether `call` raised a UserError; prints its message, with the temporary folder's name left out."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            call()
    except UserError as error:
        print(f"{what}: {str(error).replace(str(folder) + '/', '')}")
        return True
    print(f"{what}: ACCEPTED")
    return False


def cases(folder: Path) -> dict[str, Callable[[], object]]:
    """Bad inputs by name."""
    embedder = folder / "tiny.pt"
    torch.save(get_model("edgeface_tiny").state_dict(), embedder)
    faces = make_people(folder / "faces", people=3)
    state = torch.load(embedder, weights_only=True)

    def train(**changes: object) -> Callable[[], object]:
        settings = {"edgeface": str(embedder), "train_root": faces, "preset": "tiny", "epochs": 1, "out": folder / "o"}
        return lambda: train_dsr.main(train_dsr.Config(**{**settings, **changes}))  # type: ignore[arg-type]

    def with_file(case: str, content: bytes) -> Callable[[], object]:
        root = make_people(folder / case, people=3)
        (root / "person0" / "bad.png").write_bytes(content)
        return train(train_root=root)

    def with_weights(case: str, content: object) -> Callable[[], object]:
        path = folder / f"{case}.pt"
        torch.save(content, path)
        return train(edgeface=str(path))

    whole = (faces / "person0" / "0.png").read_bytes()
    empty = folder / "empty"
    empty.mkdir()
    missing_key = {key: value for key, value in state.items() if key != "model.head.fc.bias"}
    torch.save(Hostile(folder / "ran"), folder / "hostile.pt")
    (folder / "cut.pt").write_bytes(embedder.read_bytes()[:2000])
    wrong_size = make_people(folder / "wrong_size", people=2, size=96)

    def evaluate(**changes: object) -> Callable[[], object]:
        settings = {"images": faces, "edgeface": (str(embedder),), "bootstrap": 0}
        return lambda: evaluate_pairs.main(evaluate_pairs.Config(**{**settings, **changes}))  # type: ignore[arg-type]

    encoded = [path.read_bytes() for path in sorted(faces.rglob("*.png"))[:4]]
    write_bin(folder / "genuine.bin", encoded, [True, True])
    (folder / "cut.bin").write_bytes((folder / "genuine.bin").read_bytes()[:900])
    (folder / "hostile.bin").write_bytes(pickle.dumps(Hostile(folder / "ran")))
    write_bin(folder / "not_images.bin", [b"not an image"] * 4, [True, False])
    (folder / "pairs.txt").write_text("1\nperson0\t1\t9\nperson0\t1\tperson1\t1\n")
    (folder / "record.json").write_text('{"format": "another"}')
    return {
        "hostile pickle in a .bin": evaluate(images=folder / "hostile.bin"),
        "truncated .bin": evaluate(images=folder / "cut.bin"),
        ".bin of no images": evaluate(images=folder / "not_images.bin"),
        ".bin with one class": evaluate(images=folder / "genuine.bin"),
        "pairs file naming a missing image": evaluate(pairs=folder / "pairs.txt"),
        "pairs file missing": evaluate(pairs=folder / "nowhere.txt"),
        "pairs of one person": evaluate(images=make_people(folder / "alone", people=1)),
        "unknown record": lambda: report.main(report.Config(json=(folder / "record.json",), out=folder / "r.html")),
        "missing folder": train(train_root=folder / "nowhere"),
        "empty folder": train(train_root=empty),
        "empty file": with_file("empty_file", b""),
        "truncated image": with_file("truncated", whole[: len(whole) // 2]),
        "text named .png": with_file("text", b"<html>not a face</html>"),
        "wrong size": train(train_root=wrong_size),
        "one identity": train(train_root=make_people(folder / "one", people=1)),
        "one identity, to be split": lambda: prepare_dataset.main(
            prepare_dataset.Config(prepare_dataset.Folder(source=(folder / "one",), out=folder / "set"))
        ),
        "missing weights": train(edgeface="nowhere.pt"),
        "truncated weights": train(edgeface=str(folder / "cut.pt")),
        "missing key": with_weights("missing_key", missing_key),
        "unexpected key": with_weights("unexpected_key", {**state, "model.extra": torch.zeros(1)}),
        "NaN weights": with_weights("nan", {**state, "model.head.fc.bias": torch.full((512,), float("nan"))}),
        "int8 TorchScript": train(edgeface=str(int8_torchscript(folder / "int8.pt"))),
        "pickle with code in it": train(edgeface=str(folder / "hostile.pt")),
        "not a DSR": lambda: evaluate_dataset.main(
            evaluate_dataset.Config(dataset_root=faces, dsr=str(embedder), edgeface=str(embedder))
        ),
        "size out of range": train(vlr_size=("7",)),
        "LPIPS without its backbone": train(lpips_weight=1.0),
        "--resume of nothing": train(resume=True, out=folder / "no_run"),
        "--device gpu": train(device="gpu"),
        **training_cases(folder, faces, encoded),
    }


def training_cases(folder: Path, faces: Path, encoded: list[bytes]) -> dict[str, Callable[[], object]]:
    """Bad inputs of training EdgeFace from scratch, and of fine-tuning it."""
    tiny = {"variant": "edgeface_tiny", "epochs": 1, "batch_size": 2, "out": folder / "t"}

    def train(root: Path, **changes: object) -> Callable[[], object]:
        settings = {**tiny, "train_root": root, **changes}
        return lambda: train_edgeface.main(train_edgeface.Config(**settings))  # type: ignore[arg-type]

    write_people(folder / "whole.rec", [encoded[:2], encoded[2:]])
    for end in ("rec", "idx"):
        content = (folder / f"whole.{end}").read_bytes()
        (folder / f"cut.{end}").write_bytes(content[: len(content) // 2] if end == "rec" else content)
    with RecordWriter(folder / "gaps.rec") as writer:
        for key, (label, image) in enumerate(zip((0, 0, 2, 2), encoded, strict=True)):
            writer.add(key, float(label), image)
    two = folder / "two"
    for person in ("a", "b"):
        (two / person).mkdir(parents=True)
        (two / person / "0.png").write_bytes(encoded[0])
    dsr = folder / "dsr.pt"
    save_dsr(dsr, Dsr(preset("tiny")), {})
    tune = finetune_edgeface.Config(
        edgeface=str(folder / "tiny.pt"), dsr=str(dsr), epochs=1, batch_size=2, out=folder / "f"
    )
    alone, others = make_people(folder / "single", people=1), make_people(folder / "others", people=2)
    for person in list(others.iterdir()):
        person.rename(person.with_name(f"other_{person.name}"))
    return {
        "truncated .rec": train(folder / "cut.rec", val_root=faces),
        ".rec with gaps in its labels": train(folder / "gaps.rec", val_root=faces),
        "one identity to train on": train(alone, val_root=faces),
        "two images in all": train(two),
        "batches without a positive": train(faces, val_root=others, loss="triplet", photos_per_person=2),
        "fine-tuning on one identity": lambda: finetune_edgeface.main(replace(tune, train_root=alone, val_root=others)),
        "fine-tuning on two images": lambda: finetune_edgeface.main(replace(tune, train_root=two)),
        "margin of two numbers": train(faces, margin=(0.4, 0.5)),
    }


def make_people(root: Path, people: int, size: int = 112) -> Path:
    """A folder per identity, three smooth random pictures each; nobody's face."""
    random = np.random.default_rng(0)
    for person in range(people):
        (root / f"person{person}").mkdir(parents=True)
        for index in range(3):
            tile = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            write_png(
                root / f"person{person}" / f"{index}.png", np.kron(tile, np.ones((size // 8, size // 8, 1), "u1"))
            )
    return root


def int8_torchscript(path: Path) -> Path:
    """A dynamically quantised EdgeFace as TorchScript: it embeds, and gives its input no gradient."""
    quantised = torch.ao.quantization.quantize_dynamic(get_model("edgeface_tiny").eval(), {torch.nn.Linear})
    torch.jit.save(torch.jit.script(quantised), str(path))
    load_embedder(path)
    return path


if __name__ == "__main__":
    main()
