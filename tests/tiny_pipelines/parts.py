"""What tiny pipelines of several families are made of."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import Qwen3Config


def autoencoder(blocks: int = 2, **others: Any) -> AutoencoderKL:
    """Random autoencoder, by default as FLUX.1's in what it scales and shifts; two blocks make 2 x 2 pixels a latent.

    Parameters
    ----------
    blocks : int
        Of the encoder; each but the last halves the sides.
    **others
        Configuration that differs.
    """
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks,
        "block_out_channels": (4,) * (blocks - 1) + (8,),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 2,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    }
    return AutoencoderKL(**(config | others)).eval()


def qwen3_config(tokenizer: Any, width: int) -> Qwen3Config:
    """Configuration of a Qwen3 of two layers."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )


def ready(pipe: Any, dtype: torch.dtype) -> Any:
    """The pipeline in a dtype, without a progress bar."""
    if dtype != torch.float32:
        pipe.to(dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe
