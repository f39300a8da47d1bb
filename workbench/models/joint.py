"""Families whose blocks attend over text and image at once: what is the same in all of them.

A family says where the tensors of a block appear ("taps"). From those, everything is derived: what is read from a block
and what can be edited in it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, cast

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

from workbench.models.block_records import WHOLE, Attention, BlockCall, BlockTensors, Both, Change, Stream, replace_rows
from workbench.models.hooks import Changes, Hooks, by_name, with_argument
from workbench.models.layers import Layer
from workbench.models.taps import Tap, Taps
from workbench.models.transformer import TransformerAdapter
from workbench.schema import ModelError


class JointAdapter(TransformerAdapter):
    """A transformer of joint attention.

    Attributes
    ----------
    text_first : bool
        Whether text comes before the image in the joint sequence.
    heads_first : bool
        Whether norms of queries and keys see (batch, head, token, dim), not (batch, token, head, dim).
    in_place : bool
        Whether the model writes into its normalised queries and keys afterwards, as it does where it rotates parts.
    rotary_by_item : bool
        Whether position embeddings have the batch as their first axis.
    returns : tuple of {"image", "text"}
        What the tuple holds that a block gives; a block that gives a tensor gives the joint sequence.
    text_length : int
        Tokens of the text in the pass under way.
    """

    text_first: ClassVar[bool] = True
    heads_first: ClassVar[bool] = False
    in_place: ClassVar[bool] = False
    rotary_by_item: ClassVar[bool] = False
    returns: ClassVar[tuple[Stream, Stream]] = ("text", "image")
    text_length: int = 0

    # --- what a family says -------------------------------------------------------------------------------------
    @abstractmethod
    def taps(self, layer: Layer) -> Taps:
        """Where the tensors of a block appear."""

    @abstractmethod
    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        """Position embeddings of image and text, from a block's arguments by name and the length of the text."""

    def fused(self, attention: Any) -> bool:
        """Whether the attention runs its projections as one."""
        return bool(attention.fused_projections)

    def norm_of(self, attention: Any, name: str) -> nn.Module | None:
        """A norm of queries or keys, where the attention has it and runs it."""
        found: nn.Module | None = getattr(attention, name, None)
        return found

    def mask(self, given: Mapping[str, Any]) -> Tensor | None:
        """Attention mask among a block's arguments by name, over the joint sequence."""
        options = given.get("joint_attention_kwargs") or {}
        found: Tensor | None = given.get("attention_mask", options.get("attention_mask"))
        return found

    def text_tokens(self, given: Mapping[str, Any]) -> int:
        """Length of the text in a block, from its arguments by name."""
        text = given.get("encoder_hidden_states")
        return self.text_length if text is None else int(text.shape[1])

    # --- a pass -------------------------------------------------------------------------------------------------
    def begin(self, given: Mapping[str, Any]) -> None:
        text = given.get("encoder_hidden_states")
        self.text_length = int(text.shape[1]) if isinstance(text, Tensor) else 0

    def call(self, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """What a block is called with."""
        given = by_name(self.block(layer), args, kwargs)
        text = self.text_tokens(given)
        image_rotary, text_rotary = self.rotary(given, text)
        by_item = self.rotary_by_item
        return BlockCall(given, text, given.get("temb"), self.mask(given), image_rotary, text_rotary, by_item)

    @cached_property
    def _attentions(self) -> list[Any]:
        return [self.attention(layer) for layer in self.layers]

    def structure(self) -> Any:
        return tuple(map(self.fused, self._attentions))

    def mask_rows(self, mask: Tensor, looking: slice | list[int]) -> Tensor:
        """Rows (batch, 1, query or 1, key) of a block's mask, of those tokens of the joint sequence that look."""
        while mask.ndim < 4:  # (batch, key), or (batch, query, key)
            mask = mask.unsqueeze(1)
        return mask if mask.shape[2] == 1 else mask[:, :, looking]

    def text_bias(self, call: BlockCall) -> Tensor | None:
        """What a block's mask adds to the image's logits over text; see :class:`.block_records.BlockTensors`.

        Raises
        ------
        ModelError
            If the mask differs from patch to patch, or hides some of them.
        """
        if call.mask is None:
            return None
        bias = self._bias(call, call.mask, self._rows(call.mask.shape[-1], call.text)[0])
        if not bool((bias == bias[:, :, :1]).all()):
            raise self._refused_mask()
        return bias[:, :, :1]

    def own_bias(self, call: BlockCall, places: tuple[int, ...]) -> Tensor | None:
        if call.mask is None:
            return None
        start = self._rows(call.mask.shape[-1], call.text)[1].start or 0
        return self._bias(call, call.mask, [start + place for place in places])[..., list(places)]

    def _bias(self, call: BlockCall, mask: Tensor, looking: slice | list[int]) -> Tensor:
        """What is added to logits over text (batch, 1, query or 1, token), relative to those over the image."""
        seen = self.mask_rows(mask, looking)
        if seen.dtype == torch.bool:
            seen = torch.zeros(seen.shape, dtype=torch.float32, device=seen.device).masked_fill(~seen, -torch.inf)
        text, image = (seen[..., part].float() for part in self._rows(seen.shape[-1], call.text)[::-1])
        if not bool((image == image[..., :1]).all()):
            raise self._refused_mask()
        return text - image[..., :1]

    def _refused_mask(self) -> ModelError:
        return ModelError(
            f"{type(self.transformer).__name__} was given an attention mask that differs between patches of the "
            "image: the image's attention to text cannot be recorded or edited under it. Leave that mask out."
        )

    # --- reading ------------------------------------------------------------------------------------------------
    def watch_block(
        self, hooks: Hooks, layer: Layer, needs: Collection[str], on_block: Callable[[BlockTensors], None]
    ) -> None:
        taps = self.taps(layer)
        calls = self._watch_call(hooks, layer)
        seen: dict[str, Tensor] = {}
        text_query, text_key = ("query", "key") if taps.joint else ("text_query", "text_key")
        wanted = {name for name in ("query", "key", "value") if name in needs}
        wanted |= {name for name, need in ((text_query, "prompt_query"), (text_key, "prompt_key")) if need in needs}

        def deliver(output: Tensor) -> None:
            call = calls[0]

            def rows(name: str, need: str, text: bool = False) -> Tensor | None:
                return self._part(seen[name], taps, call, text) if need in needs and name in seen else None

            tensors = BlockTensors(
                call=call,
                output=self._part(output, taps, call, whole=taps.output.part is not None),
                query=rows("query", "query"),
                key=rows("key", "key"),
                value=rows("value", "value"),
                prompt_query=rows(text_query, "prompt_query", text=True),
                prompt_key=rows(text_key, "prompt_key", text=True),
                patches=self.patches,
                text_bias=self.text_bias(call) if "prompt_key" in needs else None,
            )
            seen.clear()
            on_block(tensors)

        for name in sorted(wanted):
            self._watch(hooks, taps.of(name), partial(self._keep, seen, name))
        self._watch(hooks, taps.output, deliver)

    def _watch_call(self, hooks: Hooks, layer: Layer) -> list[BlockCall]:
        """The call of the block under way, once it has begun."""
        calls: list[BlockCall] = []

        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[:] = [self.call(layer, args, kwargs)]

        hooks.before(self.block(layer), before)
        return calls

    def _watch(self, hooks: Hooks, tap: Tap, look: Callable[[Tensor], None]) -> None:
        """Look at a tensor (batch, head, token, dim) whenever it appears."""
        if tap.before:
            hooks.before(tap.module, lambda args, kwargs: look(self._by_head(args[0], tap)))
        else:
            hooks.after(tap.module, lambda args, kwargs, output: look(self._by_head(output, tap)))

    def _keep(self, seen: dict[str, Tensor], name: str, tensor: Tensor) -> None:
        seen[name] = tensor.clone() if self.in_place and name.endswith(("query", "key")) else tensor

    def _by_head(self, tensor: Any, tap: Tap) -> Tensor:
        tensor = tensor if tap.part is None else tensor[tap.part]
        if not tap.by_head:
            return self.split(tensor[..., tap.columns])
        split: Tensor = tensor if self.heads_first else tensor.transpose(1, 2)
        return split

    def _part(self, tensor: Tensor, taps: Taps, call: BlockCall, text: bool = False, whole: bool = False) -> Tensor:
        """Image or text of (batch, head, token, dim), with a key for each head where several share one."""
        if taps.joint and not whole:
            tensor = tensor[:, :, self._rows(tensor.shape[2], call.text)[text]]
        shared = self.heads // tensor.shape[1]
        return tensor if shared == 1 else tensor.repeat_interleave(shared, dim=1)

    def _rows(self, tokens: int, text: int) -> tuple[slice, slice]:
        """Places of image and of text in a joint sequence of so many tokens."""
        if self.text_first:
            return slice(text, None), slice(None, text)
        return slice(None, tokens - text), slice(tokens - text, None)

    # --- edits --------------------------------------------------------------------------------------------------
    def change_text(self, changes: Changes, layer: Layer, change: Change) -> None:
        calls, attention = self._watch_call(changes, layer), self.attention(layer)

        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = by_name(attention, args, kwargs)
            name, rows = "encoder_hidden_states", WHOLE
            if given.get(name) is None:
                name = next(iter(given)) if "hidden_states" not in given else "hidden_states"
                rows = self._rows(given[name].shape[1], calls[0].text)[1]
            new = change(given[name][:, rows])
            if new is None:
                return None
            return with_argument(attention, args, kwargs, name, replace_rows(given[name], rows, new))

        changes.change_before(attention, before)

    def change_attention(self, changes: Changes, layer: Layer, change: Callable[[Attention], Tensor | None]) -> None:
        taps, calls, seen = self.taps(layer), self._watch_call(changes, layer), dict[str, Tensor]()
        text_key, text_value = ("key", "value") if taps.joint else ("text_key", "text_value")

        def edited(output: Tensor, rows: slice) -> Tensor | None:
            call = calls[0]

            def part(name: str, text: bool = False) -> Tensor:
                return self._part(seen[name], taps, call, text)

            record = Attention(
                query=self.rotate(part("query"), call.rotary),
                key=self.rotate(part("key"), call.rotary),
                value=part("value"),
                text_key=self.rotate(part(text_key, text=True), call.text_rotary),
                text_value=part(text_value, text=True),
                output=self.split(output[:, rows]),
                scale=self.scale(call),
                bias=lambda: self.text_bias(call),
                patches=self.patches,
            )
            seen.clear()
            return change(record)

        for name in dict.fromkeys(("query", "key", "value", text_key, text_value)):
            self._watch(changes, taps.of(name), partial(self._keep, seen, name))
        self._change(changes, taps.output, calls, taps.joint, "image", edited)

    def change_heads(self, changes: Changes, layer: Layer, stream: Stream, change: Change) -> None:
        taps, calls = self.taps(layer), self._watch_call(changes, layer)
        tap = taps.output if taps.joint or stream == "image" else taps.text_output
        if tap is not None:  # the last block of some families has no text behind it
            self._change(changes, tap, calls, taps.joint, stream, lambda out, rows: change(self.split(out[:, rows])))

    def _change(
        self,
        changes: Changes,
        tap: Tap,
        calls: list[BlockCall],
        joint: bool,
        stream: Stream,
        edited: Callable[[Tensor, slice], Tensor | None],
    ) -> None:
        """Replace one stream's attention output (batch, token, head x dim) by what ``edited`` gives, by head."""

        def put(whole: Any) -> Any:
            part = tap.part if tap.part is None else ("image", "text").index(stream)
            tensor = (whole if part is None else whole[part])[..., tap.columns]
            rows = WHOLE
            if joint and part is None:
                rows = self._rows(tensor.shape[1], calls[0].text)[stream == "text"]
            new = edited(tensor, rows)
            if new is None:
                return None
            new = replace_rows(tensor, rows, self.merge(new, tensor))
            if part is not None:
                return tuple(new if place == part else other for place, other in enumerate(whole))
            if tap.columns == WHOLE:
                return new
            copy = whole.clone()
            copy[..., tap.columns] = new
            return copy

        if tap.before:

            def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                new = put(args[0])
                return None if new is None else ((new, *args[1:]), kwargs)

            changes.change_before(tap.module, before)
        else:
            changes.change_after(tap.module, lambda args, kwargs, output: put(output))

    def change_block(self, changes: Changes, layer: Layer, change: Callable[[Both, Both], Both | None]) -> None:
        calls = self._watch_call(changes, layer)

        def joined(tokens: Tensor) -> Both:
            image, text = self._rows(tokens.shape[1], calls[0].text)
            return {"image": tokens[:, image], "text": tokens[:, text]}

        def after(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            given = calls[0].given
            image, text = next(iter(given.values())), given.get("encoder_hidden_states")
            image = given.get("hidden_states", image)
            before: Both = joined(image) if text is None else {"image": image, "text": text}
            if isinstance(output, Tensor):
                new = change(before, joined(output))
                order: tuple[Stream, Stream] = ("text", "image") if self.text_first else ("image", "text")
                return None if new is None else torch.cat([new[stream] for stream in order], dim=1)
            # A block without text behind it gives None for it: what went in stands for it.
            parts = dict(zip(self.returns, output, strict=True))
            new = change(before, {s: before[s] if parts[s] is None else parts[s] for s in self.returns})
            return None if new is None else tuple(None if parts[s] is None else new[s] for s in self.returns)

        changes.change_after(self.block(layer), after)

    # --- what families are made of ------------------------------------------------------------------------------
    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        return vectors if rotary is None else cast(Tensor, apply_rotary_emb(vectors, rotary, sequence_dim=2))

    def split(self, tokens: Tensor) -> Tensor:
        """Split (batch, token, head x dim) into (batch, head, token, dim), as a view."""
        split: Tensor = tokens.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        return split

    @staticmethod
    def merge(heads: Tensor, like: Tensor) -> Tensor:
        """The inverse of :meth:`split`, in the dtype of another tensor."""
        merged: Tensor = heads.transpose(1, 2).flatten(2).to(like.dtype)
        return merged

    def projected(self, attention: Any, own: str, fused: str, place: int) -> Tap:
        """Tap of a projection, which may be one of three that run as one."""
        if not self.fused(attention):
            return Tap(getattr(attention, own))
        width = self.heads * self.head_dim
        return Tap(getattr(attention, fused), columns=slice(place * width, (place + 1) * width))

    def attention_taps(self, attention: Any) -> Taps:
        """Taps of diffusers' attention with projections of their own for text, whose norms may be absent."""
        normed = partial(self.normed, attention)
        text_output = getattr(attention, "to_add_out", None)
        return replace(
            self.shared_taps(attention, Tap(attention.to_out[0], before=True)),
            text_query=normed("norm_added_q", "add_q_proj", "to_added_qkv", 0),
            text_key=normed("norm_added_k", "add_k_proj", "to_added_qkv", 1),
            text_value=self.projected(attention, "add_v_proj", "to_added_qkv", 2),
            text_output=None if text_output is None else Tap(text_output, before=True),
        )

    def shared_taps(self, attention: Any, output: Tap) -> Taps:
        """Taps of diffusers' attention whose projections text and image share; norms may be absent."""
        query, key = (self.normed(attention, f"norm_{n}", f"to_{n}", "to_qkv", place) for place, n in enumerate("qk"))
        return Taps(query, key, self.projected(attention, "to_v", "to_qkv", 2), output)

    def normed(self, attention: Any, norm: str, own: str, fused: str, place: int) -> Tap:
        """Tap of a norm of queries or keys, or of their projection where there is none."""
        module = self.norm_of(attention, norm)
        return self.projected(attention, own, fused, place) if module is None else Tap(module, by_head=True)

    def project_text(self, attention: Any, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, head, token, dim) of text tokens with projections of their own."""
        if self.fused(attention):
            query, key, value = attention.to_added_qkv(normed).chunk(3, dim=-1)
        else:
            query, key, value = (getattr(attention, f"add_{name}_proj")(normed) for name in "qkv")
        normalise = partial(self._normed, attention)
        return normalise("norm_added_q", query), normalise("norm_added_k", key), self.split(value)

    def project_shared(self, attention: Any, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, head, token, dim) of tokens whose projections image and text share."""
        if self.fused(attention):
            query, key, value = attention.to_qkv(normed).chunk(3, dim=-1)
        else:
            query, key, value = attention.to_q(normed), attention.to_k(normed), attention.to_v(normed)
        normalise = partial(self._normed, attention)
        shared = self.heads * self.head_dim // key.shape[-1]
        key, value = normalise("norm_k", key), self.split(value)
        if shared > 1:  # several heads of queries share one of keys and values
            key, value = (part.repeat_interleave(shared, dim=1) for part in (key, value))
        return normalise("norm_q", query), key, value

    def _normed(self, attention: Any, norm: str, tokens: Tensor) -> Tensor:
        """Tokens by head, behind a norm that may be absent, called as the model calls it."""
        module = self.norm_of(attention, norm)
        if module is None:
            return self.split(tokens)
        if self.heads_first:
            return cast(Tensor, module(self.split(tokens)))
        return cast(Tensor, module(tokens.unflatten(-1, (-1, self.head_dim)))).transpose(1, 2)

    def finish_text(self, block: Any, hidden: Tensor, attended: Tensor, modulation: Any) -> Tensor:
        """Take text tokens from attention to the end of a block with ``norm2_context`` and ``ff_context``.

        Parameters
        ----------
        block : nn.Module
            The block.
        hidden : Tensor (batch, token, width)
            Before the block.
        attended : Tensor (batch, head, token, dim)
            Output of attention.
        modulation : sequence of Tensor (batch, width)
            Gate of the attention; shift, scale and gate of the MLP.
        """
        gate, shift_mlp, scale_mlp, gate_mlp = modulation
        hidden = hidden + gate.unsqueeze(1) * block.attn.to_add_out(self.merge(attended, hidden))
        normed = block.norm2_context(hidden) * (1 + scale_mlp[:, None]) + shift_mlp[:, None]
        finished: Tensor = hidden + gate_mlp.unsqueeze(1) * block.ff_context(normed)
        return finished
