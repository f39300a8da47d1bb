"""Images a batch at a time: what is there is not computed again, and one that fails does not spoil the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workbench.evaluation.captured import Captures
from workbench.evaluation.datasets import DataSet
from workbench.evaluation.entries import Entry
from workbench.evaluation.examples import Task, measure, read
from workbench.evaluation.parts import Parts, Row
from workbench.evaluation.protocols import Protocol
from workbench.recording.sessions import session
from workbench.schema import InputError, WorkbenchError, noted


def compute(
    data: DataSet,
    entries: Sequence[Entry],
    stores: Sequence[Parts],
    names: Sequence[str],
    captures: Captures,
    batch: int,
    progress: bool,
) -> None:
    """Evaluate those of some images that a store lacks, and keep each batch as it is finished.

    Parameters
    ----------
    data
        The data set.
    entries, stores
        Methods under protocols, and where the rows of each are.
    names
        The images.
    captures
        What several methods share; it is let go behind each batch.
    batch
        Images that are kept at once.
    progress
        Whether to show a bar.
    """
    from tqdm.auto import tqdm

    done = [parts.done() for parts in stores]
    left = [name for name in names if any(name not in held for held in done)]
    bar = tqdm(total=len(names), initial=len(names) - len(left), unit="image", disable=not progress)
    # All that capture of an image shares its encoding; words are encoded once for the whole evaluation.
    with session(images=batch), bar:
        for start in range(0, len(left), batch):
            members = left[start : start + batch]
            tasks = _Tasks(data, members)
            for one, parts, held in zip(entries, stores, done, strict=True):
                missing = [name for name in members if name not in held]
                if missing:
                    parts.write(_rows(one, tasks, missing))
            captures.forget()
            bar.update(len(members))


class _Tasks:
    """The examples of a batch by protocol, each image read once for all entries that read it alike."""

    def __init__(self, data: DataSet, names: Sequence[str]) -> None:
        self._data = data
        self._held: dict[tuple[str, str], Task | str] = {}

    def get(self, name: str, protocol: Protocol) -> Task | str:
        """A task, or what is wrong with its image."""
        key = (name, protocol.hash)
        if key not in self._held:
            try:
                self._held[key] = read(self._data, name, protocol)
            except (WorkbenchError, OSError) as error:
                self._held[key] = str(error)
        return self._held[key]


def _rows(one: Entry, tasks: _Tasks, names: Sequence[str]) -> list[Row]:
    """Rows of a batch; when a batch fails, each of its images is tried alone, so that one does not spoil others."""
    read_well = {name: tasks.get(name, one.protocol) for name in names}
    good = [task for task in read_well.values() if isinstance(task, Task)]
    rows = {name: Row(name, task) for name, task in read_well.items() if isinstance(task, str)}
    try:
        found = list(_measured(one, good))
    except Exception as error:
        if len(good) == 1:
            found = [_failed(good[0], error)]
        else:
            found = []
            for task in good:
                try:
                    found += list(_measured(one, [task]))
                except Exception as alone:
                    found.append(_failed(task, alone))
    rows |= {row.name: row for row in found}
    return [rows[name] for name in names]


def _failed(task: Task, error: Exception) -> Row:
    kind = "" if isinstance(error, WorkbenchError) else f"{type(error).__name__}: "
    return Row(task.example.name, f"{kind}{error}", task.example.targets)


def _measured(one: Entry, tasks: Sequence[Task]) -> Iterator[Row]:
    if not tasks:
        return
    with noted() as notes:
        maps = iter(one.method.maps([task.example for task in tasks], [task.concepts for task in tasks]))
        for task in tasks:
            try:
                found = next(maps)
            except StopIteration:
                raise InputError(f"{one.method.name} gave fewer maps than examples: expected one for each.") from None
            figures = measure(task, found, one.protocol)
            yield Row(task.example.name, "", task.example.targets, figures, tuple(notes))
            notes.clear()
