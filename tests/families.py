"""The model families, each as tiny random models; a new family joins by adding entries to `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from tests.tiny_random import concept_embeddings, flux_inputs, flux_transformer
from workbench.models.family import adapter_for


@dataclass(frozen=True)
class Family:
    """How to make a tiny random model of a family, and inputs for it."""

    transformer: Callable[[], nn.Module]
    inputs: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Sample:
    """A model with inputs, concepts and all its layers."""

    model: Any
    inputs: dict[str, Any]
    concepts: Tensor
    layers: tuple[int, ...]

    @classmethod
    def of(cls, name: str) -> Self:
        """The sample of a family."""
        family = FAMILIES[name]
        model = family.transformer()
        adapter = adapter_for(model)
        layers = tuple(layer.index for layer in adapter.layers)
        return cls(model, family.inputs(model), concept_embeddings(width=adapter.embedding_dim), layers)

    @property
    def tolerance(self) -> float:
        """Relative to the largest absolute value."""
        return {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}[self.model.dtype]

    def close(self, actual: Tensor, expected: Tensor) -> bool:
        """Whether values agree within the tolerance."""
        scale = float(expected.abs().max())
        return torch.allclose(actual.float(), expected.float(), rtol=0, atol=self.tolerance * scale)


def _fused() -> nn.Module:
    model = flux_transformer()
    model.fuse_qkv_projections()
    return model


FAMILIES = {
    "flux": Family(flux_transformer, flux_inputs),
    "flux-guided-batch": Family(
        lambda: flux_transformer(guidance_embeds=True, num_attention_heads=3), lambda m: flux_inputs(m, batch=2)
    ),
    "flux-control": Family(lambda: flux_transformer(in_channels=32, out_channels=16), flux_inputs),
    "flux-fused": Family(_fused, flux_inputs),
    "flux-bfloat16": Family(lambda: flux_transformer().bfloat16(), flux_inputs),
    "flux-float16": Family(lambda: flux_transformer().half(), flux_inputs),
}
