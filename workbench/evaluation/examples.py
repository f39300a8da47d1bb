"""One image of an evaluation: its labels as a protocol reads them, the concepts that are asked for, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.evaluation.datasets import DataSet, Labels, checked_shapes, present, resized
from workbench.evaluation.protocols import Protocol
from workbench.numerics.average_precision import average_precision, stacked_average_precision
from workbench.numerics.boundaries import Edges, edges
from workbench.numerics.confusion import VOID, Counts, cells_of, confusion, counts_in_cells
from workbench.schema import InputError


@dataclass(frozen=True)
class Example:
    """An image as methods see it.

    Attributes
    ----------
    name
        Of the image in its data set.
    image
        (pixel_y, pixel_x, channel) uint8.
    caption
        What a model is told about it; may be empty.
    targets
        Words of the classes that are looked for, each once.
    """

    name: str
    image: NDArray[np.uint8]
    caption: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """An example and what only the harness knows.

    Attributes
    ----------
    example
        What methods see.
    concepts
        Words that maps are asked for: targets and background words, in the protocol's order.
    meaning
        For each concept its position among ``classes``; -1 for none.
    labels
        (pixel_y, pixel_x): positions of classes, -1 for void; already resized.
    classes
        How many there are: two for a single class.
    """

    example: Example
    concepts: tuple[str, ...]
    meaning: tuple[int, ...]
    labels: Labels
    classes: int


@dataclass(frozen=True)
class Figures:
    """What is counted of one map of one example.

    Attributes
    ----------
    counts
        (truth, predicted) pixels; void and no class last.
    ap, ap_stacked
        Average precision, plain and stacked; NaN where it is not defined. Of several classes the mean over those that
        are there.
    edges
        Edge pixels, of all classes together.
    preview
        (y, x) uint8: the target's map scaled to 0 .. 255, or the classes of a segmentation.
    """

    counts: Counts
    ap: float
    ap_stacked: float
    edges: Edges
    preview: NDArray[np.uint8]


def read(data: DataSet, name: str, protocol: Protocol) -> Task:
    """Read one image of a data set as a protocol has it.

    Raises
    ------
    InputError
        If it cannot be read, image and labels differ in size, or it shows no class.
    """
    labels, image = data.labels(name), data.image(name)
    checked_shapes(image, labels, name)
    labels, found = looked_for(labels, data.background, protocol)
    if not found:
        at = "" if protocol.label_size is None else f" at {protocol.label_size} x {protocol.label_size}"
        raise InputError(f"{name} shows no class in its labels{at}: nothing can be looked for.")
    keys = [data.classes[position] for position in found]
    words = [data.word(key, protocol.vocabulary) for key in keys]
    if protocol.task == "single":
        labels, classes = np.where(labels > VOID, np.isin(labels, found), VOID).astype(np.int16), 2
        places, background = [1] * len(found), 0
    else:
        classes, places, background = len(data.classes), found, VOID if data.background is None else data.background
    meaning: dict[str, int] = {}
    for word, place in zip(words, places, strict=True):
        meaning.setdefault(word, place)  # of two classes of one word the first is found, and the other is not
    beside = [word for word in protocol.backgrounds if word not in meaning]
    order = [*meaning, *beside] if protocol.targets == "first" else [*beside, *meaning]
    caption = ",".join(protocol.caption.replace("{}", word) for word in meaning) if protocol.caption else ""
    example = Example(name, image, caption, tuple(meaning))
    return Task(example, tuple(order), tuple(meaning.get(word, background) for word in order), labels, classes)


def looked_for(labels: Labels, background: int | None, protocol: Protocol) -> tuple[Labels, list[int]]:
    """Labels in the protocol's size, and the classes that are looked for in them."""
    found = present(labels, background)
    if protocol.label_size is not None:
        labels = resized(labels, (protocol.label_size, protocol.label_size))
        if protocol.discovery == "resized":
            found = present(labels, background)
    return labels, found


