"""The check of a dataset against the contract."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from workbench.schema.attributes import read_attributes
from workbench.schema.dataset_names import *
from workbench.schema.errors import SchemaError
from workbench.schema.single_item import item_at, item_name
from workbench.schema.upgrading import upgraded


def _is_list(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list | tuple) and all(check(item) for item in value)


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _is_natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive(value: object) -> bool:
    return _is_natural(value) and value != 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_json_object(value: object) -> bool:
    try:
        return isinstance(value, str) and isinstance(json.loads(value), dict)
    except json.JSONDecodeError:
        return False


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_missing_piece(value: object) -> bool:
    return isinstance(value, Mapping) and set(value) == set(PIECE_DIMS) and all(map(_is_number, value.values()))


def _one_of(names: tuple[str, ...]) -> tuple[Callable[[object], bool], str]:
    return (lambda value: _is_str(value) and value in names), "one of " + ", ".join(map(repr, names))


_Rule = tuple[Callable[[object], bool], str]
_ATTRIBUTES: Final[Mapping[str, _Rule]] = {
    "schema_version": (lambda value: _is_natural(value) and value == SCHEMA_VERSION, f"an int, 1 to {SCHEMA_VERSION}"),
    "capture_version": (_is_positive, "a positive int"),
    "kind": _one_of(KINDS),
    "model": (lambda value: _is_str(value) and value != "", "a string that is not empty"),
    "model_revision": (_is_str, "a string"),
    "prompt": (lambda value: _is_str(value) or _is_list(_is_str)(value), "a string or a list of strings"),
    "pool": _one_of(POOLS),
    "attend": _one_of(ATTEND_MODES),
    "spaces": (_is_list(lambda item: _is_str(item) and item in SPACES), "a list from " + ", ".join(map(repr, SPACES))),
    "seeds": (_is_list(_is_natural), "a list of ints >= 0"),
    "text_length": (_is_natural, "an int >= 0"),
    "image_hash": (_is_str, "a string"),
    "size": (lambda value: _is_list(_is_positive)(value) and len(value) == 2, "[height, width] in pixels"),  # type: ignore[arg-type]
    "patch": (_is_positive, "a positive int"),
    "default_layers": (_is_list(_is_natural), "a list of ints >= 0"),
    "versions": (_is_json_object, "a JSON object as a string"),
    "created": (_is_time, "a time in ISO 8601 with its zone"),
    "missing": (_is_list(_is_missing_piece), 'a list of {"sample": ..., "timestep": ..., "layer": ...}'),
}
_OPTIONAL_ATTRIBUTES: Final[Mapping[str, _Rule]] = {
    MODEL_FROM: _one_of(MODEL_ORIGINS),
    ROLE: _one_of(ROLES),
    PARENT: (_is_str, "a string"),
    EDIT: (_is_str, "a string"),
    BRANCH: _one_of((*BRANCHES, BOTH)),
    PROCESS: (_is_str, "a string"),
    INPUTS: (lambda value: isinstance(value, Mapping), "a dict"),
    LEFT_OUT: (_is_str, "a string"),
    FAILED: (_is_list(lambda item: isinstance(item, Mapping)), "a list of dicts"),
    FAMILY: (_is_str, "a string"),
    FAMILY_FROM: (_is_str, "a string"),
}
_GENERATE_ATTRIBUTES: Final[Mapping[str, _Rule]] = {
    "steps": (_is_positive, "a positive int"),
    "guidance": (lambda value: value is None or _is_number(value), "a number or None"),
}


def validate(ds: xr.Dataset, *, values: bool = False) -> None:
    """Check a dataset against the contract in this module's docstring.

    Parameters
    ----------
    ds
        The dataset of a run, in memory or opened from the store. One of an earlier schema version is checked as what
        it is upgraded to.
    values
        Also read every score: pieces are NaN exactly where ``attrs["missing"]`` lists them. This reads the whole
        run from disk; without it only coordinates and attributes are read.

    Raises
    ------
    SchemaError
        With one line for each problem found; or if the dataset is of a newer schema version.
    """
    ds = upgraded(ds.assign_attrs(read_attributes(ds.attrs)))
    problems = _problems(ds, values) if ITEM not in ds.dims else _many_problems(ds, values)
    if problems:
        raise SchemaError(
            f"the dataset breaks the contract in {len(problems)} place{'s' * (len(problems) > 1)} "
            "(workbench.schema describes it):\n" + "\n".join(f"- {problem}" for problem in problems)
        )


def _problems(ds: xr.Dataset, values: bool) -> list[str]:
    """What is wrong with a dataset of one image."""
    problems = _attribute_problems(ds.attrs)
    problems += _coordinate_problems(ds)
    problems += _variable_problems(ds)
    problems += _grid_problems(ds)
    problems += _missing_problems(ds)
    problems += _head_problems(ds)
    if values and not problems:
        problems += _value_problems(ds)
    return problems


def _many_problems(ds: xr.Dataset, values: bool) -> list[str]:
    """What is wrong with a dataset of many images: with their dimension and the first; with ``values`` with each."""
    problems = [
        f"variable {name!r} lies along {variable.dims}; expected {ITEM!r} first"
        for name, variable in ds.data_vars.items()
        if variable.dims[:1] != (ITEM,)
    ]
    if not ds.sizes[ITEM]:
        problems.append(f"dimension {ITEM!r} has length 0; expected an image or more")
    own_prompts = ((PROMPT, ITEM, _strings, "strings"),) if PROMPT in ds.coords else ()
    problems += _rule_problems(ds, _ITEM_COORDINATES + own_prompts)
    if (ASKED in ds.coords) != (ORDER in ds.coords):
        problems.append(f"one of the coordinates {ASKED!r} and {ORDER!r} is there without the other")
    elif ASKED in ds.coords:
        if {ds[name].dims for name in (ASKED, ORDER)} != {(ITEM, CONCEPT)}:
            problems.append(f"coordinates {ASKED!r} and {ORDER!r} are expected along {(ITEM, CONCEPT)}")
        elif ds[ASKED].dtype != bool or not np.array_equal(ds[ASKED].values, ds[ORDER].values >= 0):
            problems.append(f"coordinate {ASKED!r} is expected to be true where {ORDER!r} is 0 or more")
    if problems:
        return problems
    for place in range(ds.sizes[ITEM]) if values else (0,):
        found = _problems(item_at(ds, place), values)
        problems += [f"{item_name(ds.isel({ITEM: place}))}: {problem}" for problem in found]
    return problems


def _attribute_problems(attrs: Mapping[Any, Any]) -> list[str]:
    rules = dict(_ATTRIBUTES) | {name: rule for name, rule in _OPTIONAL_ATTRIBUTES.items() if name in attrs}
    if attrs.get("kind") == "generate":
        rules |= _GENERATE_ATTRIBUTES
    problems = []
    for name, (holds, expected) in rules.items():
        if name not in attrs:
            problems.append(f"attribute {name!r} is not there; expected {expected}")
        elif not holds(attrs[name]):
            problems.append(f"attribute {name!r} is {attrs[name]!r}; expected {expected}")
    for name, value in attrs.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            problems.append(f"attribute {name!r} is a {type(value).__name__} that JSON cannot hold; use plain values")
    return problems


def _strings(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind in "UT" or (values.dtype.kind == "O" and all(isinstance(item, str) for item in values))


def _rising_from_zero(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind in "iu" and bool((values == np.arange(len(values))).all())


def _rising_ints(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind in "iu" and bool((values >= 0).all() and (values[1:] > values[:-1]).all())


def _falling_timesteps(values: npt.NDArray[Any]) -> bool:
    inside = values.dtype.kind == "f" and bool(((values > 0) & (values <= 1000)).all())
    return inside and bool((values[1:] < values[:-1]).all())


def _falling_sigmas(values: npt.NDArray[Any]) -> bool:
    inside = values.dtype.kind == "f" and bool(((values > 0) & (values <= 1)).all())
    return inside and bool((values[1:] < values[:-1]).all())


def _dual_then_single(values: npt.NDArray[Any]) -> bool:
    return _strings(values) and set(values) <= set(BLOCKS) and list(values) == sorted(values, key=BLOCKS.index)


_CoordinateRule = tuple[str, str, Callable[[npt.NDArray[Any]], bool], str]
_COORDINATES: Final[tuple[_CoordinateRule, ...]] = (
    (SAMPLE, SAMPLE, _rising_from_zero, "integers 0, 1, 2, ..."),
    (SEED, SAMPLE, lambda v: v.dtype.kind in "iu" and bool((v >= 0).all()), "integers >= 0"),
    (TIMESTEP, TIMESTEP, _falling_timesteps, "floats in (0, 1000], strictly decreasing"),
    (SIGMA, TIMESTEP, lambda v: v.dtype.kind == "f", "floats, timestep / 1000 for a flow"),
    (STEP, TIMESTEP, _rising_ints, "integers >= 0, strictly increasing"),
    (LAYER, LAYER, _rising_ints, "integers >= 0, strictly increasing"),
    (BLOCK, LAYER, _dual_then_single, "'dual' or 'single', dual blocks first"),
    (MODULE, LAYER, _strings, "strings"),
    (HEAD, HEAD, _rising_ints, "integers >= 0, strictly increasing"),
    (
        CONCEPT,
        CONCEPT,
        lambda v: _strings(v) and len(set(v)) == len(v) and all(item.strip() for item in v),
        "strings, not blank, no two alike",
    ),
    (Y, Y, lambda v: v.dtype.kind == "f", "floats: patch centres in pixels"),
    (X, X, lambda v: v.dtype.kind == "f", "floats: patch centres in pixels"),
    (PIXEL_Y, PIXEL_Y, _rising_from_zero, "integers 0, 1, 2, ..."),
    (PIXEL_X, PIXEL_X, _rising_from_zero, "integers 0, 1, 2, ..."),
    (CHANNEL, CHANNEL, lambda v: _strings(v) and tuple(v) == CHANNELS, "'r', 'g', 'b'"),
)
_TOKEN_COORDINATES: Final[tuple[_CoordinateRule, ...]] = (
    (TOKEN, TOKEN, _strings, "strings"),
    (POSITION, TOKEN, _rising_ints, "integers >= 0, strictly increasing"),
)
_TEXT_COORDINATES: Final[tuple[_CoordinateRule, ...]] = (
    (TEXT, TEXT, _rising_from_zero, "integers 0, 1, 2, ..."),
    (PADDING, TEXT, lambda v: v.dtype.kind == "b", "booleans"),
)
_BRANCH_COORDINATES: Final[tuple[_CoordinateRule, ...]] = (
    (BRANCH, BRANCH, lambda v: _strings(v) and tuple(v) == BRANCHES, " and ".join(map(repr, BRANCHES))),
)
_FRAME_COORDINATES: Final[tuple[_CoordinateRule, ...]] = (
    (FRAME, FRAME, lambda v: v.dtype.kind in "iuf" and bool((v[1:] > v[:-1]).all()), "numbers, increasing"),
)
_ITEM_COORDINATES: Final[tuple[_CoordinateRule, ...]] = (
    (ITEM, ITEM, lambda v: v.dtype.kind in "iu" and bool((v >= 0).all()) and len(set(v)) == len(v), "integers >= 0"),
    (NAME, ITEM, _strings, "strings"),
    (RUN, ITEM, _strings, "strings"),
    (IMAGE_HASH, ITEM, _strings, "strings"),
)
_PROMPT_COORDINATES: Final[tuple[_CoordinateRule, ...]] = ((PROMPT, SAMPLE, _strings, "strings"),)


def _spaces(ds: xr.Dataset) -> list[str]:
    """The spaces the attributes name, as far as they can be read."""
    spaces = ds.attrs.get("spaces", ())
    return [space for space in spaces if space in SPACES] if isinstance(spaces, list | tuple) else []


def _coordinate_problems(ds: xr.Dataset) -> list[str]:
    with_tokens = PROMPT in _spaces(ds)
    rules = _COORDINATES + (_TOKEN_COORDINATES if with_tokens else ())
    rules += _TEXT_COORDINATES if TEXT_MASS in ds else ()
    rules += _BRANCH_COORDINATES if BRANCH in ds.dims else ()
    rules += _FRAME_COORDINATES if FRAME in ds.dims else ()
    if ds.attrs.get("kind") == "generate" and not with_tokens:
        rules += _PROMPT_COORDINATES
    if problems := _rule_problems(ds, rules):
        return problems
    flow = ds.attrs.get(PROCESS, FLOW) == FLOW
    if flow and not np.allclose(ds[SIGMA].values * 1000, ds[TIMESTEP].values, rtol=1e-6):
        problems.append(f"coordinate {SIGMA!r} is {_short(ds[SIGMA].values)}; expected timestep / 1000")
    if not flow and not _falling_sigmas(ds[SIGMA].values):
        problems.append(f"coordinate {SIGMA!r} is {_short(ds[SIGMA].values)}; expected floats in (0, 1], decreasing")
    return problems


def _rule_problems(ds: xr.Dataset, rules: tuple[_CoordinateRule, ...]) -> list[str]:
    problems = []
    for name, dim, holds, expected in rules:
        if name not in ds.coords:
            problems.append(f"coordinate {name!r} is not there; expected {expected}, along {dim!r}")
        elif ds[name].dims != (dim,):
            problems.append(f"coordinate {name!r} lies along {ds[name].dims}; expected {(dim,)}")
        elif not holds(ds[name].values):
            problems.append(f"coordinate {name!r} is {ds[name].dtype} {_short(ds[name].values)}; expected {expected}")
    return problems


def _short(values: npt.NDArray[Any]) -> str:
    values = np.atleast_1d(values)
    items = ", ".join(str(item) for item in values[:6])
    return f"[{items}, ...]" if len(values) > 6 else f"[{items}]"


def _variable_problems(ds: xr.Dataset) -> list[str]:
    expected: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for space in _spaces(ds):
        expected[space] = (score_dims(space), ("float16", "float32"))
        expected[total(space)] = (total_dims(space), ("float32",))
    if FRAME in ds.dims:
        expected = {name: (in_frames(dims), dtypes) for name, (dims, dtypes) in expected.items()}
    picture: tuple[str, ...] = (PIXEL_Y, PIXEL_X, CHANNEL)
    if PIXEL_FRAME in ds.dims:
        picture = in_frames(picture)
    expected[IMAGE] = ((SAMPLE, *picture) if ds.attrs.get("kind") == "generate" else picture, ("uint8",))
    if TRUTH in ds:
        expected[TRUTH] = ((CONCEPT, PIXEL_Y, PIXEL_X), ("bool",))
    if VOID in ds:
        expected[VOID] = ((PIXEL_Y, PIXEL_X), ("bool",))
    expected |= {name: (LSE_DIMS, ("float32",)) for name in LSE if name in ds}
    if TEXT_MASS in ds:
        expected[TEXT_MASS] = (MASS_DIMS, ("float32",))
    if BRANCH in ds.dims:
        in_pieces = {name: rule for name, rule in expected.items() if rule[0][: len(PIECE_DIMS)] == PIECE_DIMS}
        expected |= {name: (in_branches(dims), dtypes) for name, (dims, dtypes) in in_pieces.items()}

    problems = []
    for name, (dims, dtypes) in expected.items():
        if name not in ds.data_vars:
            problems.append(f"variable {name!r} is not there; expected it along {dims}")
            continue
        if ds[name].dims != dims:
            problems.append(f"variable {name!r} lies along {ds[name].dims}; expected {dims}")
        if ds[name].dtype.name not in dtypes:
            problems.append(f"variable {name!r} is {ds[name].dtype}; expected {' or '.join(dtypes)}")
    unnamed = [name for name in SPACES if name not in _spaces(ds) and {name, total(name)} & set(ds.data_vars)]
    if VOID in ds and TRUTH not in ds:
        problems.append(f"variable {VOID!r} is there, but not {TRUTH!r}, whose pixels it takes out")
    return problems + [f"variable {name!r} is there, but attribute 'spaces' does not name it" for name in unnamed]


def _grid_problems(ds: xr.Dataset) -> list[str]:
    """Whether patches and pixels cover the same picture, and seeds and samples agree."""
    problems = []
    patch, size, seeds = ds.attrs.get("patch"), ds.attrs.get("size"), ds.attrs.get("seeds")
    if _ATTRIBUTES["patch"][0](patch) and _ATTRIBUTES["size"][0](size):
        assert isinstance(patch, int)
        assert isinstance(size, list | tuple)
        for dim, pixel_dim, length in ((Y, PIXEL_Y, size[0]), (X, PIXEL_X, size[1])):
            if pixel_dim in ds.sizes and ds.sizes[pixel_dim] != length:
                problems.append(f"{pixel_dim!r} has {ds.sizes[pixel_dim]} pixels; attribute 'size' says {length}")
            if length % patch:
                problems.append(f"attribute 'size' is {size}; expected multiples of the patch, {patch}")
            elif dim in ds.coords and not np.array_equal(ds[dim].values, patch_centres(length // patch, patch)):
                problems.append(
                    f"coordinate {dim!r} is {_short(ds[dim].values)}; expected the {length // patch} patch centres "
                    f"{_short(patch_centres(length // patch, patch))}"
                )
    if SEED in ds.coords and _ATTRIBUTES["seeds"][0](seeds) and list(seeds or ()) != ds[SEED].values.tolist():
        problems.append(f"attribute 'seeds' is {seeds}; coordinate 'seed' is {_short(ds[SEED].values)}")
    return problems


def _missing_problems(ds: xr.Dataset) -> list[str]:
    missing = ds.attrs.get("missing")
    if not _ATTRIBUTES["missing"][0](missing) or not all(dim in ds.coords for dim in PIECE_DIMS):
        return []
    return [
        f"attribute 'missing' lists {piece}, but {dim!r} has {_short(ds[dim].values)}"
        for piece in missing or ()
        for dim in PIECE_DIMS
        if piece[dim] not in ds[dim].values
    ]


def _head_problems(ds: xr.Dataset) -> list[str]:
    """Whether the totals are sums over the heads that are there; early runs do not say."""
    count = ds.attrs.get(HEAD_COUNT)
    if count is None:
        return []
    if not _is_positive(count):
        return [f"attribute {HEAD_COUNT!r} is {count!r}; expected a positive int"]
    if ds.sizes.get(HEAD, count) != count:
        return [f"dimension {HEAD!r} has {ds.sizes[HEAD]} heads; the totals are sums over {count}"]
    return []


def _value_problems(ds: xr.Dataset) -> list[str]:
    absent = xr.DataArray(
        np.zeros([ds.sizes[dim] for dim in PIECE_DIMS], bool), dims=PIECE_DIMS, coords={d: ds[d] for d in PIECE_DIMS}
    )
    for piece in ds.attrs["missing"]:
        absent.loc[piece] = True
    problems: list[str] = []
    for space in _spaces(ds):
        for name in (space, total(space)):
            inner = [dim for dim in ds[name].dims if dim not in PIECE_DIMS]
            finite: xr.DataArray = xr.apply_ufunc(np.isfinite, ds[name], dask="allowed")
            wrong = (absent & finite.any(inner)) | (~absent & ~finite.all(inner))
            if wrong.any():
                first = {dim: int(index[0]) for dim, index in zip(PIECE_DIMS, np.nonzero(wrong.values), strict=True)}
                label = {dim: ds[dim].values[index].item() for dim, index in first.items()}
                problems.append(
                    f"variable {name!r}: {int(wrong.sum())} pieces are NaN or infinite though attribute 'missing' does "
                    f"not list them, or hold scores though it does; the first is {label}"
                )
    return problems
