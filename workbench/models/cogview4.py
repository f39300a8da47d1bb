"""CogView4: text and image apart, with one set of projections, and rotary embeddings of the image written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from torch.nn import functional

from workbench.models.block_records import BlockCall, Concepts, ConceptStream, Projection, for_batch
from workbench.models.hooks import Hooks
from workbench.models.joint import JointAdapter
from workbench.models.layers import Layer, numbered
from workbench.models.taps import Tap, Taps


class CogView4Adapter(JointAdapter):
    """Transformer side of CogView4 (``CogView4Transformer2DModel``), and of its control model.

    Text and image are two streams with modulations of their own, so its blocks count as dual ones. Halves of a vector
    are rotated against each other, the image's only.
    """

    heads_first = True
    in_place = True
    returns = ("image", "text")

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config["text_embed_dim"]
        self.layers = numbered(("dual", "transformer_blocks", config["num_layers"]))

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]  # not 1000 x sigma: the pipeline shifts sigmas alone
        return timestep.double()

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        patch: int = self.transformer.config.patch_size  # type: ignore[union-attr, assignment]
        height, width = given["hidden_states"].shape[-2:]
        return height // patch, width // patch

    def attention(self, layer: Layer) -> Any:
        block: Any = self.block(layer)
        return block.attn1

    def fused(self, attention: Any) -> bool:
        return False  # its processor runs the projections one by one, whether they were fused or not

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        seen: list[Tensor] = []

        def after_patches(args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Tensor]) -> None:
            with hooks.silenced():
                hidden = model.patch_embed.text_proj(concepts.embeddings.to(args[1]))
            seen[:] = [for_batch("concepts", hidden, len(output[0]))]

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            on_start(ConceptStream(seen.pop(), functional.silu(output)))

        hooks.after(model.patch_embed, after_patches)
        hooks.after(model.time_condition_embed, after_time)

    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        return self.shared_taps(attention, Tap(attention.to_out[0], before=True))

    def mask(self, given: Mapping[str, Any]) -> Tensor | None:
        text: Tensor | None = given.get("attention_mask")
        if text is None:
            return None
        # The attention gets numbers, which are added to the logits: what is masked is not hidden, and what is seen by
        # a token that is seen itself weighs e times more.
        whole = functional.pad(text.float(), (0, given["hidden_states"].shape[1]), value=1.0)
        return (whole[:, :, None] * whole[:, None] > 0).float()

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        return given["image_rotary_emb"], None

    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        if rotary is None:
            return vectors
        return cast(Tensor, apply_rotary_emb(vectors, rotary, use_real_unbind_dim=-2))

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        # Its norm takes image and text at once: here there is no image.
        normed, *rest = block.norm1(stream.hidden[:, :0], stream.hidden, stream.conditioning)[5:]
        return Projection(*self.project_shared(block.attn1, normed), rest)

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        gate, shift_mlp, scale_mlp, gate_mlp = (part.unsqueeze(1) for part in projection.rest)
        hidden = stream.hidden + gate * block.attn1.to_out[0](self.merge(attended, stream.hidden))
        normed = block.norm2_context(hidden) * (1 + scale_mlp) + shift_mlp
        return replace(stream, hidden=hidden + gate_mlp * block.ff(normed))
