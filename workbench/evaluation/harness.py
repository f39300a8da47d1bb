"""Evaluating methods on many images: what is there is not computed again, and what goes wrong is listed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from workbench.evaluation.batches import compute
from workbench.evaluation.captured import Captures
from workbench.evaluation.datasets import DataSet, Problem, Selection, check_count, published_count
from workbench.evaluation.entries import Entry, entry
from workbench.evaluation.foreign_text import one_line, shortened
from workbench.evaluation.methods import Method, Setting
from workbench.evaluation.parts import Parts, arrow
from workbench.evaluation.protocols import Protocol, preset, set_knobs
from workbench.evaluation.sources import open_data
from workbench.evaluation.summaries import Summary, summarise
from workbench.schema import InputError
from workbench.store.locations import canonical_json, home, local_home

EVALUATION_VERSION: Final = 1
"""Part of the key: raised when the same evaluation would give other numbers."""


@dataclass(frozen=True)
class Result:
    """What one entry came to.

    Attributes
    ----------
    title
        What the table calls it.
    method
        Name of the method.
    protocol
        The rules.
    parts
        Its rows on disk.
    summary
        Its figures.
    settings
        What else decides its maps.
    """

    title: str
    method: str
    protocol: Protocol
    parts: Parts
    summary: Summary
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` gives.

    Attributes
    ----------
    data
        The data set.
    names
        The images that were asked for, in its order.
    available
        How many images of the data set the protocol asks for.
    results
        One for each entry.
    problems
        Images that could not be evaluated, and why.
    notes
        Warnings, with the number of images that each is about.
    """

    data: DataSet
    names: tuple[str, ...]
    available: int
    results: tuple[Result, ...]
    problems: tuple[Problem, ...]
    notes: Mapping[str, int]

    def frame(self) -> pd.DataFrame:
        """Figures, one row for each entry and metric: value, low and high ends of the interval, images, protocol."""
        found = [
            one.summary.frame()
            .reset_index()
            .assign(entry=one.title, method=one.method, images=one.summary.images, protocol=one.protocol.hash)
            for one in self.results
        ]
        return pd.concat(found, ignore_index=True)

    def images(self) -> pd.DataFrame:
        """One row for each entry and image: what was looked for, and why it failed if it did."""
        found = []
        for one in self.results:
            for row in one.parts.rows(self.names):
                ap = None if row.figures is None else row.figures.ap
                found.append((one.title, row.name, ", ".join(row.targets), ap, row.message))
        return pd.DataFrame(found, columns=["entry", "image", "targets", "ap", "failure"])

    def __str__(self) -> str:
        from workbench.evaluation.printing import table

        return table(self)


