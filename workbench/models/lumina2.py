"""Lumina-Image 2: one stream of text and image behind refiners, heads that share keys, and reversed time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from torch.nn import functional

from workbench.models.block_records import (
    BlockCall,
    Change,
    Concepts,
    ConceptStream,
    Projection,
    for_batch,
    replace_rows,
)
from workbench.models.hooks import Changes, Hooks, by_name, with_argument
from workbench.models.layers import Layer, numbered
from workbench.models.refined import RefinedAdapter
from workbench.models.taps import Tap, Taps
from workbench.schema import ModelError


class Lumina2Adapter(RefinedAdapter):
    """Transformer side of Lumina-Image 2 (``Lumina2Transformer2DModel``).

    The model drops masked text before its blocks, where the image follows the last token that is seen: items of a batch
    have to have texts of one length. A text token stands at its position on the first of three axes.
    """

    rotary_by_item = True

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["hidden_size"] // config["num_attention_heads"]
        self.embedding_dim = config["cap_feat_dim"]
        self.layers = numbered(("single", "layers", config["num_layers"]))

    def begin(self, given: Mapping[str, Any]) -> None:
        lengths = given["encoder_attention_mask"].sum(dim=1).tolist()
        if len(set(lengths)) > 1:
            raise ModelError(
                f"the batch has texts of {', '.join(map(str, lengths))} tokens, behind which the image begins at other "
                "places in each: run one text after the other."
            )
        self.text_length = int(lengths[0])

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        time: Tensor = given["timestep"]  # 0 for noise, 1 for an image
        return (1 - time.double()) * 1000

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        patch: int = self.transformer.config.patch_size  # type: ignore[union-attr, assignment]
        height, width = given["hidden_states"].shape[-2:]
        return height // patch, width // patch

    def fused(self, attention: Any) -> bool:
        return False  # its processor runs the projections one by one, whether they were fused or not

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        embedder: Any = self.transformer.time_caption_embed

        def after_both(args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Tensor]) -> None:
            given = by_name(embedder, args, kwargs)["encoder_hidden_states"]
            with hooks.silenced():
                found = self.refined(concepts, 1, given)
                rotary = self._rotary_of(torch.tensor([found.positions], dtype=torch.int64, device=given.device))
            time = output[0]
            on_start(ConceptStream(for_batch("concepts", found.hidden, len(time)), time, rotary))

        hooks.after(embedder, after_both)

    def refine(self, texts: Tensor, positions: Tensor) -> Tensor:
        model: Any = self.transformer
        hidden: Tensor = model.time_caption_embed.caption_embedder(texts)
        rotary, seen = self._rotary_of(positions), torch.ones_like(positions, dtype=torch.bool)
        for block in model.context_refiner:
            hidden = block(hidden, seen, rotary)
        return hidden

    def _rotary_of(self, positions: Tensor) -> Tensor:
        """Rotary embedding (text, token, dim / 2) of text tokens."""
        model: Any = self.transformer
        rotary: Tensor = model.rope_embedder._get_freqs_cis(functional.pad(positions[..., None], (0, 2)))
        return rotary

    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        return self.shared_taps(attention, Tap(attention.to_out[0], before=True))

    def change_text(self, changes: Changes, layer: Layer, change: Change) -> None:
        # Attention is given the whole sequence twice: for queries, and for keys and values.
        calls, attention = self._watch_call(changes, layer), self.attention(layer)

        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            whole = by_name(attention, args, kwargs)["hidden_states"]
            rows = slice(None, calls[0].text)
            new = change(whole[:, rows])
            if new is None:
                return None
            edited = replace_rows(whole, rows, new)
            for name in ("hidden_states", "encoder_hidden_states"):
                args, kwargs = with_argument(attention, args, kwargs, name, edited)
            return args, kwargs

        changes.change_before(attention, before)

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        whole = given["image_rotary_emb"]
        return whole[:, text:], whole[:, :text]

    def rotary_at(self, rotary: Any, positions: tuple[int, ...]) -> Any:
        return rotary[:, list(positions)]

    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        return cast(Tensor, apply_rotary_emb(vectors.transpose(1, 2), rotary, use_real=False)).transpose(1, 2)

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        normed, *rest = block.norm1(stream.hidden, stream.conditioning)
        return Projection(*self.project_shared(block.attn, normed), rest)

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        gate, mlp_scale, mlp_gate = (part.unsqueeze(1) for part in projection.rest)
        out = block.attn.to_out[0](self.merge(attended, stream.hidden))
        hidden = stream.hidden + gate.tanh() * block.norm2(out)
        mlp = block.feed_forward(block.ffn_norm1(hidden) * (1 + mlp_scale))
        return replace(stream, hidden=hidden + mlp_gate.tanh() * block.ffn_norm2(mlp))
