"""A transformer with the arguments of one of its passes: what the rules are tried on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn

from workbench.models.block_records import ConceptText
from workbench.models.family import adapter_for
from workbench.models.transformer import TransformerAdapter
from workbench.recording.traced_passes import Trace
from workbench.recording.tracing import trace
from workbench.schema import ContractError

_TOLERANCE: Final = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Of the largest absolute value, for a few blocks."""
_BLOCKS: Final = 8
"""That many; rounding adds up as the square root of the depth."""


@dataclass(frozen=True)
class Case:
    """A transformer with the arguments of one of its passes.

    Attributes
    ----------
    transformer : nn.Module
        Of a family that is known; random weights will do.
    inputs : mapping of str to Any
        Arguments of a pass by name.
    concepts : Tensor (1, concept, embedding_dim) or None
        Concept embeddings, at least two; random ones where None.
    prompt : Tensor (batch, token, embedding_dim) or None
        Embeddings of those tokens of the text that the model sees; ``inputs["encoder_hidden_states"]`` where None, as
        far as its mask goes.
    pooled : Tensor (batch, pooled_dim) or None
        The prompt's own pooled text; ``inputs["pooled_projections"]`` where None.
    hidden : tuple of int
        Positions in the text, as the blocks have it, that the model masks; from ``encoder_hidden_states_mask`` where
        the prompt is not given.
    own_positions : tuple of int or None
        Position of each concept in the text that it is on its own, as :func:`workbench.trace` takes them.
    own_texts : tuple of ConceptText or None
        Those texts, for a family that refines its text, likewise.
    modes : tuple of str or None
        What concepts attend to in :func:`.picture_is_untouched`; all that the family has where None.
    """

    transformer: Any
    inputs: Mapping[str, Any]
    concepts: Tensor | None = None
    prompt: Tensor | None = None
    pooled: Tensor | None = None
    hidden: tuple[int, ...] | None = None
    own_positions: tuple[int, ...] | None = None
    own_texts: tuple[ConceptText, ...] | None = None
    modes: tuple[str, ...] | None = None

    @cached_property
    def adapter(self) -> TransformerAdapter:
        """The adapter of the transformer."""
        return adapter_for(self.transformer)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """All blocks by depth."""
        return tuple(layer.index for layer in self.adapter.layers)

    @cached_property
    def spaces(self) -> tuple[str, ...]:
        """All spaces that the family has."""
        return self.adapter.spaces

    @cached_property
    def embeddings(self) -> Tensor:
        """The concepts, or three random ones of the size of the prompt's tokens."""
        if self.concepts is not None:
            return self.concepts
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(1, 3, self.adapter.embedding_dim, generator=generator)
        return drawn * float(self.text.float().std())

    @property
    def _mask(self) -> Tensor | None:
        mask = self.inputs.get("encoder_hidden_states_mask")
        return mask if isinstance(mask, Tensor) and self.prompt is None else None

    @cached_property
    def text(self) -> Tensor:
        """Embeddings of the tokens that the model sees."""
        if self.prompt is not None:
            return self.prompt
        given = self.inputs.get("encoder_hidden_states")
        if not isinstance(given, Tensor):
            raise ContractError(
                f"the inputs of {self.named} have no encoder_hidden_states that would say what its text is: give "
                "Case(…, prompt=) the embeddings (batch, token, width) of the tokens that it sees."
            )
        return given if self._mask is None else given[:, : int(self._mask[0].sum())]

    @cached_property
    def masked(self) -> tuple[int, ...]:
        """Positions of the text that the model masks."""
        if self.hidden is not None:
            return self.hidden
        return () if self._mask is None else tuple(int(place) for place in (~self._mask[0].bool()).nonzero().flatten())

    @cached_property
    def own_pooled(self) -> Tensor | None:
        """The prompt's own pooled text, in a family that has some."""
        if self.adapter.pooled_dim is None:
            return None
        given: Tensor | None = self.inputs.get("pooled_projections") if self.pooled is None else self.pooled
        return given

    @property
    def named(self) -> str:
        """What the model is called in sentences."""
        return type(self.adapter.transformer).__name__

    @property
    def tolerance(self) -> float:
        """How far values may differ, relative to the largest absolute one, by rounding in the model's dtype."""
        parameter: nn.Parameter = next(self.adapter.transformer.parameters())
        return _TOLERANCE.get(parameter.dtype, 5e-2) * math.sqrt(max(1.0, len(self.layers) / _BLOCKS))

    def off(self, actual: Tensor, expected: Tensor) -> float:
        """The largest difference, relative to the largest absolute value."""
        scale = float(expected.abs().max())
        return float((actual.float() - expected.float()).abs().max()) / max(scale, 1e-30)

    def output(self) -> Tensor:
        """What the model gives."""
        with torch.no_grad():
            return output_of(self.transformer(**self.inputs))

    def trace(self, concepts: Tensor | Sequence[int] | None = None, **options: Any) -> Trace:
        """A trace of all layers and spaces.

        Parameters
        ----------
        concepts : Tensor or sequence of int, optional
            Embeddings, or which of the case's own concepts; all of those by default.
        **options
            Of the trace.
        """
        wanted: dict[str, Any] = {"layers": self.layers, "spaces": self.spaces} | options
        if isinstance(concepts, Tensor):
            return trace(self.transformer, concepts, **wanted)
        chosen = list(range(self.embeddings.shape[1]) if concepts is None else concepts)
        for name, own in (("own_positions", self.own_positions), ("own_texts", self.own_texts)):
            wanted[name] = None if own is None else [own[place] for place in chosen]
        return trace(self.transformer, self.embeddings[:, chosen], **wanted)

    def traced(self, concepts: Tensor | Sequence[int] | None = None, **options: Any) -> tuple[Tensor, Trace]:
        """What the model gives inside such a trace, and that trace, closed."""
        with torch.no_grad(), self.trace(concepts, **options) as seen:
            output = output_of(self.transformer(**self.inputs))
        return output, seen

    def scores(self, concepts: Tensor | Sequence[int] | None = None, **options: Any) -> dict[str, Tensor]:
        """Scores (layer, batch, head, concept, patch) by space; as :meth:`trace`."""
        return self.traced(concepts, **options)[1].scores

    def compare(self, actual: Tensor, expected: Tensor, layers: Sequence[int], what: str) -> float:
        """Compare values (layer, …) layer by layer.

        Returns
        -------
        float
            The largest difference, relative to the largest absolute value of its layer.

        Raises
        ------
        ContractError
            If it is beyond the tolerance in a layer; the first one is named.
        """
        worst = 0.0
        for place, layer in enumerate(layers):
            off = self.off(actual[place], expected[place])
            if not off <= self.tolerance:
                name = self.adapter.layers[layer].name
                raise ContractError(
                    f"{what} differ by {off:.2g} of the largest value in layer {layer} ({name}) of {self.named}, and "
                    f"rounding explains {self.tolerance:.2g}: {type(self.adapter).__name__} does not follow the model "
                    f"{'there' if layer else 'from the first block on'}."
                )
            worst = max(worst, off)
        return worst


def output_of(result: Any) -> Tensor:
    """The tensor of what a transformer returned: an output object, a tuple, a list of items, or the tensor itself."""
    found = getattr(result, "sample", result)
    if isinstance(found, tuple):
        found = found[0]
    return torch.stack(found) if isinstance(found, list) else found
