"""Where a dataset comes from: facts that saved files keep, and names for them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

import xarray as xr

from workbench import schema
from workbench.interventions import edit_of

SOFTWARE: Final = "concept-workbench"
_KEY: Final = 8
"""Letters of a run's key in a file's name: enough to tell runs apart, and what ``workbench.open`` takes."""
_LONGEST: Final = 48
"""Letters of the names in a file's name."""
_MOST_NAMES: Final = 4
_OF_RUN: Final = ("key", "kind", "model", "model_revision", "prompt", "inputs", "image_hash", schema.PROCESS, "created")
_LONG: Final = ("controls", "keys", "origin")
"""Attributes of a result that figures of it do not repeat: they are long, and follow from the others."""
_NAMED: Final = (schema.CONCEPT, schema.TOKEN)


def provenance(ds: xr.Dataset) -> dict[str, Any]:
    """The facts of a run that every saved file keeps, as values that JSON can hold.

    Parameters
    ----------
    ds
        A captured dataset.

    Returns
    -------
    ``key``, ``kind``, ``model``, ``model_revision``, ``prompt``, ``inputs``, ``image_hash`` (of the picture that was
    captured), ``process`` (how noise is added, where timestep is not 1000 x sigma), ``concepts``, ``edit`` (in words),
    ``created`` and ``versions`` (of the libraries that recorded it); what a dataset does not say is left out.
    """
    attrs = schema.read_attributes(ds.attrs)
    concepts = [str(name) for name in ds[schema.CONCEPT].to_numpy()] if schema.CONCEPT in ds.coords else []
    facts = {name: attrs.get(name) for name in _OF_RUN}
    versions = attrs.get("versions")
    facts |= {"concepts": concepts, "edit": edit_of(attrs)}
    facts["versions"] = json.loads(versions) if isinstance(versions, str) else versions
    return {name: value for name, value in facts.items() if value}


def provenance_of(datasets: Sequence[xr.Dataset]) -> dict[str, Any]:
    """The facts of several runs: what all of them share, and the rest run by run, as ``runs``.

    Parameters
    ----------
    datasets
        Captured datasets; the facts of one alone are those of :func:`provenance`.
    """
    first, *others = every = [provenance(ds) for ds in datasets]
    if not others:
        return first
    shared = {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}
    return shared | {"runs": [{name: one[name] for name in one if name not in shared} for one in every]}


def provenance_of_result(found: xr.Dataset) -> dict[str, Any]:
    """The facts of the runs behind a sweep, a score or an experiment, and as ``result`` what was asked of them.

    Parameters
    ----------
    found
        What ``ds.wb.sweep``, ``ds.wb.score``, :func:`workbench.intervene` or their kin returned. Results of early
        versions do not name their run.
    """
    attrs = schema.read_attributes(found.attrs)
    runs = attrs.get("origin") or {name: attrs[name] for name in ("model", "prompt", "concepts") if attrs.get(name)}
    return {**runs, "result": {name: value for name, value in attrs.items() if name not in (*_LONG, *runs)}}


def title_of(facts: Mapping[str, Any]) -> str:
    """A line on what a file shows: concepts, model, edit and key."""
    words = ", ".join(map(str, facts.get("concepts", ())))
    edit = f"edited: {facts['edit']}" if facts.get("edit") else ""
    line = " – ".join(part for part in (words, str(facts.get("model", "")), edit, str(facts.get("key", ""))) if part)
    return "".join(letter if letter.isprintable() else " " for letter in line)


def stem_of(ds: xr.Dataset) -> str:
    """What files of a run are called, without their ending: its concepts, its edit, and the beginning of its key.

    Parameters
    ----------
    ds
        A captured dataset.
    """
    names = next(([str(name) for name in ds[dim].to_numpy()] for dim in _NAMED if dim in ds.coords), [])
    return stem(names, edit_of(ds.attrs), str(ds.attrs.get("key", "")))


def stem(names: Sequence[str], edit: str = "", key: str = "") -> str:
    """A name for files that every file system takes.

    Parameters
    ----------
    names
        Concepts; of many the first ones.
    edit
        In words; says at least that there is one.
    key
        Of a run.
    """
    words = _plain("-".join(names[:_MOST_NAMES]))[:_LONGEST].strip("-") or "maps"
    changed = _plain(edit)[:_LONGEST].strip("-") or ("edited" if edit else "")
    return "-".join(part for part in (words, changed, _plain(key)[:_KEY]) if part)


def _plain(text: str) -> str:
    """Letters and digits, any alphabet's, joined by hyphens."""
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", text)).strip("-")


def as_text(facts: Mapping[str, Any]) -> str:
    """Facts as JSON in ASCII, which every kind of file can hold: control characters and quotes are escaped."""
    return json.dumps(facts, ensure_ascii=True, allow_nan=False, default=str)
