"""Pipeline side of Stable Diffusion 3 and 3.5: CLIP's tokens, then T5's; ordinary guidance in one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import retrieve_timesteps
from torch import Tensor

from workbench.models.guidance import Branch, alone, in_batch, refuse_true_guidance
from workbench.models.latents import Picture, ScaledLatents, rgb
from workbench.models.pipeline_records import Schedule, Text
from workbench.models.readers import TextReader
from workbench.models.schedules import checked_schedule, shift_of
from workbench.models.sd3 import SD3Adapter

T5_LENGTH = 256
STEPS = 28
GUIDANCE = 7.0


class SD3PipelineAdapter(ScaledLatents):
    """``StableDiffusion3Pipeline``.

    A concept is encoded on its own and takes its CLIP tokens, the first of which is behind the start of text. The
    public code reads all concepts as one prompt and takes its tokens in turn: there each depends on those before it.
    Real images are told the prompt's own pooled text, as in the public code for this family. Heat maps are of the
    second half of the blocks, since deeper ones are better in the paper, and of timestep 500, its best one.
    """

    transformer_side: ClassVar[type[SD3Adapter]] = SD3Adapter

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * int(self.pipe.transformer.config.patch_size)

    @property
    def _clip(self) -> TextReader:
        return TextReader("CLIP", self.component("tokenizer"), int(self.pipe.tokenizer_max_length))

    @property
    def _t5(self) -> TextReader | None:
        if self.pipe.text_encoder_3 is None:  # zeros then stand where its tokens would
            return None
        return TextReader("T5", self.component("tokenizer_3"), self._t5_length)

    @property
    def _t5_length(self) -> int:
        return int(self.info.get("text_length", T5_LENGTH))

    @property
    def text_length(self) -> int:
        return int(self.pipe.tokenizer_max_length) + self._t5_length

    def readers(self, made: bool) -> tuple[TextReader, ...]:
        return (self._clip,) if self._t5 is None else (self._clip, self._t5)

    def concept_tokens(self, concept: str) -> list[int]:
        return [1 + index for index in range(len(self._clip.tokens(concept)))]

    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        positions, words = self.concept_tokens(prompt), self._clip.words(prompt)
        if self._t5 is not None:
            behind = self._t5.words(prompt)
            positions += [self._clip.length + index for index in range(len(behind))]
            words += behind
        return positions, words

    def padding(self, prompt: str) -> list[bool]:
        # A token begins CLIP's text, and one ends each of the two.
        clip = len(self._clip.tokens(prompt)) + 2
        t5 = 0 if self._t5 is None else len(self._t5.tokens(prompt)) + 1
        ends = ((clip, self._clip.length), (t5, self._t5_length))
        return [index >= end for end, length in ends for index in range(length)]

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        embeddings, _, pooled, _ = self.pipe.encode_prompt(
            prompt,
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self._t5_length,
        )
        return Text(embeddings, pooled=pooled)

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", STEPS))

    @property
    def default_guidance(self) -> float:
        return float(self.info.get("guidance", GUIDANCE))

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler = self.component("scheduler")
        config, options = scheduler.config, dict[str, Any]()
        if config.get("use_dynamic_shifting"):
            rows, columns = self.grid(height, width)
            options["mu"] = shift_of(scheduler, rows * columns, most=1.16)
        return Schedule.of_flow(
            checked_schedule(scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", **options))
        )

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        refuse_true_guidance(options)
        return in_batch("unconditional") if options["guidance"] > 1 else alone()

    def generate(
        self,
        prompt: str,
        *,
        steps: int,
        guidance: float | None,
        seed: int,
        size: tuple[int, int],
        negative_prompt: str | None = None,
        true_guidance: float = 1.0,
    ) -> Picture:
        result = self.pipe(
            prompt=prompt,
            negative_prompt=negative_prompt,
            height=size[0],
            width=size[1],
            num_inference_steps=steps,
            guidance_scale=self.default_guidance if guidance is None else guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            max_sequence_length=self._t5_length,
            output_type="pil",
            **self.extra,
        )
        return rgb(result.images)

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        assert text.pooled is not None
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        return {
            "hidden_states": noised.to(**like),
            "encoder_hidden_states": text.embeddings.to(**like).expand(batch, -1, -1),
            "pooled_projections": text.pooled.to(**like).expand(batch, -1),
            "timestep": torch.full((batch,), timestep, dtype=torch.float32, device=self.device),
        }
