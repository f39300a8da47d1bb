"""The context in which every forward pass of a transformer is recorded: its hooks, its state, its results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from workbench.interventions import ITSELF, Source
from workbench.models.block_records import WHOLE, BlockTensors, Concepts, ConceptStream
from workbench.models.exclusive_loading import using
from workbench.models.guidance import Branch
from workbench.models.hooks import Hooks
from workbench.models.layers import Layer
from workbench.models.shortcuts import refuse_shortcuts
from workbench.models.transformer import TransformerAdapter
from workbench.recording.aside import Aside
from workbench.recording.block_reading import Reading, Record
from workbench.recording.checks import ForwardPass
from workbench.recording.eager import eager, is_compiled
from workbench.recording.edits.editing import Editing, Stop
from workbench.recording.kept import LastPass
from workbench.recording.selfcheck import SelfCheck
from workbench.recording.turns import claim, release
from workbench.recording.watching import PassNames, Structure
from workbench.schema import TraceError, warn


class Trace:
    """A context in which every forward pass of a transformer is recorded; made by :func:`workbench.trace`.

    Attributes
    ----------
    transformer : nn.Module
        The model as it was given.
    layers : tuple of int
        The recorded layers, by depth.
    passes : int
        How many forward passes were recorded.
    steps : dict of str to int
        How many of them were of each branch of guidance.
    editing : Editing
        The interventions.
    """

    def __init__(
        self,
        transformer: nn.Module,
        adapter: TransformerAdapter,
        concepts: Concepts,
        layers: tuple[int, ...],
        reading: Reading,
        on_record: Callable[[Record], None] | None,
        on_pass: Callable[[int], None] | None,
        editing: Editing,
        branches: tuple[Branch, ...],
    ) -> None:
        self.transformer = transformer
        self.layers = layers
        self.passes = 0
        self.branches = branches
        self.steps = dict.fromkeys((branch.name for branch in branches), 0)
        self._begun = 0
        self._adapter = adapter
        self._model = adapter.transformer
        self._concepts = concepts
        self._reading = reading
        self._on_record = on_record
        self._on_pass = on_pass
        self.editing = editing
        self._selfcheck = SelfCheck(adapter, self._stream_layers)
        self._hooks = Hooks()
        self._aside = Aside()
        self._bounds: list[torch.utils.hooks.RemovableHandle] = []
        self._parts: list[nn.Module] = []
        self._structure: Structure | None = None
        self._names = PassNames(self._model)
        self._resources = ExitStack()
        self._pass: ForwardPass | None = None
        self._stop = False
        self._last = LastPass(layers, on_record is not None)

    # --- results ----------------------------------------------------------------------------------------------
    @property
    def scores(self) -> dict[str, Tensor]:
        """Scores (layer, batch, head, concept, patch) of the last forward pass, float32, by space; NaN where skipped.

        Raises
        ------
        TraceError
            If no forward pass was completed, or its pieces went to ``on_record``.
        """
        return self._last.stacked("scores")

    @property
    def vectors(self) -> dict[str, Tensor]:
        """Vectors (layer, batch, head, concept or patch, dim) of the last pass, with ``vectors=True``; see Record."""
        return self._last.stacked("vectors")

    @property
    def lse(self) -> dict[str, Tensor]:
        """``lse_image`` and ``lse_concept`` (layer, batch, head, concept) of the last pass, with ``lse=True``."""
        return self._last.stacked("lse")

    @property
    def mass(self) -> dict[str, Tensor]:
        """``text_mass`` (layer, batch, head, text) of the last pass, with ``text_mass=True``."""
        return self._last.stacked("mass")

    @property
    def missing(self) -> tuple[int, ...]:
        """The recorded layers that the last forward pass skipped."""
        return self._last.missing

    # --- the context ------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        claim(self._model)
        try:
            refuse_shortcuts(self._model)
            if is_compiled(self.transformer):
                warn(
                    "the transformer is compiled; while it is traced it runs uncompiled, so its output is bit for bit "
                    "that of the uncompiled model, from which the compiled one may differ by rounding.",
                    stacklevel=2,
                )
            self._resources.enter_context(using())
            self._resources.enter_context(eager())
            self._place_hooks()
        except BaseException:
            self._remove_hooks()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove_hooks()
        if kind is None and not self.passes:
            raise TraceError(
                "no forward pass was seen inside the trace: the transformer was not called, or only under another "
                f"branch of guidance than {' and '.join(self.steps)} (cache_context names its passes cond and uncond), "
                "or a copy of it was called. Trace the module that the pipeline holds (pipe.transformer)."
            )
        if kind is None and self.editing.idle and self.editing.timesteps is None:
            warn(
                f"no pass was at a timestep of {', '.join(map(str, self.editing.idle))}: nothing was changed.",
                stacklevel=2,
            )

    @contextmanager
    def collecting(self, source: Source = ITSELF) -> Iterator[None]:
        """Run passes inside that are neither edited nor recorded, but kept for interventions that take from a source.

        Parameters
        ----------
        source : Source
            Which of the sources of the interventions the passes are.
        """
        with self.editing.collecting(source):
            yield

    def collect(self, source: Source, **inputs: Any) -> None:
        """As a pass inside :meth:`collecting`, run only as far as something is taken from it, without gradients."""
        with self.editing.collecting(source, stop=True), torch.no_grad(), suppress(Stop):
            self.transformer(**inputs)

    def run(self, **inputs: Any) -> None:
        """Run the transformer only as far as the last wanted block, without gradients.

        Parameters
        ----------
        **inputs
            Keyword arguments of the transformer.
        """
        self._stop = True
        try:
            with torch.no_grad():
                self.transformer(**inputs)
        except Stop:
            self._finish()
        finally:
            self._stop = False

    def _place_hooks(self) -> None:
        adapter, hooks = self._adapter, self._hooks
        self._selfcheck.place()
        self.editing.place()
        adapter.watch_start(hooks, self._concepts, self._on_start)
        for layer in self._stream_layers:
            needs = self._needs(layer)
            adapter.watch_block(hooks, layer, needs, partial(self._on_block, layer, needs))
        hooks.after(adapter.block(self._stream_layers[-1]), self._after_last)
        self._parts = list(self._model.modules())
        self._structure = Structure(adapter, [*hooks.modules, *self.editing.changes.modules])
        self._bounds = [
            self._model.register_forward_pre_hook(lambda _, args, kwargs: self._begin(args, kwargs), with_kwargs=True),
            self._model.register_forward_hook(lambda *_: self._finish()),
        ]
        self._names.place()

    def _remove_hooks(self) -> None:
        self._hooks.remove()
        self._selfcheck.remove()
        self.editing.changes.remove()
        self.editing.forget()
        for handle in self._bounds:
            handle.remove()
        self._bounds.clear()
        self._parts.clear()
        self._names.remove()
        self._resources.close()
        self._pass = None
        self._aside.join()
        release(self._model)

    @property
    def _stream_layers(self) -> tuple[Layer, ...]:
        """Blocks the concept stream goes through: from the first one to the last wanted one."""
        return self._adapter.layers[: self.layers[-1] + 1]

    def _needs(self, layer: Layer) -> frozenset[str]:
        modes = self.editing.modes(layer.index, self._reading.attend)
        wanted = layer.index in self.layers
        return frozenset().union(*(replace(self._reading, attend=mode).needs(wanted) for mode in modes))

    # --- one forward pass -------------------------------------------------------------------------------------
    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        under_way = self._pass
        if under_way is not None and under_way.thread != threading.get_ident():
            raise TraceError(
                "a forward pass of this transformer is under way in another thread, or failed there: run the passes "
                "of a traced model one after the other, in one thread."
            )
        self._pass = None
        self._hooks.active = False
        self._selfcheck.rest()
        taken = tuple(branch for branch in self.branches if branch.takes(self._names.current, self._begun))
        self._begun += 1
        if taken:
            refuse_shortcuts(self._model, self._parts)
            assert self._structure is not None
            self._structure.check()
        given = self._adapter.given(args, kwargs)
        self._adapter.begin(given)
        items = taken[0].items if len(taken) == 1 else WHOLE
        self.editing.begin(given, items if taken else None)
        if not taken or self.editing.collects:
            return
        self._last.keep([])
        self._aside.begin(self._parts)
        self._pass = ForwardPass(
            self._stream_layers, self._adapter.heads, self._concepts.embeddings.shape[1], taken, items
        )
        self._selfcheck.begin()
        self._hooks.active = True

    def _on_start(self, stream: ConceptStream) -> None:
        if self._pass is not None:
            self._pass.begin(stream)

    def _after_last(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._stop:
            raise Stop

    def _on_block(self, layer: Layer, needs: frozenset[str], block: BlockTensors) -> None:
        state = self._pass
        if state is None or not state.accepts(layer, block, needs):
            return
        assert state.stream is not None
        if self.editing.skips(layer.index):
            return
        block = block.of(state.items)
        with self._aside.step(block, state.stream):
            with self._hooks.silenced(), self.editing.changes.silenced(), self._selfcheck.silenced():
                state.stream = state.stream.to(block.output.device)
                if self._concepts.positions is not None:
                    state.stream = self._adapter.placed(state.stream, block.call, self._concepts.positions, state.items)
                projection = self._adapter.project(layer, state.stream, block.call)
                with torch.autocast(block.output.device.type, enabled=False):
                    place = (self.steps[state.branches[0].name], layer.index) if layer.index in self.layers else None
                    reading = self.editing.reading(layer.index, self._reading)
                    attended, piece = reading.read(self._adapter, state.stream, projection, block, place)
                if layer.index != self.layers[-1]:
                    after = self._adapter.advance(layer, state.stream, block.call, projection, attended)
                    state.stream = self.editing.concepts_after(layer.index, state.stream, after)
            if piece is not None:
                state.check(piece)
                if self._on_record is None:
                    state.pieces.append(piece)
                    return
                for record in state.divided(piece):
                    self._on_record(record)

    def _finish(self) -> None:
        state, self._pass = self._pass, None
        self._hooks.active = False
        self._aside.join()
        self.editing.finish()
        if state is None:
            return
        problems = state.problems()
        if problems:
            raise TraceError(f"forward pass {self.passes} was not recorded completely: {'; '.join(problems)}.")
        self._selfcheck.finish()
        self._last.keep(state.pieces)
        self.passes += 1
        before = min(self.steps.values())
        for branch in state.branches:
            self.steps[branch.name] += 1
        if self._on_pass is not None and min(self.steps.values()) > before:
            self._on_pass(before)
