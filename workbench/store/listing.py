"""What is said about stored runs: each by itself, and as a table in which those of experiments are counted."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench.schema import OF_MANY
from workbench.store.times import told

if TYPE_CHECKING:
    import xarray as xr

_WIDEST: Final = 40
"""Letters of a column of the table."""


@dataclass(frozen=True)
class Run:
    """One stored run, as :func:`runs` lists it.

    Attributes
    ----------
    key : str
        What :func:`open` takes.
    kind : str
        ``"capture"``, ``"generate"``, or ``"many"`` for a run of many images.
    model : str
        Name of the model.
    concepts : tuple of str
        The concepts.
    prompt : str or list of str
        The prompt.
    created : str
        Time of the run, ISO 8601.
    size : int
        Bytes on disk.
    path : pathlib.Path or str
        Folder of the zarr group, or its URL.
    note : str
        Why it cannot be opened; empty when it can.
    edit : str
        What was edited in the network, in words; empty for an unedited run.
    role : str
        ``"baseline"``, ``"edit"`` or ``"control"`` of the experiment it was made for, ``"item"`` of many images; empty
        for the user's own run, which is also what a run becomes that he asks for with a call of his own; opening it
        does not.
    parent : str
        Key of the run that it belongs to, when it was made for an experiment or as an item.
    superseded : bool
        Whether the call that made it now computes another run, because its numbers would differ.
    """

    key: str
    kind: str
    model: str
    concepts: tuple[str, ...]
    prompt: str | list[str]
    created: str
    size: int
    path: Path | str
    note: str = ""
    edit: str = ""
    role: str = ""
    parent: str = ""
    superseded: bool = False

    @property
    def own(self) -> bool:
        """Whether the user asked for it, rather than an experiment."""
        return not self.role

    def open(self, *, verify: bool = False) -> xr.Dataset:
        """Open the run; see :func:`workbench.open`."""
        from workbench.store.reading import open as open_run

        return open_run(self.path, verify=verify)


@dataclass(frozen=True)
class Family:
    """A run, and the runs that were made for experiments with it.

    Attributes
    ----------
    head : Run
        The user's own run; of an experiment that belongs to no stored run of his, its baseline or its newest run.
    derived : list of Run
        Those of experiments, without the head.
    """

    head: Run
    derived: list[Run] = field(default_factory=list)

    @property
    def made(self) -> list[Run]:
        """All that were made for experiments."""
        return self.derived if self.head.own else [self.head, *self.derived]

    @property
    def summary(self) -> str:
        """``"56 runs of an experiment"``, ``"12 items"`` of many images, or both."""
        return made_runs([run.role for run in self.derived])


def families(runs: Sequence[Run]) -> list[Family]:
    """Group runs by the run that they belong to.

    Parameters
    ----------
    runs
        In the order in which they are to be told.

    Returns
    -------
    list of Family
        First those of the user's own runs, then experiments that belong to none of the runs; in the order of the heads.
    """
    by_key = {run.key: run for run in runs}
    found = {run.key: Family(run) for run in runs if run.own}
    orphans: dict[str, list[Run]] = {}
    for run in runs:
        if not run.own:
            root = _root(run, by_key)
            if root in found:
                found[root].derived.append(run)
            else:
                orphans.setdefault(root, []).append(run)
    for root, members in orphans.items():
        baselines = [run for run in members if run.role == "baseline"]
        head = next((run for run in members if run.key == root), (baselines or members)[0])
        found[head.key] = Family(head, [run for run in members if run is not head])
    return list(found.values())


def _root(run: Run, by_key: dict[str, Run]) -> str:
    """Key of the run at the end of the chain of parents; that of a run which is not there ends it too."""
    seen = {run.key}
    while not run.own and run.parent and run.parent not in seen:
        seen.add(run.parent)
        if run.parent not in by_key:
            return run.parent
        run = by_key[run.parent]
    return run.key


def counted(runs: Sequence[object]) -> str:
    """``"3 runs"``."""
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"


def made_runs(roles: Sequence[str], experiments: str = "an experiment") -> str:
    """How many runs that the user did not ask for by themselves there are, by what they were made for."""
    items = sum(role == OF_MANY for role in roles)
    others = len(roles) - items
    said = [f"{others} run{'s' * (others != 1)} of {experiments}"] if others else []
    said += [f"{items} item{'s' * (items != 1)}"] if items else []
    return " and ".join(said)


def readable(size: int) -> str:
    """A number of bytes as people read it: ``"12.3 kB"``, ``"1.5 GB"``."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} B"


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


class Runs(list[Run]):
    """A list of runs that prints as a table."""

    _COLUMNS = ("key", "kind", "model", "concepts", "created", "size")

    def _rows(self, every: bool) -> Iterator[tuple[str, ...]]:
        """A row for each run, and one of a single cell for those that are only counted."""
        for family in families(self):
            yield self._row(family.head, "")
            if every:
                yield from (self._row(run, "  ") for run in family.derived)
            elif family.derived:
                size = readable(sum(run.size for run in family.derived))
                yield (f"  + {family.summary}, {size}",)

    def _row(self, run: Run, indent: str) -> tuple[str, ...]:
        size = run.note or readable(run.size) + " (superseded)" * run.superseded
        made = told(run.created)
        edit = ": ".join(filter(None, [run.role.replace("edit", ""), run.edit]))
        return (indent + run.key, run.kind, run.model, ", ".join(run.concepts), made, size, edit)

    def _table(self, every: bool) -> list[tuple[str, ...]]:
        rows = list(self._rows(every))
        edited = any(row[-1] for row in rows if len(row) > 1)
        columns = (*self._COLUMNS, *["edit"] * edited)
        return [columns, *(row[: len(columns)] for row in rows)]

    def table(self, *, every: bool = False) -> str:
        """The table as text.

        Parameters
        ----------
        every
            Whether each run of an experiment has a row, below the run that it belongs to; otherwise they are counted.
        """
        if not self:
            return "no stored runs"
        rows = self._table(every)
        whole = [row for row in rows if len(row) > 1]
        widths = [min(max(map(len, column)), _WIDEST) for column in zip(*whole, strict=True)]
        return "\n".join(
            row[0]
            if len(row) == 1
            else "  ".join(_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            span = f' colspan="{len(columns)}"' if len(cells) == 1 else ""
            return "<tr>" + "".join(f"<{tag}{span}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        columns, *rows = self._table(every=False)
        return f"<table>{line(columns, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
