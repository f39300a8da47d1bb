"""Interventions carried out: hooks that edit the forward passes of a trace, which then sees the edited tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from workbench.interventions import (
    Amplify,
    AttendMode,
    BlurAttention,
    DropConcept,
    Intervention,
    MaskText,
    MeanHeads,
    NullText,
    Patch,
    RandomDirection,
    ScaleHeads,
    SkipBlock,
    Source,
)
from workbench.interventions.fields import STREAMS
from workbench.models.block_records import WHOLE, Attention, Both, ConceptStream
from workbench.models.hooks import Changes
from workbench.models.layers import Layer
from workbench.models.transformer import TransformerAdapter
from workbench.recording.block_reading import Reading
from workbench.recording.edits.edited_attention import Seed, attend_edited, check_tokens, random_direction
from workbench.schema import InputError, TraceError

_TEXT: Final = (NullText, Amplify)
_ATTENTION: Final = (MaskText, BlurAttention)
_HEADS: Final = (ScaleHeads, MeanHeads, Patch)
_BLOCK: Final = (SkipBlock, Patch)

_At: TypeAlias = tuple[float, ...]
_Site: TypeAlias = tuple[int, str, str]
"""Layer, ``"heads"``, ``"mean"`` or ``"block"``, and stream."""


class Stop(Exception):  # noqa: N818 - not an error: it ends a forward pass whose rest is not needed
    """Raised by hooks after the last block that is needed."""


class Editing:
    """The edits of one trace.

    Parameters
    ----------
    adapter : TransformerAdapter
        Of the traced transformer.
    interventions : sequence of Intervention
        What to do, with tokens and concepts as positions.

    Attributes
    ----------
    interventions : tuple of Intervention
        As given.
    changes : Changes
        The hooks.
    timesteps : sequence of float or None
        1000 x sigma of the passes to come, where the caller knows them better than the model's rounded input.
    run : tuple of (str or int)
        What tells the run that the passes to come are of from others: picture, prompt and seed of the noise. Random
        directions that are not shared differ with it.
    concepts : sequence of str or None
        Names of the concepts, where they are known: random directions of a concept then go by its name, not its place.
    idle : set of Intervention
        Those that met no pass so far.
    """

    def __init__(self, adapter: TransformerAdapter, interventions: Sequence[Intervention]) -> None:
        self.interventions = tuple(interventions)
        self.changes = Changes()
        self.timesteps: Sequence[float] | None = None
        self.run: tuple[str | int, ...] = ()
        self.concepts: Sequence[str] | None = None
        self.idle = set(self.interventions)
        self._adapter = adapter
        self._now: list[Intervention] = []
        self._at: _At = ()
        self._items = WHOLE
        self._grid = (0, 0)
        self._collecting: Source | None = None
        self._stop = False
        self._kept: dict[tuple[Source, _At], dict[_Site, Tensor]] = {}

    # --- a trace's view -----------------------------------------------------------------------------------------
    def place(self) -> None:
        """Place the hooks; those of the trace come after them."""
        collected = [layer for layer in self._adapter.layers if self._place_collectors(layer)]
        for layer in self._adapter.layers:
            self._place_edits(layer)
        if collected:
            self.changes.after(self._adapter.block(collected[-1]), self._after_collected)

    def begin(self, given: Mapping[str, Any], items: slice | None) -> None:
        """Find out which edits the forward pass that begins with these arguments (by name) gets.

        Parameters
        ----------
        given : mapping of str to Any
            Arguments of the transformer's forward pass.
        items : slice or None
            Items of the batch that edits of the prompt reach; None for a pass that they leave alone.
        """
        self._now = []
        self._items = WHOLE if items is None else items
        self.changes.active = False
        if not self.interventions:
            return
        if any(isinstance(_plain(edit), BlurAttention) for edit in self.interventions):
            self._grid = self._adapter.grid(given)
        if any(e["timesteps"] or e.sources() or isinstance(e, RandomDirection) for e in self.interventions):
            timesteps = self._adapter.timesteps(given).flatten()[self._items]
            self._at = tuple(self._known(float(timestep)) for timestep in timesteps.tolist())
        if self._collecting is None:
            reached = [edit for edit in self.interventions if items is not None or not _plain(edit).of_prompt]
            self._now = [edit for edit in reached if self._acts(edit)]
            self.idle -= set(self._now)
        elif items is not None:
            self._kept[self._collecting, self._at] = {}
        self.changes.active = bool(self._now) or (self._collecting is not None and items is not None)

    def finish(self) -> None:
        """The forward pass is over."""
        self._now = []
        self.changes.active = False

    @property
    def collects(self) -> bool:
        """Whether the pass under way is kept for others."""
        return self._collecting is not None

    def skips(self, layer: int) -> bool:
        """Whether the pass under way leaves a block out."""
        return any(isinstance(edit, SkipBlock) and edit.acts_in(layer) for edit in self._now)

    def reading(self, layer: int, reading: Reading) -> Reading:
        """What is read from a block in the pass under way."""
        for edit in self._now:
            if edit.acts_in(layer):
                other = _concepts_read(_plain(edit), reading)
                if isinstance(edit, RandomDirection) and other is not reading:
                    reading = replace(
                        reading, controls=(*reading.controls, (other, self._seed_each(edit, layer, "read")))
                    )
                else:
                    reading = other
        return reading

    def modes(self, layer: int, attend: str) -> set[str]:
        """What concepts may attend to in a block, in this pass or another."""
        edits = [_plain(edit) for edit in self.interventions if edit.acts_in(layer)]
        return {attend} | {edit.mode for edit in edits if isinstance(edit, AttendMode)}

    def concepts_after(self, layer: int, before: ConceptStream, after: ConceptStream) -> ConceptStream:
        """The concept tokens behind a block, edited as the prompt's are."""
        for edit in self._now:
            if isinstance(edit, RandomDirection) and isinstance(edit.of, SkipBlock) and edit.acts_in(layer):
                seed = self._seed_each(edit, layer, "concepts")
                after = replace(after, hidden=random_direction(after.hidden, before.hidden, seed))
        return after

    # --- other runs ---------------------------------------------------------------------------------------------
    def sources(self, timestep: float | None = None) -> list[Source]:
        """The runs that are needed, at one timestep or at any."""
        acting = [edit for edit in self.interventions if timestep is None or edit.acts_at(timestep)]
        return list(dict.fromkeys(source for edit in acting for source in edit.sources()))

    @contextmanager
    def collecting(self, source: Source, stop: bool = False) -> Iterator[None]:
        """Keep what the edits need of the passes inside, which are not edited."""
        if source not in self.sources():
            raise InputError(f"no intervention of this trace takes anything from {source}: {self.sources()} are used.")
        self._collecting, self._stop = source, stop
        try:
            yield
        finally:
            self._collecting, self._stop = None, False
            self.finish()

    def forget(self) -> None:
        """Drop what was kept of other runs."""
        self._kept.clear()

    def _place_collectors(self, layer: Layer) -> bool:
        wanted = {
            (kind, stream, source)
            for edit in map(_plain, self.interventions)
            if edit.acts_in(layer.index)
            for source in edit.sources()
            for kind in ("mean" if isinstance(edit, MeanHeads) else "block" if edit["heads"] is None else "heads",)
            for stream in STREAMS
            if stream in (edit["streams"] or STREAMS)
        }
        for kind, stream in sorted({(kind, stream) for kind, stream, _ in wanted}):
            sources = {source for one, other, source in wanted if (one, other) == (kind, stream)}
            keep = partial(self._keep, (layer.index, kind, stream), sources)
            if kind == "block":
                self._adapter.change_block(self.changes, layer, lambda _, out, keep=keep, s=stream: keep(out[s]))  # type: ignore[misc]
            else:
                self._adapter.change_heads(self.changes, layer, stream, keep)
        return bool(wanted)

    def _keep(self, site: _Site, sources: set[Source], tensor: Tensor) -> None:
        if self._collecting in sources:
            assert self._collecting is not None
            tensor = tensor[self._items]
            if site[1] == "mean":
                rows = self._adapter.patches if site[2] == "image" else WHOLE
                tensor = tensor[:, :, rows].float().mean(dim=2, keepdim=True)
            # A whole schedule of them may not fit beside the model.
            self._kept[self._collecting, self._at][site] = tensor.detach().cpu()

    def _after_collected(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._collecting is not None and self._stop:
            raise Stop

    def _taken(self, source: Source, site: _Site) -> Tensor:
        try:
            return self._kept[source, self._at][site]
        except KeyError:
            at = ", ".join(f"{timestep:g}" for timestep in self._at)
            raise TraceError(
                f"an intervention takes activations of {source} at timestep {at}, but no such pass was seen: run it "
                "first, at the same timestep, inside `with trace.collecting(source):`."
            ) from None

    # --- edits --------------------------------------------------------------------------------------------------
    def _place_edits(self, layer: Layer) -> None:
        edits = [edit for edit in self.interventions if edit.acts_in(layer.index)]
        adapter, index = self._adapter, layer.index
        for edit in edits:
            if isinstance(_plain(edit), _TEXT):
                adapter.change_text(self.changes, layer, partial(self._one, edit, (index, "text", ""), _text))
        attention = [edit for edit in edits if isinstance(_plain(edit), _ATTENTION)]
        if attention:
            adapter.change_attention(self.changes, layer, partial(self._attention, attention, index))
        for edit in edits:
            plain = _plain(edit)
            if isinstance(plain, _HEADS) and (plain["heads"] is not None or not isinstance(plain, Patch)):
                for stream in [stream for stream in STREAMS if stream in (plain["streams"] or STREAMS)]:
                    kind = "mean" if isinstance(plain, MeanHeads) else "heads"
                    change = partial(self._one, edit, (index, kind, stream), self._heads)
                    adapter.change_heads(self.changes, layer, stream, change)
        for edit in edits:
            plain = _plain(edit)
            if isinstance(plain, SkipBlock) or (isinstance(plain, Patch) and plain.heads is None):
                adapter.change_block(self.changes, layer, partial(self._block, edit, index))

    def _one(
        self,
        edit: Intervention,
        site: _Site,
        compute: Callable[[Intervention, _Site, Tensor], Tensor | None],
        tensor: Tensor,
    ) -> Tensor | None:
        if edit not in self._now:
            return None
        items = self._reached(edit)
        part = tensor[items]
        new = compute(_plain(edit), site, part)
        if new is not None and isinstance(edit, RandomDirection):
            new = self._random(edit, part, new, site[0], *site[1:])
        return _put(tensor, items, new)

    def _heads(self, edit: Intervention, site: _Site, tensor: Tensor) -> Tensor | None:
        heads = slice(None) if edit["heads"] is None else list(edit["heads"])
        if isinstance(edit, ScaleHeads):
            if edit.factor == 1:
                return None
            new: Tensor | float = tensor[:, heads] * edit.factor if edit.factor else 0.0
        elif isinstance(edit, MeanHeads):
            means = [self._taken(source, site) for source in edit.sources()]
            new = torch.stack(means).mean(dim=0)[:, heads].to(tensor)
        else:
            new = _matching(self._taken(edit.sources()[0], site), tensor)[:, heads]
        edited = tensor.clone()
        edited[:, heads] = new
        return edited

    def _block(self, edit: Intervention, layer: int, before: Both, after: Both) -> Both | None:
        if edit not in self._now:
            return None
        plain, edited, items = _plain(edit), dict(after), self._reached(edit)
        for stream in [stream for stream in STREAMS if stream in (plain["streams"] or STREAMS)]:
            whole = after[stream]
            if isinstance(plain, SkipBlock):
                new = before[stream][items]
            else:
                taken = self._taken(plain.sources()[0], (layer, "block", stream))
                new = _matching(taken, whole[items])
            if isinstance(edit, RandomDirection):
                new = self._random(edit, whole[items], new, layer, "block", stream)
            edited[stream] = whole if (put := _put(whole, items, new)) is None else put
        return edited

    def _attention(self, edits: Sequence[Intervention], layer: int, attention: Attention) -> Tensor | None:
        acting = [edit for edit in edits if edit in self._now]
        whole, attention = attention.output, attention.of(self._items)
        plain = [edit for edit in acting if not isinstance(edit, RandomDirection)]
        output = attend_edited(attention, plain, self._grid)
        for edit in acting:
            if isinstance(edit, RandomDirection):
                other = attend_edited(attention, [edit.of], self._grid)
                if other is not None:
                    base = attention.output if output is None else output
                    seed = self._seed(edit, layer, "mask")
                    output = random_direction(base, base + (other - attention.output), seed, edit.matched)
        return _put(whole, self._items, output)

    # --- small things -------------------------------------------------------------------------------------------
    def _known(self, timestep: float) -> float:
        return min(self.timesteps, key=lambda t: abs(t - timestep)) if self.timesteps else timestep

    def _acts(self, edit: Intervention) -> bool:
        if edit["timesteps"] is None:
            return True
        inside = {edit.acts_at(timestep) for timestep in self._at}
        if len(inside) > 1:
            raise InputError(
                f"a batch at timesteps {sorted(set(self._at), reverse=True)} lies partly inside the range "
                f"{edit['timesteps']} of {edit}: run the timesteps one after the other."
            )
        return inside == {True}

    def _reached(self, edit: Intervention) -> slice:
        """Items of the batch that an edit reaches: one of the network reaches all, as it does all passes."""
        return self._items if _plain(edit).of_prompt else WHOLE

    def _random(self, edit: RandomDirection, original: Tensor, edited: Tensor, layer: int, *site: str) -> Tensor:
        """As :func:`random_direction`; both branches of a batch get the same directions, as in passes of their own."""
        seed = self._seed(edit, layer, *site)
        count = None if self._items == WHOLE else self._items.stop - self._items.start
        if count is None or len(original) == count:
            return random_direction(original, edited, seed, edit.matched)
        parts = zip(original.split(count), edited.split(count), strict=True)
        return torch.cat([random_direction(*part, seed, edit.matched) for part in parts])

    def _seed(self, edit: RandomDirection, layer: int, *site: str) -> str:
        return repr((edit.seed, layer, site, self._at, *(() if edit.shared else self.run)))

    def _seed_each(self, edit: RandomDirection, layer: int, site: str) -> Seed:
        """One for each concept, by name."""
        if self.concepts is None:
            return self._seed(edit, layer, site)
        return tuple(self._seed(edit, layer, site, name) for name in self.concepts)


def _put(whole: Tensor, items: slice, new: Tensor | None) -> Tensor | None:
    """The batch with some of its items replaced; None where nothing is."""
    if new is None or items == WHOLE:
        return new
    edited = whole.clone()
    edited[items] = new
    return edited


def _plain(edit: Intervention) -> Intervention:
    """The edit itself, or the one whose size a random direction has."""
    return edit.of if isinstance(edit, RandomDirection) else edit


def _text(edit: Intervention, site: _Site, tokens: Tensor) -> Tensor | None:
    """Prompt tokens (batch, token, width) that enter the attention, nulled or amplified."""
    factor = edit.factor if isinstance(edit, Amplify) else 0.0
    chosen: Any = slice(None) if edit["tokens"] is None else list(edit["tokens"])
    if factor == 1 or chosen == []:
        return None
    check_tokens(edit, tokens.shape[1])
    edited = tokens.clone()
    edited[:, chosen] = tokens[:, chosen] * factor if factor else 0.0
    return edited


def _concepts_read(edit: Intervention, reading: Reading) -> Reading:
    if isinstance(edit, AttendMode):
        return replace(reading, attend=edit.mode)
    if isinstance(edit, DropConcept):
        return replace(reading, hidden=tuple(sorted({*reading.hidden, *(edit["concepts"] or ())})))
    if isinstance(edit, ScaleHeads) and "concepts" in edit.streams and edit.factor != 1:
        return replace(reading, scaled=(*reading.scaled, (edit["heads"], edit.factor)))
    return reading


def _matching(taken: Tensor, like: Tensor) -> Tensor:
    if taken.shape != like.shape:
        raise TraceError(
            f"activations {tuple(taken.shape)} of another run cannot take the place of {tuple(like.shape)}: run it "
            "with the same batch, size and text length."
        )
    return taken.to(like)
