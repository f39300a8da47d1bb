"""Z-Image: whole pipelines with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3ForCausalLM

from tests.tiny_pipelines.parts import autoencoder, qwen3_config, ready
from tests.tiny_pipelines.texts import QWEN3_CHAT, qwen_tokenizer

TEXT_DIM = 16
Z_IMAGE_CONFIG: dict[str, Any] = {
    "in_channels": 4,
    "dim": 64,
    "n_layers": 5,
    "n_refiner_layers": 2,
    "n_heads": 2,
    "n_kv_heads": 2,
    "cap_feat_dim": TEXT_DIM,
    "axes_dims": [8, 12, 12],
    "axes_lens": [640, 32, 32],
}


def z_image_transformer(seed: int = 0, **overrides: Any) -> ZImageTransformer2DModel:
    """Random Z-Image transformer: 5 blocks behind 2 of the caption alone, 2 heads of 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ZImageTransformer2DModel(**(Z_IMAGE_CONFIG | overrides)).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("pad_token"):  # trained ones are not zero
                torch.nn.init.normal_(parameter)
        return model


def z_image_inputs(
    transformer: ZImageTransformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int | tuple[int, ...] = 7,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a Z-Image transformer, in its own dtype; ``text`` is the length of all captions or of each."""
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)
    lengths = (text,) * batch if isinstance(text, int) else text

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    return {
        "x": [random(config.in_channels, 1, 2 * grid[0], 2 * grid[1]) for _ in range(batch)],
        "t": torch.linspace(0.3, 0.7, batch),
        "cap_feats": [random(length, config.cap_feat_dim) for length in lengths],
    }


def z_image_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> ZImagePipeline:
    """Complete random Z-Image with 4-pixel patches.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `Z_IMAGE_CONFIG`.
    """
    tokenizer = qwen_tokenizer("user\n\n", "assistant", chat_template=QWEN3_CHAT)
    config = qwen3_config(tokenizer, TEXT_DIM)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = Qwen3ForCausalLM(config)
        vae = autoencoder()
    pipe = ZImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae.eval(),
        encoder.eval(),
        tokenizer,
        z_image_transformer(seed, **overrides),
    )
    return ready(pipe, dtype)
