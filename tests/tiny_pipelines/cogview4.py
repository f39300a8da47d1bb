"""CogView4: whole pipelines with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import GlmConfig, GlmModel

from tests.tiny_pipelines.parts import autoencoder, ready
from tests.tiny_pipelines.texts import framed_tokenizer

TEXT_DIM = 16
COGVIEW4_CONFIG: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 5,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "text_embed_dim": TEXT_DIM,
    "time_embed_dim": 16,
    "condition_dim": 8,
    "pos_embed_max_size": 16,
    "sample_size": 8,
    "rope_axes_dim": (16, 16),
}


def cogview4_transformer(seed: int = 0, **overrides: Any) -> CogView4Transformer2DModel:
    """Random CogView4 transformer: 5 blocks, 2 heads of 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CogView4Transformer2DModel(**(COGVIEW4_CONFIG | overrides)).eval()


def cogview4_inputs(
    transformer: CogView4Transformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    masked: int = 0,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a CogView4 transformer, in its own dtype; the last ``masked`` text tokens are masked."""
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    size = torch.tensor([[64.0, 96.0]], dtype=transformer.dtype).expand(batch, -1)
    return {
        "hidden_states": random(batch, config.in_channels, 2 * grid[0], 2 * grid[1]),
        "encoder_hidden_states": random(batch, text, config.text_embed_dim),
        "timestep": torch.linspace(300, 700, batch),
        "original_size": size,
        "target_size": size,
        "crop_coords": torch.zeros_like(size),
        "attention_mask": (torch.arange(text) < text - masked).long().expand(batch, -1) if masked else None,
    }


def cogview4_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> CogView4Pipeline:
    """Complete random CogView4 with 16-pixel patches.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `COGVIEW4_CONFIG`.
    """
    tokenizer = framed_tokenizer("[gMASK] <sop>", "left")
    config = GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=2048,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = GlmModel(config)
        vae = autoencoder(4, scaling_factor=0.8, shift_factor=None)
    pipe = CogView4Pipeline(
        tokenizer,
        encoder.eval(),
        vae.eval(),
        cogview4_transformer(seed, **overrides),
        FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear"
        ),
    )
    return ready(pipe, dtype)
