"""What every writer of a run does: check the pieces that arrive, round them, and know which are still to come."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from workbench.schema import HEAD, LAYER, PIECE_DIMS, SAMPLE, TIMESTEP, StoreError
from workbench.store.locations import plain

Array = npt.NDArray[Any]


class Variable(NamedTuple):
    """A variable that is declared before its values are known."""

    dims: tuple[str, ...]
    dtype: str

    @property
    def in_pieces(self) -> bool:
        """Whether it is written piece by piece."""
        return self.dims[: len(PIECE_DIMS)] == PIECE_DIMS


class Piece(NamedTuple):
    """Where one piece belongs: positions along ``sample``, ``timestep`` and ``layer``, from 0."""

    sample: int
    timestep: int
    layer: int


class Part(NamedTuple):
    """What one call of :meth:`Writer.put` delivers: a variable, or its share of one sample."""

    name: str
    sample: int | None


class Writer(ABC):
    """A run that is being written: pieces go in, one dataset comes out.

    What is written counts once it is committed. A forward pass can be judged only after its last block: its pieces are
    written as they come, and committed when the pass turned out to be right. What was not committed when a run is
    interrupted is written again when it resumes.

    Attributes
    ----------
    attrs : dict
        The dataset's attributes. They may be changed until the run is complete, for example to list a piece in
        ``attrs["missing"]`` that turned out not to exist.
    done : set of Piece
        The committed pieces, from this process or from one that was interrupted.
    complete : bool
        The run was finished before this writer could start, by another process: there is nothing left to write.
    """

    def __init__(self, template: xr.Dataset, variables: Mapping[str, Variable]) -> None:
        self.attrs: dict[str, Any] = plain(template.attrs)
        self.done: set[Piece] = set()
        self.complete = False
        self._written: set[Piece] = set()
        self._wide: dict[str, set[Piece]] = {}
        self._template = template
        self._variables = dict(variables)
        self._put_done: set[Part] = set()
        self._put_written: set[Part] = set()
        missing_sizes = {dim for var in variables.values() for dim in var.dims} - set(template.sizes)
        if missing_sizes:
            raise StoreError(f"the template has no coordinate for {sorted(missing_sizes)}; expected one per dimension")
        if twice := set(variables) & set(template.variables):
            raise StoreError(f"the template already holds {sorted(twice)}, which are declared as still to be written")

    @property
    def remaining(self) -> list[Piece]:
        """The pieces still to be written and committed, in order; those in ``attrs["missing"]`` are not."""
        sizes = [range(self._template.sizes[dim]) for dim in PIECE_DIMS]
        missing = self._missing()
        return [
            piece
            for piece in itertools.starmap(Piece, itertools.product(*sizes))
            if piece not in self.done and piece not in missing
        ]

    def write(self, at: Mapping[str, int], values: Mapping[str, npt.ArrayLike]) -> None:
        """Write one piece: all variables at one (sample, timestep, layer). Writing it again replaces it.

        It counts from the next :meth:`commit`, or from the end of the ``with`` block when that ends normally. Several
        threads may write different pieces at the same time; none while another thread commits.

        Parameters
        ----------
        at
            Positions (not labels) along ``sample``, ``timestep`` and ``layer``, from 0.
        values
            For every declared variable its array without those three dimensions, in the declared order: for scores
            (head, concept, y, x), for their totals (concept, y, x). Values declared as float16 are rounded to it
            (those that come as float16 are taken as they are), unless one of them overflows: then the piece keeps
            float32, and so does the variable.

        Raises
        ------
        StoreError
            When a variable is missing, of the wrong shape or not finite, the position is outside the run, or the disk
            is full. Pieces already written stay.
        """
        piece = self._piece(at)
        expected = {name: variable for name, variable in self._variables.items() if variable.in_pieces}
        if set(values) != set(expected):
            raise StoreError(f"piece {dict(at)} holds {sorted(values)}; expected {sorted(expected)}")
        arrays = {}
        for name, variable in expected.items():
            array = np.asarray(values[name])
            shape = self._shape(variable)[len(PIECE_DIMS) :]
            if array.shape != shape:
                inner = variable.dims[len(PIECE_DIMS) :]
                raise StoreError(f"piece {dict(at)}: {name!r} has shape {array.shape}; expected {shape}, {inner}")
            rounded = _rounded(array, np.dtype(variable.dtype))
            if rounded is None:
                raise StoreError(
                    f"piece {dict(at)}: {name!r} holds NaN or infinity; a piece that does not exist is listed in "
                    "attrs['missing'] and not written"
                )
            arrays[name] = rounded
        self._write_piece(piece, arrays)
        self._written.add(piece)
        for name, array in arrays.items():
            wide = self._wide.setdefault(name, set())
            (wide.add if array.dtype != self._variables[name].dtype else wide.discard)(piece)

    def commit(self) -> None:
        """Make everything written since the last commit count.

        Raises
        ------
        StoreError
            When the disk is full; nothing is then committed, and a later commit may still do it.
        """
        if self._written or self._put_written:
            self._commit(sorted(self._written), sorted(self._put_written))
            self.done |= self._written
            self._put_done |= self._put_written
            self._written, self._put_written = set(), set()

    def put(self, name: str, values: npt.ArrayLike, sample: int | None = None) -> None:
        """Write a declared variable that does not come in pieces; ``image`` of a generated run is one.

        Like a piece, it counts from the next :meth:`commit`.

        Parameters
        ----------
        name
            A declared variable without the dimensions ``timestep`` and ``layer``.
        values
            Its values, in the declared order of dimensions: all of them, or those of one sample.
        sample
            Position of that sample, from 0, for a variable whose first dimension is ``sample``.

        Raises
        ------
        StoreError
            When there is no such variable, its shape differs, or the disk is full.
        """
        whole = [other for other, variable in self._variables.items() if not variable.in_pieces]
        if name not in whole:
            raise StoreError(f"{name!r} is no declared variable to be written whole; expected one of {whole}")
        variable, array = self._variables[name], np.asarray(values)
        shape, dims = self._shape(variable), variable.dims
        parts = self._parts(name)
        if sample is not None:
            if Part(name, sample) not in parts:
                expected = f"a position from 0 below {len(parts)}" if dims[:1] == (SAMPLE,) else "None"
                raise StoreError(f"{name!r} is put with sample={sample!r}; expected {expected}")
            parts, array, shape, dims = [Part(name, sample)], array[np.newaxis], (1, *shape[1:]), dims[1:]
        if array.shape != shape:
            given, wanted = (array.shape, shape) if sample is None else (array.shape[1:], shape[1:])
            raise StoreError(f"{name!r} has shape {given}; expected {wanted}, {', '.join(dims)}")
        array = array.astype(variable.dtype, copy=False)
        for index, part in enumerate(parts):
            self._write_part(part, array if part.sample is None else array[index])
            self._put_written.add(part)

    def reject(self) -> None:
        """Forget everything that was written, because it turned out to be wrong: the next writer begins anew."""
        self.done.clear()
        self._put_done.clear()
        self._written.clear()
        self._put_written.clear()

    def absent(self, name: str) -> list[int]:
        """The samples of a variable that :meth:`put` still has to bring: of one without ``sample`` 0, or none."""
        return [part.sample or 0 for part in self._parts(name) if part not in self._put_done]

    def so_far(self, largest: int = 2**28) -> xr.Dataset | None:
        """What a run that is still growing can show: the sums over heads of its whole passes, in memory.

        It holds the samples that are there at all timesteps; before the first such one, that sample's timesteps. What
        was written but not committed yet is in it, so it is for the eye: it may still be rejected.

        Parameters
        ----------
        largest
            Bytes that it may take.

        Returns
        -------
        xarray.Dataset or None
            None before the first pass, and where more bytes would be taken.
        """
        there = {*self.done, *self._written.copy(), *self._missing()}
        samples, timesteps, layers = (range(self._template.sizes[dim]) for dim in PIECE_DIMS)
        passes = {at for at in itertools.product(samples, timesteps) if all(Piece(*at, i) in there for i in layers)}
        whole = [sample for sample in samples if all((sample, timestep) in passes for timestep in timesteps)]
        at = {
            SAMPLE: whole or list(samples[:1]),
            TIMESTEP: [timestep for timestep in timesteps if whole or (0, timestep) in passes],
        }
        if not at[TIMESTEP] or self.complete:
            return None
        totals = {name: var for name, var in self._variables.items() if var.in_pieces and HEAD not in var.dims}
        pictures = {
            name: var
            for name, var in self._variables.items()
            if var.dims[:1] == (SAMPLE,)
            and not var.in_pieces
            and {Part(name, sample) for sample in at[SAMPLE]} <= self._put_done | self._put_written
        }
        empty = string_type(self._template, str).isel(at)
        declared = {**totals, **pictures}
        size = sum(
            np.dtype(variable.dtype).itemsize * int(np.prod([empty.sizes[dim] for dim in variable.dims]))
            for variable in declared.values()
        )
        if size > largest:
            return None
        read = {name: self._read(name, [at[dim] for dim in var.dims if dim in at]) for name, var in declared.items()}
        found = empty.assign({name: (declared[name].dims, values) for name, values in read.items()})
        return found.drop_dims(HEAD, errors="ignore").assign_attrs(plain(self.attrs))

    @abstractmethod
    def dataset(self) -> xr.Dataset:
        """The finished run. Only after the ``with`` block has ended without an exception."""

    @abstractmethod
    def _write_piece(self, piece: Piece, arrays: Mapping[str, Array]) -> None: ...

    @abstractmethod
    def _write_part(self, part: Part, array: Array) -> None: ...

    @abstractmethod
    def _read(self, name: str, at: list[list[int]]) -> Array:
        """What was written of a variable at positions along its first dimensions."""

    @abstractmethod
    def _commit(self, pieces: list[Piece], parts: list[Part]) -> None: ...

    @abstractmethod
    def _erase(self, piece: Piece) -> None: ...

    def _parts(self, name: str) -> list[Part]:
        dims = self._variables[name].dims
        return (
            [Part(name, sample) for sample in range(self._template.sizes[SAMPLE])]
            if dims[:1] == (SAMPLE,)
            else [Part(name, None)]
        )

    def _shape(self, variable: Variable) -> tuple[int, ...]:
        return tuple(self._template.sizes[dim] for dim in variable.dims)

    def _piece(self, at: Mapping[str, int]) -> Piece:
        sizes = {dim: self._template.sizes[dim] for dim in PIECE_DIMS}
        if set(at) != set(sizes) or not all(0 <= at[dim] < size for dim, size in sizes.items()):
            raise StoreError(f"the piece is at {dict(at)}; expected positions from 0 within {sizes}")
        return Piece(int(at[SAMPLE]), int(at[TIMESTEP]), int(at[LAYER]))

    def _missing(self) -> set[Piece]:
        positions = {dim: self._template[dim].values.tolist() for dim in PIECE_DIMS}
        try:
            return {
                Piece(**{dim: values.index(piece[dim]) for dim, values in positions.items()})
                for piece in self.attrs.get("missing", ())
            }
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"attrs['missing'] is {self.attrs['missing']!r}; expected a list of "
                '{"sample": ..., "timestep": ..., "layer": ...} with coordinate values of this run'
            ) from error

    def _settle(self) -> list[str]:
        """Commit what is left, and raise unless every piece and every declared variable is there.

        Returns
        -------
        list of str
            The variables that overflow their type. A piece that was written and then listed as missing leaves no trace.
        """
        self.commit()
        if absent := self.remaining:
            first = {dim: self._template[dim].values[i].item() for dim, i in zip(PIECE_DIMS, absent[0], strict=True)}
            raise StoreError(
                f"{len(absent)} pieces were never written, the first {first}; list pieces that do not exist in "
                "attrs['missing'], or make the same call again to compute the rest"
            )
        whole = [name for name, variable in self._variables.items() if not variable.in_pieces]
        if never := {name: samples for name in whole if (samples := self.absent(name))}:
            raise StoreError(
                f"put() never brought these variables and samples: {never}; expected all that are declared"
            )
        missing = self._missing()
        for piece in missing & self.done:
            self._erase(piece)
            self.done.remove(piece)
        return [name for name, wide in self._wide.items() if wide - missing]


def _rounded(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """The array in its declared type; float32 when a value does not fit into float16; None when one is not finite.

    Every piece that fits is rounded, also in a run in which another does not: what is stored then depends neither on
    the order of the pieces nor on interruptions.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = array.astype(dtype, copy=False)
    if _finite(rounded):  # rounding keeps NaN and infinity
        return rounded
    if dtype != np.float16 or not np.isfinite(array).all():
        return None
    with np.errstate(over="ignore"):
        wider = array.astype(np.float32, copy=False)
    return wider if np.isfinite(wider).all() else None


def _finite(array: Array) -> bool:
    if array.dtype == np.float16:
        # Bits of NaN and infinity are the largest; NumPy's own test of float16 takes twelve times as long.
        bits = np.ascontiguousarray(array).view(np.uint16) & 0x7FFF
        return bool(bits.max(initial=0) < 0x7C00)
    return bool(np.isfinite(array).all())


def string_type(ds: xr.Dataset, dtype: Any) -> xr.Dataset:
    """The dataset with every string coordinate in another string type."""
    texts = {name: coord for name, coord in ds.coords.items() if coord.dtype.kind in "OUT"}
    return ds.assign_coords(
        {name: (text.dims, np.array(text.values.tolist(), dtype), text.attrs) for name, text in texts.items()}
    )
