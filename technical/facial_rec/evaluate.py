"""What an EdgeFace costs and how well it recognises: parameters, operations, size, latency, accuracy on `.bin` sets.

    python -m facial_rec.evaluate edgeface_xxs edgeface_s_gamma_05 runs/edgeface/edgeface.pt --sets lfw.bin cfp_fp.bin

A name alone (also a size such as edgeface_xs, with --gamma any rank ratio) is measured with random weights, unless its
file lies in checkpoints/. Accuracy needs weights: those of published names are downloaded from their authors. MACs are
multiply-accumulates of convolutions, linear layers and attention (`facial_rec.operations`); FLOPs, as the authors give
them, are two for each.
"""

from __future__ import annotations

import io
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from common import cli
from common.device import select_device
from common.errors import UserError
from common.files import sha256_of, write_json
from common.paths import find_weights
from facial_rec.bootstrap import number_subjects
from facial_rec.edgeface import EdgeFace, build, count_parameters, variant_named
from facial_rec.embedder import load_embedder
from facial_rec.metrics import cosine_pairs
from facial_rec.operations import AUTHORS_MFLOPS, count_macs
from facial_rec.pair_bootstrap import PairResampler
from facial_rec.tables import FOOTNOTE, format_table, has_few, judged
from facial_rec.timing import time_in_turns
from facial_rec.train_validation import embed_pixels, read_pixels
from facial_rec.trials import load_trials
from facial_rec.verification import Comparisons, entry
from facial_rec.weights import find_edgeface, load_strictly, read_edgeface_state, recognise

FIGURES = {"accuracy": "accuracy, %", "tar@fmr=1e-3": "TAR at FMR 1e-3, %"}
THRESHOLD = 0.35


@dataclass(frozen=True)
class Config:
    """What to measure."""

    edgeface: tyro.conf.Positional[tuple[str, ...]]
    """Variants (edgeface_xxs, edgeface_s_gamma_05), sizes (edgeface_xs) and weights files."""
    gamma: float | None = None
    """Rank ratio of every linear layer, for names; none takes the variant's."""
    sets: tuple[Path, ...] = ()
    """Verification sets: .bin files (LFW, CFP-FP, AgeDB-30, CALFW, CPLFW), folders or zips of faces."""
    rounds: int = 30
    """How often each network is timed; 0 leaves latency out."""
    threads: int = 1
    """CPU threads."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals of accuracy; 0 leaves them out."""
    seed: int = 0
    """Seed of the resampling, and of pairs that are drawn from folders."""
    json: Path | None = None
    """File to write the figures to, as fractions; anew after each set."""


