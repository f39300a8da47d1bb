"""A pipeline with what it is asked: what the rules about whole pipelines are tried on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import torch

from workbench.contract.case import Case
from workbench.contract.rules import attention_of
from workbench.models.block_records import Concepts
from workbench.models.pipeline import PipelineAdapter
from workbench.recording.pictures import Pixels, resize

ROWS: Final = 6
COLUMNS: Final = 8
"""Patches of the small pictures that rules are tried on: another number in a row, so that the two are told apart."""


@dataclass(frozen=True)
class PipelineCase:
    """A pipeline with what it is asked.

    Attributes
    ----------
    adapter : PipelineAdapter
        Of the pipeline.
    pixels : ndarray (pixel_y, pixel_x, channel)
        A picture, RGB bytes.
    concepts : tuple of str
        Words, at least two.
    prompt : str
        A text.
    """

    adapter: PipelineAdapter
    pixels: Pixels
    concepts: tuple[str, ...]
    prompt: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the small pictures, in pixels."""
        return ROWS * self.adapter.patch, COLUMNS * self.adapter.patch

    @cached_property
    def small(self) -> Pixels:
        """The picture, made small."""
        return resize(self.pixels, self.size)

    def case(self, timestep: float = 500.0) -> Case:
        """The transformer with what it is given for the small picture."""
        adapter = self.adapter
        with torch.no_grad():
            text = adapter.encode_prompt(self.prompt)
            inputs = self.inputs(timestep)
        given = self.given
        adapter.release()
        case = Case(
            adapter.transformer,
            inputs,
            given.embeddings,
            text.embeddings,
            own_positions=given.own_positions,
            own_texts=given.texts,
        )
        # Some masks only weigh tokens, and some models cut or reorder what is masked: the blocks tell.
        attention = attention_of(case)[0]
        bias = attention.text_bias
        hidden = () if bias is None else tuple((bias[0, 0, 0] == -torch.inf).nonzero().flatten().tolist())
        seen = attention.text_key.shape[2] - len(hidden)
        if text.mask is not None and seen < text.embeddings.shape[1]:
            return replace(case, prompt=text.embeddings[:, text.mask[0].bool()], hidden=hidden)
        return replace(case, hidden=hidden)

    @cached_property
    def given(self) -> Concepts:
        """What a trace is given for the concepts."""
        with torch.no_grad():
            each = [self.adapter.encode_concept(concept) for concept in self.concepts]
        texts = tuple(found.text for found in each if found.text is not None)
        places = self.adapter.concept_positions(self.concepts)
        return Concepts(torch.cat([found.vector for found in each], dim=1), own_positions=places, texts=texts or None)

    def inputs(self, timestep: float) -> dict[str, Any]:
        """Arguments of the transformer for the small picture."""
        latents, noise = self.adapter.encode_image(self.small).draw(0)
        noised = self.adapter.noised(latents, noise, timestep)
        text = self.adapter.encode_prompt(self.prompt)
        return self.adapter.inputs(noised, timestep, text, (ROWS, COLUMNS))

    def generated(self, **options: Any) -> Pixels:
        """A small picture of one step, without a trace."""
        asked = {"steps": 1, "guidance": self.adapter.default_guidance, "seed": 0, "size": self.size} | options
        return self.adapter.generate(self.prompt, **asked)
