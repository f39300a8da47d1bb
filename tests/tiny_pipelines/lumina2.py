"""Lumina-Image 2: whole pipelines with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
from transformers import Gemma2Config, Gemma2Model

from tests.tiny_pipelines.parts import autoencoder, ready
from tests.tiny_pipelines.texts import framed_tokenizer

TEXT_DIM = 16
SYSTEM = (
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based "
    "on textual prompts or user prompts. <Prompt Start> "
)
"""What the pipeline puts before a prompt: one token a word."""
LUMINA2_CONFIG: dict[str, Any] = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 128,
    "num_layers": 5,
    "num_refiner_layers": 2,
    "num_attention_heads": 4,
    "num_kv_heads": 2,
    "multiple_of": 16,
    "axes_dim_rope": (8, 12, 12),
    "axes_lens": (300, 32, 32),
    "cap_feat_dim": TEXT_DIM,
}


def lumina2_transformer(seed: int = 0, **overrides: Any) -> Lumina2Transformer2DModel:
    """Random Lumina-Image 2 transformer: 5 blocks behind 2 of text alone, 4 heads of 32 that share 2 of keys."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Lumina2Transformer2DModel(**(LUMINA2_CONFIG | overrides)).eval()


def lumina2_inputs(
    transformer: Lumina2Transformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    masked: int = 0,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a Lumina-Image 2 transformer, in its own dtype; the last ``masked`` text tokens are padding."""
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    return {
        "hidden_states": random(batch, config.in_channels, 2 * grid[0], 2 * grid[1]),
        "timestep": torch.linspace(0.3, 0.7, batch),
        "encoder_hidden_states": random(batch, text, config.cap_feat_dim),
        "encoder_attention_mask": (torch.arange(text) < text - masked).long().expand(batch, -1),
    }


def lumina2_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> Lumina2Pipeline:
    """Complete random Lumina-Image 2 with 16-pixel patches, which its pipeline always has.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `LUMINA2_CONFIG`.
    """
    tokenizer = framed_tokenizer("<bos>", "right", SYSTEM)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = Gemma2Model(config)
        vae = autoencoder(4)
    pipe = Lumina2Pipeline(
        lumina2_transformer(seed, **overrides),
        FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae.eval(),
        encoder.eval(),
        tokenizer,
    )
    return ready(pipe, dtype)
