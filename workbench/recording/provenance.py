"""What a run says about where it comes from: the experiment that it is made for, and what its model is called.

None of it is part of a content key: the same capture is the same run, whoever asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, NamedTuple

from workbench.models.loading import BUNDLED
from workbench.schema import MODEL_FROM, PARENT, ROLE

_HUB: Final = "models--"
"""What the folders of models begin with in the cache of the Hugging Face hub."""


class _Experiment(NamedTuple):
    role: str
    parent: str
    model: Any


_experiment: ContextVar[_Experiment | None] = ContextVar("experiment", default=None)
_asked_from: ContextVar[str] = ContextVar("asked_from", default="")
_given_as: ContextVar[Any] = ContextVar("given_as", default=None)


@contextmanager
def derived(role: str, parent: str, model: Any) -> Iterator[None]:
    """Inside, runs are made for an experiment.

    Parameters
    ----------
    role
        One of :data:`workbench.schema.ROLES`.
    parent
        Key of the run that they belong to; empty for none.
    model
        The model as the experiment was given it, which may have been loaded for its runs.
    """
    token = _experiment.set(_Experiment(role, parent, model))
    try:
        yield
    finally:
        _experiment.reset(token)


@contextmanager
def asked_from(key: str) -> Iterator[None]:
    """Inside, experiments belong to a run: that from which they are asked for."""
    token = _asked_from.set(key)
    try:
        yield
    finally:
        _asked_from.reset(token)


@contextmanager
def given_as(model: Any) -> Iterator[None]:
    """Inside, the model of a run is what was given for it, which has been loaded already."""
    token = _given_as.set(model)
    try:
        yield
    finally:
        _given_as.reset(token)


def asking() -> str:
    """Key of the run from which experiments are asked for; empty for none."""
    return _asked_from.get()


def is_derived() -> bool:
    """Whether runs are made for an experiment here."""
    return _experiment.get() is not None


def made_for(key: str) -> dict[str, str]:
    """Role and parent of a run that is made now, as attributes; none for the user's own."""
    here = _experiment.get()
    return {} if here is None else {ROLE: here.role, PARENT: here.parent if here.parent != key else ""}


def model_name(model: Any) -> str:
    """What a dataset calls its model, whoever reads it: never a path of this machine.

    Parameters
    ----------
    model
        As ``capture`` takes it.

    Returns
    -------
    str
        The name on the hub, that of the folder, or the class of a pipeline object that has neither.
    """
    if isinstance(model, str | os.PathLike):
        return _named(os.fspath(model))
    origin = str(model.config.get("_name_or_path") or "")
    return _named(origin) or type(model).__name__


def model_attrs(model: Any) -> dict[str, str]:
    """What a dataset says about how its model was given."""
    here = _experiment.get()
    named = model if _given_as.get() is None else _given_as.get()
    given = named if here is None else here.model
    if not isinstance(given, str | os.PathLike):
        return {MODEL_FROM: "pipeline"}
    return {MODEL_FROM: "folder" if _is_folder(os.fspath(given)) else "name"}


def _named(name: str) -> str:
    if not _is_folder(name):
        return name
    path = Path(name).expanduser().absolute()
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith(_HUB):
        return path.parent.parent.name.removeprefix(_HUB).replace("--", "/")
    return path.name or name


def _is_folder(name: str) -> bool:
    """Whether a model's name means a folder, as :func:`workbench.models.loading.load_model` takes it."""
    if name in BUNDLED or not name:
        return False
    return name.startswith((".", "~")) or Path(name).is_absolute() or Path(name).expanduser().exists()
