"""The blocks of a transformer by depth, and which of them count where none are named; nothing here loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Layer:
    """One transformer block, by depth.

    Attributes
    ----------
    index : int
        Depth in the model: dual-stream blocks first, then single-stream blocks.
    kind : {"dual", "single"}
        Whether text and image go through it apart, each modulated in its own way, or as one sequence.
    name : str
        Path of the module, such as ``"transformer_blocks.3"``.
    usual : bool
        Whether it counts where no layers are named although it is a single-stream block behind dual-stream ones.
    """

    index: int
    kind: Literal["dual", "single"]
    name: str
    usual: bool = False


def numbered(*groups: tuple[Literal["dual", "single"], str, int], together: bool = False) -> tuple[Layer, ...]:
    """All blocks by depth, from (kind, path, number) of each list of blocks.

    Parameters
    ----------
    *groups : tuple
        In the order of the model.
    together : bool
        Whether blocks of both kinds count where no layers are named.
    """
    named = [(kind, f"{path}.{place}") for kind, path, count in groups for place in range(count)]
    return tuple(Layer(index, kind, name, together) for index, (kind, name) in enumerate(named))


def usual_layers(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Those that are recorded, and of which the deeper half makes a heat map, where no layers are named.

    The dual-stream ones, as in the paper; all of them in a model that has none, or whose family says so.
    """
    return tuple(layer for layer in layers if layer.kind == "dual" or layer.usual) or tuple(layers)