def measure(task: Task, maps: xr.DataArray, protocol: Protocol) -> Figures:
    """Turn maps into a segmentation and count.

    Parameters
    ----------
    task
        The example.
    maps
        (concept, y, x): one map for each of the task's concepts.
    protocol
        The rules.

    Raises
    ------
    InputError
        If maps have other dimensions or concepts, or values that are not finite.
    """
    values = _values(maps, task.concepts)
    grid: tuple[int, int] = values.shape[1], values.shape[2]
    flat = _blurred(values, protocol.blur).reshape(len(values), -1)
    cells = cells_of((task.labels.shape[0], task.labels.shape[1]), grid, protocol.nearest == "corner")
    inside = counts_in_cells(task.labels, cells, task.classes, flat.shape[1])
    area = inside[:-1].sum(0)
    meaning = np.asarray(task.meaning)
    looked = [place for place, word in enumerate(task.concepts) if word in task.example.targets]
    if protocol.mask == "argmax":
        chosen = meaning[flat.argmax(0)]
    else:
        level = flat[looked].max(0)
        weights = inside.sum(0) if protocol.mask_at == "pixels" else None
        # Weights of whole numbers: a constant map has exactly its value as the mean, and nothing is above it.
        mean = float(np.average(level - level[0], weights=weights)) + level[0]
        chosen = (level > mean).astype(np.int64)
    plain, stacked = [], []
    for place in looked if task.classes > 2 else looked[-1:]:
        right = inside[meaning[place]]
        if right.any() or task.classes == 2:
            plain.append(average_precision(flat[place], right, area))
            stacked.append(stacked_average_precision(flat[place], right, area, protocol.ap_scaling))
    void = task.labels == VOID
    return Figures(
        confusion(inside, chosen),
        _mean(plain),
        _mean(stacked),
        edges_of(chosen[cells], task.labels, void, task.classes),
        _preview(flat[looked[-1]] if task.classes == 2 else chosen, grid, task.classes),
    )


def edges_of(predicted: NDArray[Any], labels: Labels, void: NDArray[np.bool_], classes: int) -> Edges:
    """Edge pixels of the classes that are predicted or true, added up."""
    wanted = [1] if classes == 2 else sorted((set(np.unique(predicted)) | set(np.unique(labels))) - {VOID})
    hidden = void if void.any() else None
    found = [edges(predicted == one, labels == one, hidden) for one in wanted]
    return Edges(*(int(sum(part)) for part in zip(*found, strict=True)))


def _values(maps: xr.DataArray, concepts: Sequence[str]) -> NDArray[np.float64]:
    dims = (schema.CONCEPT, schema.Y, schema.X)
    if not isinstance(maps, xr.DataArray) or set(maps.dims) != set(dims) or schema.CONCEPT not in maps.coords:
        given = f"{getattr(maps, 'dims', type(maps).__name__)}"
        raise InputError(f"a method gave maps along {given}; expected a DataArray along concept, y and x.")
    named = [str(one) for one in maps[schema.CONCEPT].to_numpy()]
    if sorted(named) != sorted(concepts):
        raise InputError(f"a method gave maps of {', '.join(named)}; expected {', '.join(concepts)}.")
    ordered = maps.isel({schema.CONCEPT: [named.index(one) for one in concepts]}).transpose(*dims)
    values = np.asarray(ordered.to_numpy(), dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise InputError(f"a method gave maps {values.shape} with values that are not finite.")
    return values


def _blurred(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """A Gaussian over 3 x 3 cells, reflected at the edges, as torchvision's ``gaussian_blur`` has it."""
    if sigma == 0 or min(values.shape[1:]) < 2:
        return values
    weights = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        padded = np.pad(values, [(1, 1) if axis == one else (0, 0) for one in range(3)], mode="reflect")
        values = sum(
            weight * np.take(padded, range(step, step + values.shape[axis]), axis)
            for step, weight in enumerate(weights)
        )
    return values


def _preview(values: NDArray[Any], grid: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    if classes > 2:
        shown = np.where(values < 0, 255, np.minimum(values, 254))
    else:
        span = np.ptp(values)
        shown = np.rint(255 * (values - values.min()) / span) if span > 0 else np.zeros_like(values)
    return np.asarray(shown.reshape(grid), dtype=np.uint8)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