@dataclass(frozen=True)
class Subject:
    """One network to be measured."""

    name: str
    variant: str
    network: EdgeFace
    path: Path | None
    """Its weights file; None for random weights."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the tables, write `cfg.json` if given, and return what it holds."""
    for name, least in (("rounds", 0), ("bootstrap", 0), ("seed", 0), ("threads", 1)):
        if getattr(cfg, name) < least:
            raise UserError(f"--{name} must be at least {least}, found {getattr(cfg, name)}.")
    if not cfg.edgeface or len(set(cfg.edgeface)) < len(cfg.edgeface):
        raise UserError("expected one or more variants or weights files, each once.")
    device = select_device(cfg.device)
    torch.set_num_threads(cfg.threads)
    subjects = [load_subject(name, cfg.gamma) for name in cfg.edgeface]
    models = {subject.name: costs(subject) for subject in subjects}
    if cfg.rounds:
        for name, latency in latencies(subjects, cfg.rounds, device).items():
            models[name]["milliseconds"] = latency
    result: dict[str, Any] = {
        "models": models,
        "threads": cfg.threads,
        "device": cfg.device,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print_costs(result, cfg)
    if cfg.sets:
        result["verification"] = []
        for measured in accuracies(subjects, cfg, device):
            result["verification"] += measured
            if cfg.json is not None:
                write_json(cfg.json, result)  # a kill loses the set it comes in, and no other
        print_accuracies(result["verification"], cfg)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


def load_subject(name: str, gamma: float | None = None) -> Subject:
    """A network by name or file. Raises UserError for an unknown one, and for `gamma` beside a file."""
    is_file = Path(name).suffix in (".pt", ".pth") or Path(name).is_file()
    if is_file and gamma is not None:
        raise UserError(f"--gamma {gamma:g} is for names: the ranks of {name} are in the file.")
    path = find_edgeface(name) if is_file else find_weights(f"{name}.pt")
    if path is None or gamma is not None:
        network = build(variant_named(name, gamma)).eval()
        label = name if gamma is None else f"{name}, gamma {gamma:g}"
        return Subject(label, name, network, None)
    state = read_edgeface_state(path)
    variant, network = recognise(state, path)
    load_strictly(network, state, path)
    return Subject(name, variant, network.eval(), path)


def costs(subject: Subject) -> dict[str, Any]:
    """Parameters, multiply-accumulates and bytes on disk."""
    macs = count_macs(subject.network)
    total = sum(macs.values())
    authors = AUTHORS_MFLOPS.get(subject.name if subject.path is None else subject.variant)
    return {
        "variant": subject.variant,
        "sha256": sha256_of(subject.path) if subject.path else None,
        "parameters": count_parameters(subject.network),
        "macs": total,
        "macs_by_kind": macs,
        "flops": 2 * total,
        "authors_flops": None if authors is None else round(authors * 1e6),
        "bytes": subject.path.stat().st_size if subject.path else state_bytes(subject),
    }


def state_bytes(subject: Subject) -> int:
    """Bytes of the state dict on disk: float32, or dynamic int8 for the names that are published so."""
    network: nn.Module = subject.network
    if subject.name.endswith("_q"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated, and still how the authors publish
            network = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    return len(file.getvalue())


def latencies(subjects: list[Subject], rounds: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Median milliseconds for one face, eagerly and as TorchScript, by network; all take turns."""
    face = torch.zeros(1, 3, 112, 112, device=device)
    calls: dict[str, Callable[[], object]] = {}
    for subject in subjects:
        network = subject.network.to(device)
        script = _traced(network, face)
        calls[f"eager {subject.name}"] = lambda network=network: network(face)  # type: ignore[misc]
        calls[f"torchscript {subject.name}"] = lambda script=script: script(face)  # type: ignore[misc]
    medians = time_in_turns(calls, rounds, device)
    return {
        subject.name: {kind: medians[f"{kind} {subject.name}"] for kind in ("eager", "torchscript")}
        for subject in subjects
    }


def _traced(network: nn.Module, face: Tensor) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; it is how the recogniser is shipped
        return torch.jit.freeze(torch.jit.trace(network, face))


def accuracies(subjects: list[Subject], cfg: Config, device: torch.device) -> Iterator[list[dict[str, Any]]]:
    """Set by set, every verification figure of every network, with intervals.

    Raises UserError for names with `cfg.gamma`, which have no weights, and for sets that cannot be read.
    """
    if cfg.gamma is not None:
        raise UserError("--sets needs weights, and a name with --gamma has none: give the file that was trained so.")
    embedders = {subject.name: load_embedder(subject.path or subject.name, device) for subject in subjects}
    called = [path.name for path in cfg.sets]
    for path in cfg.sets:
        source, pairs = load_trials(path, seed=cfg.seed)
        names = pairs.images
        rows = {name: row for row, name in enumerate(names)}
        first, second = (np.array([rows[getattr(pair, side)] for pair in pairs.pairs]) for side in ("first", "second"))
        owners = {pair.first: pair.first_subject for pair in pairs.pairs}
        owners |= {pair.second: pair.second_subject for pair in pairs.pairs}
        (people,), _ = number_subjects([owners[name] for name in names])
        resampler = PairResampler(people[first], people[second], cfg.bootstrap, cfg.seed)
        pixels = read_pixels(source, names)
        label = path.name if called.count(path.name) == 1 else str(path)
        found = []
        for name, embedder in embedders.items():
            vectors = embed_pixels(embedder.network, pixels, device, show=True)
            scores = cosine_pairs(vectors[first], vectors[second])
            comparisons = Comparisons(scores, pairs.genuine, pairs.fold_numbers)
            counts = {"genuine": int(pairs.genuine.sum()), "impostor": int((~pairs.genuine).sum())}
            measured = entry(comparisons, THRESHOLD, comparisons.replicate(resampler, THRESHOLD))
            found.append({"recogniser": name, "set": label, "pairs": counts, **measured})
        yield found


def print_costs(result: Mapping[str, Any], cfg: Config) -> None:
    """A row a network."""
    header = ["", "parameters", "MMACs", "MFLOPs", "authors", "MB on disk"]
    header += ["ms eager", "ms TorchScript"] if cfg.rounds else []
    rows = []
    for name, model in result["models"].items():
        authors = model["authors_flops"]
        row = [name, f"{model['parameters']:,}", f"{model['macs'] / 1e6:.2f}", f"{model['flops'] / 1e6:.2f}"]
        row += ["-" if authors is None else f"{authors / 1e6:.2f}", f"{model['bytes'] / 1e6:.2f}"]
        row += [f"{model['milliseconds'][kind]:.2f}" for kind in ("eager", "torchscript")] if cfg.rounds else []
        rows.append(row)
    print("\n" + format_table(header, rows))
    print("\nMACs: multiply-accumulates of convolutions, linear layers and attention for a face; FLOPs: two for each.")
    if cfg.rounds:
        print(
            f"Latency: median of {cfg.rounds} turns, one face, {cfg.device}, {result['threads']} thread(s) of "
            f"{result['machine']}, torch {result['torch']}."
        )


def print_accuracies(found: list[dict[str, Any]], cfg: Config) -> None:
    """A table a figure: networks down, sets across."""
    sets = list(dict.fromkeys(one["set"] for one in found))
    networks = list(dict.fromkeys(one["recogniser"] for one in found))
    cells = {(one["recogniser"], one["set"]): one for one in found}
    for name, label in FIGURES.items():
        rows = [[network, *(judged(cells[network, one], name) for one in sets)] for network in networks]
        print("\n" + format_table([label, *sets], rows))
    if cfg.bootstrap:
        print(f"\nIn brackets: 95 % intervals from {cfg.bootstrap:,} resamples of people, as far as a set tells them.")
    if has_few(found):
        print(FOOTNOTE)


if __name__ == "__main__":
    cli.run(main, Config)
