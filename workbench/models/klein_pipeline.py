"""Pipeline side of FLUX.2 klein: as dev, with Qwen3 to read text and ordinary guidance in passes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.models.flux2_pipeline import STEPS, Flux2PipelineAdapter
from workbench.models.guidance import Branch, alone, in_passes, refuse_true_guidance
from workbench.schema import InputError

DISTILLED_STEPS = 4


class KleinPipelineAdapter(Flux2PipelineAdapter):
    """``Flux2KleinPipeline``: Qwen3 reads the text behind the start of the user's turn, padded on the right.

    A concept's first token so stands at position 3. Guidance, of models that are not distilled, is the classifier-free
    one, in two passes that the pipeline names.
    """

    language_model = "Qwen3"

    @property
    def _distilled(self) -> bool:
        return bool(self.pipe.config.is_distilled)

    def template(self, text: str) -> str:
        messages = [{"role": "user", "content": text}]
        return str(
            self.component("tokenizer").apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", DISTILLED_STEPS if self._distilled else STEPS))

    @property
    def default_guidance(self) -> float | None:
        return None if self._distilled else super().default_guidance

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        refuse_true_guidance(options)
        if self._distilled and options["negative_prompt"] is not None:
            raise InputError(
                f"negative_prompt is {options['negative_prompt']!r}, but this model is distilled and reads none: leave "
                "it out."
            )
        guided = options["guidance"] is not None and options["guidance"] > 1
        return in_passes() if guided else alone()

    def _negative(self, negative_prompt: str | None) -> dict[str, Any]:
        if negative_prompt is None:  # the pipeline reads an empty one
            return {}
        return {"negative_prompt_embeds": self.encode_prompt(negative_prompt).embeddings}
