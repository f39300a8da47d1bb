"""FLUX.1: dual-stream blocks with separate text weights, then single-stream blocks with shared ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from torch import Tensor, nn

from workbench.models.call_inputs import EMBEDDINGS
from workbench.models.guidance import Branch, by_true_guidance
from workbench.models.hooks import Hooks
from workbench.models.joint import JointAdapter, Tap, Taps, numbered
from workbench.models.latents import Picture, ScaledLatents, rgb
from workbench.models.pipeline import Schedule, Text
from workbench.models.readers import TextReader
from workbench.models.schedules import checked_schedule
from workbench.models.transformer import WHOLE, BlockCall, Concepts, ConceptStream, Layer, Projection, for_batch
from workbench.schema import InputError, ModelError

DEV_TEXT_LENGTH = 512
SCHNELL_TEXT_LENGTH = 256
DEV_STEPS = 28
SCHNELL_STEPS = 4
DEV_GUIDANCE = 3.5


class FluxAdapter(JointAdapter):
    """Transformer side of FLUX.1 (``FluxTransformer2DModel``): text first in the joint sequence."""

    rotates_pairs = True

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config["joint_attention_dim"]
        self.pooled_dim = config["pooled_projection_dim"]
        self.layers = numbered(
            ("dual", "transformer_blocks", config["num_layers"]),
            ("single", "single_transformer_blocks", config["num_single_layers"]),
        )

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double() * 1000

    def begin(self, given: Mapping[str, Any]) -> None:
        super().begin(given)
        # Kontext appends the tokens of a reference image to the picture's.
        own = _of_picture(given)
        self.patches = WHOLE if bool(own.all()) else slice(0, int(own.sum()))
        if not bool(own[self.patches].all()):
            raise ModelError(
                "img_ids has tokens of another image (another first coordinate) among those of the picture: give them "
                "behind the picture's, as FluxKontextPipeline does."
            )

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        ids = _ids(given)[_of_picture(given)]
        rows, columns = (int(largest) + 1 for largest in ids[:, 1:3].amax(dim=0))
        return rows, columns

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        conditioning: list[Tensor] = []

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            *times, text = args
            pooled = concepts.pooled
            own = torch.zeros_like(text) if pooled is None else for_batch("pooled", pooled.to(text), len(text))
            with hooks.silenced():
                conditioning[:] = [model.time_text_embed(*times, own)]

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                hidden = model.context_embedder(concepts.embeddings.to(args[0]))
            # Concepts sit at position id 0, where the rotary embedding is the identity.
            on_start(ConceptStream(for_batch("concepts", hidden, len(output)), conditioning.pop()))

        hooks.after(model.time_text_embed, after_time)
        hooks.after(model.context_embedder, after_text)

    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        if layer.kind == "dual":
            return self.attention_taps(attention)
        return Taps(
            query=Tap(attention.norm_q, by_head=True),
            key=Tap(attention.norm_k, by_head=True),
            value=self.projected(attention, "to_v", "to_qkv", 2),
            output=Tap(attention),
        )

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        cos, sin = given["image_rotary_emb"]
        return (cos[text:], sin[text:]), (cos[:text], sin[:text])

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        if layer.kind == "dual":
            normed, *rest = block.norm1_context(stream.hidden, emb=stream.conditioning)
            return Projection(*self.project_text(block.attn, normed), rest)
        normed, gate = block.norm(stream.hidden, emb=stream.conditioning)
        return Projection(*self.project_shared(block.attn, normed), (normed, gate))

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        hidden = stream.hidden
        if layer.kind == "dual":
            hidden = self.finish_text(block, hidden, attended, projection.rest)
        else:
            normed, gate = projection.rest
            both = torch.cat([self.merge(attended, hidden), block.act_mlp(block.proj_mlp(normed))], dim=2)
            hidden = hidden + gate.unsqueeze(1) * block.proj_out(both)
        if hidden.dtype == torch.float16:
            # As the model's own blocks do with text tokens.
            hidden = hidden.clip(-65504, 65504)
        return replace(stream, hidden=hidden)


def _ids(given: Mapping[str, Any]) -> Tensor:
    """Position ids (token, 3) of a pass: image, row and column."""
    ids: Tensor = given["img_ids"]
    return ids[0] if ids.ndim == 3 else ids


def _of_picture(given: Mapping[str, Any]) -> Tensor:
    """Which of the image's tokens are patches of the picture, (token,): those of the image that comes first."""
    images = _ids(given)[:, 0]
    return images == images[:1]


class FluxPipelineAdapter(ScaledLatents):
    """Pipeline side of FLUX.1 (``FluxPipeline``): T5 text, zero pooled text for real images, packed latents.

    Embeddings may take the place of the prompt, such as those that ``FluxPriorReduxPipeline`` makes of an image.
    """

    transformer_side: ClassVar[type[FluxAdapter]] = FluxAdapter

    @property
    def extras(self) -> tuple[str, ...]:
        return EMBEDDINGS

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * 2

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
        first = TextReader("T5", self.component("tokenizer_2"), self.text_length)
        if not made:  # pooled text is zero for a real image
            return (first,)
        return first, TextReader("CLIP", self.component("tokenizer"), int(self.pipe.tokenizer_max_length))

    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        tokenizer = self.component("tokenizer_2")
        # One place is taken by the end-of-text token.
        ids = tokenizer(prompt, add_special_tokens=False).input_ids[: self.text_length - 1]
        pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
        return list(range(len(ids))), [piece.lstrip("▁") or piece for piece in pieces]

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

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler = self.component("scheduler")
        config = scheduler.config
        rows, columns = self.grid(height, width)
        shift = calculate_shift(
            rows * columns,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sigmas = None if config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps).tolist()
        checked = checked_schedule(
            scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas, mu=shift)
        )
        return Schedule.of_flow(checked)

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

    def noised(self, latents: Tensor, noise: Tensor, timestep: float) -> Tensor:
        sigma = self.sigma(timestep)
        mixed = sigma * noise + (1 - sigma) * latents
        tokens: Tensor = self.pipe._pack_latents(mixed, *mixed.shape)
        return tokens

    def inputs(
        self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int], guidance: float = 0.0
    ) -> dict[str, Any]:
        # Pooled text is zero and guidance 0 for a real image, as in the public code.
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch, embeddings = len(noised), text.embeddings
        return {
            "hidden_states": noised.to(**like),
            "encoder_hidden_states": embeddings.to(**like).expand(batch, -1, -1),
            "pooled_projections": torch.zeros(batch, self.pipe.transformer.config.pooled_projection_dim, **like),
            "timestep": torch.full((batch,), self.sigma(timestep), **like),
            "guidance": torch.full((batch,), guidance, dtype=torch.float32, device=self.device)
            if self._guided
            else None,
            "img_ids": self.pipe._prepare_latent_image_ids(batch, *grid, **like),
            "txt_ids": torch.zeros(embeddings.shape[1], 3, **like),
        }
