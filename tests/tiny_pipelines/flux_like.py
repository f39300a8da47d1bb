"""Chroma, LongCat-Image, Ovis-Image and Bria: whole pipelines with random weights, of FLUX.1's blocks."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler
from torch import nn
from transformers import T5Config, T5EncoderModel

from tests.tiny_random import JOINT_DIM, t5_tokenizer

BLOCKS: dict[str, Any] = {
    "in_channels": 16,
    "num_layers": 3,
    "num_single_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": JOINT_DIM,
    "axes_dims_rope": (8, 12, 12),
}
APPROXIMATOR = {"approximator_num_channels": 16, "approximator_hidden_dim": 24, "approximator_layers": 1}


def chroma_transformer(seed: int = 0, **overrides: Any) -> ChromaTransformer2DModel:
    """Random Chroma transformer: 3 dual and 2 single blocks, 2 heads of 32."""
    return _made(ChromaTransformer2DModel, seed, APPROXIMATOR | overrides)


def _made(cls: Any, seed: int, overrides: dict[str, Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls(**(BLOCKS | overrides)).eval()


def drop_modulation(transformer: Any, index: int) -> None:
    """Leave a block out of Chroma's table of modulation, whose rows are those of all blocks."""
    config = transformer.config
    duals, singles = config.num_layers, config.num_single_layers
    if index < duals:
        starts, count = [3 * singles + 6 * (duals * text + index) for text in (0, 1)], 6
    else:
        starts, count = [3 * (index - duals)], 3
    gone = {start + row for start in starts for row in range(count)}
    kept = [row for row in range(3 * singles + 12 * duals + 2) if row not in gone]
    transformer.distilled_guidance_layer = nn.Sequential(transformer.distilled_guidance_layer, _Rows(kept))


class _Rows(nn.Module):
    """Some rows of a table (batch, row, width)."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__()
        self._rows = rows

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        return table[:, self._rows]


# --- inputs ------------------------------------------------------------------------------------------------------
def tokens(transformer: Any, batch: int, grid: tuple[int, int], text: int, seed: int) -> dict[str, Any]:
    """Random tokens of image and text, in the transformer's own dtype, and timesteps from 0 to 1."""
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    return {
        "hidden_states": random(batch, grid[0] * grid[1], config.in_channels),
        "encoder_hidden_states": random(batch, text, config.joint_attention_dim),
        "timestep": torch.linspace(0.3, 0.7, batch).to(transformer.dtype),
    }


def image_ids(grid: tuple[int, int], which: int = 0, start: int = 0) -> torch.Tensor:
    """Position ids (which image, row, column) of patches."""
    rows, columns = (torch.arange(start, start + side) for side in grid)
    return torch.cartesian_prod(torch.tensor([which]), rows, columns).float()


def chroma_inputs(
    transformer: ChromaTransformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    masked: int = 0,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a Chroma transformer, in its own dtype.

    Parameters
    ----------
    transformer : ChromaTransformer2DModel
        The model.
    batch : int
        Images.
    grid : tuple of int
        Patches per column and row.
    text : int
        Tokens of the prompt.
    masked : int
        How many of them have zeros in the mask, whose zeros and ones are numbers, as the pipeline's.
    seed : int
        Of the inputs.
    """
    inputs = tokens(transformer, batch, grid, text, seed)
    mask = torch.ones(batch, text + grid[0] * grid[1]).to(transformer.dtype)
    mask[:, text - masked : text] = 0
    ids = {"img_ids": image_ids(grid), "txt_ids": torch.zeros(text, 3)}
    return inputs | ids | {"attention_mask": mask if masked else None}


# --- pipelines ---------------------------------------------------------------------------------------------------
def _autoencoder(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=2,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )


def _t5() -> T5EncoderModel:
    config = T5Config(vocab_size=len(t5_tokenizer()), d_model=JOINT_DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return T5EncoderModel(config)


def _scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def chroma_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> ChromaPipeline:
    """Complete random Chroma with 4-pixel patches.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `BLOCKS`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder, vae = _t5(), _autoencoder()
    transformer = chroma_transformer(seed, **overrides)
    return _ready(ChromaPipeline(_scheduler(), vae.eval(), encoder.eval(), t5_tokenizer(), transformer), dtype)


def _ready(pipe: Any, dtype: torch.dtype) -> Any:
    if dtype != torch.float32:
        pipe.to(dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe
