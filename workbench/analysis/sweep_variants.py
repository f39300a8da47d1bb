"""Heat maps of many choices at once, from one reading of the scores.

A *cell* is what one value of the swept dimensions contributes: the sum of its softmaxed maps. The map of any choice of
layers, timesteps, samples and spaces is a sum of cells by their number, so every choice of a sweep follows from the
cells by adding up. Heads are different: they are summed before the softmax, piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.gaps import absent_pieces, listed_but_there, unlisted
from workbench.analysis.heatmaps import default_layers
from workbench.analysis.selection import Numbers
from workbench.numerics.scores import centred, softmax
from workbench.schema import InputError, SelectionError

SPACE: Final = "space"
HOWS: Final = ("only", "drop", "prefix", "suffix", "window")

Cells = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """What is swept, and what is held fixed.

    Attributes
    ----------
    over
        Swept dimensions, among space, sample, timestep, layer and head.
    how
        One of :data:`HOWS`.
    window
        Neighbours in a window.
    spaces
        Spaces that are read: several only when they are swept.
    reduce
        As in :func:`workbench.analysis.heatmaps.heatmap`.
    layers, timesteps, heads, samples
        As in :mod:`workbench.analysis.selection`.
    center
        As in :func:`workbench.analysis.heatmaps.heatmap`.
    """

    over: tuple[str, ...]
    how: str
    window: int
    spaces: tuple[str, ...]
    reduce: str
    layers: Numbers
    timesteps: Numbers
    heads: Numbers
    samples: Numbers
    center: str | None = None

    @property
    def cell_dims(self) -> tuple[str, ...]:
        """Swept dimensions that are averaged over after the softmax."""
        return tuple(dim for dim in self.over if dim != schema.HEAD)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the variants, in the order of the arrays."""
        return (*self.cell_dims, *(dim for dim in self.over if dim == schema.HEAD))


