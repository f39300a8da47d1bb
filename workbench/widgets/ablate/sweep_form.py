"""The sweep that is asked for in the ablation panel: a plain value, its call, and the maps behind a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.heatmaps import heatmap
from workbench.analysis.steps import Progress
from workbench.analysis.sweep_variants import HOWS, SPACE, Choice, Scores
from workbench.analysis.sweeps import SWEPT, sweep
from workbench.numerics.measures import FORMER_MEASURES, MEASURES
from workbench.schema import InputError
from workbench.widgets.ablate.annotation import Drawn, code_of, masks_of, read_drawn
from workbench.widgets.shared.forms import ends, one_of, optional, plain, read, several, whole
from workbench.widgets.shared.python_code import arguments, code
from workbench.widgets.shared.spaces import held_spaces

TRUTHS: Final = ("own", "drawn")
GREEDY: Final = "greedy"
_LARGEST: Final = 256_000_000
"""In bytes: maps of all variants are kept up to this size."""


@dataclass(frozen=True)
class SweepForm:
    """What to sweep, and how.

    Attributes
    ----------
    over
        One or two of the swept dimensions.
    how
        As in :func:`workbench.analysis.sweeps.sweep`.
    metric
        One of :data:`workbench.numerics.measures.MEASURES`.
    space
        The space to read, where spaces are not swept.
    window
        Neighbours in a window.
    layers, timesteps
        First and last label, both included; None for what is usual: all where they are swept, otherwise the default
        layers and all timesteps.
    truth
        ``"own"``: the dataset's; ``"drawn"``: the patches in ``drawn``. For metrics that need truth.
    drawn
        Patches by concept.
    """

    over: tuple[str, ...]
    metric: str
    space: str
    how: str = "only"
    window: int = 3
    layers: tuple[int, int] | None = None
    timesteps: tuple[float, float] | None = None
    truth: str = "own"
    drawn: Drawn = field(default_factory=dict)

    @classmethod
    def default(cls, ds: xr.Dataset) -> SweepForm:
        """Every layer alone."""
        truth = schema.TRUTH in ds
        metric = "iou" if truth else "full_map_iou"
        return cls((schema.LAYER,), metric, spaces_of(ds)[0], truth="own" if truth else "drawn")

    @classmethod
    def from_json(cls, values: Any, ds: xr.Dataset) -> SweepForm:
        """Read a form and check it against a dataset; what is left out is as in :meth:`default`.

        Raises
        ------
        InputError
            If a value cannot be meant.
        """
        readers = {
            "over": lambda name, value: several(one_of(SWEPT))(name, [value] if isinstance(value, str) else value),
            "metric": one_of(MEASURES, FORMER_MEASURES),
            "space": one_of(spaces_of(ds)),
            "how": one_of((*HOWS, GREEDY)),
            "window": whole(1),
            "layers": optional(ends(ds[schema.LAYER].to_numpy().tolist())),
            "timesteps": optional(ends(ds[schema.TIMESTEP].to_numpy().tolist())),
            "truth": one_of(TRUTHS),
            "drawn": lambda _name, value: read_drawn(value, ds),
        }
        return replace(cls.default(ds), **read("a sweep's form", values, readers))

    def to_json(self) -> dict[str, Any]:
        """The form as plain values."""
        found: dict[str, Any] = plain(self)
        return found

    @property
    def by_hand(self) -> bool:
        """Whether maps are compared with drawn truth."""
        return MEASURES[self.metric].against == "truth" and self.truth == "drawn"

    def choice(self, ds: xr.Dataset) -> dict[str, Any]:
        """What is read, as keyword arguments of a sweep or a heat map."""
        found: dict[str, Any] = {}
        if SPACE not in self.over and self.space != schema.SPACES[0]:
            found["space"] = self.space
        if self.layers is not None:
            found["layers"] = self.layers[0] if self.layers[0] == self.layers[1] else slice(*self.layers)
        if self.timesteps is not None:
            same = self.timesteps[0] == self.timesteps[1]
            found["timesteps"] = self.timesteps[0] if same else slice(*self.timesteps)
        if ds.sizes[schema.CONCEPT] == 1:
            found["reduce"] = "mean"
        return found

    def run(self, ds: xr.Dataset, progress: Progress = False, cancel: Event | None = None) -> xr.Dataset:
        """Carry the sweep out, as :func:`workbench.analysis.sweeps.sweep` does."""
        truth: Any = {"truth": masks_of(self.drawn, ds), "resize": True} if self.by_hand else {}
        if MEASURES[self.metric].against == "truth" and not self.by_hand and schema.TRUTH not in ds:
            raise InputError(
                f"{self.metric} needs to know what is where, and this dataset holds no truth: draw it, or choose "
                "another metric, such as full_map_iou."
            )
        options: Any = self._extra | {"metric": self.metric} | truth | self.choice(ds)
        how: Any = self.how
        return sweep(ds, self._over, how, progress=progress, cancel=cancel, **options)

    def call(self, ds: xr.Dataset) -> str:
        """Python code that gives the same numbers from a dataset ``ds``, as the variable ``found``."""
        before = code_of(self.drawn, ds) + "\n" if self.by_hand else ""
        how = "" if self.how == "only" else f", {self.how!r}"
        truth = ", truth=masks, resize=True" if self.by_hand else ""
        options = self._extra | {"metric": self.metric}
        options |= self.choice(ds)
        return f"{before}found = ds.wb.sweep({code(self._over)}{how}{truth}{arguments(options)})"

    @property
    def _over(self) -> Any:
        return self.over[0] if len(self.over) == 1 else self.over

    @property
    def _extra(self) -> dict[str, Any]:
        return {"window": self.window} if self.how == "window" else {}


class Variants:
    """Maps of the choices of one finished sweep.

    Parameters
    ----------
    ds
        The dataset that was swept.
    form
        What was asked for.
    found
        What came out.
    """

    def __init__(self, ds: xr.Dataset, form: SweepForm, found: xr.Dataset) -> None:
        self._ds, self._form, self._found = ds, form, found
        self._kept: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def at(self, index: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
        """The maps of one choice, those of everything, each (concept, y, x), and the position of the picture's sample.

        Parameters
        ----------
        index
            Position along each swept dimension, or the rank of a greedy sweep.
        """
        if self._form.how == GREEDY:
            chosen, full = self._greedy(index[0])
            return chosen, full, 0
        maps, full = self._kept or self._compute()
        if maps.nbytes <= _LARGEST:
            self._kept = maps, full
        over = self._form.over
        sample = index[over.index(schema.SAMPLE)] if schema.SAMPLE in over else 0
        return maps[tuple(index)], full, sample if _pictures(self._ds) > 1 else 0

    def words(self, index: Sequence[int]) -> str:
        """The choice at a point, in words."""
        form, found = self._form, self._found
        if form.how == GREEDY:
            dim = form.over[0]
            return f"{dim} " + ", ".join(_text(label) for label in found[dim].to_numpy()[: index[0] + 1])
        parts = []
        for dim, at in zip(form.over, index, strict=True):
            label = _text(found[dim].to_numpy()[at])
            if form.how == "window":
                label += f" to {_text(found[f'{dim}_last'].to_numpy()[at])}"
            parts.append(f"{dim} {label}")
        said = " and ".join(parts)
        return {
            "only": f"{said} alone",
            "drop": f"all but {said}",
            "prefix": f"up to {said}",
            "suffix": f"from {said} on",
        }.get(form.how, said)

    def free(self) -> None:
        """Let go of the maps."""
        self._kept = None

    def _compute(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        form, ds = self._form, self._ds
        options = form.choice(ds)
        spaces = spaces_of(ds) if SPACE in form.over else (form.space,)
        taken = (options.get("layers"), options.get("timesteps"), None, None)
        choice = Choice(form.over, form.how, form.window, spaces, options.get("reduce", "softmax_mean"), *taken)
        scores = Scores(ds, choice)
        samples = range(len(scores.labels[schema.SAMPLE]))
        # Maps of different pictures are not averaged: the first one is shown.
        alone = _pictures(ds) > 1 and schema.SAMPLE not in form.over
        maps, full = scores.maps(samples[:1] if alone else samples)
        return np.moveaxis(maps, [choice.dims.index(dim) for dim in form.over], range(len(form.over))), full

    def _greedy(self, rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        form, ds = self._form, self._ds
        dim = form.over[0]
        options = form.choice(ds)
        if _pictures(ds) > 1 and dim != schema.SAMPLE:
            options["samples"] = ds[schema.SAMPLE].to_numpy()[0].item()
        labels = self._found[dim].to_numpy().tolist()
        every = {f"{dim}s": sorted(self._found.attrs[f"{dim}s"])}
        chosen = {f"{dim}s": sorted(labels[: rank + 1])}
        one, full = (heatmap(ds, **{**options, **which}) for which in (chosen, every))
        plane = (schema.CONCEPT, schema.Y, schema.X)
        return one.transpose(*plane).to_numpy(), full.transpose(*plane).to_numpy()


def spaces_of(ds: xr.Dataset) -> tuple[str, ...]:
    """Captured spaces that hold concepts."""
    return tuple(space for space in held_spaces(ds) if space != schema.PROMPT)


def _pictures(ds: xr.Dataset) -> int:
    return ds[schema.IMAGE].sizes.get(schema.SAMPLE, 1) if schema.IMAGE in ds else 1


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
