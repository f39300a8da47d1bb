"""FLUX.1: dual-stream blocks with separate text weights, then single-stream blocks with shared ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from torch import Tensor, nn

from workbench.models.base import (
    BlockTensors,
    ConceptStream,
    Hooks,
    Layer,
    PipelineAdapter,
    Posterior,
    Projection,
    TransformerAdapter,
    for_batch,
)
from workbench.schema import POOLS, InputError

DEV_TEXT_LENGTH = 512
SCHNELL_TEXT_LENGTH = 256
DEV_STEPS = 28
SCHNELL_STEPS = 4
DEV_GUIDANCE = 3.5


class FluxAdapter(TransformerAdapter):
    """Transformer side of FLUX.1 (``FluxTransformer2DModel``): text first in the joint sequence."""

    rotates_pairs = True

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config["joint_attention_dim"]
        self.pooled_dim = config["pooled_projection_dim"]
        dual, single = config["num_layers"], config["num_single_layers"]
        self.layers = tuple(Layer(i, "dual", f"transformer_blocks.{i}") for i in range(dual)) + tuple(
            Layer(dual + i, "single", f"single_transformer_blocks.{i}") for i in range(single)
        )

    def watch_start(
        self, hooks: Hooks, concepts: Tensor, pooled: Tensor | None, on_start: Callable[[ConceptStream], None]
    ) -> None:
        model: Any = self.transformer
        conditioning: list[Tensor] = []

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            *times, text = args
            own = torch.zeros_like(text) if pooled is None else for_batch("pooled", pooled.to(text), len(text))
            with hooks.silenced():
                conditioning[:] = [model.time_text_embed(*times, own)]

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                hidden = model.context_embedder(concepts.to(args[0]))
            on_start(ConceptStream(for_batch("concepts", hidden, len(output)), conditioning.pop()))

        hooks.after(model.time_text_embed, after_time)
        hooks.after(model.context_embedder, after_text)

    def watch_block(
        self, hooks: Hooks, layer: Layer, needs: Collection[str], on_block: Callable[[BlockTensors], None]
    ) -> None:
        block: Any = self.block(layer)
        attention = block.attn
        dual = layer.kind == "dual"
        layout: dict[str, Any] = {}
        seen: dict[str, Tensor] = {}

        def before_block(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            names = ("hidden_states", "encoder_hidden_states", "temb", "image_rotary_emb")
            given = dict(zip(names, args, strict=False)) | kwargs
            layout.update(text=given["encoder_hidden_states"].shape[1], rotary=given["image_rotary_emb"])
            seen.clear()

        def keep(name: str) -> Callable[[tuple[Any, ...], dict[str, Any], Tensor], None]:
            def after(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
                seen[name] = output

            return after

        def deliver(output: Tensor) -> None:
            length, (cos, sin) = layout["text"], layout["rotary"]
            text, image, first = slice(None, length), slice(length, None), 0 if dual else length
            # `to_qkv` delivers query, key and value in one tensor, the value last.
            value = seen.get("value", seen["qkv"].chunk(3, dim=-1)[2] if "qkv" in seen else None)
            prompt = seen.get("prompt_query") if dual else seen.get("query")
            prompt_key = seen.get("prompt_key") if dual else seen.get("key")
            tensors = BlockTensors(
                output=self._by_head(output[:, first:]),
                query=self._rows(seen.get("query"), first) if "query" in needs else None,
                key=self._rows(seen.get("key"), first),
                value=None if value is None else self._by_head(value[:, first:]),
                prompt_query=prompt[:, text].transpose(1, 2)
                if prompt is not None and "prompt_query" in needs
                else None,
                prompt_key=prompt_key[:, text].transpose(1, 2)
                if prompt_key is not None and "prompt_key" in needs
                else None,
                rotary=(cos[image], sin[image]),
                prompt_rotary=(cos[text], sin[text]),
            )
            seen.clear()
            on_block(tensors)

        hooks.before(block, before_block)
        if "query" in needs or ("prompt_query" in needs and not dual):
            hooks.after(attention.norm_q, keep("query"))
        if "prompt_query" in needs and dual:
            hooks.after(attention.norm_added_q, keep("prompt_query"))
        if "prompt_key" in needs and dual:
            hooks.after(attention.norm_added_k, keep("prompt_key"))
        if "key" in needs:
            hooks.after(attention.norm_k, keep("key"))
        if "value" in needs and attention.fused_projections:
            hooks.after(attention.to_qkv, keep("qkv"))
        elif "value" in needs:
            hooks.after(attention.to_v, keep("value"))
        if dual:
            hooks.before(attention.to_out[0], lambda args, kwargs: deliver(args[0]))
        else:
            hooks.after(attention, lambda args, kwargs, output: deliver(output))

    @cached_property
    def _attentions(self) -> list[Any]:
        blocks: list[Any] = [self.block(layer) for layer in self.layers]
        return [block.attn for block in blocks]

    def structure(self) -> tuple[bool, ...]:
        return tuple(attention.fused_projections for attention in self._attentions)

    def project(self, layer: Layer, stream: ConceptStream) -> Projection:
        block: Any = self.block(layer)
        attention = block.attn
        if layer.kind == "dual":
            normed, *rest = block.norm1_context(stream.hidden, emb=stream.conditioning)
            if attention.fused_projections:
                query, key, value = attention.to_added_qkv(normed).chunk(3, dim=-1)
            else:
                query, key, value = (
                    attention.add_q_proj(normed),
                    attention.add_k_proj(normed),
                    attention.add_v_proj(normed),
                )
            norm_query, norm_key = attention.norm_added_q, attention.norm_added_k
        else:
            normed, gate = block.norm(stream.hidden, emb=stream.conditioning)
            rest = [normed, gate]
            if attention.fused_projections:
                query, key, value = attention.to_qkv(normed).chunk(3, dim=-1)
            else:
                query, key, value = attention.to_q(normed), attention.to_k(normed), attention.to_v(normed)
            norm_query, norm_key = attention.norm_q, attention.norm_k
        # Concepts sit at position id 0, where the rotary embedding is the identity.
        return Projection(
            query=norm_query(query.unflatten(-1, (self.heads, self.head_dim))).transpose(1, 2),
            key=norm_key(key.unflatten(-1, (self.heads, self.head_dim))).transpose(1, 2),
            value=self._by_head(value),
            rest=rest,
        )

    def advance(self, layer: Layer, stream: ConceptStream, projection: Projection, attended: Tensor) -> ConceptStream:
        block: Any = self.block(layer)
        hidden = stream.hidden
        attended = attended.transpose(1, 2).flatten(2).to(hidden.dtype)
        if layer.kind == "dual":
            gate, shift_mlp, scale_mlp, gate_mlp = projection.rest
            hidden = hidden + gate.unsqueeze(1) * block.attn.to_add_out(attended)
            normed = block.norm2_context(hidden) * (1 + scale_mlp[:, None]) + shift_mlp[:, None]
            hidden = hidden + gate_mlp.unsqueeze(1) * block.ff_context(normed)
        else:
            normed, gate = projection.rest
            both = torch.cat([attended, block.act_mlp(block.proj_mlp(normed))], dim=2)
            hidden = hidden + gate.unsqueeze(1) * block.proj_out(both)
        if hidden.dtype == torch.float16:
            # As the model's own blocks do with text tokens.
            hidden = hidden.clip(-65504, 65504)
        return ConceptStream(hidden, stream.conditioning)

    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        return cast(Tensor, apply_rotary_emb(vectors, rotary, sequence_dim=2))

    def _by_head(self, tokens: Tensor) -> Tensor:
        """Split (batch, sequence, head x dim) into (batch, head, sequence, dim), as a view."""
        return tokens.reshape(*tokens.shape[:2], self.heads, self.head_dim).transpose(1, 2)

    @staticmethod
    def _rows(tokens: Tensor | None, first: int) -> Tensor | None:
        """Turn (batch, sequence, head, dim) from row ``first`` on into (batch, head, patch, dim), as a view."""
        return None if tokens is None else tokens[:, first:].transpose(1, 2)


class FluxPipelineAdapter(PipelineAdapter):
    """Pipeline side of FLUX.1 (``FluxPipeline``): T5 text, zero pooled text for real images, packed latents."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        return FluxAdapter(self.transformer).layers

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * 2

    @property
    def native(self) -> tuple[int, int]:
        if "size" in self.info:
            height, width = self.info["size"]
            return int(height), int(width)
        side = int(self.pipe.default_sample_size) * int(self.pipe.vae_scale_factor)
        return side, side

    @property
    def text_length(self) -> int:
        if "text_length" in self.info:
            return int(self.info["text_length"])
        return DEV_TEXT_LENGTH if self._guided else SCHNELL_TEXT_LENGTH

    @property
    def _guided(self) -> bool:
        return bool(self.pipe.transformer.config.guidance_embeds)

    @torch.no_grad()
    def encode_concepts(self, concepts: Sequence[str], pool: str = "first") -> tuple[Tensor, list[int]]:
        if pool not in POOLS:
            raise InputError(f"pool is {pool!r}; expected one of {', '.join(POOLS)}.")
        vectors, counts = [], []
        for concept in concepts:
            positions, _ = self.prompt_tokens(concept)
            used = slice(0, 1 if pool == "first" else max(1, len(positions)))
            vectors.append(self.encode_prompt(concept)[:, used].mean(dim=1, keepdim=True))
            counts.append(len(positions))
        return torch.cat(vectors, dim=1), counts

    def prompt_length(self, prompt: str) -> int:
        return len(self.component("tokenizer_2")(prompt).input_ids)

    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        tokenizer = self.component("tokenizer_2")
        # One place is taken by the end-of-text token.
        ids = tokenizer(prompt, add_special_tokens=False).input_ids[: self.text_length - 1]
        pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
        return list(range(len(ids))), [piece.lstrip("▁") or piece for piece in pieces]

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Tensor:
        embeddings: Tensor = self.pipe._get_t5_prompt_embeds(
            prompt,
            max_sequence_length=self.text_length,
            device=self.device,
            dtype=self.component("text_encoder_2").dtype,
        )
        return embeddings

    @torch.no_grad()
    def encode_image(self, image: np.ndarray[Any, np.dtype[np.uint8]]) -> Posterior:
        vae = self.component("vae")
        height, width = image.shape[:2]
        self.grid(height, width)
        pixels = self.pipe.image_processor.preprocess(image[None].astype(np.float32) / 255, height=height, width=width)
        encoded = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist
        scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        return Posterior(mean=(encoded.mean.float().cpu() - shift) * scale, std=encoded.std.float().cpu() * scale)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        vae = self.component("vae")
        scaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        decoded = vae.decode(scaled.to(self.device, vae.dtype), return_dict=False)[0]
        return _pixels(self.pipe.image_processor.postprocess(decoded, output_type="pil"))

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", DEV_STEPS if self._guided else SCHNELL_STEPS))

    @property
    def default_guidance(self) -> float | None:
        return DEV_GUIDANCE if self._guided else None

    def schedule(self, steps: int, height: int, width: int) -> tuple[float, ...]:
        scheduler = copy.deepcopy(self.component("scheduler"))
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
        timesteps, _ = retrieve_timesteps(scheduler, steps, "cpu", sigmas=sigmas, mu=shift)
        return tuple(float(timestep) / 1000 for timestep in timesteps)

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
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        options: dict[str, Any] = {} if guidance is None else {"guidance_scale": guidance}
        if negative_prompt is not None:
            options |= {"negative_prompt": negative_prompt, "true_cfg_scale": true_guidance}
        result = self.pipe(
            prompt,
            height=size[0],
            width=size[1],
            num_inference_steps=steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            max_sequence_length=self.text_length,
            output_type="pil",
            **options,
        )
        return _pixels(result.images)

    def noised_tokens(self, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
        mixed = sigma * noise + (1 - sigma) * latents
        tokens: Tensor = self.pipe._pack_latents(mixed, *mixed.shape)
        return tokens

    def inputs(
        self, tokens: Tensor, sigma: float, text: Tensor, grid: tuple[int, int], guidance: float = 0.0
    ) -> dict[str, Any]:
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(tokens)
        return {
            "hidden_states": tokens.to(**like),
            "encoder_hidden_states": text.to(**like).expand(batch, -1, -1),
            "pooled_projections": torch.zeros(batch, self.pipe.transformer.config.pooled_projection_dim, **like),
            "timestep": torch.full((batch,), sigma, **like),
            "guidance": torch.full((batch,), guidance, device=self.device) if self._guided else None,
            "img_ids": self.pipe._prepare_latent_image_ids(batch, *grid, **like),
            "txt_ids": torch.zeros(text.shape[1], 3, **like),
        }


def _pixels(pictures: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The only picture of a list, as RGB bytes."""
    (picture,) = pictures
    return np.asarray(picture.convert("RGB"))
