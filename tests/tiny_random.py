"""Tiny models with random weights, built in code: no download, a few milliseconds a forward pass."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from tests.tiny_pipelines.parts import autoencoder, ready
from workbench.tiny.training.bank import Bank, Described
from workbench.tiny.training.components import LATENT_CHANNELS

WORDS = ("a", "and", "on", "under", "dog", "cat", "grass", "sky", "sun", "house", "tree", "water", "red", "blue")
"""Words the T5 tokenizer knows as one token; "skyscraper" takes two, other words fall apart into letters."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
JOINT_DIM = 40
POOLED_DIM = 24
FLUX_CONFIG: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 3,
    "num_single_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": JOINT_DIM,
    "pooled_projection_dim": POOLED_DIM,
    "guidance_embeds": False,
    "axes_dims_rope": (8, 12, 12),
}


def flux_transformer(seed: int = 0, **overrides: Any) -> FluxTransformer2DModel:
    """Random FLUX.1 transformer: 3 dual and 2 single blocks, 2 heads of 32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FluxTransformer2DModel(**(FLUX_CONFIG | overrides)).eval()


def flux_inputs(
    transformer: FluxTransformer2DModel,
    batch: int = 1,
    grid: tuple[int, int] = (4, 6),
    text: int = 7,
    reference: tuple[int, int] | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Random inputs of a FLUX.1 transformer, in its own dtype.

    Parameters
    ----------
    transformer : FluxTransformer2DModel
        The model.
    batch : int
        Images.
    grid : tuple of int
        Patches per column and row.
    text : int
        Tokens of the prompt.
    reference : tuple of int, optional
        Patches per column and row of a reference image, whose tokens are behind the picture's.
    seed : int
        Of the inputs.
    """
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)
    grids = [grid] if reference is None else [grid, reference]
    places = [
        torch.cartesian_prod(torch.tensor([float(image)]), torch.arange(float(rows)), torch.arange(float(columns)))
        for image, (rows, columns) in enumerate(grids)
    ]
    img_ids = torch.cat(places)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(transformer.dtype)

    return {
        "hidden_states": draw(batch, len(img_ids), config.in_channels),
        "encoder_hidden_states": draw(batch, text, config.joint_attention_dim),
        "pooled_projections": draw(batch, config.pooled_projection_dim),
        "timestep": torch.linspace(0.3, 0.7, batch).to(transformer.dtype),
        "guidance": torch.full((batch,), 3.5) if config.guidance_embeds else None,
        "img_ids": img_ids,
        "txt_ids": torch.zeros(text, 3),
    }


def concept_embeddings(count: int = 3, width: int = JOINT_DIM, seed: int = 2) -> torch.Tensor:
    """Random concept embeddings (1, concept, width)."""
    return torch.randn(1, count, width, generator=torch.Generator().manual_seed(seed))


def t5_tokenizer() -> T5Tokenizer:
    """Unigram tokenizer of `WORDS`, "scraper" and single letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -4.0) for word in WORDS] + [("scraper", -5.0)] + [(letter, -9.0) for letter in LETTERS]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair tokenizer of single letters, padded to 16 tokens."""
    pieces = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=16)


def flux_pipeline(seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> FluxPipeline:
    """Complete random FluxPipeline with 4-pixel patches.

    Parameters
    ----------
    seed : int
        Seed of all weights.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `FLUX_CONFIG`.
    """
    t5, clip = t5_tokenizer(), clip_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = autoencoder()
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip),
                hidden_size=POOLED_DIM,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
                projection_dim=POOLED_DIM,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        text_encoder_2 = T5EncoderModel(
            T5Config(vocab_size=len(t5), d_model=JOINT_DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        )
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=clip,
        text_encoder_2=text_encoder_2.eval(),
        tokenizer_2=t5,
        transformer=flux_transformer(seed, **overrides),
    )
    return ready(pipe, dtype)


def random_bank(scenes: int, cells: int) -> Bank:
    """Noise for latents, and what captions can say of two scenes by turns: two objects, and one."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(scenes, LATENT_CHANNELS, cells, cells, generator=generator).bfloat16()
    two = Described((0, 3, 13), (0, 1), (0, 1), (-1, 0, 1, -1))
    one = Described((5, 12), (2,), (2,), (-1,))
    return Bank(latents, [two, one] * (scenes // 2))
