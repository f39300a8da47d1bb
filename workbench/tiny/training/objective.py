"""What the bundled model is trained on: flow matching, and words read from the text stream.

Both losses see pictures and captions only. Beside each caption ride a few *concept tokens*, exactly as in
ConceptAttention: single words embedded alone, which attend to one another and to the image and are seen by nobody.
Linear heads on their hidden states (thrown away after training) predict whether the caption of the picture names the
word and, for objects, which colour it gives; they are asked in the rows whose caption the model does not get to see.
This trains text-to-image attention, without a loss on attention or on concept maps and without positions;
:mod:`workbench.tiny.training.control` shows what flow matching alone makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.tiny.scenes import COLOUR_WORDS, NOUNS, OBJECTS
from workbench.tiny.training import components
from workbench.tiny.training.bank import Bank, caption
from workbench.tiny.training.components import TEXT_LENGTH

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

CONCEPTS = 8
"""Concept tokens beside each caption."""
SUPERVISED = (2, 3, 4)
"""Dual blocks (by depth) behind which the heads read the concept tokens."""
LOUDEST = 0.85
"""Sigma above which the word losses are not asked for: nothing is left to see."""
Level = tuple[float, float]
"""Mean and standard deviation of the logits of sigmas."""


@dataclass(frozen=True)
class Batch:
    """One training step's examples on the training device.

    Attributes
    ----------
    tokens
        (row, patch, in_channels) clean packed latents.
    grid
        Patches in a column and in a row.
    t5_ids, clip_ids
        (row, token) caption tokens.
    pooled
        (row,) bool: whether the row sees CLIP's pooled caption, else zeros.
    bare
        (row,) bool: whether the row has no caption; only these are asked for words.
    nouns
        (row, concept) noun indices of the concept tokens.
    present
        (row, concept) 1.0 where the caption's picture has the noun.
    colours
        (row, concept) colour index, -100 where the noun is absent or a background.
    sigma
        (row,) 0 to 1: how much of the latents is noise.
    noise
        Like ``tokens``.
    hidden
        (row, patch) bool: patches that the row's concept tokens do not see.
    restart
        (row,) dual block in front of which the row's concept tokens forget what they have read; 0 for none.
    jitter
        (block, row, head, concept, dim) noise on what the concept tokens give one another, in units of a value's size.
    """

    tokens: Tensor
    grid: tuple[int, int]
    t5_ids: Tensor
    clip_ids: Tensor
    pooled: Tensor
    bare: Tensor
    nouns: Tensor
    present: Tensor
    colours: Tensor
    sigma: Tensor
    noise: Tensor
    hidden: Tensor
    restart: Tensor
    jitter: Tensor


class Words:
    """Captions to token ids of both text encoders."""

    def __init__(self, clip: CLIPTokenizer, t5: T5Tokenizer) -> None:
        self._tokenizers = (clip, t5)

    def __call__(self, captions: list[str], length: int = TEXT_LENGTH) -> tuple[Tensor, Tensor]:
        """(caption, token) ids for CLIP and for T5, padded to ``length``."""
        clip, t5 = (
            tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
            for tokenizer in self._tokenizers
        )
        return clip, t5


def pack(latents: Tensor) -> Tensor:
    """(row, channel, cell_y, cell_x) latents to (row, patch, 4 x channel) tokens, in FLUX's order."""
    rows, channels, height, width = latents.shape
    cells = latents.view(rows, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(rows, height * width // 4, channels * 4)


def sample_batch(
    bank: Bank,
    words: Words,
    rows: int,
    seed: tuple[int, int],
    device: str,
    hardened: bool = False,
    levels: tuple[Level, Level] = ((0.3, 1.0), (0.3, 1.0)),
    length: int = TEXT_LENGTH,
) -> Batch:
    """Draw the examples of a step; the same ``seed`` (run, step) gives the same batch.

    Parameters
    ----------
    bank, words
        Scenes and tokenizers.
    rows
        Number of examples.
    seed
        Seed of the run, and the step.
    device
        Where the batch goes.
    hardened
        Keep the concept tokens from reading a word off a few telling patches in a single block: up to 70 % of the
        patches are hidden from them, and in 60 % of the rows they start anew in front of a random block. Noise on
        their own values makes attention to the image worth more to them than attention to themselves.
    levels
        Noise levels of rows without a caption, and of rows with one. What a caption decides, an object's place and
        colour, is decided in nearly pure noise: an object has thousands of latent values, which together show its
        colour where each of them is noise.
    length
        Tokens of a caption.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    chosen = rng.integers(0, len(bank.described), rows)
    nouns = np.empty((rows, CONCEPTS), dtype=np.int64)
    present = np.zeros((rows, CONCEPTS), dtype=np.float32)
    colours = np.full((rows, CONCEPTS), -100, dtype=np.int64)
    captions = []
    for row, index in enumerate(chosen):
        mine, hues = bank.described[index].words, bank.described[index].colours
        captions.append(caption(rng, bank.described[index]))
        absent = rng.permutation([noun for noun in range(len(NOUNS)) if noun not in mine])
        shown = rng.permutation(mine)[:CONCEPTS]
        order = np.concatenate([shown, absent])[:CONCEPTS]
        nouns[row] = order
        for column, noun in enumerate(shown):
            present[row, column] = 1
            if noun < len(OBJECTS):
                colours[row, column] = hues[mine.index(int(noun))]
    clip_ids, t5_ids = words(captions, length)
    tokens = pack(bank.latents[torch.from_numpy(chosen)].float())
    height, width = (side // 2 for side in bank.latents.shape[-2:])
    means, spreads = torch.tensor([levels[bool(text)] for text in captions]).T
    sigma = torch.sigmoid(means + spreads * torch.randn(rows, generator=generator))
    pooled = torch.tensor([bool(text) and rng.random() < 0.5 for text in captions])
    noise = torch.randn(tokens.shape, generator=generator)
    hidden = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    restart = torch.zeros(rows, dtype=torch.long)
    jitter = torch.zeros(components.BLOCKS, rows, components.HEADS, CONCEPTS, components.HEAD_DIM)
    if hardened:
        jitter = 2 * torch.randn(jitter.shape, generator=generator)
        hidden = torch.from_numpy(rng.random(tuple(hidden.shape)) < rng.uniform(0, 0.7, (rows, 1)))
        restart = torch.from_numpy(rng.integers(1, SUPERVISED[-1] + 1, rows) * (rng.random(rows) < 0.6))
    return Batch(
        tokens=tokens.to(device),
        grid=(height, width),
        t5_ids=t5_ids.to(device),
        clip_ids=clip_ids.to(device),
        pooled=pooled.to(device),
        bare=torch.tensor([not text for text in captions], device=device),
        nouns=torch.from_numpy(nouns).to(device),
        present=torch.from_numpy(present).to(device),
        colours=torch.from_numpy(colours).to(device),
        sigma=sigma.to(device),
        noise=noise.to(device),
        hidden=hidden.to(device),
        restart=restart.to(device),
        jitter=jitter.to(device),
    )


class StreamAttention:
    """FLUX's attention over [prompt; image], and the concepts' over [concepts; image] beside it.

    Prompt and image go through PyTorch's own attention, as in diffusers' processor, and never see the concepts. Used in
    training only; the saved model runs with diffusers' own processor.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        length: int = 0,
        jitter: Tensor | None = None,
    ) -> Any:
        """Attention outputs of all tokens.

        Parameters
        ----------
        attn
            The attention module.
        hidden_states, encoder_hidden_states
            The image's (row, patch, width) and the text's (row, token, width) tokens; in single blocks all of them,
            text first.
        attention_mask
            (row, 1, 1, concept + patch): minus infinity at what concepts do not see.
        image_rotary_emb
            Cosines and sines of the patches only; the text's rotation is the identity.
        length
            Prompt tokens in front of the concepts.
        jitter
            (row, head, concept, dim): noise on the concepts' own values, in units of a value's size.
        """
        from diffusers.models import embeddings

        def by_head(tokens: Tensor) -> Tensor:
            return cast(Tensor, tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2))

        assert image_rotary_emb is not None
        assert attention_mask is not None
        assert jitter is not None
        rotate: Any = embeddings.apply_rotary_emb
        patches = image_rotary_emb[0].shape[0]
        query = attn.norm_q(by_head(attn.to_q(hidden_states)))
        key = attn.norm_k(by_head(attn.to_k(hidden_states)))
        value = by_head(attn.to_v(hidden_states))
        if encoder_hidden_states is None:
            text = [part[:, :, :-patches] for part in (query, key, value)]
            query, key, value = (part[:, :, -patches:] for part in (query, key, value))
        else:
            text = [
                attn.norm_added_q(by_head(attn.add_q_proj(encoder_hidden_states))),
                attn.norm_added_k(by_head(attn.add_k_proj(encoder_hidden_states))),
                by_head(attn.add_v_proj(encoder_hidden_states)),
            ]
        query = rotate(query, image_rotary_emb).to(value.dtype)
        key = rotate(key, image_rotary_emb).to(value.dtype)
        text = [part.to(value.dtype) for part in text]
        heard = [torch.cat([mine[:, :, :length], its], 2) for mine, its in zip(text, (query, key, value), strict=True)]
        out = F.scaled_dot_product_attention(heard[0], heard[1], heard[2]).transpose(1, 2).flatten(2)
        asking, own, given = (part[:, :, length:] for part in text)
        given = given + (jitter * given.detach().float().square().mean().sqrt()).to(given.dtype)
        weights = asking @ torch.cat([own, key], 2).transpose(-1, -2) * attn.head_dim**-0.5
        weights = (weights.float() + attention_mask).softmax(-1).to(value.dtype)
        beside = (weights @ torch.cat([given, value], 2)).transpose(1, 2).flatten(2)
        words, image = torch.cat([out[:, :length], beside], 1), out[:, length:]
        if encoder_hidden_states is None:
            return torch.cat([words, image], 1)
        return attn.to_out[0](image), attn.to_add_out(words)


