"""What a data set is to the harness: named images with label maps, and words for their classes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.evaluation.vocabulary import Vocabulary
from workbench.numerics.confusion import VOID
from workbench.schema import InputError

Task = Literal["single", "multi"]
Labels = NDArray[np.int16]
Discovery = Literal["full", "resized"]


class Problem(NamedTuple):
    """An image that cannot be evaluated.

    Attributes
    ----------
    name
        Of the image.
    message
        What is wrong, and what to do.
    """

    name: str
    message: str


class Selection(NamedTuple):
    """The images of a data set that a protocol asks for.

    Attributes
    ----------
    names
        In the order of the data set.
    problems
        Images of which nobody can tell whether they belong to it.
    """

    names: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class DataSet(ABC):
    """Images with label maps.

    Attributes
    ----------
    name
        What tables call it.
    task
        ``"single"``: foreground against background, one class an image. ``"multi"``: all classes of an image.
    classes
        Keys of the classes; a label is a position in it, or -1 for void.
    background
        Position of the class that background words stand for; None where every pixel belongs to a named class.
    source
        How it was opened, as plain values: it is opened again from them.
    expected
        How many images the published numbers are of, by the rule of ``discovery``; None where nobody said.
    grid
        Height and width of the maps of methods that look at no image.
    """

    name: str
    task: Task
    classes: tuple[str, ...]
    background: int | None = 0
    source: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[Discovery, int] = field(default_factory=dict)
    grid: tuple[int, int] = (64, 64)

    @abstractmethod
    def all_names(self) -> Sequence[str]:
        """Names of all images, no two alike."""

    @abstractmethod
    def image(self, name: str) -> NDArray[np.uint8]:
        """An image, (pixel_y, pixel_x, channel) in RGB.

        Raises
        ------
        InputError
            If it cannot be read; names it.
        """

    @abstractmethod
    def labels(self, name: str) -> Labels:
        """A label map, (pixel_y, pixel_x): positions in ``classes``, -1 for void.

        Raises
        ------
        InputError
            If it is missing or cannot be read; names it.
        """

    def word(self, key: str, vocabulary: Vocabulary) -> str:
        """The word for a class."""
        return key

    def files(self) -> Iterable[Path]:
        """The files it is read from."""
        return ()

    def identity(self) -> Mapping[str, Any]:
        """What tells this data set from others, wherever it lies: part of what is hashed."""
        names = self.all_names()
        return {
            "name": self.name,
            "task": self.task,
            "classes": list(self.classes),
            "background": self.background,
            "images": len(names),
            "names": _digest(names),
            "files": _digest(_stated(self.files())),
        }

    def select(self, discovery: Discovery, size: int | None) -> Selection:
        """The images of the task: all, or for one class those that show one.

        Parameters
        ----------
        discovery
            ``"full"``: exactly one class beside the background, in all of the label map. ``"resized"``: at most two
            different labels, the background's counted and void not, after resizing to ``size``; the public code's
            rule, which an image with two classes and no background passes.
        size
            Side of the resized label map; None for none.
        """
        if self.task == "multi" or self.one_class_each:
            return Selection(tuple(self.all_names()), ())
        names, problems = [], []
        for name in self.all_names():
            try:
                labels = self.labels(name)
            except InputError as error:
                problems.append(Problem(name, str(error)))
                continue
            if shows_one(labels, self.background, discovery, size):
                names.append(name)
        return Selection(tuple(names), tuple(problems))

    @property
    def one_class_each(self) -> bool:
        """Whether each image was collected for one class, so that none has to be looked for."""
        return False


def shows_one(labels: Labels, background: int | None, discovery: Discovery, size: int | None) -> bool:
    """Whether a label map shows one class, by either rule of :meth:`DataSet.select`."""
    if discovery == "resized" and size is not None:
        found = set(np.unique(resized(labels, (size, size))).tolist()) - {VOID}
        return len(found) <= 2 and bool(found - {background})
    return len(set(np.unique(labels).tolist()) - {VOID, background}) == 1


def present(labels: Labels, background: int | None) -> list[int]:
    """Classes of a label map, in their order, without the background's."""
    return sorted(set(np.unique(labels).tolist()) - {VOID, background})


def resized(labels: Labels, size: tuple[int, int]) -> Labels:
    """A label map of another size, by Pillow's nearest neighbour: its rounding decides between two that are as near."""
    image = Image.fromarray(labels.astype(np.int32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.NEAREST), dtype=np.int16)


def checked_shapes(image: NDArray[Any], labels: NDArray[Any], name: str) -> None:
    """Refuse a label map that is not its image's.

    Raises
    ------
    InputError
        If their sizes differ.
    """
    if image.shape[:2] != labels.shape:
        raise InputError(
            f"{name} has an image of {image.shape[0]} x {image.shape[1]} pixels (height x width) and labels of "
            f"{labels.shape[0]} x {labels.shape[1]}; expected the same: the two belong to different images, or one was "
            "resized."
        )


def check_count(found: int, expected: int | None, what: str, any_count: bool) -> None:
    """Refuse a data set with another number of images than the published one.

    Raises
    ------
    InputError
        If the numbers differ and any count is not good enough.
    """
    if expected is not None and found != expected and not any_count:
        raise InputError(
            f"{what}: {found:,} found, {expected:,} expected. Published numbers are of all of them: complete it, or go "
            "on with what is there by any_count=True (--any-count)."
        )


def published_count(data: DataSet, protocol: Any) -> int | None:
    """How many images the published figures are of, where a protocol asks for those images; None where nobody said."""
    counted = protocol.discovery == "full" or protocol.label_size == 224 or data.task == "multi"
    return data.expected.get(protocol.discovery) if counted else None


def unique_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Names, of which no two may be alike.

    Raises
    ------
    InputError
        If there is none, or two are alike.
    """
    if not names:
        raise InputError(f"{where} holds no image: check the path and the layout.")
    twice = [name for name, count in _counted(names) if count > 1]
    if twice:
        raise InputError(f"{where} holds {len(twice)} names twice, such as {twice[0]!r}: every image needs its own.")
    return tuple(names)


def _stated(files: Iterable[Path]) -> Iterator[str]:
    """Name, size and time of files; of those that are not there the name alone."""
    for path in files:
        try:
            state = path.stat()
            yield f"{path.name} {state.st_size} {state.st_mtime_ns}"
        except OSError:
            yield path.name


def _digest(lines: Iterable[str]) -> str:
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()[:20]


def _counted(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    yield from counts.items()
