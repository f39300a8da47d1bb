"""Pipeline side of Qwen-Image: text without its template and unpadded, an autoencoder of videos of one frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.qwenimage.pipeline_qwenimage import retrieve_timesteps
from torch import Tensor

from workbench.models.guidance import Branch, by_true_guidance
from workbench.models.latents import Picture, picture, pixel_tensor, rgb
from workbench.models.pipeline_records import Posterior, Schedule, Text
from workbench.models.qwen import QwenAdapter
from workbench.models.schedules import checked_schedule, shift_of
from workbench.models.templates import TemplatePipeline, TemplateReader

TEXT_LENGTH = 512
STEPS = 50


class QwenPipelineAdapter(TemplatePipeline):
    """``QwenImagePipeline``: Qwen2.5-VL reads the text in a template, whose beginning the pipeline then drops.

    The text keeps its own length, and ends with the five tokens of the template behind it. A concept's first token so
    stands at position 0. No public code of the method has this family: its conventions here are ours, and FLUX.1's
    where that has any. Heat maps so are of the second half of the blocks and of timestep 500.
    """

    transformer_side: ClassVar[type[QwenAdapter]] = QwenAdapter

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * 2

    # --- text ---------------------------------------------------------------------------------------------------
    @property
    def text_length(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    def length_of(self, prompt: str) -> int:
        return len(self.padding(prompt))

    @property
    def reader(self) -> TemplateReader:
        """How the language model reads a text."""
        return TemplateReader(
            "Qwen2.5-VL",
            self.component("tokenizer"),
            self.text_length,
            self.pipe.prompt_template_encode.format,
            padded=False,
            dropped=int(self.pipe.prompt_template_encode_start_idx),
        )

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        embeddings, mask = self.pipe.encode_prompt(prompt, device=self.device, max_sequence_length=self.text_length)
        return Text(embeddings, mask=mask)

    # --- latents ------------------------------------------------------------------------------------------------
    @property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of latents, (1, channel, 1, 1)."""
        config = self.component("vae").config
        both = [config.latents_mean, config.latents_std]
        mean, std = torch.tensor(both, dtype=torch.float32, device="cpu").view(2, 1, -1, 1, 1)
        return mean, std

    @torch.no_grad()
    def encode_image(self, image: Picture) -> Posterior:
        encoded = self.component("vae").encode(pixel_tensor(self, image).unsqueeze(2)).latent_dist
        mean, std = self._statistics
        own_mean, own_std = (part.float().cpu()[:, :, 0] for part in (encoded.mean, encoded.std))
        return Posterior(mean=(own_mean - mean) / std, std=own_std / std)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Picture:
        vae = self.component("vae")
        mean, std = self._statistics
        scaled = (latents * std + mean).unsqueeze(2).to(self.device, vae.dtype)
        return picture(self, vae.decode(scaled, return_dict=False)[0][:, :, 0])

    def noised(self, latents: Tensor, noise: Tensor, timestep: float) -> Tensor:
        mixed = super().noised(latents, noise, timestep)
        tokens: Tensor = self.pipe._pack_latents(mixed, *mixed.shape)
        return tokens

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        return {
            "hidden_states": noised.to(**like),
            "encoder_hidden_states": text.embeddings.to(**like).expand(batch, -1, -1),
            "encoder_hidden_states_mask": None if text.mask is None else text.mask.to(self.device).expand(batch, -1),
            "timestep": torch.full((batch,), self.sigma(timestep), **like),
            "img_shapes": [[(1, *grid)]] * batch,
        }

    # --- generation ---------------------------------------------------------------------------------------------
    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", STEPS))

    @property
    def default_guidance(self) -> None:
        return None  # of its own; classifier-free guidance is `negative_prompt` with `true_guidance`

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler = self.component("scheduler")
        rows, columns = self.grid(height, width)
        shift = shift_of(scheduler, rows * columns)
        sigmas = np.linspace(1.0, 1 / steps, steps).tolist()
        checked = checked_schedule(
            scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas, mu=shift)
        )
        return Schedule.of_flow(checked)

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
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
        result = self.pipe(
            prompt=prompt,
            negative_prompt=negative_prompt,
            true_cfg_scale=true_guidance,
            height=size[0],
            width=size[1],
            num_inference_steps=steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="pil",
            **self._further(),
        )
        return rgb(result.images)

    def _further(self) -> dict[str, Any]:
        """The further inputs of a call."""
        return {"max_sequence_length": self.text_length, **self.extra}
