"""FLUX.2: whole pipelines with random weights, dev with Mistral and klein with Qwen3."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.tiny_pipelines.parts import ready
from tests.tiny_pipelines.texts import QWEN3_CHAT, mistral_tokenizer, qwen_tokenizer

TEXT_DIM = 8
"""Width of the text encoders, of which three layers are put side by side."""
FLUX2_CONFIG: dict[str, Any] = {
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 3,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 3 * TEXT_DIM,
    "timestep_guidance_channels": 32,
    "axes_dims_rope": (8, 8, 8, 8),
}


def flux2_transformer(seed: int = 0, **overrides: Any) -> Flux2Transformer2DModel:
    """Random FLUX.2 transformer: 2 dual and 3 single blocks, 2 heads of 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Flux2Transformer2DModel(**(FLUX2_CONFIG | overrides)).eval()


def flux2_inputs(
    transformer: Flux2Transformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    reference: tuple[int, int] | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a FLUX.2 transformer, in its own dtype.

    Parameters
    ----------
    transformer : Flux2Transformer2DModel
        The model.
    batch : int
        Images.
    grid : tuple of int
        Patches per column and row.
    text : int
        Tokens of the prompt.
    reference : tuple of int, optional
        Patches per column and row of a reference image, whose tokens are behind the picture's.
    seed : int
        Of the inputs.
    """
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)
    grids = [grid] if reference is None else [grid, reference]
    one = torch.arange(1)
    places = [
        torch.cartesian_prod(torch.tensor([10 * image]), *(torch.arange(side) for side in sides), one)
        for image, sides in enumerate(grids)
    ]
    img_ids = torch.cat(places)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    return {
        "hidden_states": random(batch, len(img_ids), config.in_channels),
        "encoder_hidden_states": random(batch, text, config.joint_attention_dim),
        "timestep": torch.linspace(0.3, 0.7, batch).to(transformer.dtype),
        "guidance": torch.full((batch,), 4.0) if config.guidance_embeds else None,
        "img_ids": img_ids.expand(batch, -1, -1),
        "txt_ids": torch.cartesian_prod(one, one, one, torch.arange(text)).expand(batch, -1, -1),
    }


def _autoencoder() -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=32,
        mid_block_add_attention=False,
    )
    # Statistics of latents, which trained weights bring; those of a new layer would hide that they are used.
    vae.bn.running_mean.copy_(torch.randn(16) / 4)
    vae.bn.running_var.copy_(torch.rand(16) + 0.5)
    return vae.eval()


def _scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def flux2_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> Flux2Pipeline:
    """Complete random FLUX.2 with 4-pixel patches.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `FLUX2_CONFIG`.
    """
    tokenizer = mistral_tokenizer(SYSTEM_MESSAGE)
    text = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        intermediate_size=8,
        num_hidden_layers=31,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = PixtralVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=32, patch_size=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision))
        vae = _autoencoder()
    pipe = Flux2Pipeline(_scheduler(), vae, encoder.eval(), tokenizer, flux2_transformer(seed, **overrides))
    return ready(pipe, dtype)


def klein_pipeline(
    seed: int = 0, dtype: torch.dtype = torch.float32, distilled: bool = False, **overrides: Any
) -> Flux2KleinPipeline:
    """Complete random FLUX.2 klein with 4-pixel patches.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    distilled : bool
        Whether it takes no guidance.
    **overrides
        Configuration of the transformer that differs from `FLUX2_CONFIG` without guidance.
    """
    tokenizer = qwen_tokenizer("user\n\n", "assistant", chat_template=QWEN3_CHAT)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        intermediate_size=8,
        num_hidden_layers=28,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder, vae = Qwen3ForCausalLM(config), _autoencoder()
    transformer = flux2_transformer(seed, **({"guidance_embeds": False} | overrides))
    pipe = Flux2KleinPipeline(_scheduler(), vae, encoder.eval(), tokenizer, transformer, is_distilled=distilled)
    return ready(pipe, dtype)
