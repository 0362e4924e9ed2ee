"""`python -m pipeline.train_chain` end to end: gradients, files, seeds, kill -9 and resume, processes, refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common import cli
from common.errors import UserError
from common.images import write_png
from common.runlog import read_records
from dsr import mirror
from dsr.checkpoint import load_dsr, save_dsr
from dsr.data import SizeChoice
from dsr.degradation import canonical_reduce
from dsr.model import Dsr, preset
from dsr.training import SCENE, reduction_named
from facial_rec import finetune_result
from facial_rec.distributed import Place
from facial_rec.edgeface import fix_positions, get_model, normalise
from facial_rec.embedder import load_embedder
from facial_rec.finetune_losses import FinetuneLoss, LossWeights
from facial_rec.finetune_state import Batch
from facial_rec.finetune_student import load_teacher
from facial_rec.margin import CosFaceHead
from facial_rec.muon import MATRIX_SCALE, Muon, is_matrix
from pipeline import chain_training, train_chain
from pipeline.chain_graph import GraphedStep
from pipeline.chain_run import ChainRun
from pipeline.chain_training import (
    ChainTeaching,
    ChainWeights,
    Prepared,
    as_evaluated,
    chain_loss,
    chain_step,
    fresh_chain,
    prepare,
    prepared_loss,
)
from pipeline.train_chain import Config, main

CPU = torch.device("cpu")


def made_face(person: int, photo: int) -> np.ndarray:
    """A coarse pattern that is the person's, with fine noise that is the photo's."""
    pattern = np.random.default_rng(person).integers(30, 220, (14, 14, 3)).repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng(1000 * person + photo).normal(0, 15, pattern.shape)
    return (pattern + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny recognisers, dsr.pt, training and validation people. Nobody writes into it."""
    root = tmp_path_factory.mktemp("made")
    for seed, name in enumerate(("tiny.pt", "teacher.pt")):
        torch.manual_seed(seed)
        network = get_model("edgeface_tiny").requires_grad_(False)
        for key, parameter in network.named_parameters():
            if key.endswith("gamma"):
                parameter.uniform_(0.1, 0.5)
        torch.save(network.state_dict(), root / name)
    save_dsr(root / "dsr.pt", Dsr(preset("tiny")), {})
    for folder, people, photos in (("train", range(4), 4), ("val", range(10, 13), 3)):
        for person in people:
            for photo in range(photos):
                write_png(root / folder / f"p{person}" / f"{photo}.png", made_face(person, photo))
    return root


def config_in(made: Path, out: Path) -> Config:
    """Two epochs of two steps, with every loss."""
    return Config(
        epochs=2,
        edgeface=str(made / "tiny.pt"),
        teachers=(str(made / "teacher.pt"),),
        dsr=str(made / "dsr.pt"),
        train_root=made / "train",
        val_root=made / "val",
        vlr_size=("16",),
        batch_size=8,
        out=out,
        warmup_steps=1,
        hr_drop=1.0,
        save_every=1,
        alphas=(0.5, 1.0),
    )


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    return config_in(made, tmp_path / "run")


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The run of `config`, never interrupted. Nobody writes into it."""
    config = config_in(made, tmp_path_factory.mktemp("finished") / "run")
    main(config)
    return config


def records(config: Config) -> list[dict[str, Any]]:
    """What was logged, without the clock's part."""
    logged = read_records(config.out / "metrics.jsonl")
    return [{key: value for key, value in record.items() if key != "seconds"} for record in logged]


