"""Pipeline side of FLUX.2 dev: text from three layers of Mistral, latents normalised after patching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu, format_input, retrieve_timesteps
from torch import Tensor

from workbench.models.call_inputs import REFERENCE
from workbench.models.flux2 import Flux2Adapter
from workbench.models.guidance import Branch, alone
from workbench.models.latents import Picture, picture, pixel_tensor, rgb
from workbench.models.pipeline_records import Posterior, Schedule, Text
from workbench.models.schedules import checked_schedule
from workbench.models.templates import TemplatePipeline, TemplateReader
from workbench.schema import InputError

TEXT_LENGTH = 512
STEPS = 50
GUIDANCE = 4.0


class Flux2PipelineAdapter(TemplatePipeline):
    """``Flux2Pipeline`` (dev): Mistral reads a system prompt, then the text, padded on the left.

    A concept of one token so stands at position 510 of 512, behind it the end of the user's turn: the position that the
    public code gives every concept. Real images are given guidance 0, as there, and timestep 500, the paper's best one.
    """

    transformer_side: ClassVar[type[Flux2Adapter]] = Flux2Adapter
    language_model = "Mistral"
    extras: ClassVar[tuple[str, ...]] = ("image",)
    conventions = ("guidance",)

    # --- references ---------------------------------------------------------------------------------------------
    @property
    def several(self) -> bool:
        return True

    @property
    def left_out(self) -> str:
        return REFERENCE if self.extra else ""

    def refuse(self, inputs: Mapping[str, Any]) -> None:
        images = inputs.get("image", [])
        for image in images if isinstance(images, list) else [images]:
            try:
                self.pipe.image_processor.check_image_input(image)
            except ValueError as error:
                raise InputError(
                    f"a reference image of {image.height} x {image.width} pixels cannot be used ({error}): give "
                    "another size."
                ) from error

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * 2

    @property
    def text_length(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    @property
    def default_layers(self) -> tuple[int, ...]:
        """The last three eighths of the dual blocks: those of the public code's maps of dev, 5 to 7 of 8."""
        if "default_layers" in self.info:
            return super().default_layers
        dual = [layer.index for layer in self.layers if layer.kind == "dual"]
        return tuple(dual[-max(1, round(len(dual) * 3 / 8)) :])

    # --- text ---------------------------------------------------------------------------------------------------
    def template(self, text: str) -> str:
        """What the language model is given for a text."""
        messages = format_input([text], system_message=self.pipe.system_message)
        (whole,) = self.component("tokenizer").apply_chat_template(messages, tokenize=False)
        return str(whole)

    @property
    def reader(self) -> TemplateReader:
        """How the language model reads a text."""
        tokenizer = self.component("tokenizer")
        # That of dev is a processor of text and images around the tokenizer.
        inner = getattr(tokenizer, "tokenizer", tokenizer)
        return TemplateReader(self.language_model, inner, self.text_length, self.template)

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        embeddings, positions = self.pipe.encode_prompt(
            prompt, device=self.device, max_sequence_length=self.text_length
        )
        return Text(embeddings, positions=positions)

    # --- latents ------------------------------------------------------------------------------------------------
    @property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of patched latents, (1, channel, 1, 1)."""
        vae = self.component("vae")
        mean, variance = (part.float().cpu().view(1, -1, 1, 1) for part in (vae.bn.running_mean, vae.bn.running_var))
        return mean, torch.sqrt(variance + vae.config.batch_norm_eps)

    @torch.no_grad()
    def encode_image(self, image: Picture) -> Posterior:
        # The pipeline takes the mode of the autoencoder's Gaussian: nothing is sampled.
        latents = self.component("vae").encode(pixel_tensor(self, image)).latent_dist.mode()
        mean, std = self._statistics
        normalised = (self.pipe._patchify_latents(latents.float().cpu()) - mean) / std
        return Posterior(mean=normalised, std=torch.zeros_like(normalised))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Picture:
        vae = self.component("vae")
        mean, std = self._statistics
        unpatched = self.pipe._unpatchify_latents(latents * std + mean)
        return picture(self, vae.decode(unpatched.to(self.device, vae.dtype), return_dict=False)[0])

    def noised(self, latents: Tensor, noise: Tensor, timestep: float) -> Tensor:
        tokens: Tensor = self.pipe._pack_latents(super().noised(latents, noise, timestep))
        return tokens

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        guided = self.pipe.transformer.config.guidance_embeds
        return {
            "hidden_states": noised.to(**like),
            "encoder_hidden_states": text.embeddings.to(**like).expand(batch, -1, -1),
            "timestep": torch.full((batch,), self.sigma(timestep), **like),
            "guidance": torch.zeros(batch, dtype=torch.float32, device=self.device) if guided else None,
            "img_ids": self.pipe._prepare_latent_ids(noised.new_empty(batch, 1, *grid)).to(self.device),
            "txt_ids": text.positions.to(self.device).expand(batch, -1, -1),
        }

    # --- generation ---------------------------------------------------------------------------------------------
    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", STEPS))

    @property
    def default_guidance(self) -> float | None:
        return float(self.info.get("guidance", GUIDANCE))

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler = self.component("scheduler")
        rows, columns = self.grid(height, width)
        shift = compute_empirical_mu(image_seq_len=rows * columns, num_steps=steps)
        sigmas = None if scheduler.config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps).tolist()
        checked = checked_schedule(
            scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas, mu=shift)
        )
        return Schedule.of_flow(checked)

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        if options["negative_prompt"] is not None:
            raise InputError(
                f"negative_prompt is {options['negative_prompt']!r}, but FLUX.2 dev has learnt its guidance and reads "
                "none: leave it out."
            )
        return alone()

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
            height=size[0],
            width=size[1],
            num_inference_steps=steps,
            guidance_scale=1.0 if guidance is None else guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            max_sequence_length=self.text_length,
            output_type="pil",
            **self._negative(negative_prompt),
            **self.extra,
        )
        return rgb(result.images)

    def _negative(self, negative_prompt: str | None) -> dict[str, Any]:
        return {}
