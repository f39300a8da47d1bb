"""FLUX.1: dual-stream blocks with separate text weights, then single-stream blocks with shared ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from workbench.models.block_records import Concepts, for_batch
from workbench.models.call_inputs import EMBEDDINGS
from workbench.models.flux_like import FluxLikeAdapter
from workbench.models.flux_like_pipeline import FluxLikePipeline, T5Text
from workbench.models.guidance import Branch, by_true_guidance
from workbench.models.latents import Picture, rgb
from workbench.models.pipeline_records import Text
from workbench.models.readers import TextReader
from workbench.schema import InputError

DEV_TEXT_LENGTH = 512
SCHNELL_TEXT_LENGTH = 256
DEV_STEPS = 28
SCHNELL_STEPS = 4
DEV_GUIDANCE = 3.5


class FluxAdapter(FluxLikeAdapter):
    """Transformer side of FLUX.1 (``FluxTransformer2DModel``): text first in the joint sequence.

    Concepts sit at position id 0, where the rotary embedding is the identity.
    """

    timer = "time_text_embed"

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__(transformer)
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.pooled_dim = config["pooled_projection_dim"]

    def conditioning(self, concepts: Concepts, args: tuple[Any, ...], output: Tensor) -> Tensor:
        model: Any = self.transformer
        *times, text = args
        pooled = concepts.pooled
        own = torch.zeros_like(text) if pooled is None else for_batch("pooled", pooled.to(text), len(text))
        conditioning: Tensor = model.time_text_embed(*times, own)
        return conditioning


class FluxPipelineAdapter(T5Text, FluxLikePipeline):
    """Pipeline side of FLUX.1 (``FluxPipeline``): T5 text, zero pooled text for real images, packed latents.

    Embeddings may take the place of the prompt, such as those that ``FluxPriorReduxPipeline`` makes of an image.
    """

    transformer_side: ClassVar[type[FluxAdapter]] = FluxAdapter
    t5_tokenizer = "tokenizer_2"
    leaves_sigmas = True
    extras: ClassVar[tuple[str, ...]] = EMBEDDINGS
    conventions = ("pooled_projections", "guidance")

    @property
    def text_length(self) -> int:
        if "text_length" in self.info:
            return int(self.info["text_length"])
        return DEV_TEXT_LENGTH if self._guided else SCHNELL_TEXT_LENGTH

    @property
    def _embeddings(self) -> Tensor | None:
        """Text (1, token, embedding_dim) that takes the place of the prompt."""
        return self.extra.get(EMBEDDINGS[0])

    def length_of(self, prompt: str) -> int:
        given = self._embeddings
        return self.text_length if given is None or prompt else int(given.shape[1])

    def padding(self, prompt: str) -> list[bool]:
        # Of embeddings nobody knows which of them are padding.
        return super().padding(prompt) if self._embeddings is None or prompt else [False] * self.length_of(prompt)

    @property
    def _guided(self) -> bool:
        return bool(self.pipe.transformer.config.guidance_embeds)

    def readers(self, made: bool) -> tuple[TextReader, ...]:
        if not made:  # pooled text is zero for a real image
            return (self.t5,)
        return self.t5, TextReader("CLIP", self.component("tokenizer"), int(self.pipe.tokenizer_max_length))

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        embeddings: Tensor = self.pipe._get_t5_prompt_embeds(
            prompt,
            max_sequence_length=self.text_length,
            device=self.device,
            dtype=self.component("text_encoder_2").dtype,
        )
        return Text(embeddings)

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", DEV_STEPS if self._guided else SCHNELL_STEPS))

    @property
    def default_guidance(self) -> float | None:
        return DEV_GUIDANCE if self._guided else None

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        if self._embeddings is not None and options["negative_prompt"] is not None:
            raise InputError(
                f"negative_prompt is {options['negative_prompt']!r}, but the text is given as prompt_embeds, beside "
                "which no negative prompt is read: leave it out, or give a prompt."
            )
        return by_true_guidance(options)

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
        options: dict[str, Any] = {} if guidance is None else {"guidance_scale": guidance}
        if negative_prompt is not None:
            options |= {"negative_prompt": negative_prompt, "true_cfg_scale": true_guidance}
        result = self.pipe(
            prompt=prompt if self._embeddings is None else None,
            height=size[0],
            width=size[1],
            num_inference_steps=steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            max_sequence_length=self.text_length,
            output_type="pil",
            **options,
            **self._further(size),
        )
        return rgb(result.images)

    def _further(self, size: tuple[int, int]) -> dict[str, Any]:
        """The further inputs of a call, for a picture of a height and width."""
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        return {name: value.to(**like) if name in EMBEDDINGS else value for name, value in self.extra.items()}

    def inputs(
        self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int], guidance: float = 0.0
    ) -> dict[str, Any]:
        # Pooled text is zero and guidance 0 for a real image, as in the public code.
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        return self.token_inputs(noised, timestep, text) | {
            "pooled_projections": torch.zeros(batch, self.pipe.transformer.config.pooled_projection_dim, **like),
            "guidance": torch.full((batch,), guidance, dtype=torch.float32, device=self.device)
            if self._guided
            else None,
            "img_ids": self.pipe._prepare_latent_image_ids(batch, *grid, **like),
            "txt_ids": torch.zeros(text.embeddings.shape[1], 3, **like),
        }
