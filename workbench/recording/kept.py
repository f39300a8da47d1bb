"""What a trace keeps of its last forward pass, where nobody takes the records as they come."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.recording.block_reading import Record
from workbench.schema import TraceError


class LastPass:
    """The records of the last complete pass, stacked along their layers when they are asked for.

    Parameters
    ----------
    layers : sequence of int
        The recorded layers, by depth.
    taken : bool
        Whether somebody takes the records, so that none are kept.
    """

    def __init__(self, layers: Sequence[int], taken: bool) -> None:
        self._layers = tuple(layers)
        self._taken = taken
        self._pieces: list[Record] = []
        self._stacked: dict[str, dict[str, Tensor]] = {}

    def keep(self, pieces: list[Record]) -> None:
        """Keep the records of a pass in place of those of the one before; none while it runs."""
        self._pieces, self._stacked = pieces, {}

    @property
    def missing(self) -> tuple[int, ...]:
        """The recorded layers that the pass skipped."""
        return tuple(sorted(set(self._layers) - {piece.layer for piece in self._pieces}))

    def stacked(self, what: str) -> dict[str, Tensor]:
        """One kind of tensors of the records, each (layer, …), NaN where a layer was skipped.

        Raises
        ------
        TraceError
            If there is no complete pass, or its records were taken.
        """
        if self._taken:
            raise TraceError(
                "the pieces went to on_record and are not kept: read them there, or trace without on_record."
            )
        if not self._pieces:
            raise TraceError(
                "no complete forward pass was recorded yet, or it skipped every recorded layer: call the transformer "
                "inside the trace first."
            )
        if what not in self._stacked:
            pieces = {piece.layer: getattr(piece, what) for piece in self._pieces}
            first: dict[str, Tensor] = pieces[self._pieces[0].layer]
            absent = {name: torch.full_like(values, torch.nan) for name, values in first.items()}
            self._stacked[what] = {
                name: torch.stack([pieces.get(layer, absent)[name].to(values.device) for layer in self._layers])
                for name, values in first.items()
            }
        return self._stacked[what]
