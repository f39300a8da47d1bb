"""Any data set that gives rows by number, such as a Hugging Face ``datasets.Dataset``: known by what it can do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.datasets import DataSet, Labels, Task
from workbench.evaluation.pixels import read_image, read_labels
from workbench.images import to_array
from workbench.numerics.confusion import VOID
from workbench.schema import InputError


@runtime_checkable
class Rows(Protocol):
    """What a data set has to offer."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class RowData(DataSet):
    """Rows of another data set, named by their numbers."""

    rows: Any = None
    columns: tuple[str, str] = ("image", "annotation")
    values: Mapping[int, int] = field(default_factory=dict)
    fingerprint: str = ""

    def all_names(self) -> tuple[str, ...]:
        """Row numbers."""
        return tuple(f"{row:06d}" for row in range(len(self.rows)))

    def identity(self) -> Mapping[str, Any]:
        """Also the fingerprint that the rows have of themselves; without one, a checksum over all of them."""
        return {**super().identity(), "rows": self.fingerprint or self._checksum()}

    def image(self, name: str) -> NDArray[np.uint8]:
        """The image column, in RGB."""
        value = self._value(name, self.columns[0])
        if isinstance(value, np.ndarray):
            if value.ndim != 3 or value.shape[-1] != 3 or value.dtype != np.uint8:
                raise InputError(f"the image of row {name} is {value.dtype} {value.shape}; expected uint8 (y, x, 3).")
            return value
        return read_image(value, f"the image of row {name}")

    def labels(self, name: str) -> Labels:
        """The label column, with its numbers as positions of classes."""
        value = self._value(name, self.columns[1])
        what = f"the labels of row {name}"
        plain = isinstance(value, np.ndarray | list) or hasattr(value, "detach")
        numbers = to_array(value, what, "whole numbers (y, x)") if plain else read_labels(value, what)
        if numbers.ndim != 2 or numbers.dtype.kind not in "iub":
            raise InputError(f"{what} are {numbers.dtype} {numbers.shape}; expected whole numbers (y, x).")
        known = np.isin(numbers, list(self.values))
        if not known.all():
            raise InputError(
                f"{what} hold {int(numbers[~known][0])}, which is no class: name it in classes=, or in ignore= as void."
            )
        found = np.zeros(numbers.shape, dtype=np.int16)
        for number, position in self.values.items():
            found[numbers == number] = position
        return found

    def _checksum(self) -> str:
        found = hashlib.sha256()
        for name in self.all_names():
            for part in (self.image, self.labels):
                try:
                    found.update(np.ascontiguousarray(part(name)).tobytes())
                except InputError as error:
                    found.update(str(error).encode())
        return found.hexdigest()[:20]

    def _value(self, name: str, column: str) -> Any:
        row = self.rows[int(name)]
        if column not in row:
            raise InputError(f"row {name} has the columns {', '.join(row)}; expected {column!r}.")
        return row[column]


def of_rows(
    rows: Rows,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    *,
    image: str = "image",
    labels: str = "annotation",
    ignore: int | Sequence[int] | None = None,
    background: str | None = "background",
    task: Task = "multi",
    name: str = "",
) -> RowData:
    """A data set from anything that has a length and gives rows by number.

    Parameters
    ----------
    rows
        Such as a Hugging Face ``datasets.Dataset``: ``rows[3]["image"]`` is an image, ``rows[3]["annotation"]`` a label
        map.
    classes
        Words by number; by default the names that ``rows.features`` gives the label column.
    image, labels
        Names of the columns.
    ignore
        Numbers of void pixels.
    background
        The class that background words stand for, where there is one of that name.
    task
        ``"multi"`` or ``"single"``.
    name
        What tables call it.

    Raises
    ------
    InputError
        If it has no rows, no such columns, or no classes.
    """
    if not isinstance(rows, Rows) or not len(rows):
        raise InputError(
            f"got a {type(rows).__name__}; expected rows by number, such as datasets.Dataset, one or more."
        )
    first = rows[0]
    for column in (image, labels):
        if column not in first:
            raise InputError(f"the rows have the columns {', '.join(first)}; expected {column!r}: give its name.")
    if classes is None:
        feature = getattr(rows, "features", {}).get(labels)
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names is None:
            raise InputError(f"nothing says what the numbers in {labels!r} mean: give classes={{0: 'background', …}}.")
        classes = list(names)
    by_number = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    words = tuple(dict.fromkeys(by_number.values()))
    values = {int(number): words.index(word) for number, word in by_number.items()}
    values |= {int(number): VOID for number in np.atleast_1d([] if ignore is None else ignore)}
    title = name or str(getattr(getattr(rows, "info", None), "dataset_name", None) or type(rows).__name__)
    return RowData(
        name=title,
        task=task,
        classes=words,
        background=words.index(background) if background in words else None,
        source={"data": "rows", "name": title, "classes": {str(key): word for key, word in by_number.items()}},
        rows=rows,
        columns=(image, labels),
        values=values,
        fingerprint=str(getattr(rows, "_fingerprint", "")),
    )
