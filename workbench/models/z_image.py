"""Z-Image: one stream of image and caption, both padded with learned tokens that are attended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.models.block_records import BlockCall, Concepts, ConceptStream, Projection, for_batch
from workbench.models.hooks import Hooks
from workbench.models.layers import Layer, numbered
from workbench.models.refined import RefinedAdapter
from workbench.models.taps import Tap, Taps
from workbench.schema import ModelError

MULTIPLE = 32
"""What the model pads the tokens of image and caption to a multiple of."""


class ZImageAdapter(RefinedAdapter):
    """Transformer side of Z-Image and Z-Image-Turbo (``ZImageTransformer2DModel``).

    Image and caption are each padded to a multiple of 32 with learned tokens, which everything attends to: those behind
    the patches are no part of the picture. A caption token stands at ``1 + position`` of the first of three axes.
    """

    text_first = False
    rotary_by_item = True
    first_position = 3

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["n_heads"]
        self.head_dim = config["dim"] // config["n_heads"]
        self.embedding_dim = config["cap_feat_dim"]
        self.layers = numbered(("single", "layers", config["n_layers"]))
        self._padding: tuple[int, ...] = ()
        self._dtype = torch.float32

    def begin(self, given: Mapping[str, Any]) -> None:
        images = given["x"]
        if isinstance(images[0], list):
            raise ModelError(
                "the transformer is called with lists of several images for each item, as Z-Image-Omni does: tokens of "
                "its references are among the picture's, which was never tried. Call it with one image for each item."
            )
        if given.get("controlnet_block_samples") is not None:
            raise ModelError(
                "controlnet_block_samples changes the caption's tokens as well as the image's between the blocks, and "
                "what it would do to a concept's is not known: leave it out."
            )
        if len({image.shape for image in images}) > 1:
            raise ModelError(
                f"the batch has latents of several shapes, {', '.join(str(tuple(i.shape)) for i in images)}: their "
                "patches are at other places in each. Run one size after the other."
            )
        rows, columns = self.grid(given)
        self.patches = slice(0, rows * columns)
        self.text_length = max(padded(len(caption)) for caption in given["cap_feats"])
        self._dtype = images[0].dtype

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        time: Tensor = given["t"]  # 0 for noise, 1 for an image
        return (1 - time.double()) * 1000

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        _, frames, height, width = given["x"][0].shape
        patch: int = given.get("patch_size", 2)
        if frames > given.get("f_patch_size", 1):
            raise ModelError(f"the latents have {frames} frames, and only pictures of one are supported.")
        return height // patch, width // patch

    def attention(self, layer: Layer) -> Any:
        block: Any = self.block(layer)
        return block.attention

    def fused(self, attention: Any) -> bool:
        return False  # its processor runs the projections one by one, whether they were fused or not

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        seen: dict[str, Tensor] = {}

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            seen["time"] = output.to(self._dtype)

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            time = seen.pop("time")
            with hooks.silenced():
                found = self.refined(concepts, 1, args[0])
                rotary = self._rotary_of(torch.tensor([found.positions], dtype=torch.int64, device=output.device))
            self._padding = found.positions[: found.lead]
            on_start(ConceptStream(for_batch("concepts", found.hidden, len(time)), time, rotary, found.lead))

        hooks.after(model.t_embedder, after_time)
        hooks.after(model.cap_embedder, after_text)

    def refine(self, texts: Tensor, positions: Tensor) -> Tensor:
        model: Any = self.transformer
        hidden: Tensor = model.cap_embedder(texts)
        added = padded(hidden.shape[1]) - hidden.shape[1]
        hidden = torch.cat([hidden, model.cap_pad_token.to(hidden).expand(len(hidden), added, -1)], dim=1)
        behind = positions[:, -1:] + torch.arange(1, added + 1, dtype=torch.int64, device=positions.device)
        rotary = self._rotary_of(torch.cat([positions, behind], dim=1))
        for block in model.context_refiner:
            hidden = block(hidden, None, rotary)
        return hidden

    def _rotary_of(self, positions: Tensor) -> Tensor:
        """Rotary embedding (text, token, dim / 2) of caption tokens."""
        model: Any = self.transformer
        ids = functional.pad(1 + positions.flatten()[:, None], (0, 2)).to(torch.int32)
        rotary: Tensor = model.rope_embedder(ids).unflatten(0, positions.shape)
        return rotary

    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        return self.shared_taps(attention, Tap(attention.to_out[0], before=True))

    def mask(self, given: Mapping[str, Any]) -> Tensor | None:
        mask: Tensor | None = given.get("attn_mask")
        return mask

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        whole = given["freqs_cis"]
        return whole[:, :-text], whole[:, -text:]

    def rotary_at(self, rotary: Any, positions: tuple[int, ...]) -> Any:
        return rotary[:, [*self._padding, *positions]]

    def own_bias(self, call: BlockCall, places: tuple[int, ...]) -> Tensor | None:
        return None  # only what a longer text of the same batch adds is masked

    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * rotary[:, None]).flatten(3).type_as(vectors)

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        scale, gate, mlp_scale, mlp_gate = block.adaLN_modulation(stream.conditioning).unsqueeze(1).chunk(4, dim=2)
        normed = block.attention_norm1(stream.hidden) * (1 + scale)
        return Projection(*self.project_shared(block.attention, normed), (gate.tanh(), mlp_scale, mlp_gate.tanh()))

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        gate, mlp_scale, mlp_gate = projection.rest
        out = block.attention.to_out[0](self.merge(attended, stream.hidden))
        hidden = stream.hidden + gate * block.attention_norm2(out)
        mlp = block.feed_forward(block.ffn_norm1(hidden) * (1 + mlp_scale))
        return replace(stream, hidden=hidden + mlp_gate * block.ffn_norm2(mlp))


def padded(tokens: int) -> int:
    """Tokens of a caption or an image with those that the model adds."""
    return tokens + -tokens % MULTIPLE