class Scores:
    """The chosen scores of one dataset, none of them read yet.

    Parameters
    ----------
    ds
        A captured dataset.
    choice
        What to take.
    step
        Called for every piece that is read.

    Raises
    ------
    SelectionError
        If something chosen is not in the dataset; lists what is.
    """

    def __init__(self, ds: xr.Dataset, choice: Choice, step: Callable[[], None] = lambda: None) -> None:
        self.choice = choice
        self._step = step
        self.by_head = schema.HEAD in choice.over or choice.heads is not None
        layers = choice.layers
        if layers is None and schema.LAYER not in choice.over:
            layers = default_layers(ds)
        self._taken = [self._take(ds, space, layers) for space in choice.spaces]
        first = self._taken[0]
        self._present = ~absent_pieces(ds, first)
        self.concepts = [str(name) for name in first[schema.CONCEPT].to_numpy()]
        self.labels: dict[str, list[Any]] = {SPACE: list(choice.spaces)}
        self.labels |= {dim: first[dim].to_numpy().tolist() for dim in schema.PIECE_DIMS}
        if self.by_head:
            self.labels[schema.HEAD] = first[schema.HEAD].to_numpy().tolist()
        self.heads: list[Any] | None = self.labels.get(schema.HEAD, first.attrs.get("heads"))
        self.timesteps_asked = first.attrs.get("timesteps_asked")
        self._check()

    @property
    def grid(self) -> xr.DataArray:
        """Positions of the patches, (y, x), numbered row by row; of a video (frame, y, x)."""
        plane = [self._taken[0][dim] for dim in schema.spatial(self._taken[0].dims)]
        numbers = np.arange(math.prod(axis.size for axis in plane)).reshape([axis.size for axis in plane])
        return xr.DataArray(
            numbers, coords={str(axis.name): axis for axis in plane}, dims=[axis.name for axis in plane]
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the maps: the frames of a video lie one below the other."""
        *rows, columns = self.grid.shape
        return math.prod(rows), columns

    def count(self, samples: Sequence[int]) -> int:
        """Pieces of some samples."""
        return math.prod(len(self.labels[dim]) for dim in (SPACE, schema.TIMESTEP, schema.LAYER)) * len(samples)

    def variant_labels(self, dim: str) -> list[Any]:
        """Labels of the variants along a swept dimension: those of their first member for windows."""
        labels = self.labels[dim]
        return labels[: len(labels) - self.choice.window + 1] if self.choice.how == "window" else labels

    def maps(self, samples: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Maps of all variants over some samples (positions among the chosen ones), and the map of everything.

        Returns
        -------
        (\\*swept, concept, y, x), NaN where nothing of a variant was captured, and (concept, y, x).
        """
        choice = self.choice
        cells, counts = self.cells(samples, heads=True)
        axes = tuple(range(len(choice.cell_dims)))
        everything = np.asarray(counts.sum())
        if schema.HEAD not in choice.over:
            full = self.finish(cells.sum(axes), everything)
            if choice.how == "drop":
                return self.finish(cells.sum(axes) - cells, everything - counts), full
        else:
            head = len(axes)
            whole, cells = np.take(cells, -1, head), cells[..., :-1, :, :, :]
            full = self.finish(whole.sum(axes), everything)
            counts = counts[..., None]
            if choice.how == "drop":
                # All heads everywhere, but for the cell that does without one.
                rest = whole.sum(axes) - whole
                return self.finish(np.expand_dims(rest, head) + cells, np.broadcast_to(everything, counts.shape)), full
        for axis in axes:
            cells, counts = (vary(values, axis, choice.how, choice.window) for values in (cells, counts))
        return self.finish(cells, counts), full

    def cells(self, samples: Sequence[int], *, heads: bool) -> tuple[Cells, NDArray[np.int64]]:
        """Sums of maps by cell, (\\*swept but head, head, concept, y, x), and how many maps are in each.

        The axis ``head`` is there when heads are swept and ``heads`` is true: the variants of heads, and all heads.
        """
        choice = self.choice
        dims = choice.cell_dims
        lengths = [len(samples) if dim == schema.SAMPLE else len(self.labels[dim]) for dim in dims]
        counts = np.zeros(lengths, dtype=np.int64)
        sums: Cells | None = None
        for at, scores in self.pieces(samples):
            index = tuple(at[dim] for dim in dims)
            if schema.HEAD in choice.over and heads:
                wide = scores.astype(np.float32)
                varied = vary(wide, 0, choice.how, choice.window)
                scores = np.concatenate([varied, wide.sum(0, keepdims=True)])
            maps = self.softmaxed(scores)
            if sums is None:
                sums = np.zeros((*lengths, *maps.shape))
            sums[index] += maps
            counts[index] += 1
        if sums is None:
            raise SelectionError(
                "every chosen piece of a sample is missing from this run; attrs['missing'] lists what is missing."
            )
        return sums, counts

    def captured(self, samples: Sequence[int]) -> NDArray[np.int64]:
        """How many pieces of some samples there are in each cell, without reading any."""
        dims = (SPACE, *schema.PIECE_DIMS)
        present = self._present[list(samples)]
        there = xr.DataArray(np.broadcast_to(present, (len(self._taken), *present.shape)), dims=dims)
        counts = there.sum([dim for dim in dims if dim not in self.choice.cell_dims])
        return counts.transpose(*self.choice.cell_dims).to_numpy()

    def pieces(self, samples: Sequence[int]) -> Iterator[tuple[dict[str, int], NDArray[Any]]]:
        """Every captured piece: its positions, and scores ([head, if swept,] concept, y, x)."""
        # Dimensions before the plane, of the blocks below.
        lead = self._taken[0].ndim - len(schema.spatial(self._taken[0].dims)) - 2
        for space, taken in enumerate(self._taken):
            for place, sample in enumerate(samples):
                for timestep in range(taken.sizes[schema.TIMESTEP]):
                    block = taken.isel({schema.SAMPLE: sample, schema.TIMESTEP: timestep}).to_numpy()
                    for layer, scores in enumerate(block.reshape(*block.shape[:lead], *self.shape)):
                        self._step()
                        finite = np.isfinite(scores)
                        if not self._present[sample, timestep, layer]:
                            if finite.any():
                                raise listed_but_there(*self._piece(taken, sample, timestep, layer))
                            continue
                        if not finite.all():
                            raise unlisted(*self._piece(taken, sample, timestep, layer))
                        if self.by_head and schema.HEAD not in self.choice.over:
                            scores = scores.sum(0, dtype=np.float32)
                        at = {SPACE: space, schema.SAMPLE: place, schema.TIMESTEP: timestep, schema.LAYER: layer}
                        yield at, scores

    def softmaxed(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Scores (..., concept, y, x) as they are averaged: centred, and after the softmax where it comes first."""
        if self.choice.center is not None:
            scores = centred(scores, (-2, -1))
        return softmax(scores, axis=-3) if self.choice.reduce == "softmax_mean" else scores

    def finish(self, sums: Cells, counts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Maps (..., concept, y, x) from sums and the number of maps in each; NaN where there are none."""
        number = np.where(counts > 0, counts, np.nan)[..., None, None, None]
        maps = sums / number
        return (softmax(maps, axis=-3) if self.choice.reduce == "mean_softmax" else maps).astype(np.float32)

    def _piece(self, taken: xr.DataArray, *at: int) -> tuple[xr.DataArray, NDArray[np.bool_]]:
        """The scores at (sample, timestep, layer), and whether they are listed as missing, for an error."""
        one = taken.isel({dim: [place] for dim, place in zip(schema.PIECE_DIMS, at, strict=True)})
        return one, np.full((1, 1, 1), not self._present[at])

    def _take(self, ds: xr.Dataset, space: str, layers: Any) -> xr.DataArray:
        choice = self.choice
        name = space if self.by_head else schema.total(space)
        if name not in ds.data_vars:
            raise SelectionError(
                f"heads were chosen, but this dataset holds only the sums over heads of {space!r}; leave heads out."
            )
        taken = selection.take(
            ds[name], layers=layers, timesteps=choice.timesteps, heads=choice.heads, samples=choice.samples
        )
        plane = schema.spatial(taken.dims)
        return taken.transpose(*(dim for dim in schema.SCORE_DIMS if dim in taken.dims and dim not in plane), *plane)

    def _check(self) -> None:
        """Refuse what has no variant."""
        choice = self.choice
        counts = {dim: len(self.labels[dim]) for dim in choice.over}
        if choice.how == "drop" and (counts.get(schema.HEAD) or math.prod(counts.values())) == 1:
            raise InputError(
                f"how='drop' leaves one {' and '.join(counts)} out, but there is only one of them: nothing would be "
                "left. Choose more, or how='only'."
            )
        for dim, count in counts.items():
            if choice.how == "window" and choice.window > count:
                raise InputError(
                    f"window is {choice.window}, but there are only {count} {dim}s; expected 1 to {count}."
                )


def vary(values: NDArray[Any], axis: int, how: str, window: int) -> NDArray[Any]:
    """Sums along one axis for every variant of a choice.

    Parameters
    ----------
    values
        What is summed.
    axis
        The axis of the members.
    how
        ``"only"``: each alone; ``"drop"``: all but each; ``"prefix"``: up to each; ``"suffix"``: from each on;
        ``"window"``: so many neighbours from each on, as long as they last.
    window
        Neighbours in a window.
    """
    if how == "drop":
        return np.asarray(values.sum(axis, keepdims=True) - values)
    if how == "prefix":
        return np.asarray(values.cumsum(axis))
    if how == "suffix":
        return np.flip(np.flip(values, axis).cumsum(axis), axis)
    if how == "window":
        return np.asarray(np.lib.stride_tricks.sliding_window_view(values, window, axis).sum(-1))
    return values
