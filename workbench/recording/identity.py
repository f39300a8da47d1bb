"""What the pipeline of a run is: asked before anything is looked up, and again before what was computed counts.

A run is named after its pipeline. Somebody may change the pipeline while it runs, from another thread or in a callback:
what was computed then is thrown away.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from workbench import store
from workbench.models.fingerprint import fingerprint
from workbench.models.pipeline import PipelineAdapter
from workbench.models.runtime import COMPILED
from workbench.recording.sessions import at_end, in_session, once
from workbench.recording.turns import refuse_traced
from workbench.schema import ModelError, noted
from workbench.store.pieces import Writer

_REMEDY = (
    "It would mix two models, so nothing of it is kept: make the same call again while nothing else changes the "
    "pipeline."
)


def identity(adapter: PipelineAdapter, progress: bool = True) -> dict[str, Any]:
    """What the pipeline is, for the key of a run; inside a session it is asked for once.

    Raises
    ------
    ModelError
        If code takes part that no key can hold, or weights cannot be read.
    TraceError
        If a trace of the transformer is open, whose hooks are such code.
    """
    refuse_traced(getattr(adapter.transformer, COMPILED, adapter.transformer))
    return once(adapter.pipe, "fingerprint", lambda: fingerprint(adapter.pipe, progress))


def confirm(adapter: PipelineAdapter, before: dict[str, Any], run: Writer, key: str, home: Any, progress: bool) -> None:
    """Make sure that the pipeline is what it was before its run was computed; inside a session, at the session's end.

    Parameters
    ----------
    before
        From :func:`identity`.
    run
        What was computed, not visible yet; it is rejected when the pipeline has changed.
    key, home
        Where the run will be.

    Raises
    ------
    ModelError
        If it has changed.
    """
    if in_session():
        made = once(adapter.pipe, "made", lambda: _watched(adapter, before, progress))
        made.append((key, home))
    elif changed := _changed(adapter, before, progress):
        run.reject()
        raise ModelError(f"{changed} while its run was computed. {_REMEDY}")


def _watched(adapter: PipelineAdapter, before: dict[str, Any], progress: bool) -> list[tuple[str, Any]]:
    """A list of runs that are discarded at the end of the session if the pipeline has changed by then."""
    made: list[tuple[str, str | os.PathLike[str] | None]] = []
    at_end(partial(_confirm_all, adapter, before, made, progress))
    return made


def _confirm_all(adapter: PipelineAdapter, before: dict[str, Any], made: list[tuple[str, Any]], progress: bool) -> None:
    if changed := _changed(adapter, before, progress):
        for key, home in made:
            with noted():
                store.discard(key, home)
        raise ModelError(f"{changed} while {len(made)} runs were computed. {_REMEDY}")


def _changed(adapter: PipelineAdapter, before: dict[str, Any], progress: bool) -> str:
    """What is different now, or nothing."""
    try:
        now = fingerprint(adapter.pipe, progress)
    except ModelError as error:
        return f"the pipeline was changed ({error})"
    if now == before:
        return ""
    parts = [name for name, part in now["components"].items() if part != before["components"].get(name)]
    parts += [name for name in ("class", "options", "ambient") if now[name] != before[name]]
    return f"the pipeline was changed ({', '.join(parts) or 'a component is gone'})"
