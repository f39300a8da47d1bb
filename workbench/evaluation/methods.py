"""What can be evaluated: anything with a name, settings, ``prepare`` and ``maps``; and the methods that see no image.

A method of one's own is a class with these four, see :class:`Method`. The methods here are the floors and ceilings that
stand in every table: what a map that knows nothing, only where things usually are, or everything, would score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.evaluation import protocols
from workbench.evaluation.datasets import DataSet
from workbench.evaluation.examples import Example, Task, read
from workbench.numerics.confusion import VOID, cells_of, counts_in_cells
from workbench.schema import InputError


@dataclass(frozen=True)
class Setting:
    """What a method may know before it begins.

    Attributes
    ----------
    data
        The data set. Only floors and ceilings may look at its labels.
    protocol
        The rules.
    names
        The images that will be evaluated.
    progress
        Whether to show progress bars.
    """

    data: DataSet
    protocol: protocols.Protocol
    names: tuple[str, ...]
    progress: bool = False


@runtime_checkable
class Method(Protocol):
    """Something that makes maps of concepts.

    Attributes
    ----------
    name
        What tables call it.
    settings
        Plain values: everything beside the protocol that decides its maps. They are hashed and stored.
    """

    name: str
    settings: Mapping[str, Any]

    def prepare(self, setting: Setting) -> None:
        """Get ready, once, before the first image: load a model, fill in ``settings``."""

    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        """One map (concept, y, x) for each example, of any size: higher means more likely.

        Parameters
        ----------
        examples
            Images of a batch.
        concepts
            For each of them the words that maps are wanted of.
        """


def labelled(values: NDArray[Any], concepts: Sequence[str]) -> xr.DataArray:
    """Maps (concept, y, x) as a DataArray that knows its concepts."""
    return xr.DataArray(values, dims=(schema.CONCEPT, schema.Y, schema.X), coords={schema.CONCEPT: list(concepts)})


@dataclass
class Blind:
    """A method that sees no image: every map comes from a rule.

    Attributes
    ----------
    name
        Of the rule.
    rule
        From a task and the size of the grid to maps (concept, y, x).
    settings
        The size of its maps, and the images that it looked at.
    """

    name: str
    rule: Callable[[Blind, Example, Sequence[str]], NDArray[Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    setting: Setting | None = None
    sums: NDArray[np.float64] | None = None
    seen: NDArray[np.float64] | None = None

    def prepare(self, setting: Setting) -> None:
        """Note what is evaluated.

        Raises
        ------
        InputError
            If everything were background, and the data set has none.
        """
        if self.name == "background" and setting.data.background is None:
            raise InputError(
                f"in {setting.data.name} every pixel has a class, and nothing is background: take the floor 'majority' "
                "instead of 'background'."
            )
        self.setting = setting
        settings: dict[str, Any] = {"grid": list(setting.data.grid)}
        if self.name == "oracle":
            # The first did not order the patches of a class; in the second the order moved the mean of small ones.
            settings["version"] = 3
        if self.name == "prior":
            settings["images"] = hashlib.sha256("\n".join(setting.names).encode()).hexdigest()[:16]
        self.settings = settings

    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        """Maps by the rule."""
        for example, words in zip(examples, concepts, strict=True):
            yield labelled(self.rule(self, example, words), words)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the maps."""
        return self.known.data.grid

    @property
    def known(self) -> Setting:
        """What it was prepared with."""
        if self.setting is None:
            raise InputError(f"the method {self.name!r} is not prepared: evaluate calls prepare before maps.")
        return self.setting

    def task(self, example: Example) -> Task:
        """What only the harness knows of an example."""
        return read(self.known.data, example.name, self.known.protocol)

    def shares(self, task: Task) -> NDArray[np.float64]:
        """Share of each cell that shows a class, (class, y, x); void shows none."""
        height, width = task.labels.shape
        rows, columns = self.grid
        cells = cells_of((height, width), self.grid)
        counts = counts_in_cells(task.labels, cells, task.classes, rows * columns)[:-1].astype(np.float64)
        found: NDArray[np.float64] = counts / np.maximum(counts.sum(0), 1)
        return found.reshape(-1, rows, columns)


def _flat(method: Blind, words: Sequence[str], value: float) -> NDArray[np.float64]:
    return np.full((len(words), *method.grid), value)


def _background(method: Blind, example: Example, words: Sequence[str]) -> NDArray[np.float64]:
    """Every patch is background."""
    found = _flat(method, words, 1.0)
    found[[word in example.targets for word in words]] = 0
    return found


def _uniform(method: Blind, example: Example, words: Sequence[str]) -> NDArray[np.float64]:
    """All maps are the same everywhere."""
    return _flat(method, words, 0.5)


