"""Qwen-Image: dual blocks whose text is rotated from half the picture's longer side on, under a mask of the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from diffusers.models.transformers.transformer_qwenimage import apply_rotary_emb_qwen
from torch import Tensor, nn

from workbench.models.block_records import BlockCall, Concepts, ConceptStream, Projection, for_batch
from workbench.models.hooks import Hooks, by_name
from workbench.models.joint import JointAdapter
from workbench.models.layers import Layer, numbered
from workbench.models.taps import Taps
from workbench.schema import ModelError


class QwenAdapter(JointAdapter):
    """Transformer side of Qwen-Image (``QwenImageTransformer2DModel``), and of its edit models.

    Text tokens are rotated by ``max(rows // 2, columns // 2) + position``: where a token stands depends on the
    picture's size. A concept on its own stands at position 0, the first behind the template.
    """

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        if config.get("use_layer3d_rope"):
            raise ModelError(
                "this transformer makes several layers of one picture (use_layer3d_rope), whose tokens are no single "
                "grid of patches: load Qwen-Image, or one of its edit models."
            )
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config["joint_attention_dim"]
        self.layers = numbered(("dual", "transformer_blocks", config["num_layers"]))

    def begin(self, given: Mapping[str, Any]) -> None:
        super().begin(given)
        # Edit models append the tokens of reference images to the picture's.
        rows, columns = self.grid(given)
        self.patches = slice(0, rows * columns)

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double() * 1000

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        shapes: Any = given["img_shapes"][0]  # of the first item: one (frame, row, column), or one for each image
        _, rows, columns = shapes[0] if isinstance(shapes, list) else shapes
        return rows, columns

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        seen: dict[str, Tensor] = {}

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                hidden = model.txt_in(model.txt_norm(concepts.embeddings.to(args[0])))
            seen["hidden"] = for_batch("concepts", hidden, len(output))

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            # Edit models embed a second time, 0, for reference images; text has the first.
            seen["temb"] = output.chunk(2)[0] if model.zero_cond_t else output

        def after_positions(args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Tensor]) -> None:
            positions = concepts.own_positions or (0,) * concepts.embeddings.shape[1]
            # A concept may stand behind the end of this prompt.
            asked = by_name(model.pos_embed, args, kwargs) | {"max_txt_seq_len": max(positions) + 1}
            with hooks.silenced():
                _, text = model.pos_embed(**asked)
            on_start(ConceptStream(seen["hidden"], seen["temb"], text[list(positions)]))

        hooks.after(model.txt_in, after_text)
        hooks.after(model.time_text_embed, after_time)
        hooks.after(model.pos_embed, after_positions)

    def taps(self, layer: Layer) -> Taps:
        return self.attention_taps(self.attention(layer))

    def fused(self, attention: Any) -> bool:
        return False  # its processor runs the projections one by one, whether they were fused or not

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        image, prompt = given["image_rotary_emb"]
        return image, prompt

    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        return cast(Tensor, apply_rotary_emb_qwen(vectors.transpose(1, 2), rotary, use_real=False)).transpose(1, 2)

    def mask(self, given: Mapping[str, Any]) -> Tensor | None:
        text: Tensor | None = given.get("encoder_hidden_states_mask")
        if text is None:
            return None
        image = text.new_ones(len(text), given["hidden_states"].shape[1])
        return torch.cat([text, image], dim=1)

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        first, second = block.txt_mod(stream.conditioning).chunk(2, dim=-1)
        shift, scale, gate = first.unsqueeze(1).chunk(3, dim=-1)
        normed = block.txt_norm1(stream.hidden) * (1 + scale) + shift
        return Projection(*self.project_text(block.attn, normed), (gate, second))

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        gate, second = projection.rest
        hidden = stream.hidden + gate * block.attn.to_add_out(self.merge(attended, stream.hidden))
        shift, scale, gate = second.unsqueeze(1).chunk(3, dim=-1)
        hidden = hidden + gate * block.txt_mlp(block.txt_norm2(hidden) * (1 + scale) + shift)
        if hidden.dtype == torch.float16:
            # As the model's own blocks do with text tokens.
            hidden = hidden.clip(-65504, 65504)
        return replace(stream, hidden=hidden)
