"""FLUX.3: a transformer with random weights; its pipeline is no ordinary one."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import Flux3Transformer2DModel

FLUX3_CONFIG: dict[str, Any] = {
    "in_channels": 16,
    "cond_in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 5,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 24,
    "timestep_channels": 32,
    "axes_dims_rope": (8, 8, 8, 8),
}


def flux3_transformer(seed: int = 0, **overrides: Any) -> Flux3Transformer2DModel:
    """Random FLUX.3 transformer: 2 blocks of text and of image each, 5 joint ones, 2 heads of 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Flux3Transformer2DModel(**(FLUX3_CONFIG | overrides)).eval()


def rounded(transformer: Flux3Transformer2DModel) -> Flux3Transformer2DModel:
    """The model in bfloat16 as it is loaded, with norms of queries and keys in float32."""
    transformer.bfloat16()
    for name, module in transformer.named_modules():
        if name.endswith(("norm_q", "norm_k")):
            module.float()
    return transformer


def flux3_inputs(
    transformer: Flux3Transformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    reference: tuple[int, int] | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a FLUX.3 transformer, in its own dtype.

    Parameters
    ----------
    transformer : Flux3Transformer2DModel
        The model.
    batch : int
        Images.
    grid : tuple of int
        Patches per column and row.
    text : int
        Tokens of the prompt.
    reference : tuple of int, optional
        Patches per column and row of an image to edit.
    seed : int
        Of the inputs.
    """
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    inputs = {
        "hidden_states": random(batch, grid[0] * grid[1], config.in_channels),
        "encoder_hidden_states": random(batch, text, config.joint_attention_dim),
        "timestep": torch.linspace(0.3, 0.7, batch).to(transformer.dtype),
        "img_ids": _image_ids(grid, 0),
        "txt_ids": torch.cartesian_prod(*[torch.arange(1)] * 3, torch.arange(text)).float(),
    }
    if reference is not None:
        inputs["image_cond_hidden_states"] = random(batch, reference[0] * reference[1], config.cond_in_channels)
        inputs["image_cond_ids"] = _image_ids(reference, -1)
    if config.flow_map:
        inputs["target_timestep"] = inputs["timestep"] / 2
    return inputs


def _image_ids(grid: tuple[int, int], which: int) -> torch.Tensor:
    rows, columns = (torch.arange(side) for side in grid)
    ids = torch.cartesian_prod(torch.arange(1), rows, columns, torch.tensor([which])).float()
    ids[:, 1:3] *= 0.5  # as the modular pipeline scales them
    return ids
