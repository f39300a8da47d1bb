"""Pipeline side of Ovis-Image: Qwen3 reads an instruction, which is dropped but for its colon, then the text."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from workbench.models.flux_like_pipeline import GuidedFluxLike
from workbench.models.ovis import OvisAdapter
from workbench.models.pipeline_records import Text
from workbench.models.templates import TemplatePipeline, TemplateReader

TEXT_LENGTH = 256


class OvisPipelineAdapter(TemplatePipeline, GuidedFluxLike):
    """``OvisImagePipeline``: text is padded, to embeddings of zeros, which the transformer attends to.

    The colon at the end of the instruction stays, so a concept's first token stands at position 1, where it is read
    with the space before it. No public code of the method has this family: its conventions here are ours, and FLUX.1's
    where that has any. Heat maps so are of the second half of the dual blocks and of timestep 500.
    """

    transformer_side: ClassVar[type[OvisAdapter]] = OvisAdapter
    usual_steps = 50
    usual_guidance = 5.0
    leaves_sigmas = True

    @property
    def text_length(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    def template(self, text: str) -> str:
        """What the language model is given for a text."""
        (whole,) = self.pipe._get_messages(text)
        return str(whole)

    @property
    def reader(self) -> TemplateReader:
        """How the language model reads a text."""
        return TemplateReader(
            "Qwen3",
            self.component("tokenizer"),
            self.text_length,
            self.template,
            dropped=int(self.pipe.user_prompt_begin_id),
        )

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        self.component("text_encoder")
        embeddings, _, positions, _ = self.pipe.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.text_length,
        )
        return Text(embeddings, positions=positions)

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        return self.token_inputs(noised, timestep, text) | {
            "img_ids": self.pipe._prepare_latent_image_ids(len(noised), *grid, **like),
            "txt_ids": text.positions.to(**like),
        }
