"""Muon against torch's own on matrices, against AdamW on the rest, and what it takes for a matrix."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from facial_rec.muon import MATRIX_SCALE, Muon, is_matrix, orthogonal, with_muon


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 8), (4, 32), (32, 4)])
def test_orthogonal_keeps_the_singular_vectors_and_evens_the_values(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonal(matrix) @ right.T
    values = found.diagonal()
    assert ((values > 0.6) & (values < 1.3)).all()
    assert (found - values.diag()).abs().max() < 1e-4


def test_orthogonal_of_nothing_is_nothing() -> None:
    assert not orthogonal(torch.zeros(3, 5)).any()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5, 3), True), ((8, 4, 3, 3), True), ((8, 1, 3, 3), False), ((1, 8, 4, 4), False), ((7,), False), ((), False)],
)
def test_which_parameters_are_matrices(shape: tuple[int, ...], expected: bool) -> None:
    assert is_matrix(torch.zeros(shape)) == expected


def test_a_matrix_moves_as_with_torchs_muon() -> None:
    ours, theirs = nn.Parameter(random(6, 10)), nn.Parameter(random(6, 10))
    muon = Muon([{"params": [ours], "muon": True}], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        for parameter, optimizer in ((ours, muon), (theirs, reference)):
            parameter.grad = random(6, 10, seed=step + 1)
            optimizer.step()
    moved, expected = ours.detach() - random(6, 10), theirs.detach() - random(6, 10)
    assert float((moved - expected).norm() / expected.norm()) < 0.03  # torch's works in bfloat16


def test_a_kernel_moves_as_the_matrix_that_it_is_read_as() -> None:
    kernel = nn.Parameter(random(6, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(random(6, 4, 3, 3).flatten(1))
    optimizer = Muon([{"params": [kernel, matrix], "muon": True}], lr=0.02, weight_decay=0.1)
    for step in range(3):
        gradient = random(6, 4, 3, 3, seed=step + 1)
        kernel.grad, matrix.grad = gradient.to(memory_format=torch.channels_last), gradient.flatten(1)
        optimizer.step()
    assert torch.allclose(kernel.detach().flatten(1), matrix.detach(), atol=1e-5)


def test_what_is_no_matrix_moves_as_with_adamw() -> None:
    ours, theirs = nn.Parameter(random(1, 5, 4, 4)), nn.Parameter(random(1, 5, 4, 4))
    matrix = nn.Parameter(random(3, 3))
    groups = with_muon([{"params": [ours, matrix], "weight_decay": 0.1, "lr": 0.01}])
    assert [group["muon"] for group in groups] == [False, True]
    both, adamw = Muon(groups, lr=0.01), torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for step in range(3):
        ours.grad, theirs.grad = random(1, 5, 4, 4, seed=step + 1), random(1, 5, 4, 4, seed=step + 1)
        matrix.grad = random(3, 3, seed=step)
        both.step()
        adamw.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(matrix, random(3, 3))


def test_a_parameter_without_gradient_stays() -> None:
    parameter = nn.Parameter(random(3, 3))
    Muon([{"params": [parameter], "muon": True}], lr=0.1).step()
    assert torch.equal(parameter, random(3, 3))


def test_groups_are_split_and_their_matrices_move_further() -> None:
    matrix, vector = nn.Parameter(random(3, 3)), nn.Parameter(random(3))
    one = {"params": [vector, matrix], "weight_decay": 0.2, "scale": 0.5}
    alone, kernels = with_muon([one, {"params": []}])
    assert alone == {**one, "params": [vector], "muon": False}
    assert kernels == {**one, "params": [matrix], "muon": True, "scale": 0.5 * MATRIX_SCALE}
    assert with_muon([{"params": [matrix]}])[0]["scale"] == MATRIX_SCALE


def test_a_restored_state_goes_on_as_if_never_interrupted() -> None:
    def steps(network: nn.Module, optimizer: Muon, numbers: range) -> None:
        for number in numbers:
            optimizer.zero_grad()
            network(random(2, 3, 6, 6, seed=number)).square().mean().backward()
            optimizer.step()

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    optimizer = Muon(with_muon([{"params": list(network.parameters())}]), lr=0.01)
    steps(network, optimizer, range(3))
    other = copy.deepcopy(network)
    resumed = Muon(with_muon([{"params": list(other.parameters())}]), lr=0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(network, optimizer, range(3, 6))
    steps(other, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
