"""The forward pass under way: what arrived, and in the end whether that is everything, once, finite and in shape."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workbench.models.block_records import WHOLE, BlockTensors, ConceptStream
from workbench.models.guidance import Branch
from workbench.models.layers import Layer
from workbench.recording.block_reading import Record
from workbench.schema import TraceError


def not_finite(places: Sequence[str]) -> str:
    """What is said of values that are NaN or infinite, whether the pass or the writer meets them first."""
    return (
        f"NaN or infinite values in {', '.join(places)}. Likely causes: float16 overflow in the model (load it in "
        "bfloat16 or float32), or NaN in its inputs or weights"
    )


def magnitude(values: Tensor) -> Tensor:
    """The largest of some values without their signs, as a tensor (); NaN if one of them is."""
    most: Tensor = torch.linalg.vector_norm(values, ord=math.inf)
    return most


class ForwardPass:
    """State of one forward pass.

    Parameters
    ----------
    layers : tuple of Layer
        Blocks the concept stream goes through, in order.
    heads, concepts : int
        How many scores of each patch have to arrive.
    branches : tuple of Branch
        The branches of guidance that the pass has.
    items : slice
        Their items of the batch.

    Attributes
    ----------
    stream : ConceptStream or None
        The concept tokens before the next block; None until the pass has started.
    pieces : list of Record
        What is kept.
    thread : int
        The thread that runs the pass.
    """

    def __init__(
        self,
        layers: tuple[Layer, ...],
        heads: int,
        concepts: int,
        branches: tuple[Branch, ...] = (Branch(),),
        items: slice = WHOLE,
    ) -> None:
        self.branches = branches
        self.items = items
        self.stream: ConceptStream | None = None
        self.pieces: list[Record] = []
        self.thread = threading.get_ident()
        self._layers = layers
        self._heads = heads
        self._concepts = concepts
        self._arrived = 0
        self._repeated: set[int] = set()
        self._lacking: dict[int, list[str]] = {}
        self._shape: tuple[int, int] | None = None
        self._tokens: int | None = None
        self._misshapen: list[str] = []
        self._magnitudes: dict[tuple[int, str], Tensor] = {}

    def begin(self, stream: ConceptStream) -> None:
        """Take the concept tokens of the wanted items.

        Raises
        ------
        TraceError
            If the batch does not have them.
        """
        batch = len(stream.hidden)
        for branch in self.branches:
            if branch.items.stop is not None and branch.items.stop > batch:
                raise TraceError(
                    f"a pass has batch {batch}, but the {branch.name} branch of guidance was expected at items "
                    f"{branch.items.start} to {branch.items.stop - 1} of it: the pipeline left guidance out of this "
                    "step, or puts its branches elsewhere."
                )
        self.stream = stream.of(self.items)

    def divided(self, piece: Record) -> list[Record]:
        """A record of each branch from one of all wanted items."""
        if len(self.branches) == 1:
            return [replace(piece, branch=self.branches[0].name)]
        return [piece.of(branch) for branch in self.branches]

    def accepts(self, layer: Layer, block: BlockTensors, needs: frozenset[str]) -> bool:
        """Whether a block is the next one and complete; what is wrong otherwise goes into the verdict.

        A stream that skipped a block, or lacks a tensor, has nothing valid to say any more.
        """
        if layer.index < self._arrived:
            self._repeated.add(layer.index)
        if self.stream is None or layer.index != self._arrived:
            return False
        lacking = sorted(name for name in needs if getattr(block, name) is None)
        if lacking:
            self._lacking.setdefault(layer.index, lacking)
            return False
        self._arrived += 1
        return True

    def check(self, piece: Record) -> None:
        """Note what is wrong with a piece; whether its numbers are finite is asked of the device at the end."""
        for name, values in {**piece.scores, **piece.lse, **piece.mass, **piece.vectors}.items():
            known = piece.magnitudes.get(name)
            self._magnitudes[piece.layer, name] = magnitude(values) if known is None else known
        for space, scores in piece.scores.items():
            batch, heads, rows, patches = scores.shape
            self._shape = self._shape or (batch, patches)
            expected = self._concepts
            if space == "prompt":
                expected = self._tokens = self._tokens or rows
            if (batch, patches) != self._shape or heads != self._heads or rows != expected:
                self._misshapen.append(f"layer {piece.layer} {space} {tuple(scores.shape)}")

    def problems(self) -> list[str]:
        """What keeps the pass from being recorded, each with its likely cause; empty when nothing does."""
        problems = []
        missing = [f"{layer.index} ({layer.name})" for layer in self._layers[self._arrived :]]
        if missing:
            problems.append(f"no valid data arrived from layers {', '.join(missing)}. Likely cause: {self._cause()}")
        if self._repeated:
            problems.append(
                f"layers {sorted(self._repeated)} arrived more than once. Likely cause: something runs blocks twice "
                "in a pass, such as a forward() replaced by one that recomputes"
            )
        if self._misshapen:
            problems.append(
                f"pieces are not (batch, {self._heads} heads, {self._concepts} concepts, patch) with one batch and "
                f"one number of patches: {', '.join(self._misshapen)}. Likely cause: a model split by heads or by "
                "sequence over several devices"
            )
        infinite = _infinite(self._magnitudes)
        if infinite:
            problems.append(not_finite(infinite))
        return problems

    def _cause(self) -> str:
        if self.stream is None:
            return (
                "the model's forward() was replaced by one that does not call its text and time embedders: restore it"
            )
        if self._lacking:
            layer, names = next(iter(self._lacking.items()))
            return (
                f"block {layer} ran without its {', '.join(names)} being seen, because of an attention processor that "
                "does not call the norms and projections of its attention: give the model diffusers' own again with "
                "set_attn_processor"
            )
        return (
            f"block {self._layers[self._arrived].index} did not run. A step-skipping cache, or another patch, has "
            "replaced a forward() of the model: restore it"
        )


def _infinite(magnitudes: Mapping[tuple[int, str], Tensor]) -> list[str]:
    """Layers and names whose values are not all finite; each device is asked once when all of them are."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for most in magnitudes.values():
        by_device.setdefault(most.device, []).append(most.float())
    if all(bool(torch.stack(each).isfinite().all()) for each in by_device.values()):
        return []
    return [f"layer {layer} {name}" for (layer, name), most in magnitudes.items() if not most.isfinite()]
