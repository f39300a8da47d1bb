"""Muon; PyTorch's own always iterates in bfloat16, which takes many times as long on a CPU that has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from workbench.tiny.training.fastest_precision import quickest

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest (semi-)orthogonal matrices, of a stack (matrix, row, column)."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = (matrices.mT if tall else matrices).to(quickest(str(matrices.device)))
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al., 2024), for matrices; steps are scaled to the size of AdamW's.

    Parameters
    ----------
    params
        Matrices.
    lr
        Learning rate.
    momentum, weight_decay
        As usual; the momentum is Nesterov's.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, parameters in shapes.items():
                grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
                buffers = [self.state[each].setdefault("momentum", torch.zeros_like(each)) for each in parameters]
                torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
                updates = orthogonalised(torch.stack(torch._foreach_lerp(grads, buffers, group["momentum"])))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_sub_(parameters, list(updates.unbind()), alpha=group["lr"] * 0.2 * max(shape) ** 0.5)
