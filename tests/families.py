"""The model families, each as tiny random models; a new family joins by adding entries to `FAMILIES`.

What is tried on all of them is tried on a few at each run, and on the rest where slow tests run too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

from tests.tiny_pipelines.auraflow import auraflow_inputs, auraflow_transformer
from tests.tiny_pipelines.cogview4 import cogview4_inputs, cogview4_transformer
from tests.tiny_pipelines.flux2 import flux2_inputs, flux2_transformer
from tests.tiny_pipelines.flux3 import flux3_inputs, flux3_transformer, rounded
from tests.tiny_pipelines.flux_like import (
    bria_inputs,
    bria_transformer,
    chroma_inputs,
    chroma_transformer,
    longcat_inputs,
    longcat_transformer,
    ovis_inputs,
    ovis_transformer,
)
from tests.tiny_pipelines.hunyuan_image import hunyuan_image_inputs, hunyuan_image_transformer
from tests.tiny_pipelines.lumina2 import lumina2_inputs, lumina2_transformer
from tests.tiny_pipelines.qwen import qwen_inputs, qwen_transformer
from tests.tiny_pipelines.sd3 import sd3_inputs, sd3_transformer
from tests.tiny_pipelines.z_image import z_image_inputs, z_image_transformer
from tests.tiny_random import concept_embeddings, flux_inputs, flux_transformer
from workbench.models.family import adapter_for
from workbench.models.joint import JointAdapter

LONE = "ignore:.*each is a text of one token"
"""What a trace says of concepts as embeddings in families that refine their text, where any vector will do."""


@dataclass(frozen=True)
class Family:
    """How to make a tiny random model of a family, and inputs for it."""

    transformer: Callable[[], nn.Module]
    inputs: Callable[[Any], dict[str, Any]]
    edited: bool = True
    """Whether every edit is tried on it; else it differs from another of the family by what edits do not meet."""

    quick: bool = False
    """Whether everything is tried on it at each run."""


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
    def patches(self) -> int:
        """Patches of the picture."""
        rows, columns = adapter_for(self.model).grid(self.inputs)
        return rows * columns

    @property
    def prompt(self) -> Tensor:
        """Embeddings of those tokens of the text that the model sees."""
        embeddings = self.text
        mask = self.inputs.get("encoder_hidden_states_mask", self.inputs.get("encoder_attention_mask"))
        return embeddings if mask is None else embeddings[:, : int(mask[0].sum())]

    @property
    def text(self) -> Tensor:
        """Embeddings (batch, token, width) of the text that the model is given."""
        given = self.inputs.get("encoder_hidden_states", self.inputs.get("cap_feats"))
        return given if isinstance(given, Tensor) else torch.stack(given)

    @property
    def length(self) -> int:
        """Tokens of the text in the blocks, with those that the model adds to it."""
        adapter = adapter_for(self.model)
        assert isinstance(adapter, JointAdapter)
        adapter.begin(self.inputs)
        return adapter.text_length

    @property
    def masked(self) -> int:
        """How many tokens of the text, at its end, are masked in the blocks."""
        glyphs = self.inputs.get("encoder_attention_mask_2")
        seen = self.prompt.shape[1]
        masked = self.text.shape[1] - seen + (0 if glyphs is None else int((glyphs[0] == 0).sum()))
        return min(masked, self.length - seen)

    @property
    def batch(self) -> int:
        """Items of the batch."""
        return len(self.text)

    def output(self, inputs: dict[str, Any] | None = None) -> Tensor:
        """What the model gives for its inputs, or for others."""
        found = self.model(**(self.inputs if inputs is None else inputs)).sample
        return torch.stack(found) if isinstance(found, list) else found

    def others(self, *names: str) -> dict[str, Any]:
        """The inputs with the tokens or rows of some, or of image and text, in another order."""
        names = names or ("hidden_states", "encoder_hidden_states", "x", "cap_feats")
        return {name: _flipped(value) if name in names else value for name, value in self.inputs.items()}

    @property
    def tolerance(self) -> float:
        """Relative to the largest absolute value."""
        return {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}[self.model.dtype]

    def close(self, actual: Tensor, expected: Tensor) -> bool:
        """Whether values agree within the tolerance."""
        scale = float(expected.abs().max())
        return torch.allclose(actual.float(), expected.float(), rtol=0, atol=self.tolerance * scale)


def _flipped(value: Any) -> Any:
    """A batch, or a list of its items, in another order of the axis behind that of the batch."""
    return value.flip(1) if isinstance(value, Tensor) else [item.flip(-2) for item in value]


def _fused(model: Any, unfused: bool = False) -> nn.Module:
    model.fuse_qkv_projections()
    if unfused:
        model.unfuse_qkv_projections()
    transformer: nn.Module = model
    return transformer


def _controlled(inputs: dict[str, Any], transformer: Any, **blocks: int) -> dict[str, Any]:
    """The same inputs with residuals of a ControlNet, as many under each name."""
    generator = torch.Generator().manual_seed(5)
    rows, columns = adapter_for(transformer).grid(inputs)
    batch, tokens = len(inputs["timestep"]), rows * columns
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim

    def residuals(count: int) -> list[Tensor]:
        return [torch.randn(batch, tokens, width, generator=generator) for _ in range(count)]

    return inputs | {name: residuals(count) for name, count in blocks.items()}


FAMILIES = {
    "flux": Family(flux_transformer, flux_inputs, quick=True),
    "flux-guided-batch": Family(
        lambda: flux_transformer(guidance_embeds=True, num_attention_heads=3), lambda m: flux_inputs(m, batch=2)
    ),
    "flux-kontext": Family(flux_transformer, lambda m: flux_inputs(m, batch=2, reference=(3, 8))),
    "flux-controlnet": Family(
        flux_transformer,
        lambda m: _controlled(flux_inputs(m), m, controlnet_block_samples=2, controlnet_single_block_samples=1),
        edited=False,
    ),
    "flux-control": Family(lambda: flux_transformer(in_channels=32, out_channels=16), flux_inputs),
    "flux-fused": Family(lambda: _fused(flux_transformer()), flux_inputs),
    "flux-bfloat16": Family(lambda: flux_transformer().bfloat16(), flux_inputs),
    "flux-float16": Family(lambda: flux_transformer().half(), flux_inputs),
    "sd3.5": Family(sd3_transformer, sd3_inputs, edited=False),
    "sd3.5-medium-batch": Family(
        lambda: sd3_transformer(dual_attention_layers=(0, 1)), lambda m: sd3_inputs(m, batch=2), quick=True
    ),
    "sd3-without-norms": Family(lambda: sd3_transformer(qk_norm=None), sd3_inputs, edited=False),
    "sd3.5-fused": Family(lambda: _fused(sd3_transformer()), sd3_inputs),
    "sd3.5-unfused": Family(lambda: _fused(sd3_transformer(), unfused=True), sd3_inputs, edited=False),
    "sd3.5-controlnet": Family(
        sd3_transformer, lambda m: _controlled(sd3_inputs(m), m, block_controlnet_hidden_states=2), edited=False
    ),
    "sd3.5-bfloat16": Family(lambda: sd3_transformer().bfloat16(), sd3_inputs, edited=False),
    "flux2": Family(flux2_transformer, flux2_inputs, edited=False),
    "flux2-reference": Family(flux2_transformer, lambda m: flux2_inputs(m, reference=(3, 8)), edited=False),
    "flux2-klein-batch": Family(lambda: flux2_transformer(guidance_embeds=False), lambda m: flux2_inputs(m, batch=2)),
    "flux2-fused": Family(lambda: _fused(flux2_transformer()), flux2_inputs, edited=False),
    "flux2-bfloat16": Family(lambda: flux2_transformer().bfloat16(), flux2_inputs, edited=False),
    "flux2-float16": Family(lambda: flux2_transformer().half(), flux2_inputs, edited=False),
    "qwen": Family(qwen_transformer, qwen_inputs, edited=False),
    "qwen-masked-batch": Family(qwen_transformer, lambda m: qwen_inputs(m, batch=2, masked=2), quick=True),
    "qwen-edit": Family(
        lambda: qwen_transformer(zero_cond_t=True), lambda m: qwen_inputs(m, reference=(2, 5)), edited=False
    ),
    "qwen-controlnet": Family(
        qwen_transformer, lambda m: _controlled(qwen_inputs(m), m, controlnet_block_samples=2), edited=False
    ),
    "qwen-bfloat16": Family(lambda: qwen_transformer().bfloat16(), qwen_inputs, edited=False),
    "chroma": Family(chroma_transformer, chroma_inputs, edited=False),
    "chroma-masked-batch": Family(chroma_transformer, lambda m: chroma_inputs(m, batch=2, masked=3)),
    "chroma-bfloat16": Family(lambda: chroma_transformer().bfloat16(), lambda m: chroma_inputs(m, masked=3), False),
    "longcat": Family(longcat_transformer, lambda m: longcat_inputs(m, batch=2)),
    "longcat-edit": Family(longcat_transformer, lambda m: longcat_inputs(m, reference=(2, 5)), edited=False),
    "longcat-fused": Family(lambda: _fused(longcat_transformer()), longcat_inputs, edited=False),
    "ovis-batch": Family(ovis_transformer, lambda m: ovis_inputs(m, batch=2), edited=False),
    "ovis-bfloat16": Family(lambda: ovis_transformer().bfloat16(), ovis_inputs, edited=False),
    "bria": Family(bria_transformer, bria_inputs, edited=False),
    "bria-bfloat16-batch": Family(
        lambda: bria_transformer().bfloat16(), lambda m: bria_inputs(m, batch=2), edited=False
    ),
    "flux3": Family(flux3_transformer, flux3_inputs, edited=False),
    "flux3-edit-batch": Family(flux3_transformer, lambda m: flux3_inputs(m, batch=2, reference=(2, 5))),
    "flux3-fused": Family(lambda: _fused(flux3_transformer()), flux3_inputs, edited=False),
    "flux3-distilled": Family(lambda: flux3_transformer(flow_map=True), flux3_inputs, edited=False),
    "flux3-bfloat16": Family(lambda: rounded(flux3_transformer()), flux3_inputs, edited=False),
    "z-image": Family(z_image_transformer, z_image_inputs, quick=True),
    "z-image-batch": Family(
        lambda: z_image_transformer(n_refiner_layers=1), lambda m: z_image_inputs(m, batch=2, text=32), edited=False
    ),
    "z-image-bfloat16": Family(lambda: z_image_transformer().bfloat16(), z_image_inputs, edited=False),
    "hunyuan-image": Family(hunyuan_image_transformer, hunyuan_image_inputs, edited=False),
    "hunyuan-image-masked-batch": Family(
        lambda: hunyuan_image_transformer(num_refiner_layers=1),
        lambda m: hunyuan_image_inputs(m, batch=2, masked=2, glyphs=0),
    ),
    "hunyuan-image-distilled": Family(
        lambda: hunyuan_image_transformer(guidance_embeds=True, use_meanflow=True), hunyuan_image_inputs, edited=False
    ),
    "hunyuan-image-bfloat16": Family(
        lambda: hunyuan_image_transformer().bfloat16(), lambda m: hunyuan_image_inputs(m, masked=2), edited=False
    ),
    "auraflow": Family(auraflow_transformer, auraflow_inputs, edited=False),
    "auraflow-fused-batch": Family(lambda: _fused(auraflow_transformer()), lambda m: auraflow_inputs(m, batch=2)),
    "auraflow-unfused": Family(lambda: _fused(auraflow_transformer(), unfused=True), auraflow_inputs, edited=False),
    "auraflow-bfloat16": Family(lambda: auraflow_transformer().bfloat16(), auraflow_inputs, edited=False),
    "lumina2": Family(lumina2_transformer, lumina2_inputs),
    "lumina2-masked-batch": Family(
        lambda: lumina2_transformer(num_refiner_layers=1), lambda m: lumina2_inputs(m, batch=2, masked=2), edited=False
    ),
    "lumina2-bfloat16": Family(lambda: lumina2_transformer().bfloat16(), lumina2_inputs, edited=False),
    "cogview4": Family(cogview4_transformer, cogview4_inputs),
    "cogview4-masked-batch": Family(
        cogview4_transformer, lambda m: cogview4_inputs(m, batch=2, masked=2), edited=False
    ),
    "cogview4-bfloat16": Family(lambda: cogview4_transformer().bfloat16(), cogview4_inputs, edited=False),
}


EDITED = ("flux", "qwen-masked-batch")
"""Those on which every edit is tried at each run."""
LIKE_ANOTHER = ("-fused", "-unfused", "-bfloat16", "-float16")
"""Endings of those that differ from another by how its numbers are held."""


def params(edited: bool = False) -> list[Any]:
    """Names of the families, for tests with much to try on each; those that are not quick are marked as slow."""
    quick = EDITED if edited else tuple(name for name, family in FAMILIES.items() if family.quick)
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.slow)
        for name, family in FAMILIES.items()
        if family.edited or not edited
    ]


def every() -> list[Any]:
    """Names of the families, for tests with little to try; those that are like another are marked as slow."""
    return [pytest.param(name, marks=pytest.mark.slow if name.endswith(LIKE_ANOTHER) else ()) for name in FAMILIES]
