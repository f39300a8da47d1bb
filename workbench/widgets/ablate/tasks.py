"""What the ablation panel can do: sweeps of a recorded run; interventions come from outside, in the same shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Final, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.sweep_variants import HOWS
from workbench.analysis.sweeps import SWEPT
from workbench.numerics.measures import MEASURES
from workbench.widgets.ablate.annotation import truth_in_words
from workbench.widgets.ablate.finished_runs import SWEEP, Result
from workbench.widgets.ablate.plots import METRIC_NAMES, sweep_plot
from workbench.widgets.ablate.sweep_form import GREEDY, SweepForm, Variants, spaces_of
from workbench.widgets.explore.state import State
from workbench.widgets.shared.description import describe, picture
from workbench.widgets.shared.refusals import drawable
from workbench.widgets.shared.worker import Progress

Message = tuple[dict[str, Any], list[Any]]

HOW_NAMES: Final = {
    "only": "each alone",
    "drop": "all but each",
    "prefix": "all up to each",
    "suffix": "all from each on",
    "window": "neighbours",
    GREEDY: "greedy, best first",
}


@dataclass(frozen=True)
class Task:
    """One run that was asked for.

    Attributes
    ----------
    work
        Carries it out, in a thread; told how to report progress, and the event that ends it.
    finish
        Makes the result from what came out, its number, and the seconds it took.
    """

    work: Callable[[Progress, Event], Any]
    finish: Callable[[Any, int, float], Result]


class Mode(Protocol):
    """One of the two questions of the panel."""

    def describe(self) -> dict[str, Any]:
        """What there is to choose, as plain values; ``form`` is what is chosen at first."""
        ...

    def task(self, form: Any) -> Task:
        """What a form asks for; refuses one that cannot be meant."""
        ...


class Sweeps:
    """Choices made afterwards among the scores of one dataset.

    Parameters
    ----------
    ds
        A captured dataset without a :func:`workbench.widgets.shared.refusals.problem`.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def describe(self) -> dict[str, Any]:
        """Dimensions, metrics and labels to choose from."""
        ds = self._ds
        spaces = spaces_of(ds)
        heads = any(space in ds.data_vars for space in spaces)
        swept = [dim for dim in SWEPT if dim != schema.HEAD or heads]
        pairs = [(schema.LAYER, schema.TIMESTEP), (schema.LAYER, schema.HEAD), (schema.LAYER, "space")]
        over = [[dim] for dim in swept] + [list(pair) for pair in pairs if set(pair) <= set(swept)]
        return {
            "form": SweepForm.default(ds).to_json(),
            "over": over,
            "hows": [[how, HOW_NAMES[how]] for how in (*HOWS, GREEDY)],
            "ordered": ["prefix", "suffix", "window"],
            "metrics": [[name, METRIC_NAMES[name], MEASURES[name].against == "truth"] for name in MEASURES],
            "spaces": list(spaces),
            "default": list(State.default(ds, spaces[0]).layers),
            "truth": schema.TRUTH in ds,
            **labels(ds),
        }

    def task(self, form: Any) -> Task:
        """The sweep of a form."""
        ds, asked = self._ds, SweepForm.from_json(form, self._ds)

        def finish(found: xr.Dataset, number: int, seconds: float) -> Result:
            shown = Shown(ds, asked, found)
            what = f"{' × '.join(asked.over)}, {HOW_NAMES[asked.how]}"
            if "space" not in asked.over:
                what += f", {asked.space}"
            plots = {asked.metric: sweep_plot(asked, found)}
            truth = truth_in_words(asked.truth, asked.drawn) if MEASURES[asked.metric].against == "truth" else ""
            return Result(number, SWEEP, what, found, plots, asked.call(ds), shown, seconds, truth=truth)

        return Task(lambda progress, cancel: asked.run(ds, progress, cancel), finish)


class Shown:
    """The maps of a sweep's choices, each beside the map of everything."""

    def __init__(self, ds: xr.Dataset, form: SweepForm, found: xr.Dataset) -> None:
        self._ds = ds
        self._variants = Variants(ds, form, found)

    def pair(self, index: Sequence[int]) -> Message:
        """The maps of everything and of one choice, over the same picture."""
        one, full, sample = self._variants.at(index)
        buffers = []
        if drawable(self._ds):
            buffers = [picture(self._ds, self._ds[schema.SAMPLE].to_numpy()[sample].item())] * 2
        names = [str(name) for name in self._ds[schema.CONCEPT].to_numpy()]
        return side_by_side(["all together", self._variants.words(index)], [full, one], buffers, names)

    def free(self) -> None:
        """Let go of what is kept in memory."""
        self._variants.free()


def side_by_side(
    titles: Sequence[str], maps: Sequence[NDArray[Any]], pictures: Sequence[tuple[str, bytes]], names: Sequence[str]
) -> Message:
    """The message that shows two sets of maps (concept, y, x), with the picture of each if there is one."""
    buffers: list[Any] = [memoryview(np.ascontiguousarray(each, dtype=np.float32).data) for each in maps]
    values = {
        "titles": list(titles),
        "names": list(names),
        "shape": list(maps[0].shape),
        "media": [media for media, _ in pictures],
    }
    return values, buffers + [content for _, content in pictures]


def labels(ds: xr.Dataset) -> dict[str, Any]:
    """Concepts and coordinates of a dataset, as far as both modes need them."""
    known = describe(ds)
    names = [str(name) for name in ds[schema.CONCEPT].to_numpy()]
    wanted = {name: known[name] for name in ("layers", "blocks", "timesteps", "heads", "samples", "grid")}
    return json.loads(json.dumps({**wanted, "names": names}))  # type: ignore[no-any-return]