def assert_same_run(one: Config, other: Config) -> None:
    assert records(one) == records(other)
    for name in ("edgeface_finetuned.pth", "dsr.pt"):
        ours, theirs = (torch.load(config.out / name, weights_only=True) for config in (one, other))
        ours, theirs = ours.get("state_dict", ours), theirs.get("state_dict", theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def stop_at(step: int, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `config` until this step is to be taken."""
    whole = train_chain.chain_step

    def step_or_stop(state: Any, *args: Any) -> dict[str, float]:
        if state.step == step:
            raise KeyboardInterrupt
        return whole(state, *args)

    with monkeypatch.context() as patch:
        patch.setattr(train_chain, "chain_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            main(config)


def parts_of_a_step(made: Path, weights: ChainWeights) -> tuple[Any, ChainTeaching, Batch]:
    teacher, original = load_teacher(str(made / "tiny.pt"), CPU)
    loss = FinetuneLoss(LossWeights(sr=1.0, hr=0.0))
    state = fresh_chain(load_dsr(made / "dsr.pt")[0], original, loss, 1e-3, 1e-3, 0.0, 0.9, CPU)
    reduction = reduction_named("canonical")
    teaching = ChainTeaching(
        teacher, lambda first, images: first, SizeChoice.parse(["16"]), reduction, SCENE, weights, hr_share=0.0
    )
    pixels = torch.stack([torch.from_numpy(made_face(person, 0)).permute(2, 0, 1) for person in range(4)])
    nobody = torch.full((4,), -1)
    return state, teaching, Batch(pixels, nobody, nobody, torch.Generator().manual_seed(0))


def test_the_students_loss_alone_moves_the_dsr(made: Path) -> None:
    state, teaching, batch = parts_of_a_step(made, ChainWeights(pixel=0.0, identity=0.0, chain=1.0))
    total, parts = chain_loss(state, teaching, batch, CPU)
    assert parts.keys() == {"chain", "sr"}
    assert float(total.detach()) == pytest.approx(float(parts["sr"]))
    total.backward()
    assert max(float(p.grad.abs().max()) for p in state.dsr.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in teaching.original.parameters())


def test_the_parts_add_up_with_their_weights(made: Path) -> None:
    state, teaching, batch = parts_of_a_step(made, ChainWeights(pixel=3.0, identity=0.5, chain=2.0))
    total, parts = chain_loss(state, teaching, batch, CPU)
    expected = 3.0 * parts["pixel"] + 0.5 * parts["identity"] + 2.0 * parts["chain"]
    assert float(total.detach()) == pytest.approx(float(expected), rel=1e-6)
    # The student is the original still, and sees what the original sees.
    assert float(parts["identity"]) == pytest.approx(float(parts["sr"]), rel=1e-4)


def test_the_dsr_is_drawn_to_its_mirror_image(made: Path) -> None:
    state, teaching, batch = parts_of_a_step(made, ChainWeights(0.0, 0.0, 1.0, mirror=3.0, texture=0.5))
    nn.init.normal_(state.dsr.last.weight, std=0.02)  # untrained, it is bicubic, and as good mirrored
    total, parts = chain_loss(state, teaching, batch, CPU)
    expected = parts["chain"] + 3.0 * parts["mirror"] + 0.5 * (parts["texture"] + parts["seam"])
    assert float(total.detach()) == pytest.approx(float(expected), rel=1e-6)
    batch.generator.manual_seed(0)
    ready = prepare(teaching, batch, CPU)
    one, other = (state.dsr.restore(x, ready.log_sizes) for x in (ready.enlarged, ready.enlarged.flip(3)))
    differences = (one - other.flip(3)).detach().double().numpy()
    assert float(parts["mirror"]) == pytest.approx(float(np.sqrt(differences**2 + 1e-6).mean()), rel=1e-5)
    for _ in range(10):
        batch.generator.manual_seed(0)
        last = chain_step(state, teaching, batch, 1e-3, Place(CPU))["mirror"]
    assert last < float(parts["mirror"])


def test_a_batch_may_hold_several_sizes(made: Path) -> None:
    state, teaching, batch = parts_of_a_step(made, ChainWeights(1.0, 1.0, 1.0))
    several = replace(teaching, sizes=SizeChoice.parse(["8", "16", "32", "64"]), sizes_per_batch=4)
    ready = prepare(several, batch, CPU)
    sizes = [32 * 2 ** float(value) for value in ready.log_sizes.flatten()]
    assert set(sizes) <= {8.0, 16.0, 32.0, 64.0}
    assert len(set(sizes)) > 1
    state.dsr.eval()
    for index, size in enumerate(sizes):  # each is restored as it would be alone
        low = canonical_reduce(ready.high[index : index + 1], int(size))
        alone = state.dsr(low)
        together = state.dsr.restore(ready.enlarged, ready.log_sizes)[index : index + 1].clamp(0.0, 1.0)
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_identity_loss_counts_by_size(made: Path) -> None:
    for power in (0.0, 2.0):
        state, teaching, batch = parts_of_a_step(made, ChainWeights(0.0, 1.0, 1.0, power))
        for size, expected in (("16", 1.0), ("32", 2.0**power), ("64", 2.0**power), ("8", 0.5**power)):
            batch.generator.manual_seed(0)
            total, parts = chain_loss(state, replace(teaching, sizes=SizeChoice.parse([size])), batch, CPU)
            weighed = float(total) - float(parts["chain"])
            assert weighed == pytest.approx(expected * float(parts["identity"]), rel=1e-4)


def test_every_view_of_a_face_is_compared_with_what_is_said_of_it(made: Path) -> None:
    state, teaching, batch = parts_of_a_step(made, ChainWeights(3.0, 0.5, 1.0))
    nn.init.normal_(state.dsr.last.weight, std=0.02)
    state.loss = FinetuneLoss(LossWeights(sr=1.0, hr=1.0, agreement=0.5))
    with torch.no_grad():  # the student is no longer the original, or both terms of it would be the same
        for parameter in state.student.parameters():
            parameter.mul_(1.05)
    several = replace(teaching, sizes=SizeChoice.parse(["8", "16", "32"]), views=3, sizes_per_batch=2, hr_share=0.5)
    total, parts = chain_loss(state, several, batch, CPU)
    batch.generator.manual_seed(0)
    ready = prepare(several, batch, CPU)
    assert len(ready.enlarged) == len(ready.log_sizes) == 3 * len(ready.high) == 12
    assert len({float(value) for value in ready.log_sizes.flatten()}) > 1
    restored = state.dsr.restore(ready.enlarged, ready.log_sizes).detach()
    shown = as_evaluated(restored)
    with torch.no_grad():
        said, seen = state.student(normalise(shown)), teaching.original(shown)
        first, own = teaching.original(ready.high), state.student(normalise(ready.high))
    apart: dict[str, list[float]] = {"sr": [], "agreement": [], "identity": [], "pixel": []}
    for view in range(3):
        for face in range(4):
            row = 4 * view + face
            apart["sr"].append(1.0 - float(torch.cosine_similarity(said[row], first[face], 0)))
            apart["identity"].append(1.0 - float(torch.cosine_similarity(seen[row], first[face], 0)))
            difference = (restored[row] - ready.high[face]).double()
            apart["pixel"].append(float((difference.square() + 1e-6).sqrt().mean()))
            if face < 2:
                apart["agreement"].append(1.0 - float(torch.cosine_similarity(said[row], own[face], 0)))
    for name, values in apart.items():
        assert float(parts[name].detach()) == pytest.approx(np.mean(values), rel=1e-5), name
    hr = [1.0 - float(torch.cosine_similarity(own[face], first[face], 0)) for face in range(2)]
    assert float(parts["hr"]) == pytest.approx(np.mean(hr), rel=1e-5)
    expected = parts["sr"] + parts["hr"] + 0.5 * parts["agreement"] + 3.0 * parts["pixel"] + 0.5 * parts["identity"]
    assert float(total.detach()) == pytest.approx(float(expected), rel=1e-6)


def test_without_a_rate_the_dsr_stays_and_its_losses_are_left_out(
    made: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = replace(config, dsr_learning_rate=0.0, views=2, mirror_weight=1.0, texture_weight=1.0)
    alone.out.mkdir()
    (alone.out / "dsr.pt").write_bytes(b"of a run that was killed before its first save")
    main(alone)
    assert (alone.out / "dsr.pt").read_bytes() == (made / "dsr.pt").read_bytes()
    losses = read_records(alone.out / "metrics.jsonl")[-1]["train"]
    assert losses.keys() == {"loss", "chain", "sr", "hr", "agreement", "contrast", "margin"}
    trained = torch.load(alone.out / "edgeface_finetuned.pth", weights_only=True)
    original = torch.load(made / "tiny.pt", weights_only=True)
    assert any(not torch.equal(trained[key], original[key]) for key in original)
    stopped = replace(alone, out=alone.out.with_name("stopped"))
    stop_at(3, stopped, monkeypatch)
    main(replace(stopped, resume=True))
    assert_same_run(stopped, alone)


def test_nothing_in_a_step_waits_or_comes_from_the_cpu(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CUDA graph cannot capture is found without CUDA: shapes alone are computed, on a device called cuda."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    state, teaching, _ = parts_of_a_step(made, ChainWeights(1.0, 1.0, 1.0, 1.0, mirror=1.0, texture=1.0))
    weights = LossWeights(1.0, 1.0, 0.1, 0.0, 0.5, 0.1)
    state.loss = FinetuneLoss(weights, CosFaceHead(5, 512), references=torch.ones(5, 512))
    networks = {"dsr": state.dsr, "student": state.student, "loss": state.loss, "original": teaching.original}
    for network in networks.values():
        fix_positions(network)
    with FakeTensorMode():
        for network in networks.values():
            on_imagined_gpu(network)
        images, numbers = (torch.empty(shape, device="cuda") for shape in ((8, 3, 112, 112), (8, 1, 1, 1)))
        labels = torch.zeros(8, dtype=torch.int64, device="cuda")
        ready = Prepared(images, images, numbers, labels, labels)
        every = replace(teaching, hr_share=0.5)
        prepared_loss(state, every, ready)  # sizes are seen for the first time
        with Devices() as devices:
            prepared_loss(state, every, ready)
    assert devices.operations > 100
    assert devices.wrong == set()


def test_nothing_in_a_step_of_muon_waits_or_comes_from_the_cpu() -> None:
    with FakeTensorMode():
        parameter = nn.Parameter(torch.empty(6, 4, 3, 3, device="cuda"))
        optimizer = Muon([{"params": [parameter], "muon": True}], lr=1e-3, capturable=True)
        optimizer.param_groups[0]["lr"] = torch.empty((), device="cuda")
        parameter.grad = torch.empty(6, 4, 3, 3, device="cuda")
        optimizer.step()  # makes the state
        with Devices() as devices:
            optimizer.step()
    assert devices.operations > 20
    assert devices.wrong == set()


class Devices(TorchDispatchMode):
    """Notes the operations that touch the CPU, or whose result decides what comes next."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.wrong = 0, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, torch.Tensor)]
        self.operations += 1
        if any(tensor.device.type == "cpu" for tensor in tensors) or "nonzero" in str(func):
            self.wrong.add(str(func))
        return made


def on_imagined_gpu(network: nn.Module) -> None:
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for name, value in list(held.items()):
                if value is not None:
                    fake = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                    held[name] = nn.Parameter(fake, value.requires_grad) if isinstance(value, nn.Parameter) else fake


def test_ten_steps_lower_the_loss(made: Path) -> None:
    state, teaching, batch = parts_of_a_step(made, ChainWeights(1.0, 1.0, 1.0))
    losses = []
    for _ in range(10):
        batch.generator.manual_seed(0)
        losses.append(chain_step(state, teaching, batch, 1e-3, Place(CPU))["loss"])
    assert losses[-1] < losses[0]


def test_as_evaluated_rounds_and_lets_the_gradient_through() -> None:
    restored = torch.tensor([-0.2, 0.1, 0.5001, 1.3], requires_grad=True)
    shown = as_evaluated(restored)
    torch.testing.assert_close(shown.detach() * 255, torch.tensor([0.0, 26.0, 128.0, 255.0]))
    shown.sum().backward()
    assert restored.grad is not None
    assert restored.grad.tolist() == [1.0, 1.0, 1.0, 1.0]


def test_files_left_behind(finished: Config) -> None:
    left = sorted(path.name for path in finished.out.iterdir())
    ours = [f"edgeface_finetuned.{end}" for end in ("json", "pt", "pth")]
    assert left == ["config.json", "curves.png", "dsr.pt", *ours, "last.pt", "metrics.jsonl", "samples"]
    for end in ("pth", "pt"):
        embedder = load_embedder(finished.out / f"edgeface_finetuned.{end}")
        assert embedder(torch.rand(2, 3, 112, 112)).shape == (2, 512)
    _, info = load_dsr(finished.out / "dsr.pt")
    assert info.metadata["epoch"] == 2
    assert info.metadata["validation"]["16"]["dsr"].keys() == {"psnr", "ssim", "identity_loss"}
    described = json.loads((finished.out / "edgeface_finetuned.json").read_text())
    assert [mixture["alpha"] for mixture in described["mixtures"]] == [0.5, 1.0]
    assert described["alpha"] in (0.5, 1.0)


def test_metrics_have_every_term(finished: Config) -> None:
    for record in records(finished):
        terms = {"loss", "chain", "sr", "hr", "agreement", "contrast", "pixel", "identity"}
        assert record["train"].keys() - {"margin"} == terms  # a batch of nobody has no margin
        assert record["validation"].keys() == {"hr-hr", "lr-hr@16", "lr-lr@16"}
        assert record["quality"]["16"].keys() == {"dsr", "bicubic"}


def test_validation_can_be_rarer(config: Config, finished: Config) -> None:
    main(replace(config, validate_every=2))
    first, second = records(config)
    assert "validation" not in first
    assert second == records(finished)[1]


@pytest.mark.parametrize("step", [1, 2])
def test_resume_gives_the_losses_of_an_uninterrupted_run(
    config: Config, finished: Config, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    stop_at(step, config, monkeypatch)
    main(replace(config, resume=True))
    assert_same_run(config, finished)


def test_the_cosine_is_that_to_the_original(config: Config, finished: Config) -> None:
    cosines = [record["validation"]["hr-hr"]["cosine"] for record in records(finished)]
    assert all(0.0 < cosine < 1.0 - 1e-6 for cosine in cosines)
    assert cosines[1] < cosines[0], "it moves away, step by step"


def test_gradients_of_several_processes_lie_as_the_weights_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_training, "summed", lambda flat, place: flat.mul_(2))  # two equal ones
    weight = torch.nn.Parameter(torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last))
    weight.grad = torch.randn(4, 3, 5, 5)
    expected = weight.grad.clone()
    chain_training.average_gradients([weight], Place(CPU, 0, 2))
    assert weight.grad.stride() == weight.stride()
    torch.testing.assert_close(weight.grad, expected)


def test_a_resumed_run_steps_as_its_device_wants(
    config: Config, finished: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(2, config, monkeypatch)
    path = config.out / "last.pt"
    content = torch.load(path, weights_only=True)
    for group in content["optimizer"]["param_groups"]:
        group.update(fused=True, capturable=True)  # as on a GPU, where a step is captured
    torch.save(content, path)
    main(replace(config, resume=True))
    assert_same_run(config, finished)
    groups = torch.load(path, weights_only=True)["optimizer"]["param_groups"]
    assert not any(group["fused"] or group["capturable"] for group in groups)


def test_the_dsr_may_be_trained_with_muon(config: Config, finished: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    muon = replace(config, dsr_optimizer="muon")
    main(muon)
    assert records(muon)[0]["train"] != records(finished)[0]["train"]
    stopped = replace(muon, out=muon.out.with_name("stopped"))
    stop_at(3, stopped, monkeypatch)
    main(replace(stopped, resume=True))
    assert_same_run(stopped, muon)


def test_muon_takes_the_matrices_of_the_dsr_alone(made: Path) -> None:
    _, original = load_teacher(str(made / "tiny.pt"), CPU)
    loss = FinetuneLoss(LossWeights(margin=0.1), CosFaceHead(5, 512))
    state = fresh_chain(load_dsr(made / "dsr.pt")[0], original, loss, 2e-3, 1e-3, 0.0, 0.9, CPU, muon=True)
    turned = [group for group in state.optimizer.param_groups if group.get("muon")]
    assert {group["scale"] for group in turned} == {2.0 * MATRIX_SCALE}
    taken = {id(parameter) for group in turned for parameter in group["params"]}
    assert taken == {id(parameter) for parameter in state.dsr.parameters() if is_matrix(parameter)}
    held = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    networks = (state.dsr, state.student, state.loss)
    assert len(held) == len({id(p) for p in held}) == sum(1 for network in networks for _ in network.parameters())


def test_the_dsr_may_be_mixed_with_the_one_it_began_as(config: Config, finished: Config, made: Path) -> None:
    main(replace(config, dsr_alpha=0.25))
    assert records(config) == records(finished)
    began, trained, mixed = (load_dsr(path / "dsr.pt")[0].state_dict() for path in (made, finished.out, config.out))
    for key, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * began[key] + 0.25 * trained[key])
    said = json.loads((config.out / "mixtures.json").read_text())
    assert said["alpha"] == load_dsr(config.out / "dsr.pt")[1].metadata["alpha"] == 0.25
    assert said["validation"] != records(finished)[1]["quality"]
    (config.out / "mixtures.json").unlink()
    before = (config.out / "dsr.pt").read_bytes()
    main(replace(config, dsr_alpha=0.25, resume=True))  # killed right after the DSR was written
    assert (config.out / "dsr.pt").read_bytes() == before
    assert json.loads((config.out / "mixtures.json").read_text()) == said
    with pytest.raises(UserError, match=r"dsr\.pt is mixed already, with --dsr-alpha 0\.25, not 0\.5"):
        main(replace(config, dsr_alpha=0.5, resume=True))


KILL = """
import os, signal, sys
from common import cli
from pipeline import chain_training, train_chain
whole = train_chain.chain_step
def step(state, *args):
    if state.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(state, *args)
train_chain.chain_step = step
cli.run(train_chain.main, train_chain.Config, sys.argv[1:])
"""


def arguments(config: Config) -> list[str]:
    """The command line of `config`."""
    names = ("epochs", "edgeface", "dsr", "train_root", "val_root", "batch_size", "out", "warmup_steps", "hr_drop")
    words = [word for name in names for word in (f"--{name.replace('_', '-')}", str(getattr(config, name)))]
    lists = ["--vlr-size", *config.vlr_size, "--alphas", *map(str, config.alphas), "--teachers", *config.teachers]
    return [*lists, *words, "--save-every", "1"]


def test_kill_9_in_the_middle_of_an_epoch_costs_a_step(config: Config, finished: Config) -> None:
    killed = subprocess.run([sys.executable, "-c", KILL, *arguments(config)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load(config.out / "last.pt", weights_only=True)["counters"] == {"epoch": 1, "step": 3}
    cli.run(main, Config, [*arguments(config), "--resume"])
    assert_same_run(config, finished)


def test_two_processes_share_the_faces_and_end_alike(config: Config) -> None:
    words = arguments(replace(config, epochs=1, batch_size=4, alphas=(1.0,)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "-m", "pipeline.train_chain", *words, "--threads", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (record,) = records(config)
    assert record["step"] == 2
    assert json.loads((config.out / "config.json").read_text())["processes"] == 2
    assert "2 x cpu" in done.stdout


def test_minutes_shorten_a_run_to_what_fits(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_chain, "MEASURED_SECONDS", 0.0)
    main(replace(config, epochs=100, minutes=1e-6))
    assert "hold 2 epochs; the 2 so far were measured" in capsys.readouterr().out
    assert [record["epoch"] for record in read_records(config.out / "metrics.jsonl")] == [1, 2]
    assert json.loads((config.out / "config.json").read_text())["epochs"] == 2
    assert json.loads((config.out / "edgeface_finetuned.json").read_text())["settings"]["epochs"] == 2


def test_a_shortened_run_that_is_killed_has_a_state_of_that_length(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else neither the new number of epochs, which config.json says, nor the old one could be resumed."""
    monkeypatch.setattr(train_chain, "MEASURED_SECONDS", 0.0)
    shorten, save = ChainRun.shorten, ChainRun.save

    def to_fifty(run: ChainRun, _: int) -> Config:
        return shorten(run, 50)

    def save_and_die(run: ChainRun) -> None:
        save(run)
        if run.settings["epochs"] == 50:
            raise KeyboardInterrupt

    monkeypatch.setattr(ChainRun, "shorten", to_fifty)
    monkeypatch.setattr(ChainRun, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        main(replace(config, epochs=100, minutes=60.0, validate_every=40, save_every=10**9))
    assert json.loads((config.out / "config.json").read_text())["epochs"] == 50
    state = torch.load(config.out / "last.pt", weights_only=True)
    assert (state["settings"]["epochs"], state["counters"]["epoch"]) == (50, 2)


def test_what_is_read_is_not_written_over(config: Config, made: Path) -> None:
    config.out.mkdir()
    shutil.copy(made / "dsr.pt", config.out / "dsr.pt")
    shutil.copy(made / "tiny.pt", config.out / "edgeface_finetuned.pth")
    with pytest.raises(UserError, match=r"--dsr .*dsr\.pt would be overwritten by the run's own dsr\.pt"):
        main(replace(config, dsr=str(config.out / "dsr.pt")))
    with pytest.raises(UserError, match=r"--start-from .* would be overwritten by the run's own edgeface_finetuned"):
        main(replace(config, start_from=str(config.out / "edgeface_finetuned.pth")))
    assert (config.out / "dsr.pt").read_bytes() == (made / "dsr.pt").read_bytes()


def test_minutes_never_lengthen_a_run(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_chain, "MEASURED_SECONDS", 0.0)
    main(replace(config, minutes=60.0))
    assert len(read_records(config.out / "metrics.jsonl")) == config.epochs


def test_a_captured_step_wants_one_process_on_cuda(made: Path) -> None:
    state, teaching, _ = parts_of_a_step(made, ChainWeights())
    for place in (Place(CPU), Place(torch.device("cuda"), 0, 2)):
        with pytest.raises(UserError, match="--cuda-graph captures the step of one process on CUDA"):
            GraphedStep(state, teaching, place)


def test_another_run_is_not_resumed(config: Config, finished: Config) -> None:
    with pytest.raises(UserError, match=r"already holds a run: add --resume"):
        main(finished)
    with pytest.raises(UserError, match=r"other settings \(seed was 0, is now 1\)"):
        main(replace(finished, resume=True, seed=1))
    with pytest.raises(UserError, match=r"last\.pt is missing, so there is nothing to resume"):
        main(replace(config, resume=True))
    config.out.mkdir()
    (config.out / "last.pt").write_bytes(b"no state")
    with pytest.raises(UserError, match=r"last\.pt"):
        main(replace(config, resume=True))


def test_no_mixture_within_the_guard_is_said(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_result, "choose_mixture", lambda *args: (None, []))
    with pytest.raises(UserError, match=r"every mixture loses more than 1\.0 of HR-HR"):
        main(replace(config, epochs=1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chain_weight": 0.0}, "--chain-weight above 0"),
        ({"pixel_weight": -1.0}, "must be 0 or more"),
        ({"epochs": 0}, "--epochs must be at least 1, found 0"),
        ({"batch_size": 1}, "--batch-size must be at least 2"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"learning_rate": 0.0}, "--learning-rate must lie between 0 and 1"),
        ({"strangers": 1.5}, "--strangers must lie from 0 to 1"),
        ({"alphas": ()}, "expected one or more, above 0"),
        ({"hr_share": 0.0}, "--agreement-weight compares a face with its HR view"),
        ({"vlr_size": ("200",)}, "200"),
        ({"dsr": "nowhere.pt"}, r"nowhere\.pt is missing"),
        ({"cuda_graph": True}, "--cuda-graph needs a GPU, and --device is cpu"),
        ({"minutes": -1.0}, "--minutes must be 0 or more"),
        ({"dsr_alpha": 0.0}, "--dsr-alpha must lie above 0 and be at most 1"),
        ({"dsr_alpha": 0.5, "dsr_learning_rate": 0.0}, "with --dsr-learning-rate 0 none is trained"),
        ({"dsr_learning_rate": -1.0}, "--dsr-learning-rate must lie from 0 to below 1"),
        ({"views": 0}, "--views must be at least 1"),
        ({"sizes_per_batch": 0}, "--sizes-per-batch must be at least 1"),
        ({"sizes_per_batch": 9}, "--sizes-per-batch 9 is more than a batch has faces, --batch-size 8"),
        (
            {"hr_share": 0.0, "sr_weight": 0.0, "margin_weight": 0.0, "contrast_weight": 0.0, "agreement_weight": 0.0},
            "--hr-share 0 leaves nothing to learn from",
        ),
        ({"mirror_weight": -1.0}, "--mirror-weight and --texture-weight must be 0 or more"),
        ({"texture_weight": float("nan")}, "must be 0 or more"),
        ({"identity_size_power": float("nan")}, "--mirror-weight and --texture-weight must be 0 or more"),
    ],
)
def test_bad_settings_are_refused(config: Config, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(replace(config, **changed))


def test_too_few_people_or_a_file_in_the_way_are_refused(config: Config, tmp_path: Path) -> None:
    write_png(tmp_path / "one" / "p0" / "0.png", made_face(0, 0))
    write_png(tmp_path / "one" / "p0" / "1.png", made_face(0, 1))
    with pytest.raises(UserError, match="1 identity"):
        main(replace(config, train_root=tmp_path / "one"))
    config.out.write_text("a file")
    with pytest.raises(UserError, match="is a file: give the folder"):
        main(config)


def test_a_mirrored_dsr_has_nothing_to_learn_from_its_mirror_image(config: Config, made: Path, tmp_path: Path) -> None:
    twice = mirror.main(mirror.Config(str(made / "dsr.pt"), tmp_path / "twice.pt"))
    with pytest.raises(UserError, match=r"twice\.pt is its own mirror image: leave --mirror-weight out"):
        main(replace(config, dsr=str(twice), mirror_weight=1.0))
