"""AuraFlow: whole pipelines with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import UMT5Config, UMT5EncoderModel

from tests.tiny_pipelines.parts import autoencoder, ready
from tests.tiny_random import JOINT_DIM, t5_tokenizer

AURAFLOW_CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_mmdit_layers": 3,
    "num_single_dit_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": JOINT_DIM,
    "caption_projection_dim": 64,
    "pos_embed_max_size": 256,
}


def auraflow_transformer(seed: int = 0, **overrides: Any) -> AuraFlowTransformer2DModel:
    """Random AuraFlow transformer: 3 dual and 2 single blocks, 2 heads of 32, 8 registers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AuraFlowTransformer2DModel(**(AURAFLOW_CONFIG | overrides)).eval()


def auraflow_inputs(
    transformer: AuraFlowTransformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of an AuraFlow transformer, in its own dtype."""
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (side * config.patch_size for side in grid)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    return {
        "hidden_states": random(batch, config.in_channels, rows, columns),
        "encoder_hidden_states": random(batch, text, config.joint_attention_dim),
        "timestep": torch.linspace(0.3, 0.7, batch).to(transformer.dtype),
    }


def auraflow_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> AuraFlowPipeline:
    """Complete random AuraFlow with 4-pixel patches, whose autoencoder runs in float32 where it is of float16.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `AURAFLOW_CONFIG`.
    """
    tokenizer = t5_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = UMT5EncoderModel(
            UMT5Config(vocab_size=len(tokenizer), d_model=JOINT_DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        )
        vae = autoencoder(use_quant_conv=True, use_post_quant_conv=True, scaling_factor=0.13025, shift_factor=None)
    transformer = auraflow_transformer(seed, **overrides)
    with torch.no_grad():
        transformer.proj_out.weight *= 8  # random blocks add so little that bytes would not show it
    pipe = AuraFlowPipeline(
        tokenizer,
        encoder.eval(),
        vae.eval(),
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
    return ready(pipe, dtype)