def _random(method: Blind, example: Example, words: Sequence[str]) -> NDArray[np.float64]:
    """Every value is drawn, the same ones each time for an image."""
    seed = int.from_bytes(hashlib.sha256(example.name.encode("utf-8", "surrogateescape")).digest()[:8], "little")
    return np.random.default_rng([seed, method.known.protocol.seed]).random((len(words), *method.grid))


def _centre(method: Blind, example: Example, words: Sequence[str]) -> NDArray[np.float64]:
    """What is looked for is in the middle: a Gaussian of a quarter of the sides; the background is the rest."""
    y, x = ((np.arange(side) + 0.5) / side - 0.5 for side in method.grid)
    middle = np.exp(-(y[:, None] ** 2 + x**2) / (2 * 0.25**2))
    return np.stack([middle if word in example.targets else 1 - middle for word in words])


def _prior(method: Blind, example: Example, words: Sequence[str]) -> NDArray[np.float64]:
    """Where a class lies in the other images of the set that show it."""
    if method.sums is None or method.seen is None:
        method.sums, method.seen = _summed(method)
    task = method.task(example)
    own, there = method.shares(task), _there(task)
    others = (method.sums - own) / np.maximum(method.seen - there, 1)[:, None, None]
    found = [others[place] if place != VOID else np.zeros(method.grid) for place in _meaning(task, words)]
    return np.stack(found)


def _summed(method: Blind) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of each cell over all images, and how many images show each class."""
    from tqdm.auto import tqdm

    sums: NDArray[np.float64] | None = None
    seen: NDArray[np.float64] | None = None
    names = method.known.names
    for name in tqdm(names, desc="location prior", unit="image", disable=not method.known.progress):
        try:
            task = read(method.known.data, name, method.known.protocol)
        except InputError:
            continue  # it has a row that says so
        shares, there = method.shares(task), _there(task)
        sums = shares if sums is None else sums + shares
        seen = there if seen is None else seen + there
    if sums is None or seen is None:
        raise InputError("no image can be read: there is nothing to take a location prior from.")
    return sums, seen


def _there(task: Task) -> NDArray[np.float64]:
    return np.array([(task.labels == place).any() for place in range(task.classes)], dtype=np.float64)


def _meaning(task: Task, words: Sequence[str]) -> list[int]:
    by_word = dict(zip(task.concepts, task.meaning, strict=True))
    return [by_word[word] for word in words]


def _majority(method: Blind, example: Example, words: Sequence[str]) -> NDArray[np.float64]:
    """Every patch shows the image's most frequent class."""
    task = method.task(example)
    sizes = [int((task.labels == place).sum()) for place in range(task.classes)]
    found = _flat(method, words, 0.0)
    found[[place == int(np.argmax(sizes)) for place in _meaning(task, words)]] = 1
    return found


def _oracle(method: Blind, example: Example, words: Sequence[str]) -> NDArray[np.float64]:
    """Every patch shows the class that most of its pixels show; among patches of a class, the fullest first.

    The best masks that maps of this size can make, and the best order of patches but for those that are as full. Of a
    class that is the largest in every patch, or in none, the mask above the map's own mean is of the fullest patches,
    and nothing where all are as full.
    """
    shares = method.shares(method.task(example))
    best = shares.argmax(0)
    fuller = _FULLER / best.size
    places = _meaning(method.task(example), words)
    return np.stack([(best == place) + fuller * (shares[place] if place != VOID else 0.0) for place in places])


_FULLER: Final = 1e-3
"""What the fullest patch is above an empty one, of the least that one patch adds to the mean of a map.

Average precision is of the order of patches, masks are what is above the mean: order must not move patches across it.
"""
_RULES: Final[dict[str, Callable[..., NDArray[Any]]]] = {
    "background": _background,
    "uniform": _uniform,
    "random": _random,
    "centre": _centre,
    "prior": _prior,
    "majority": _majority,
    "oracle": _oracle,
}
TITLES: Final = {
    "background": "floor: all background",
    "uniform": "floor: the same everywhere",
    "random": "floor: random",
    "centre": "floor: the middle",
    "prior": "floor: location prior (from labels)",
    "majority": "floor: largest class (from labels)",
    "oracle": "ceiling: right class of each patch",
}


def blind(name: str) -> Blind:
    """A method that sees no image, by name."""
    return Blind(name, _RULES[name])


def floors(data: DataSet) -> tuple[str, ...]:
    """What stands in every table of a data set beside the methods."""
    first = "majority" if data.background is None else "background"
    return (first, "random", "prior", "oracle")
