"""Pipeline side of Chroma: T5 text with a mask, no pooled text, ordinary guidance in two passes without a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.pipelines.chroma.pipeline_chroma import ChromaPipeline
from torch import Tensor
from torch.nn import functional

from workbench.models.chroma import ChromaAdapter
from workbench.models.flux_like_pipeline import GuidedFluxLike, T5Text
from workbench.models.pipeline_records import Text

TEXT_LENGTH = 512


@dataclass(frozen=True)
class WeighedText(Text):
    """A prompt with a mask that hides nothing.

    Attributes
    ----------
    added : Tensor (1, token)
        What is added to the logits over each token, relative to others: 1 for those that count as seen, 0 for padding.
    """

    added: Tensor | None = None


class ChromaPipelineAdapter(T5Text, GuidedFluxLike):
    """``ChromaPipeline``: T5 reads the text without its padding, of which the transformer's mask counts one as seen.

    No public code of the method has this family: its conventions here are ours, and FLUX.1's where that has any. Heat
    maps so are of the second half of the dual blocks and of timestep 500.
    """

    transformer_side: ClassVar[type[ChromaAdapter]] = ChromaAdapter
    usual_steps = 35
    usual_guidance = 5.0

    @property
    def text_length(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> WeighedText:
        self.component("text_encoder")
        embeddings, added = self.pipe._get_t5_prompt_embeds(
            prompt, max_sequence_length=self.text_length, device=self.device
        )
        return WeighedText(embeddings, added=added)

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        assert isinstance(text, WeighedText)
        assert text.added is not None
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch, rows, columns = len(noised), *grid
        mask = functional.pad(text.added, (0, rows * columns), value=1)
        return self.token_inputs(noised, timestep, text) | {
            # Its variants have another function of this name.
            "img_ids": ChromaPipeline._prepare_latent_image_ids(batch, *grid, **like),
            "txt_ids": torch.zeros(text.embeddings.shape[1], 3, **like),
            "attention_mask": mask.to(**like).expand(batch, -1),
        }
