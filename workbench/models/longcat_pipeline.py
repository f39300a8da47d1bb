"""Pipeline side of LongCat-Image: Qwen2.5-VL reads the text padded in a template, letter by letter where quoted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.pipelines.longcat_image.pipeline_longcat_image import prepare_pos_ids, split_quotation
from torch import Tensor

from workbench.images import shown
from workbench.models.flux_like_pipeline import GuidedFluxLike
from workbench.models.latents import Picture
from workbench.models.longcat import LongCatAdapter
from workbench.models.pipeline_records import Text
from workbench.models.templates import Placed, TemplatePipeline, TemplateReader
from workbench.schema import InputError, ModelError


@dataclass(frozen=True)
class LongCatReader(TemplateReader):
    """A tokenizer that is given a text without its template, and what is quoted in it letter by letter."""

    def count(self, text: str) -> int:
        return len(self._own(text))

    def place(self, text: str) -> Placed:
        own = self._own(text)[: self.length]
        padded = self.tokenizer.pad(
            {"input_ids": [own]}, max_length=self.length, padding="max_length", return_attention_mask=True
        )
        (mask,) = padded["attention_mask"]
        positions = tuple(position for position, seen in enumerate(mask) if seen)
        return Placed(positions, tuple(own), tuple(not seen for seen in mask))

    def _own(self, text: str) -> list[int]:
        split = split_quotation(text)
        if "".join(whole for whole, _ in split) != text:
            raise InputError(
                f"{shown(repr(text))} has several words with an apostrophe inside, and LongCatImagePipeline reads one "
                "of them in place of the others, another one in each process: leave all of them but one out, or write "
                "them apart (do not for don't)."
            )
        parts = [part for whole, quoted in split for part in (whole if quoted else [whole])]
        return [token for part in parts for token in self._encode(part).input_ids]


class LongCatPipelineAdapter(TemplatePipeline, GuidedFluxLike):
    """``LongCatImagePipeline``: text is padded to its full length between the halves of a template that is dropped.

    A concept's first token so stands at position 0, and padding is attended to. A prompt is taken as it is: the
    pipeline's rewriting of it, with which words that are recorded would not be the user's, is left off. No public code
    of the method has this family: its conventions here are ours, and FLUX.1's where that has any. Heat maps so are of
    the second half of the dual blocks and of timestep 500.
    """

    transformer_side: ClassVar[type[LongCatAdapter]] = LongCatAdapter
    usual_steps = 50
    usual_guidance = 4.5

    @property
    def text_length(self) -> int:
        # The positions of the picture begin behind it.
        return int(self.pipe.tokenizer_max_length)

    @property
    def reader(self) -> TemplateReader:
        """How the language model reads a text."""
        return LongCatReader("Qwen2.5-VL", self.component("tokenizer"), self.text_length, str)

    def _check_place(self) -> None:
        if self.pipe.device.type == "meta":
            raise ModelError(
                "the pipeline's models have no data between calls (sequential offload), and LongCatImagePipeline sends "
                "its text to where the first of them is: use pipe.enable_model_cpu_offload() instead."
            )

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        self._check_place()
        self.component("text_encoder")
        self.reader.count(prompt)  # refuses what the pipeline misreads
        embeddings, positions = self.pipe.encode_prompt(prompt)
        return Text(embeddings, positions=positions)

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        rows, columns = grid
        start = (self.text_length, self.text_length)
        ids = prepare_pos_ids(modality_id=1, type="image", start=start, height=rows, width=columns)
        return self.token_inputs(noised, timestep, text) | {
            "img_ids": ids.to(self.device),
            "txt_ids": text.positions.to(self.device),
        }

    def call_options(self) -> dict[str, Any]:
        return {"enable_prompt_rewrite": False}

    def generate(self, prompt: str, **options: Any) -> Picture:
        self._check_place()
        for text in (prompt, options.get("negative_prompt") or ""):
            self.reader.count(text)
        return super().generate(prompt, **options)
