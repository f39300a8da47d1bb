"""Stable Diffusion 3: whole pipelines with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from tests.tiny_pipelines.parts import autoencoder, ready
from tests.tiny_pipelines.texts import clip_tokenizer
from tests.tiny_random import JOINT_DIM, t5_tokenizer

CLIP_LENGTH = 16
CLIP_DIM = 12
SD3_CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 5,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": JOINT_DIM,
    "caption_projection_dim": 64,
    "pooled_projection_dim": 2 * CLIP_DIM,
    "pos_embed_max_size": 24,
    "qk_norm": "rms_norm",
}
"""Stable Diffusion 3.5 large; medium has `dual_attention_layers` too, and 3 no `qk_norm`."""


def sd3_transformer(seed: int = 0, **overrides: Any) -> SD3Transformer2DModel:
    """Random SD3 transformer: 5 blocks, the last without text behind it, 2 heads of 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SD3Transformer2DModel(**(SD3_CONFIG | overrides)).eval()


def sd3_inputs(
    transformer: SD3Transformer2DModel, batch: int = 1, grid: tuple[int, int] = (4, 6), text: int = 7, seed: int = 1
) -> dict[str, Any]:
    """Random inputs of an SD3 transformer, in its own dtype."""
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (side * config.patch_size for side in grid)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    return {
        "hidden_states": random(batch, config.in_channels, rows, columns),
        "encoder_hidden_states": random(batch, text, config.joint_attention_dim),
        "pooled_projections": random(batch, config.pooled_projection_dim),
        "timestep": torch.linspace(300, 700, batch),
    }


def sd3_pipeline(
    seed: int = 0, dtype: torch.dtype = torch.float32, t5: bool = True, **overrides: Any
) -> StableDiffusion3Pipeline:
    """Complete random pipeline with 4-pixel patches, 16 CLIP tokens and its scheduler's constant shift.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    t5 : bool
        Whether there is a third text encoder; many load the model without.
    **overrides
        Configuration of the transformer that differs from `SD3_CONFIG`.
    """
    clip, tokenizer_3 = clip_tokenizer(CLIP_LENGTH), t5_tokenizer()

    def text_encoder() -> CLIPTextModelWithProjection:
        config = CLIPTextConfig(
            vocab_size=len(clip),
            hidden_size=CLIP_DIM,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=CLIP_LENGTH,
            projection_dim=CLIP_DIM,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        return CLIPTextModelWithProjection(config).eval()

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = autoencoder(
            latent_channels=overrides.get("in_channels", SD3_CONFIG["in_channels"]),
            scaling_factor=1.5305,
            shift_factor=0.0609,
        )
        encoders = [text_encoder(), text_encoder()]
        text_encoder_3 = None
        if t5:
            config = T5Config(
                vocab_size=len(tokenizer_3), d_model=JOINT_DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2
            )
            text_encoder_3 = T5EncoderModel(config).eval()
    pipe = StableDiffusion3Pipeline(
        transformer=sd3_transformer(seed, **overrides),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae.eval(),
        text_encoder=encoders[0],
        tokenizer=clip,
        text_encoder_2=encoders[1],
        tokenizer_2=clip_tokenizer(CLIP_LENGTH),
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3 if t5 else None,
    )
    return ready(pipe, dtype)
