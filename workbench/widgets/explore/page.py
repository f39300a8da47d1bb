"""A view as one HTML file that opens without a kernel and without a network, and still slices."""

from __future__ import annotations

import base64
import gzip
import html
import itertools
import json
import os
import string
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import xarray as xr

from workbench import schema
from workbench.analysis.origin import as_text, provenance
from workbench.schema import InputError
from workbench.widgets.explore import cube, front_end
from workbench.widgets.explore.answers import Answers
from workbench.widgets.explore.explorer_still import still_of
from workbench.widgets.explore.meta import meta_of
from workbench.widgets.explore.state import State
from workbench.widgets.shared import assets
from workbench.widgets.shared.copied_dataset import begun, reopening
from workbench.widgets.shared.refusals import drawable, problem, shown
from workbench.widgets.shared.spaces import has_pictures, held_spaces

_LARGEST: Final = 32_000_000
"""In bytes: up to this size all captured spaces are saved, otherwise the shown one alone."""


def save_html(ds: xr.Dataset, path: str | os.PathLike[str], *, state: Mapping[str, Any] | None = None) -> Path:
    """Write a view of a dataset as one HTML file.

    Parameters
    ----------
    ds
        A captured dataset.
    path
        The file; it is replaced when it exists.
    state
        What it shows at first, as ``view.state`` gives it.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        If the dataset cannot be shown, or its scores are too many for a page.
    InputError, SelectionError
        If the state does not fit the dataset.
    """
    if sentence := problem(ds):
        raise InputError(sentence)
    source = reopening(ds)
    ds = shown(ds)
    first = State.default(ds) if state is None else State.from_json(state, ds)
    target = Path(path)
    target.write_text(page(ds, first, source=source), encoding="utf-8")
    return target


def page(ds: xr.Dataset, state: State, *, source: str = "", variable: str = "ds") -> str:
    """The text of the HTML file.

    It holds the scores summed over heads, in 16 bits where these will do, the pictures, and the overviews of the shown
    sample; everything that comes from the dataset is packed, so that no text of it is ever read as markup.

    Parameters
    ----------
    ds
        A captured dataset that can be shown.
    state
        What it shows at first. Chosen heads are not kept: the page holds sums over all heads.
    source
        Code that opens the dataset, where it is known.
    variable
        What copied code calls the dataset.

    Raises
    ------
    InputError
        If the scores are too many for a page.
    """
    state = replace(state, heads=None)
    if cube.size(ds, state.space) >= cube.LARGEST:
        raise InputError(
            f"the scores of {state.space!r} are {cube.size(ds, state.space) / 1e6:.0f} MB, and a page holds at most "
            f"{cube.LARGEST / 1e6:.0f} MB; save a part of the dataset, for example ds.isel(sample=[0])."
        )
    spaces = held_spaces(ds)
    if sum(cube.size(ds, space) for space in spaces) > _LARGEST:
        spaces = [state.space]
    meta = meta_of(ds, source=source, variable=variable)
    meta |= {"offline": True, "spaces": {space: meta["spaces"][space] for space in spaces}}
    packed = _packed(
        {"meta": meta, "state": state.to_json(), "module": front_end.module()}, _answers(ds, state, spaces)
    )
    code = begun(source, state.call(ds, variable))
    fill = {
        "title": html.escape(_title(meta)),
        "style": front_end.style(),
        "description": html.escape(still_of(ds, state).words),
        "facts": html.escape(as_text(provenance(ds) | {"state": state.to_json(), "code": code})),
        "script": assets.joined("explore/address.js", "explore/saved.js"),
        "saved": base64.b64encode(packed).decode("ascii"),
    }
    return string.Template(assets.text("explore/saved.html")).substitute(fill)


def _questions(ds: xr.Dataset, state: State, spaces: list[str], statistics: list[str]) -> Iterator[tuple[Any, ...]]:
    """Everything the page can be asked: how it is filed, the question, and the state it is asked in."""
    yield ("ready",), {"type": "ready"}, state
    for space in spaces:
        yield ("cube", space), {"type": "cube", "space": space}, replace(State.default(ds, space), sample=state.sample)
    samples = ds[schema.SAMPLE].to_numpy().tolist() if has_pictures(ds) else [state.sample]
    frames = ds[schema.FRAME].to_numpy().tolist() if schema.FRAME in ds.coords else [None]
    for sample, frame in itertools.product([*samples, None] if has_pictures(ds) else samples, frames):
        if drawable(ds):
            yield ("picture", sample, frame), {"type": "picture"}, replace(state, sample=sample, frame=frame)
    for space, statistic in itertools.product(spaces, statistics):
        asked = replace(State.default(ds, space), sample=state.sample, frame=state.frame, statistic=statistic)
        yield ("overview", space, state.sample, state.frame, statistic), {"type": "overview"}, asked


def _answers(ds: xr.Dataset, state: State, spaces: list[str]) -> dict[str, list[tuple[dict[str, Any], list[Any]]]]:
    answers = Answers(ds)
    found = {}
    for filed, question, asked in _questions(ds, state, spaces, meta_of(ds)["statistics"]):
        found[_key(filed)] = list(answers.answer({**question, "state": asked.to_json()}))
    return found


def _packed(header: Mapping[str, Any], answers: Mapping[str, list[tuple[dict[str, Any], list[Any]]]]) -> bytes:
    """Length of the header, header, and the buffers one after the other, compressed."""
    blob = bytearray()
    filed: dict[str, Any] = {}
    for key, replies in answers.items():
        filed[key] = []
        for content, buffers in replies:
            places = []
            for buffer in buffers:
                start = len(blob)
                blob += bytes(buffer)
                places.append([start, len(blob)])
            filed[key].append({"content": content, "buffers": places})
    text = json.dumps({**header, "answers": filed}, allow_nan=False).encode()
    return gzip.compress(len(text).to_bytes(4, "little") + text + bytes(blob), 6, mtime=0)


def _key(filed: tuple[Any, ...]) -> str:
    """As JSON.stringify writes a list."""
    return json.dumps(filed, separators=(",", ":"), ensure_ascii=False)


def _title(meta: Mapping[str, Any]) -> str:
    names = next(iter(meta["spaces"].values()))["names"]
    edit = f", edited: {meta['edit']}" if meta["edit"] else ""
    return f"{', '.join(names[:6])} – concept attention of {meta['model'] or 'an unnamed model'}{edit}"
