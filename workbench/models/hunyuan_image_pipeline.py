"""Pipeline side of HunyuanImage: two readers of text, guidance by guiders, and models that have learnt mean flow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from diffusers.pipelines.hunyuan_image.pipeline_hunyuanimage import extract_glyph_text, retrieve_timesteps
from torch import Tensor

from workbench.models.guidance import Branch, alone, in_passes, refuse_true_guidance
from workbench.models.guiders import described, guides
from workbench.models.hunyuan_image import HunyuanImageAdapter
from workbench.models.latents import Picture, ScaledLatents, rgb
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Schedule, Text
from workbench.models.readers import TextReader
from workbench.models.schedules import checked_schedule
from workbench.models.templates import TemplatePipeline, TemplateReader
from workbench.schema import InputError

STEPS = 50
DISTILLED_STEPS = 8
DISTILLED_GUIDANCE = 3.25
_QUOTED: Final = re.compile(r'Text "(.*?)"\. ')
"""A quoted part of a prompt, as the pipeline gives it to ByT5."""


@dataclass(frozen=True)
class GlyphText(Text):
    """A prompt as HunyuanImage's two readers read it.

    Attributes
    ----------
    glyphs : Tensor (1, token, glyph_dim)
        What ByT5 makes of its quoted parts; zeros where there are none.
    glyph_mask : Tensor (1, token)
        Which of its tokens are seen.
    """

    glyphs: Tensor | None = None
    glyph_mask: Tensor | None = None


@dataclass(frozen=True)
class GlyphReader(TextReader):
    """ByT5, which reads the quoted parts of a prompt byte by byte."""

    def given(self, text: str) -> str | None:
        """What it is given of a text; None where nothing is quoted."""
        found: str | None = extract_glyph_text(text)
        return found

    def count(self, text: str) -> int:
        given = self.given(text)
        return 0 if given is None else super().count(given)

    def tokens(self, text: str) -> list[int]:
        given = self.given(text)
        return [] if given is None else super().tokens(given)

    def unknown(self, text: str) -> list[str]:
        return []  # it has a token for each byte

    def place(self, text: str) -> tuple[list[int], list[str]]:
        """Positions of the bytes that are quoted text, each with the word that it is of, among those that are read."""
        given, found = self.given(text), list[tuple[int, str]]()
        if given is None or self.count(text) != len(given.encode()) + 1:  # it holds what is a token of its own
            return [], []
        for quoted in _QUOTED.finditer(given):
            for word in re.finditer(r"\S+", quoted.group(1)):
                start = len(given[: quoted.start(1) + word.start()].encode())
                found += [(start + byte, word.group()) for byte in range(len(word.group().encode()))]
        read = [(position, word) for position, word in found if position < self.length - 1]
        return [position for position, _ in read], [word for _, word in read]


class HunyuanImagePipelineAdapter(ScaledLatents, TemplatePipeline):
    """``HunyuanImagePipeline``, of HunyuanImage 2.1 and its distilled model.

    Qwen2.5-VL reads the text in a template whose beginning is dropped, padded to 1000 tokens; a concept is encoded in
    that template. ByT5 reads what is quoted in a prompt: its tokens come first in the transformer's text, and each byte
    counts as the word that it is of. No public code of the method has this family: heat maps are of the second half of
    the dual blocks and of timestep 500, as FLUX.1's; guidance that was learnt is 0 for a real image, and a model of
    mean flow is told that it makes no step.
    """

    transformer_side: ClassVar[type[HunyuanImageAdapter]] = HunyuanImageAdapter
    shifted = False
    conventions = ("guidance", "timestep_r")

    @property
    def _config(self) -> Any:
        return self.pipe.transformer.config

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * int(self._config.patch_size[-1])

    # --- text ---------------------------------------------------------------------------------------------------
    @property
    def text_length(self) -> int:
        return int(self.pipe.tokenizer_max_length) + self._glyph_length

    @property
    def _glyph_length(self) -> int:
        return 0 if self._config.text_embed_2_dim is None else int(self.pipe.tokenizer_2_max_length)

    @property
    def reader(self) -> TemplateReader:
        return TemplateReader(
            "Qwen2.5-VL",
            self.component("tokenizer"),
            int(self.pipe.tokenizer_max_length),
            self.pipe.prompt_template_encode.format,
            dropped=int(self.pipe.prompt_template_encode_start_idx),
        )

    @property
    def _glyphs(self) -> GlyphReader:
        return GlyphReader("ByT5", self.component("tokenizer_2"), int(self.pipe.tokenizer_2_max_length))

    def readers(self, made: bool) -> tuple[TextReader, ...]:
        return (self.reader, self._glyphs) if self._glyph_length else (self.reader,)

    def _before(self, prompt: str) -> int:
        """How many tokens of glyphs are seen before the text."""
        return min(self._glyphs.count(prompt), self._glyphs.length) if self._glyph_length else 0

    def concept_tokens(self, concept: str) -> list[int]:
        return list(self.reader.place(concept).positions)

    concept_positions = PipelineAdapter.concept_positions  # text is not rotated

    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        before = self._before(prompt)
        positions, words = self._glyphs.place(prompt) if before else ([], [])
        own, own_words = super().prompt_tokens(prompt)
        return [*positions, *(before + position for position in own)], [*words, *own_words]

    def padding(self, prompt: str) -> list[bool]:
        seen = self._before(prompt) + self.reader.place(prompt).padding.count(False)
        return [index >= seen for index in range(self.text_length)]

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> GlyphText:
        embeddings, mask, glyphs, glyph_mask = self.pipe.encode_prompt(prompt, device=self.device)
        return GlyphText(embeddings, mask=mask, glyphs=glyphs, glyph_mask=glyph_mask)

    # --- a real image -------------------------------------------------------------------------------------------
    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        assert isinstance(text, GlyphText)
        assert text.mask is not None
        assert text.glyphs is not None
        assert text.glyph_mask is not None
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch, time = len(noised), torch.full((len(noised),), timestep, **like)
        return {
            "hidden_states": noised.to(**like),
            "timestep": time,
            "timestep_r": time if self._config.use_meanflow else None,
            "guidance": torch.zeros(batch, **like) if self._config.guidance_embeds else None,
            "encoder_hidden_states": text.embeddings.to(**like).expand(batch, -1, -1),
            "encoder_attention_mask": text.mask.to(self.device).expand(batch, -1),
            "encoder_hidden_states_2": text.glyphs.to(**like).expand(batch, -1, -1),
            "encoder_attention_mask_2": text.glyph_mask.to(self.device).expand(batch, -1),
        }

    # --- generation ---------------------------------------------------------------------------------------------
    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", DISTILLED_STEPS if self._config.use_meanflow else STEPS))

    @property
    def default_guidance(self) -> float | None:
        return float(self.info.get("guidance", DISTILLED_GUIDANCE)) if self._config.guidance_embeds else None

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        sigmas: Any = np.linspace(1.0, 0.0, steps + 1)[:-1]
        checked = checked_schedule(
            self.component("scheduler"),
            steps,
            lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas),
        )
        return Schedule.of_flow(checked)

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        refuse_true_guidance(options)
        # Prompts that quote something are guided by the second, where there is one.
        plain, quoting = self.pipe.guider, self.pipe.ocr_guider
        if plain is None and quoting is None and options["negative_prompt"] is not None:
            raise InputError(
                f"negative_prompt is {options['negative_prompt']!r}, but this pipeline has no guider, which would read "
                "it: leave it out, or give it one (pipe.guider)."
            )
        found = [guides(guider) for guider in ([plain] if quoting is None else [plain, quoting])]
        return in_passes() if all(found) else alone()

    def told(self, prompt: str) -> Mapping[str, str]:
        quoting = self.pipe.ocr_guider is not None and self._glyphs.given(prompt) is not None
        return {"guider": described(self.pipe.ocr_guider if quoting else self.pipe.guider)}

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
        options = {} if guidance is None else {"distilled_guidance_scale": guidance}
        result = self.pipe(
            prompt,
            negative_prompt=negative_prompt,
            height=size[0],
            width=size[1],
            num_inference_steps=steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="pil",
            **options,
        )
        return rgb(result.images)
