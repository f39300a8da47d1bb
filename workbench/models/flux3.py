"""FLUX.3: text and image in blocks of their own at first, then in joint ones, where text knows no noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.models.block_records import WHOLE, BlockCall, Concepts, ConceptStream, Projection, for_batch
from workbench.models.hooks import Hooks
from workbench.models.layers import Layer, numbered
from workbench.models.refined import RefinedAdapter
from workbench.models.taps import Tap, Taps


class Flux3Adapter(RefinedAdapter):
    """Transformer side of FLUX.3 (``Flux3Transformer2DModel``), distilled models included.

    Recorded are the joint blocks. Before them text attends to itself alone, so a concept goes there in its own text.
    Text is modulated as if nothing was noisy, whatever the timestep. A text token's position is the last of four axes;
    the template puts the first one at 3. Tokens of reference images follow the picture's.
    """

    first_position = 3

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config["joint_attention_dim"]
        self.layers = numbered(("single", "single_transformer_blocks", config["num_single_layers"]))
        self._early: Tensor | None = None
        self._dtype = torch.float32

    # --- a pass -------------------------------------------------------------------------------------------------
    def begin(self, given: Mapping[str, Any]) -> None:
        super().begin(given)
        self._dtype = given["hidden_states"].dtype
        self.patches = WHOLE
        if given.get("image_cond_hidden_states") is not None:
            self.patches = slice(0, int(given["hidden_states"].shape[1]))

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double() * 1000

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        # Position ids are (0, row, column, 0), rows and columns scaled by a factor of the model's training.
        rows, columns = (len(axis.unique()) for axis in given["img_ids"][:, 1:3].unbind(dim=1))
        return rows, columns

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        single: list[Tensor] = []

        # Every token of the text has the same modulation, given for each.
        def after_early(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            self._early = output[:, :1]

        def after_single(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            single[:] = [output[:, :1]]

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                found = self.refined(concepts, len(output), args[0])
                rotary = model.pos_embed(_ids(torch.tensor(found.positions, dtype=torch.int64, device=output.device)))
            on_start(ConceptStream(for_batch("concepts", found.hidden, len(output)), single.pop(), rotary))

        hooks.after(model.early_stream_modulations["txt"], after_early)
        hooks.after(model.single_stream_modulations["txt"], after_single)
        hooks.after(model.context_embedder, after_text)

    def refine(self, texts: Tensor, positions: Tensor) -> Tensor:
        model: Any = self.transformer
        hidden = model.context_embedder(texts)
        assert self._early is not None
        # Texts of one item come together.
        modulation = self._early.repeat_interleave(len(texts) // len(self._early), dim=0)
        refined = torch.empty_like(hidden)
        # The blocks take the positions of one text for all: those of the same positions go together.
        places, group = positions.unique(dim=0, return_inverse=True)
        for number, place in enumerate(places):
            members = group == number
            rotary = model.pos_embed(_ids(place))
            text, own = hidden[members], modulation[members]
            for block in model.txt_mode_blocks:
                text = block(text, own.expand(-1, text.shape[1], -1), rotary)
            refined[members] = text
        return refined

    # --- a block ------------------------------------------------------------------------------------------------
    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        return self.shared_taps(attention, Tap(attention.to_out[0], before=True))

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        cos, sin = given["image_rotary_emb"]
        return (cos[text:], sin[text:]), (cos[:text], sin[:text])

    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        # Queries and keys are normalised and rotated in float32, and rounded once, behind it.
        return super().rotate(vectors, rotary).to(self._dtype)

    def _normed(self, attention: Any, norm: str, tokens: Tensor) -> Tensor:
        return super()._normed(attention, norm, tokens.float())

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        shift, scale, gate = stream.conditioning.chunk(3, dim=-1)
        normed = (1 + scale) * block.norm(stream.hidden) + shift
        return Projection(*self.project_shared(block.attn, normed), (normed, gate))

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        normed, gate = projection.rest
        both = block.attn.to_out[0](self.merge(attended, stream.hidden)) + block.ff(normed)
        return replace(stream, hidden=stream.hidden + gate * both)


def _ids(positions: Tensor) -> Tensor:
    """Position ids (token, 4) of text tokens."""
    return functional.pad(positions.float()[:, None], (3, 0))
