from __future__ import annotations

import pytest
import torch

from workbench.tiny.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 6, 6)])
def test_what_is_orthogonalised_keeps_its_directions(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    found = orthogonalised(matrices)
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.4
    assert values.max() < 1.4
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    assert torch.einsum("bij,bij->b", found, left @ right).min() > 0.8 * min(shape[1:])


def test_a_stack_is_its_matrices_one_by_one() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(4, 5, 9)
    alone = torch.stack([orthogonalised(matrix[None])[0] for matrix in matrices])
    torch.testing.assert_close(orthogonalised(matrices), alone)


def test_it_takes_the_steps_of_pytorch() -> None:
    """PyTorch's own in bfloat16, ours in float32: the same way, to bfloat16's precision."""
    torch.manual_seed(0)
    start = torch.randn(16, 24)
    target = torch.randn(16, 24)
    mine, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours = Muon([mine], lr=0.02, weight_decay=0.01)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for _ in range(20):
        for parameter, optimiser in ((mine, ours), (theirs, other)):
            optimiser.zero_grad()
            (parameter - target).square().sum().backward()
            optimiser.step()
    moved = (theirs - start).norm()
    assert (mine - theirs).norm() < 0.05 * moved
    assert (mine - target).norm() < (start - target).norm()
