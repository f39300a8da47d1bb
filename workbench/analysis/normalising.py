"""A captured dataset back in its usual form, whatever xarray made of it: the entry of every analysis, figure and view.

Selecting, squeezing, joining, casting, chunking and files of other formats drop dimensions, change their order and the
types of attributes, and leave variables beside each other that no longer belong together: the sums over all heads next
to the scores of one. :func:`normalised` undoes what it can without guessing, and refuses the rest in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.head_sums import computed_spaces, with_totals
from workbench.analysis.lazily import arranged
from workbench.schema import InputError

_BESIDE: Final[Mapping[str, str]] = {
    schema.SEED: schema.SAMPLE,
    schema.PROMPT: schema.SAMPLE,
    schema.SIGMA: schema.TIMESTEP,
    schema.STEP: schema.TIMESTEP,
    schema.BLOCK: schema.LAYER,
    schema.MODULE: schema.LAYER,
    schema.POSITION: schema.TOKEN,
    schema.PADDING: schema.TEXT,
}
"""Coordinates beside the one of their dimension."""
_ORDERED: Final[Mapping[str, int]] = {
    schema.TIMESTEP: -1,
    schema.LAYER: 1,
    schema.HEAD: 1,
    schema.Y: 1,
    schema.X: 1,
    schema.PIXEL_Y: 1,
    schema.PIXEL_X: 1,
}
"""Dimensions whose order means something: timesteps fall, the others rise."""
_NUMBERED: Final = (schema.SAMPLE, schema.TIMESTEP, schema.LAYER, schema.HEAD, schema.Y, schema.X)
_COUNTED: Final = (schema.SAMPLE, schema.LAYER, schema.HEAD)
"""Of them those in whole numbers; others come of averages over several."""
_PICTURE: Final = (schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL)
_MASKS: Final = (schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X)
_OF_PICTURE: Final = (schema.IMAGE, schema.TRUTH, schema.VOID)

_at_hand: ContextVar[xr.Dataset | None] = ContextVar("the dataset that is normalised already", default=None)


def normalised(ds: xr.Dataset, *, branches: bool = False) -> xr.Dataset:
    """The dataset as the contract of :mod:`workbench.schema` describes it, as far as it can be had without guessing.

    Attributes become plain values again; dimensions that a scalar coordinate remembers come back with length one;
    dimensions take the contract's order, timesteps fall and layers, heads and positions rise. Where a dataset holds
    fewer heads than its ``<space>_total`` is the sum of, or no such variable, or per-head scores that were computed
    from those of the run, the sum over the heads it does hold takes its place, with their numbers in the variable's
    ``attrs["heads"]``. Nothing is read that is not needed: these sums are computed when they are used.

    Parameters
    ----------
    ds
        A captured dataset, or what xarray made of one.
    branches
        Whether the caller takes both branches of guidance at once.

    Returns
    -------
    The same dataset where there is nothing to do. Without any scores, only its attributes are looked at.

    Raises
    ------
    InputError
        If it is no dataset, it is of several items, a dimension is gone or unknown, a coordinate is absent, of the
        wrong kind or repeats a value, or a variable holds no scores any more, or was changed in place; or if it has
        both branches of guidance, and the caller takes one.
    SelectionError
        If its sums over heads are of other heads than those it holds, and per-head scores are not there.
    """
    if ds is _at_hand.get() and (branches or schema.BRANCH not in ds.dims):
        return ds
    if not isinstance(ds, xr.Dataset):
        raise InputError(
            f"got {type(ds).__name__}; expected the dataset that wb.capture, wb.generate or wb.open returned."
        )
    ds = one_item(ds)
    attrs = schema.read_attributes(ds.attrs)
    if any(value is not ds.attrs[name] for name, value in attrs.items()):
        ds = ds.assign_attrs(attrs)
    if not _scored(ds):
        return ds
    ds = _with_residuals(ds)
    computed = computed_spaces(ds)
    if schema.BRANCH in ds.dims and not branches:
        raise InputError(
            f"this run holds both branches of guidance: choose one, ds.sel({schema.BRANCH}={schema.CONDITIONAL!r}) or "
            f"ds.sel({schema.BRANCH}={schema.UNCONDITIONAL!r}). Heat maps, segmentations and masks take both."
        )
    chunked = [name for name in ds.coords if ds.variables[name].chunks]
    ds = ds.assign_coords({name: ds[name].compute() for name in chunked}) if chunked else ds
    ds = _with_dimensions(ds)
    _check_coordinates(ds)
    ds = _in_order(ds)
    return with_totals(_with_records(ds), computed)


@contextmanager
def once(ds: xr.Dataset) -> Iterator[xr.Dataset]:
    """Inside, in this thread, :func:`normalised` gives this dataset back without looking at its scores again.

    For analyses that make maps of one dataset many times, and change nothing of it meanwhile.

    Parameters
    ----------
    ds
        What :func:`normalised` returned.
    """
    token = _at_hand.set(ds)
    try:
        yield ds
    finally:
        _at_hand.reset(token)


def one_item(ds: xr.Dataset) -> xr.Dataset:
    """What a dataset holds of the only item that it is of, as the capture of that image alone.

    Raises
    ------
    InputError
        If it is of several items.
    """
    if schema.ITEM in ds.dims:
        if ds.sizes[schema.ITEM] != 1:
            raise InputError(
                f"this dataset holds {ds.sizes[schema.ITEM]} items: choose one, ds.isel(item=0) or ds.wb.item('name'), "
                "or call the methods of ds.wb, which take all of them."
            )
        ds = ds.isel({schema.ITEM: 0})
    return schema.of_item(ds)


def _with_residuals(ds: xr.Dataset) -> xr.Dataset:
    """Scores with what float16 took from them, where plain xarray opened a run as it is stored."""
    if not any(schema.residual(space) in ds.data_vars for space in schema.SPACES):
        return ds
    from workbench.store.residuals import joined

    try:
        return joined(ds)
    except ValueError as error:
        raise InputError(
            f"this run was opened as its files are, with scores in float16 and the rest beside them, which no longer "
            f"belong together ({error}): open it with wb.open, and compute then."
        ) from error


def _dims_of(name: str, ds: xr.Dataset) -> tuple[str, ...]:
    """The dimensions the contract gives a variable; none for one it does not know."""
    dims = _dims_of_one(name, ds)
    in_pieces = dims[: len(schema.PIECE_DIMS)] == schema.PIECE_DIMS
    return schema.in_branches(dims) if in_pieces and schema.BRANCH in ds.variables[name].dims else dims


def _dims_of_one(name: str, ds: xr.Dataset) -> tuple[str, ...]:
    """The same of a run of one branch of guidance."""
    for space in schema.SPACES:
        if name == space:
            return schema.score_dims(space)
        if name == schema.total(space):
            return schema.total_dims(space)
    if name == schema.IMAGE:
        return (schema.SAMPLE, *_PICTURE) if ds.attrs.get("kind") == "generate" else _PICTURE
    known = {schema.TRUTH: _MASKS, schema.VOID: _MASKS[1:], schema.TEXT_MASS: schema.MASS_DIMS}
    known |= dict.fromkeys(schema.LSE, schema.LSE_DIMS)
    return known.get(name, ())


def _scored(ds: xr.Dataset) -> list[str]:
    """The variables of the contract but for pictures and masks."""
    return [name for name in map(str, ds.data_vars) if name not in _OF_PICTURE and _dims_of(name, ds)]


def _with_dimensions(ds: xr.Dataset) -> xr.Dataset:
    """Every variable of the contract along its own dimensions, in its own order."""
    contract = {str(name): dims for name in ds.data_vars if (dims := _dims_of(str(name), ds))}
    wanted = {dim for dims in contract.values() for dim in dims}
    dropped = {dim for dim in wanted if dim in ds.coords and ds.variables[dim].ndim == 0}
    changed: dict[str, xr.Variable] = {}
    absent: list[str] = []
    for name, dims in contract.items():
        variable = ds.variables[name]
        of_picture = name in _OF_PICTURE
        if not of_picture and schema.HEAD in variable.dims and schema.HEAD not in dims:
            absent.append(name)  # a join over heads has repeated the totals: they are summed anew
            continue
        if of_picture:
            variable = _once(variable, [*dims, schema.FRAME, *([schema.SAMPLE] if name == schema.IMAGE else [])])
            variable = _typed(name, variable, ds)
        else:
            _check_scores(name, variable, dims, dropped)
        there = [dim for dim in dims if dim in variable.dims or dim in dropped]
        extra = [str(dim) for dim in variable.dims if dim not in dims]
        # Frames come before the plane, a sample's picture before all.
        at = there.index(schema.Y) if schema.Y in there and not of_picture else 0
        target = (*there[:at], *extra, *there[at:])
        if target != variable.dims:
            variable = arranged(variable, target)
        if variable is not ds.variables[name]:
            changed[name] = variable
    beside = [name for name, dim in _BESIDE.items() if dim in dropped and name in ds.coords and ds[name].ndim == 0]
    labels: dict[str, Any] = {dim: (dim, np.atleast_1d(ds[dim].to_numpy())) for dim in dropped}
    labels |= {name: (_BESIDE[name], np.atleast_1d(ds[name].to_numpy())) for name in beside}
    if not (changed or labels or absent):
        return ds
    return ds.drop_vars([*changed, *labels, *absent]).assign_coords(labels).assign(changed)


def _check_scores(name: str, variable: xr.Variable, dims: Sequence[str], dropped: set[str]) -> None:
    """Refuse scores that lack a dimension, have a foreign one, or are none."""
    held = ", ".join(map(str, variable.dims))
    for dim in dims:
        if dim not in variable.dims and dim not in dropped:
            raise InputError(
                f"{name!r} has no dimension {dim!r}, and no coordinate says which {dim} it is of: choose one with "
                f"ds.sel({dim}=value), without drop=True, and leave averaging to the methods of ds.wb. Its dimensions "
                f"are {held}."
            )
    if unknown := [str(dim) for dim in variable.dims if dim not in (*dims, schema.FRAME)]:
        raise InputError(
            f"{name!r} has the unknown dimension {unknown[0]}, along which datasets may have been joined: choose one, "
            f"ds.isel({unknown[0]}=0), or join over {schema.SAMPLE!r}."
        )
    if variable.dtype.kind != "f":
        raise InputError(
            f"{name!r} holds {variable.dtype}; expected floating-point scores, as wb.capture returns them."
        )
    if empty := [str(dim) for dim, size in variable.sizes.items() if not size]:
        raise InputError(f"{name!r} is empty: its dimension {empty[0]!r} has length 0. Choose more of it.")


def _once(variable: xr.Variable, dims: Sequence[str]) -> xr.Variable:
    """Without dimensions along which a join has repeated a picture or masks; those that differ stay."""
    for dim in [dim for dim in variable.dims if dim not in dims]:
        first = variable.isel({dim: 0})
        if variable.sizes[dim] == 1 or bool((variable == first).all()):
            variable = first
    return variable


def _typed(name: str, variable: xr.Variable, ds: xr.Dataset) -> xr.Variable:
    """Pictures as uint8 and masks as bool again, where their values still are those; one picture of a capture."""
    if name == schema.IMAGE and ds.attrs.get("kind") == "capture" and schema.SAMPLE in variable.dims:
        variable = _once(variable, [str(dim) for dim in variable.dims if dim != schema.SAMPLE])
    kind: Any = np.uint8 if name == schema.IMAGE else np.bool_
    if variable.dtype == kind or variable.dtype.kind not in "iufb":
        return variable
    values = variable.to_numpy()
    most = 255 if name == schema.IMAGE else 1
    if not (np.isfinite(values).all() and ((values == np.rint(values)) & (values >= 0) & (values <= most)).all()):
        return variable
    return xr.Variable(variable.dims, values.astype(kind), variable.attrs)


def _check_coordinates(ds: xr.Dataset) -> None:
    """Refuse dimensions of scores without labels, with labels of the wrong kind, and with the same one twice."""
    used = {str(dim): name for name in reversed(_scored(ds)) for dim in ds.variables[name].dims}
    for dim, name in used.items():
        if dim not in ds.coords:
            raise InputError(
                f"The dimension {dim!r} of {name!r} has no coordinate: give it back the one of the captured dataset, "
                f"ds.assign_coords({dim}=...)."
            )
        values = ds.variables[dim].to_numpy()
        if dim in _NUMBERED and (values.dtype.kind not in "iuf" or not np.isfinite(values).all()):
            raise InputError(f"The coordinate {dim!r} holds {values.dtype}; expected numbers.")
        if dim in _COUNTED and values.dtype.kind == "f":
            raise InputError(
                f"The coordinate {dim!r} holds {values.dtype}, which averages over several {dim}s leave behind "
                f"({', '.join(f'{value:g}' for value in values[:4])}{', …' * (len(values) > 4)}); expected whole "
                f"numbers. Leave averaging to the methods of ds.wb, or give each its number, "
                f"ds.assign_coords({dim}=ds.{dim}.astype(int))."
            )
        if dim in (schema.TOKEN, schema.TEXT):
            continue
        if (twice := _repeated(values)) is not None:
            raise InputError(
                f"{dim} {twice} is there more than once: "
                + (
                    "the joined runs number their samples alike. Number them anew, "
                    "ds.assign_coords(sample=range(ds.sizes['sample']))."
                    if dim == schema.SAMPLE
                    else f"keep each {dim} once, ds.drop_duplicates({dim!r})."
                )
            )


def _repeated(values: NDArray[Any]) -> Any:
    """The first label that is there twice."""
    seen: set[Any] = set()
    for value in values.tolist():
        if value in seen:
            return value
        seen.add(value)
    return None


def _in_order(ds: xr.Dataset) -> xr.Dataset:
    order: dict[str, Any] = {}
    for dim, sign in _ORDERED.items():
        if dim not in ds.dims or dim not in ds.coords:
            continue
        labels = ds.variables[dim].to_numpy()
        if labels.dtype.kind not in "iuf" or len(labels) < 2:
            continue
        rising = sign * labels
        if (rising[1:] < rising[:-1]).any():
            falls = bool((rising[1:] < rising[:-1]).all())
            order[dim] = slice(None, None, -1) if falls else np.argsort(rising, kind="stable")
    return ds.isel(order) if order else ds


def _with_records(ds: xr.Dataset) -> xr.Dataset:
    """The attributes that list something for each sample, of the samples that are there."""
    records: dict[str, Any] = {}
    if "seeds" in ds.attrs and schema.SEED in ds.coords:
        records["seeds"] = ds.variables[schema.SEED].to_numpy().tolist()
    if isinstance(ds.attrs.get("prompt"), list) and schema.PROMPT in ds.coords:
        prompts = [str(prompt) for prompt in ds.variables[schema.PROMPT].to_numpy()]
        records["prompt"] = prompts[0] if len(set(prompts)) == 1 else prompts
    records = {name: value for name, value in records.items() if value != ds.attrs[name]}
    return ds.assign_attrs(records) if records else ds