def evaluate(
    data: DataSet | str,
    methods: Sequence[str | Method] | str | Method = ("output", "cross"),
    *,
    path: str | os.PathLike[str] | None = None,
    model: Any = "tiny-flux",
    protocol: Protocol | str = "default",
    knobs: Sequence[str] = (),
    limit: int | None = None,
    batch: int = 8,
    shard: tuple[int, int] | None = None,
    strict: bool = False,
    any_count: bool = False,
    split: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Evaluate zero-shot segmentation on many images.

    Every batch is kept as it is finished: the same call again computes what is missing or failed, and nothing else. An
    image that cannot be evaluated is listed with the reason, and the others go on.

    Parameters
    ----------
    data
        A data set, or the name of one of :data:`workbench.evaluation.sources.SOURCES`, such as ``"voc-single"``.
    methods
        Names of spaces (``"output"``, ``"cross"``, …), floors and ceilings (``"random"``, ``"prior"``, ``"oracle"``,
        …), or objects as :class:`workbench.evaluation.methods.Method` describes them.
    path
        Where the data set is, when it is given by name.
    model
        As :func:`workbench.capture` takes it, for methods that are named by their space.
    protocol
        A protocol, or the name of a preset: ``"default"``, ``"paper"``, ``"public-release"``, ``"public-head"``.
    knobs
        Changes to it, such as ``"layers=14-17"``.
    limit
        Evaluate so many images, spread evenly over the set.
    batch
        Images that are kept at once.
    shard
        ``(i, n)``: every n-th image, from the i-th, counted from 0; processes that share a folder add up.
    strict
        Raise when an image cannot be evaluated, after all others were.
    any_count
        Go on with another number of images than the published one.
    split
        Of drawn scenes: the name of their seeds.
    folder
        Where rows are kept; the cache folder by default.
    progress
        Show progress bars, with images a second and the time that is left.

    Returns
    -------
    Evaluation
        ``print`` it for a table.

    Raises
    ------
    InputError
        If an argument is wrong, the data set is missing or another one, or with ``strict`` an image failed.
    ModelError
        If the model cannot be loaded.
    StoreError
        If rows cannot be written.

    Examples
    --------
    >>> print(workbench.evaluate("scenes-single", limit=20))  # doctest: +SKIP
    """
    opened = _opened(data, path, split, any_count)
    rules = set_knobs(preset(protocol, opened) if isinstance(protocol, str) else protocol, knobs)
    captures = Captures(model)
    chosen = [methods] if isinstance(methods, str | Method) else list(methods)
    if not chosen:
        raise InputError("no method is given; expected one or more, such as 'output'.")
    entries = [entry(one, rules, captures) for one in chosen]
    return run(
        opened,
        entries,
        captures,
        limit=limit,
        batch=batch,
        shard=shard,
        strict=strict,
        any_count=any_count,
        folder=folder,
        progress=progress,
    )


def run(
    data: DataSet,
    entries: Sequence[Entry],
    captures: Captures,
    *,
    limit: int | None = None,
    batch: int = 8,
    shard: tuple[int, int] | None = None,
    strict: bool = False,
    any_count: bool = False,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Evaluate entries of one data set, which share what they capture; see :func:`evaluate`."""
    _check_numbers(limit, batch, shard)
    arrow()
    rules = entries[0].protocol
    selection = _selected(data, rules, any_count)
    names = _limited(selection.names, limit)
    mine = names if shard is None else names[shard[0] :: shard[1]]
    stores = []
    for one in entries:
        one.method.prepare(Setting(data, one.protocol, names, progress))
        stores.append(_store(data, one, folder))
    compute(data, entries, stores, mine, captures, batch, progress)
    results = tuple(
        Result(
            one.title,
            one.method.name,
            one.protocol,
            parts,
            summarise(parts.rows(names), one.protocol),
            dict(one.method.settings),
        )
        for one, parts in zip(entries, stores, strict=True)
    )
    problems, notes = _said(stores, names, selection.problems)
    if strict and problems:
        listed = "\n".join(f"  {one_line(shortened(f'{one.name}: {one.message}'))}" for one in problems[:20])
        raise InputError(f"{len(problems)} images could not be evaluated, and strict refuses that:\n{listed}")
    return Evaluation(data, names, len(selection.names), results, problems, notes)


def _store(data: DataSet, one: Entry, folder: str | os.PathLike[str] | None) -> Parts:
    record = {
        "evaluation_version": EVALUATION_VERSION,
        "data": dict(data.identity()),
        "method": {"name": one.method.name, "settings": dict(one.method.settings)},
        "protocol": one.protocol.record(),
    }
    key = hashlib.sha256(canonical_json(record).encode()).hexdigest()[:20]
    place = evaluations(folder) / f"{_safe(one.method.name)}-{key}"
    about = {"title": one.title, "source": dict(data.source), "protocol": one.protocol.name}
    return Parts.open(place, record, about)


def evaluations(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder of all evaluations."""
    if folder is not None:
        return Path(folder).expanduser()
    place = home()
    return (place if isinstance(place, Path) else local_home()) / "evaluations"


def _safe(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:40] or "method"


def _opened(data: DataSet | str, path: Any, split: str | None, any_count: bool) -> DataSet:
    if isinstance(data, str):
        return open_data(data, path=path, split=split, any_count=any_count)
    if not isinstance(data, DataSet):
        raise InputError(
            f"data is a {type(data).__name__}; expected the name of a data set, or one that a reader of "
            "workbench.evaluation gave, such as hub_datasets.of_rows(rows)."
        )
    if path is not None or split is not None:
        raise InputError("path and split belong to a data set given by name: leave them out.")
    return data


def _selected(data: DataSet, protocol: Protocol, any_count: bool) -> Selection:
    selection = data.select(protocol.discovery, protocol.label_size)
    what = f"images of {data.name} that the protocol asks for"
    found = len(selection.names) + len(selection.problems)
    check_count(found, published_count(data, protocol), what, any_count)
    if not selection.names:
        problems = "; ".join(f"{one.name}: {one.message}" for one in selection.problems[:3])
        raise InputError(f"no image of {data.name} can be evaluated by this protocol. {problems}")
    return selection


def _limited(names: Sequence[str], limit: int | None) -> tuple[str, ...]:
    """So many names, spread evenly: the first of a sorted set are often of one class."""
    if limit is None or limit >= len(names):
        return tuple(names)
    return tuple(names[place * len(names) // limit] for place in range(limit))


def _check_numbers(limit: int | None, batch: int, shard: tuple[int, int] | None) -> None:
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; expected a number of images, 1 or more.")
    if not 1 <= batch <= 4096:
        raise InputError(f"batch is {batch}; expected 1 to 4096 images.")
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise InputError(f"shard is {shard[0]}/{shard[1]}; expected i/n with i from 0 to n - 1.")


def _said(
    stores: Iterable[Parts], names: Sequence[str], problems: Iterable[Problem]
) -> tuple[tuple[Problem, ...], dict[str, int]]:
    """Failures, each image once for every reason, and warnings with the number of images."""
    failures = {(one.name, one.message): one for one in problems}
    notes: dict[str, set[str]] = {}
    for parts in stores:
        for row in parts.rows(names):
            if row.message:
                failures.setdefault((row.name, row.message), Problem(row.name, row.message))
            for note in row.notes:
                notes.setdefault(note, set()).add(row.name)
    return tuple(failures.values()), {note: len(held) for note, held in notes.items()}
