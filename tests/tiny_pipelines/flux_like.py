"""Chroma, LongCat-Image, Ovis-Image and Bria: whole pipelines with random weights, of FLUX.1's blocks."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    BriaPipeline,
    BriaTransformer2DModel,
    ChromaPipeline,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
)
from torch import nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from tests.tiny_pipelines.parts import autoencoder, qwen3_config, ready
from tests.tiny_pipelines.texts import QWEN3_CHAT, qwen_tokenizer
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
LONGCAT_TEMPLATE = (
    "<|im_start|>system\nAs an image captioning expert, generate a descriptive text prompt based on an image content, "
    "suitable for input to a text-to-image model.<|im_end|>\n<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
)
INSTRUCTION = (
    "Describe the image by detailing the color, quantity, text, shape, size, texture, spatial relationships of the "
    "objects and background: "
)
"""Of Ovis: one token a word, so that the 28 tokens it drops end before the colon, as with the real tokenizer."""
TEXT_DIM = 16
"""Width of the language models that read text."""
APPROXIMATOR = {"approximator_num_channels": 16, "approximator_hidden_dim": 24, "approximator_layers": 1}


def chroma_transformer(seed: int = 0, **overrides: Any) -> ChromaTransformer2DModel:
    """Random Chroma transformer: 3 dual and 2 single blocks, 2 heads of 32."""
    return _made(ChromaTransformer2DModel, seed, APPROXIMATOR | overrides)


def longcat_transformer(seed: int = 0, **overrides: Any) -> LongCatImageTransformer2DModel:
    """Random LongCat-Image transformer: 3 dual and 2 single blocks, 2 heads of 32."""
    return _made(LongCatImageTransformer2DModel, seed, {"joint_attention_dim": TEXT_DIM} | overrides)


def ovis_transformer(seed: int = 0, **overrides: Any) -> OvisImageTransformer2DModel:
    """Random Ovis-Image transformer: 3 dual and 2 single blocks, 2 heads of 32."""
    made = _made(OvisImageTransformer2DModel, seed, {"joint_attention_dim": TEXT_DIM, "out_channels": 16} | overrides)
    with torch.no_grad():  # a norm that has learnt nothing would hide that it is run
        made.context_embedder_norm.weight.copy_(torch.linspace(0.5, 2, TEXT_DIM))
    return made


def bria_transformer(seed: int = 0, **overrides: Any) -> BriaTransformer2DModel:
    """Random Bria transformer: 3 dual and 2 single blocks, 2 heads of 32."""
    return _made(BriaTransformer2DModel, seed, overrides)


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


def longcat_inputs(
    transformer: LongCatImageTransformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    reference: tuple[int, int] | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a LongCat-Image transformer, in its own dtype.

    Parameters
    ----------
    transformer : LongCatImageTransformer2DModel
        The model.
    batch : int
        Images.
    grid : tuple of int
        Patches per column and row.
    text : int
        Tokens of the prompt, behind whose positions those of the picture begin.
    reference : tuple of int, optional
        Patches per column and row of an image to edit, whose tokens are behind the picture's.
    seed : int
        Of the inputs.
    """
    ids = [image_ids(grid, 1, text)] + ([] if reference is None else [image_ids(reference, 2, text)])
    inputs = tokens(transformer, batch, (1, sum(map(len, ids))), text, seed)
    return inputs | {"img_ids": torch.cat(ids), "txt_ids": diagonal(text)}


def ovis_inputs(
    transformer: OvisImageTransformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of an Ovis-Image transformer, in its own dtype."""
    inputs = tokens(transformer, batch, grid, text, seed)
    return inputs | {"img_ids": image_ids(grid), "txt_ids": diagonal(text)}


def bria_inputs(
    transformer: BriaTransformer2DModel, batch: int = 1, grid: tuple[int, int] = (4, 6), text: int = 7, seed: int = 1
) -> dict[str, Any]:
    """Random inputs of a Bria transformer, in its own dtype, but for timesteps from 0 to 1000."""
    ids = {"img_ids": image_ids(grid), "txt_ids": torch.zeros(text, 3), "timestep": torch.linspace(300, 700, batch)}
    return tokens(transformer, batch, grid, text, seed) | ids


def diagonal(text: int) -> torch.Tensor:
    """Position ids of text tokens, which count rows and columns alike."""
    along = torch.arange(text).float()
    return torch.stack([torch.zeros(text), along, along], dim=1)


# --- pipelines ---------------------------------------------------------------------------------------------------
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
        encoder, vae = _t5(), autoencoder()
    transformer = chroma_transformer(seed, **overrides)
    return ready(ChromaPipeline(_scheduler(), vae.eval(), encoder.eval(), t5_tokenizer(), transformer), dtype)


def longcat_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> LongCatImagePipeline:
    """Complete random LongCat-Image with 4-pixel patches; its prompts cannot be rewritten, for want of a processor.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `BLOCKS`.
    """
    tokenizer = qwen_tokenizer(LONGCAT_TEMPLATE)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": TEXT_DIM,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 2048,
            "bos_token_id": tokenizer.eos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": TEXT_DIM,
        },
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # The pipeline makes noise of 16 channels, whatever the model says.
        encoder, vae = Qwen2_5_VLForConditionalGeneration(config), autoencoder(latent_channels=16)
    transformer = longcat_transformer(seed, **({"in_channels": 64} | overrides))
    pipe = LongCatImagePipeline(
        _scheduler(), vae.eval(), encoder.eval(), tokenizer, text_processor=tokenizer, transformer=transformer
    )
    return ready(pipe, dtype)


def ovis_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> OvisImagePipeline:
    """Complete random Ovis-Image with 4-pixel patches.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `BLOCKS`.
    """
    tokenizer = qwen_tokenizer("user\n", "assistant", INSTRUCTION, chat_template=QWEN3_CHAT)
    config = qwen3_config(tokenizer, TEXT_DIM)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder, vae = Qwen3Model(config), autoencoder()
    transformer = ovis_transformer(seed, **overrides)
    return ready(OvisImagePipeline(_scheduler(), vae.eval(), encoder.eval(), tokenizer, transformer), dtype)


def bria_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> BriaPipeline:
    """Complete random Bria 3.2 with 4-pixel patches.

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
        encoder, vae = _t5(), autoencoder()
    transformer = bria_transformer(seed, **overrides)
    return ready(BriaPipeline(transformer, _scheduler(), vae.eval(), encoder.eval(), t5_tokenizer()), dtype)
