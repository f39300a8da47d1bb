"""Qwen-Image: whole pipelines with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from tests.tiny_pipelines.parts import ready
from tests.tiny_pipelines.texts import qwen_tokenizer

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n<|im_start|>assistant\n"
)
"""The words of the pipeline's template: one token each, so that the 34 tokens it drops are those before the prompt."""
EDIT_TEMPLATE = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\nPicture 1:<|im_end|>\n<|im_start|>assistant\n"
)
"""Those of the edit pipelines, which drop 64."""
SEEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
"""Tokens of a text encoder that is shown pictures."""
TEXT_DIM = 16
QWEN_CONFIG: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 5,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": TEXT_DIM,
    "axes_dims_rope": (8, 12, 12),
}


def qwen_transformer(seed: int = 0, **overrides: Any) -> QwenImageTransformer2DModel:
    """Random Qwen-Image transformer: 5 dual blocks, 2 heads of 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return QwenImageTransformer2DModel(**(QWEN_CONFIG | overrides)).eval()


def qwen_inputs(
    transformer: QwenImageTransformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    masked: int = 0,
    reference: tuple[int, int] | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a Qwen-Image transformer, in its own dtype.

    Parameters
    ----------
    transformer : QwenImageTransformer2DModel
        The model.
    batch : int
        Images.
    grid : tuple of int
        Patches per column and row.
    text : int
        Tokens of the prompt.
    masked : int
        How many of them are padding.
    reference : tuple of int, optional
        Patches per column and row of an image to edit, whose tokens are behind the picture's.
    seed : int
        Of the inputs.
    """
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    shapes = [(1, *grid)] + ([] if reference is None else [(1, *reference)])
    mask = (torch.arange(text) < text - masked).long().expand(batch, -1) if masked else None
    return {
        "hidden_states": random(batch, sum(rows * columns for _, rows, columns in shapes), config.in_channels),
        "encoder_hidden_states": random(batch, text, config.joint_attention_dim),
        "encoder_hidden_states_mask": mask,
        "timestep": torch.linspace(0.3, 0.7, batch).to(transformer.dtype),
        "img_shapes": [shapes] * batch,
    }


def qwen_encoder_config(tokenizer: Qwen2Tokenizer, layers: int = 2) -> Qwen2_5_VLConfig:
    """A tiny Qwen2.5-VL that reads the texts of a tokenizer, and is shown pictures where it has tokens for them."""
    shown = set(SEEN) <= set(tokenizer.get_vocab())
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(SEEN)) if shown else range(4)
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": TEXT_DIM,
            "intermediate_size": 16,
            "num_hidden_layers": layers,
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
            "fullatt_block_indexes": [0],
        },
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )


def qwen_pipeline(
    seed: int = 0, dtype: torch.dtype = torch.float32, shown: bool = False, **overrides: Any
) -> QwenImagePipeline:
    """Complete random Qwen-Image with 4-pixel patches.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    shown : bool
        Whether its text encoder can be shown pictures.
    **overrides
        Configuration of the transformer that differs from `QWEN_CONFIG`.
    """
    tokenizer = qwen_tokenizer(TEMPLATE, *([EDIT_TEMPLATE] if shown else []))
    if shown:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *SEEN]})
    config = qwen_encoder_config(tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = Qwen2_5_VLForConditionalGeneration(config)
        vae = AutoencoderKLQwenImage(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[-0.7571, -0.7089, -0.9113, 0.1075],
            latents_std=[2.8184, 1.4541, 2.3275, 2.6558],
        )
    pipe = QwenImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
        vae.eval(),
        encoder.eval(),
        tokenizer,
        qwen_transformer(seed, **overrides),
    )
    return ready(pipe, dtype)
