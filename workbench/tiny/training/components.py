"""The untrained parts of tiny-flux: a FLUX pipeline in diffusers' own classes, small enough for a laptop's CPU."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from workbench.tiny.scenes import COLOUR_WORDS, NOUNS, RELATIONS, SIZE_WORDS

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

TEXT_LENGTH = 28
"""Tokens of a prompt or a concept after padding, in both text encoders."""
VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            "a",
            "an",
            "and",
            "on",
            "under",
            *" ".join(RELATIONS).split(),
            *filter(None, SIZE_WORDS),
            *COLOUR_WORDS,
            *NOUNS,
        )
    )
)
"""Every word the tokenizers know; one token each."""
PATCH = 8
"""Side of a patch in pixels: two latent cells of four pixels each way."""
TEXT_WIDTH = 128
POOLED_WIDTH = 64
LATENT_CHANNELS = 8
DUAL_BLOCKS, SINGLE_BLOCKS = 5, 2
BLOCKS = DUAL_BLOCKS + SINGLE_BLOCKS
HEADS, HEAD_DIM = 2, 64
ROTARY = (8, 28, 28)
"""Dimensions of a head turned by id, row and column: wide enough that several frequencies tell 16 places apart."""


def _merged(pieces: list[str], merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding: apply the merges in their order."""
    for left, right in merges:
        position = 0
        while position < len(pieces) - 1:
            if (pieces[position], pieces[position + 1]) == (left, right):
                pieces[position : position + 2] = [left + right]
            position += 1
    return pieces


def tokenizers() -> tuple[CLIPTokenizer, T5Tokenizer]:
    """CLIP (byte-pair) and T5 (unigram) tokenizers that give one token per word of :data:`VOCABULARY`."""
    from transformers import CLIPTokenizer, T5Tokenizer

    unigrams = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -9.0)]
    unigrams += [("▁" + word, -1.0) for word in VOCABULARY]
    t5 = T5Tokenizer(vocab=unigrams, extra_ids=0, model_max_length=TEXT_LENGTH)

    vocabulary: dict[str, int] = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        vocabulary[letter] = len(vocabulary)
        vocabulary[letter + "</w>"] = len(vocabulary)
    merges: list[tuple[str, str]] = []
    for word in VOCABULARY:
        pieces = _merged([*word[:-1], word[-1] + "</w>"], merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
            vocabulary.setdefault(pieces[0], len(vocabulary))
    clip = CLIPTokenizer(vocab=vocabulary, merges=cast(Any, merges), model_max_length=TEXT_LENGTH)
    return clip, t5


def text_encoders(clip_size: int, t5_size: int) -> tuple[CLIPTextModel, T5EncoderModel]:
    """Untrained text encoders for vocabularies of the given sizes.

    T5's heads start with strong preferences for some distances between tokens. With its own, twenty times smaller, a
    caption stays a bag of words: after 16,000 steps of training, exchanging two nouns in it changed nothing.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=clip_size,
            hidden_size=POOLED_WIDTH,
            intermediate_size=2 * POOLED_WIDTH,
            projection_dim=POOLED_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=t5_size,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    first: Any = t5.encoder.block[0]
    torch.nn.init.normal_(first.layer[0].SelfAttention.relative_attention_bias.weight, std=2.0)
    return clip, t5


def autoencoder() -> AutoencoderKL:
    """Untrained VAE: 4 pixels to a latent cell; two cells by two make a patch of 8 x 8 pixels."""
    from diffusers import AutoencoderKL

    model: AutoencoderKL = AutoencoderKL(
        block_out_channels=(24, 48, 48),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )
    return model


def transformer() -> FluxTransformer2DModel:
    """Untrained FLUX transformer: 5 dual and 2 single blocks, 2 heads of 64."""
    from diffusers import FluxTransformer2DModel

    model: FluxTransformer2DModel = FluxTransformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=DUAL_BLOCKS,
        num_single_layers=SINGLE_BLOCKS,
        attention_head_dim=HEAD_DIM,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        axes_dims_rope=ROTARY,
    )
    return model


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Flow matching without a shift of the timesteps: the picture is small."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    model: FlowMatchEulerDiscreteScheduler = FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)
    return model


def save_pipeline(
    folder: Path,
    vae: AutoencoderKL,
    denoiser: FluxTransformer2DModel,
    clip: CLIPTextModel,
    t5: T5EncoderModel,
    info: dict[str, object],
) -> None:
    """Write a float16 pipeline for plain ``FluxPipeline.from_pretrained``, with ``info`` as ``workbench.json``."""
    from diffusers import FluxPipeline

    clip_tokenizer, t5_tokenizer = tokenizers()
    pipe = FluxPipeline(
        scheduler=scheduler(),
        vae=copy.deepcopy(vae),  # what is given stays in its own dtype
        text_encoder=copy.deepcopy(clip),
        tokenizer=clip_tokenizer,
        text_encoder_2=copy.deepcopy(t5),
        tokenizer_2=t5_tokenizer,
        transformer=copy.deepcopy(denoiser),
    )
    pipe.vae.register_to_config(_name_or_path="")  # no folder of the machine that trained it
    pipe.to(torch.float16).save_pretrained(folder)
    (folder / "workbench.json").write_text(json.dumps(info, indent=2) + "\n")