def visibility(concepts: int, hidden: Tensor) -> Tensor:
    """(row, 1, 1, concept + patch): 0 where a concept sees a key, else minus infinity."""
    unseen = torch.cat([hidden.new_zeros(len(hidden), concepts), hidden], 1)
    return torch.zeros(unseen.shape, device=hidden.device).masked_fill(unseen, -torch.inf)[:, None, None]


class Reader(nn.Module):
    """Linear heads behind the supervised blocks: is the word in the picture, and in which colour?"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in SUPERVISED)
        self.heads = nn.ModuleList(nn.Linear(width, 1 + len(COLOUR_WORDS)) for _ in SUPERVISED)

    def forward(self, states: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """The losses ``presence`` and ``colour``, and the ``accuracy`` of presence behind the last supervised block.

        All three are of the rows without a caption: elsewhere the image has read the words in the caption, and concepts
        could read them off it without knowing what they look like.
        """
        weight = ((batch.sigma < LOUDEST) & batch.bare).float()[:, None].expand_as(batch.present)
        targets = torch.where(weight > 0, batch.colours, -100).flatten()
        presence = colour = torch.zeros((), device=weight.device)
        right = weight
        for state, norm, head in zip(states, self.norms, self.heads, strict=True):
            logits = head(norm(state)).float()
            loss = F.binary_cross_entropy_with_logits(logits[..., 0], batch.present, reduction="none")
            presence = presence + (loss * weight).sum() / weight.sum().clamp(min=1) / len(SUPERVISED)
            losses = F.cross_entropy(logits[..., 1:].flatten(0, 1), targets, ignore_index=-100, reduction="sum")
            colour = colour + losses / (targets >= 0).sum().clamp(min=1) / len(SUPERVISED)
            right = ((logits[..., 0] > 0) == (batch.present > 0.5)).float()
        return {
            "presence": presence,
            "colour": colour,
            "accuracy": (right * weight).sum() / weight.sum().clamp(min=1),
        }


class Student(nn.Module):
    """Everything that is trained together: transformer, both text encoders, and the heads."""

    def __init__(self, denoiser: FluxTransformer2DModel, clip: CLIPTextModel, t5: T5EncoderModel, noun_ids: Tensor):
        super().__init__()
        self.denoiser, self.clip, self.t5 = denoiser, clip, t5
        denoiser.set_attn_processor(cast(Any, StreamAttention()))
        self.reader = Reader(denoiser.inner_dim)
        self.register_buffer("noun_ids", noun_ids, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch: ``flow``, and what :class:`Reader` finds."""
        sigma = batch.sigma[:, None, None]
        noised = sigma * batch.noise + (1 - sigma) * batch.tokens
        velocity, states = self.denoise(noised, batch)
        flow = F.mse_loss(velocity.float(), batch.noise - batch.tokens)
        read: dict[str, Tensor] = self.reader([states[layer] for layer in SUPERVISED], batch)
        return {"flow": flow} | read

    def denoise(self, noised: Tensor, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The transformer's own blocks, one after the other, with the concept tokens behind the prompt.

        Returns
        -------
        velocity
            (row, patch, in_channels).
        states
            The concept tokens (row, concept, width) behind every dual block.
        """
        model, device = self.denoiser, noised.device
        pooled = self.clip(batch.clip_ids).pooler_output * batch.pooled[:, None]
        prompt = self.t5(batch.t5_ids)[0]
        concepts = self.t5(self.noun_ids)[0][:, 0][batch.nouns]
        text = model.context_embedder(torch.cat([prompt, concepts], 1))
        image = model.x_embedder(noised)
        temb = model.time_text_embed(batch.sigma * 1000, pooled)
        length = prompt.shape[1]
        ids = torch.zeros(image.shape[1], 3, device=device)
        rows, columns = torch.meshgrid(*(torch.arange(side, device=device) for side in batch.grid), indexing="ij")
        ids[:, 1], ids[:, 2] = rows.flatten(), columns.flatten()
        rotary = model.pos_embed(ids)
        mask = visibility(concepts.shape[1], batch.hidden)
        extra = [{"attention_mask": mask, "length": length, "jitter": jitter} for jitter in batch.jitter]
        fresh = text[:, length:]
        states = []
        for depth, block in enumerate(model.transformer_blocks):
            if depth:
                again = (batch.restart == depth)[:, None, None]
                text = torch.cat([text[:, :length], torch.where(again, fresh, text[:, length:])], 1)
            text, image = block(image, text, temb, rotary, extra[depth])
            states.append(text[:, length:])
        for block, more in zip(model.single_transformer_blocks, extra[len(states) :], strict=True):
            text, image = block(image, text, temb, rotary, more)
        return model.proj_out(model.norm_out(image, temb)), states
