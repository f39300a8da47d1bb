"""Evaluations from the folders that hold their rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.datasets import DataSet, Labels, Problem, Task
from workbench.evaluation.harness import Evaluation, Result
from workbench.evaluation.methods import TITLES
from workbench.evaluation.parts import Parts
from workbench.evaluation.protocols import Protocol
from workbench.evaluation.sources import reopen
from workbench.evaluation.summaries import summarise
from workbench.schema import InputError
from workbench.store.locations import canonical_json, plain


@dataclass(frozen=True)
class Gone(DataSet):
    """A data set that is not there any more, or is another one now: what its record says of it."""

    def all_names(self) -> tuple[str, ...]:
        """None that can be read."""
        return ()

    def image(self, name: str) -> NDArray[np.uint8]:
        """Refuses."""
        raise InputError(f"{self.name} is not where it was, or was changed: its images cannot be shown.")

    def labels(self, name: str) -> Labels:
        """Refuses."""
        raise InputError(f"{self.name} is not where it was, or was changed: its labels cannot be shown.")


def described(name: str) -> Gone | None:
    """A data set of the paper, as far as protocols ask what it is; its files need not be there. None for others."""
    known: dict[str, tuple[str, Task]] = {
        "imagenet": ("ImageNet-Segmentation", "single"),
        "voc-single": ("PascalVOC 2012 val (single class)", "single"),
        "voc-multi": ("PascalVOC 2012 val (all classes)", "multi"),
    }
    if name not in known:
        return None
    title, task = known[name]
    return Gone(name=title, task=task, classes=("background",), source={"data": name})


_Held = tuple[Parts, dict[str, Any], dict[str, Any]]
"""Rows, their record, and what else there is to know of them."""


def load(folders: Sequence[str | os.PathLike[str]]) -> list[Evaluation]:
    """Evaluations of some folders, those of one data set together.

    Parameters
    ----------
    folders
        As ``workbench evaluate`` names them.

    Raises
    ------
    InputError
        If none is given, or a folder holds no row.
    StoreError
        If a folder holds no evaluation.
    """
    if not folders:
        raise InputError("no folder is given; expected one or more that `workbench evaluate` names.")
    held = [Parts.find(Path(folder)) for folder in folders]
    groups: dict[str, list[_Held]] = {}
    for one in held:
        groups.setdefault(canonical_json(one[1]["data"]), []).append(one)
    return [_evaluation(group) for group in groups.values()]


def _evaluation(group: Sequence[_Held]) -> Evaluation:
    _, record, about = group[0]
    data = _data(record, about)
    seen = {name for parts, _, _ in group for name in parts.every()}
    if not seen:
        raise InputError(f"{group[0][0].folder} holds no row yet: nothing was evaluated.")
    order = [name for name in data.all_names() if name in seen] or sorted(seen)
    results = []
    for parts, held, told in group:
        protocol = Protocol.from_record(held["protocol"], str(told.get("protocol", "stored")))
        name = held["method"]["name"]
        summary = summarise(parts.rows(order), protocol)
        settings = dict(held["method"]["settings"])
        title = str(told.get("title") or TITLES.get(name, name))
        results.append(Result(title, name, protocol, parts, summary, settings))
    problems = {
        (row.name, row.message): Problem(row.name, row.message)
        for one in results
        for row in one.parts.rows(order)
        if row.message
    }
    notes: dict[str, set[str]] = {}
    for one in results:
        for row in one.parts.rows(order):
            for note in row.notes:
                notes.setdefault(note, set()).add(row.name)
    available = record["data"]["images"] if data.task == "multi" else len(order)
    counted = {note: len(names) for note, names in notes.items()}
    return Evaluation(data, tuple(order), max(available, len(order)), tuple(results), tuple(problems.values()), counted)


def _data(record: Mapping[str, Any], about: Mapping[str, Any]) -> DataSet:
    found = reopen(dict(about["source"]))
    if found is not None and plain(dict(found.identity())) == record["data"]:
        return found
    known = record["data"]
    return Gone(
        name=known["name"],
        task=known["task"],
        classes=tuple(known["classes"]),
        background=known["background"],
        source=about["source"],
    )
