"""Where the blocks of FLUX.1 can be edited: text first in the joint sequence, in both kinds of block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from workbench.models.base import Layer
from workbench.models.sites import Attention, BlockSites, Both, Change, Changes, Stream, replace_rows


class FluxSites(BlockSites):
    """Places of ``FluxTransformer2DModel``."""

    def timesteps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        given: Tensor = kwargs["timestep"] if "timestep" in kwargs else args[3]
        return given.double() * 1000

    def grid(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
        # Position ids are (0, row, column).
        ids: Tensor = kwargs["img_ids"] if "img_ids" in kwargs else args[4]
        rows, columns = (int(largest) + 1 for largest in ids.reshape(-1, ids.shape[-1])[:, 1:3].amax(dim=0))
        return rows, columns

    def change_text(self, changes: Changes, layer: Layer, change: Change) -> None:
        block: Any = self.adapter.block(layer)
        length = self._text_length(changes, layer)

        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            name = "encoder_hidden_states" if layer.kind == "dual" else "hidden_states"
            tokens, text = kwargs[name], slice(0, length[0])
            new = change(tokens[:, text])
            return None if new is None else (args, kwargs | {name: replace_rows(tokens, text, new)})

        changes.change_before(block.attn, before)

    def change_attention(self, changes: Changes, layer: Layer, change: Callable[[Attention], Tensor | None]) -> None:
        block: Any = self.adapter.block(layer)
        attention, dual = block.attn, layer.kind == "dual"
        length = self._text_length(changes, layer)
        rotary: list[Any] = []
        seen: dict[str, Tensor] = {}

        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.clear()
            rotary[:] = [kwargs["image_rotary_emb"]]

        def keep(name: str) -> Callable[[tuple[Any, ...], dict[str, Any], Tensor], None]:
            def after(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
                # A fused projection gives query, key and value in one tensor, the value last.
                seen[name] = output if "norm" in name else output[..., -self.adapter.heads * self.adapter.head_dim :]

            return after

        def edited(output: Tensor) -> Tensor | None:
            text, image = slice(0, length[0]), slice(length[0], None)
            rows = slice(None) if dual else image
            query, key = (seen[name][:, rows].transpose(1, 2) for name in ("norm_query", "norm_key"))
            text_key = (seen["norm_text_key"] if dual else seen["norm_key"][:, text]).transpose(1, 2)
            text_value = self.by_head(seen["text_value"] if dual else seen["value"][:, text])
            cos, sin = rotary[0]
            turn = self.adapter.rotate
            record = Attention(
                query=turn(query, (cos[image], sin[image])),
                key=turn(key, (cos[image], sin[image])),
                value=self.by_head(seen["value"][:, rows]),
                text_key=turn(text_key, (cos[text], sin[text])),
                text_value=text_value,
                output=self.by_head(output[:, rows]),
            )
            seen.clear()
            new = change(record)
            return None if new is None else replace_rows(output, rows, self.joined(new).to(output.dtype))

        changes.before(attention, before)
        changes.after(attention.norm_q, keep("norm_query"))
        changes.after(attention.norm_k, keep("norm_key"))
        changes.after(attention.to_qkv if attention.fused_projections else attention.to_v, keep("value"))
        if dual:
            changes.after(attention.norm_added_k, keep("norm_text_key"))
            added = attention.to_added_qkv if attention.fused_projections else attention.add_v_proj
            changes.after(added, keep("text_value"))
            self._before_projection(changes, attention.to_out[0], edited)
        else:
            changes.change_after(attention, lambda args, kwargs, output: edited(output))

    def change_heads(self, changes: Changes, layer: Layer, stream: Stream, change: Change) -> None:
        block: Any = self.adapter.block(layer)

        def edited(output: Tensor, rows: slice = slice(None)) -> Tensor | None:
            new = change(self.by_head(output[:, rows]))
            return None if new is None else replace_rows(output, rows, self.joined(new).to(output.dtype))

        if layer.kind == "dual":
            module = block.attn.to_out[0] if stream == "image" else block.attn.to_add_out
            self._before_projection(changes, module, edited)
            return
        length = self._text_length(changes, layer)

        def after(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            return edited(output, slice(length[0], None) if stream == "image" else slice(0, length[0]))

        changes.change_after(block.attn, after)

    def change_block(self, changes: Changes, layer: Layer, change: Callable[[Both, Both], Both | None]) -> None:
        def after(args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Tensor]) -> Any:
            given = self._given(args, kwargs)
            inside: Both = {"image": given["hidden_states"], "text": given["encoder_hidden_states"]}
            new = change(inside, {"image": output[1], "text": output[0]})
            return None if new is None else (new["text"], new["image"])

        changes.change_after(self.adapter.block(layer), after)

    @staticmethod
    def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(("hidden_states", "encoder_hidden_states"), args, strict=False)) | kwargs

    def _text_length(self, changes: Changes, layer: Layer) -> list[int]:
        """How many text tokens the block under way has, once it has begun."""
        length: list[int] = []

        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            length[:] = [self._given(args, kwargs)["encoder_hidden_states"].shape[1]]

        changes.before(self.adapter.block(layer), before)
        return length

    @staticmethod
    def _before_projection(changes: Changes, module: nn.Module, edited: Callable[[Tensor], Tensor | None]) -> None:
        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            new = edited(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)

        changes.change_before(module, before)
