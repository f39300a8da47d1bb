"""HunyuanImage: whole pipelines with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanImage,
    FlowMatchEulerDiscreteScheduler,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
)
from diffusers.guiders import AdaptiveProjectedMixGuidance
from transformers import ByT5Tokenizer, Qwen2_5_VLForConditionalGeneration, T5Config, T5EncoderModel

from tests.tiny_pipelines.parts import ready
from tests.tiny_pipelines.qwen import TEMPLATE, TEXT_DIM, qwen_encoder_config
from tests.tiny_pipelines.texts import qwen_tokenizer

GLYPH_DIM = 12
HUNYUAN_IMAGE_CONFIG: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "num_layers": 3,
    "num_single_layers": 2,
    "num_refiner_layers": 2,
    "patch_size": (1, 1),
    "text_embed_dim": TEXT_DIM,
    "text_embed_2_dim": GLYPH_DIM,
    "rope_axes_dim": (16, 16),
}


def hunyuan_image_transformer(seed: int = 0, **overrides: Any) -> HunyuanImageTransformer2DModel:
    """Random HunyuanImage transformer: 3 dual and 2 single blocks behind 2 of text alone, 2 heads of 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return HunyuanImageTransformer2DModel(**(HUNYUAN_IMAGE_CONFIG | overrides)).eval()


def hunyuan_image_inputs(
    transformer: HunyuanImageTransformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    masked: int = 0,
    glyphs: int | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a HunyuanImage transformer, in its own dtype.

    Parameters
    ----------
    transformer : HunyuanImageTransformer2DModel
        The model.
    batch : int
        Images.
    grid : tuple of int
        Patches per column and row.
    text : int
        Tokens of the prompt.
    masked : int
        How many of them are padding.
    glyphs : int, optional
        How many tokens of five of glyphs are seen; there are none of them without it.
    seed : int
        Of the inputs.
    """
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    given = {
        "hidden_states": random(batch, config.in_channels, *grid),
        "encoder_hidden_states": random(batch, text, config.text_embed_dim),
        "encoder_attention_mask": (torch.arange(text) < text - masked).long().expand(batch, -1),
        "timestep": torch.linspace(300, 700, batch).to(transformer.dtype),
        "guidance": torch.full((batch,), 3000.0) if config.guidance_embeds else None,
        "timestep_r": torch.linspace(200, 600, batch).to(transformer.dtype) if config.use_meanflow else None,
    }
    if glyphs is not None:
        given["encoder_hidden_states_2"] = random(batch, 5, config.text_embed_2_dim)
        given["encoder_attention_mask_2"] = (torch.arange(5) < glyphs).long().expand(batch, -1)
    return given


def hunyuan_image_pipeline(
    seed: int = 0, dtype: torch.dtype = torch.float32, distilled: bool = False, **overrides: Any
) -> HunyuanImagePipeline:
    """Complete random HunyuanImage with 4-pixel patches, and 1000 + 128 tokens of text.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    distilled : bool
        Whether it has learnt its guidance and mean flow, and has no guiders.
    **overrides
        Configuration of the transformer that differs from `HUNYUAN_IMAGE_CONFIG`.
    """
    tokenizer = qwen_tokenizer(TEMPLATE)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = Qwen2_5_VLForConditionalGeneration(qwen_encoder_config(tokenizer, layers=3))
        glyphs = T5EncoderModel(T5Config(vocab_size=384, d_model=GLYPH_DIM, d_kv=6, d_ff=16, num_layers=1, num_heads=2))
        vae = AutoencoderKLHunyuanImage(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            block_out_channels=(32, 64, 64),
            layers_per_block=1,
            spatial_compression_ratio=4,
            sample_size=32,
            scaling_factor=0.75289,
        )
    learnt = {"guidance_embeds": True, "use_meanflow": True} if distilled else {}
    pipe = HunyuanImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=5.0),
        vae.eval(),
        encoder.eval(),
        tokenizer,
        glyphs.eval(),
        ByT5Tokenizer(),
        hunyuan_image_transformer(seed, **(learnt | overrides)),
        None if distilled else AdaptiveProjectedMixGuidance(guidance_scale=3.5),
        None if distilled else AdaptiveProjectedMixGuidance(guidance_scale=2.5),
    )
    return ready(pipe, dtype)
