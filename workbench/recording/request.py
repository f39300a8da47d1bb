"""What is asked of ``capture`` and ``generate`` alike, checked once, before a model or torch is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import store as runs_store
from workbench.interventions import Given, Intervention, read
from workbench.recording.arguments import (
    MOST_SAMPLES,
    check_concepts,
    check_options,
    check_prompt,
    check_seed,
    check_spaces,
)
from workbench.recording.pictures import check_size
from workbench.schema import StoreError
from workbench.schema.given_options import check_count, check_flag


@dataclass(frozen=True)
class Request:
    """A call of ``capture`` or ``generate``, as far as it can be checked without its model.

    Attributes
    ----------
    concepts
        Concept words.
    prompt
        The prompt.
    layers
        Blocks, as given.
    spaces
        Spaces.
    seeds
        One for each sample.
    size
        Height and width in pixels, where they were given.
    attend, pool
        Options of the concept stream.
    lse, text_mass
        Whether log-sum-exps and the image's attention to text are recorded.
    interventions
        Edits of the network.
    store, home, verify, progress
        As given.
    unwritable
        Why no run can be written to ``home``; None when one can, or none is to be.
    """

    concepts: tuple[str, ...]
    prompt: str
    layers: int | Iterable[int] | None
    spaces: tuple[str, ...]
    seeds: tuple[int, ...]
    size: tuple[int, int] | None
    attend: str
    pool: str
    lse: bool
    text_mass: bool
    interventions: tuple[Intervention, ...]
    store: bool
    home: str | os.PathLike[str] | None
    verify: bool
    progress: bool
    unwritable: StoreError | None = None


def _at_once(check: Callable[..., Any], *given: Any) -> Any:
    return check(*given)


def read_request(
    concepts: Sequence[str],
    *,
    prompt: str,
    made: bool,
    layers: int | Iterable[int] | None,
    spaces: str | Sequence[str],
    samples: int,
    seed: int,
    size: tuple[int, int] | None,
    attend: str,
    pool: str,
    lse: bool = False,
    text_mass: bool = False,
    interventions: Given | Iterable[Given] = (),
    store: bool = True,
    home: str | os.PathLike[str] | None = None,
    verify: bool = False,
    progress: bool = True,
    tried: Callable[..., Any] = _at_once,
) -> Request:
    """Check what both functions are asked.

    Parameters
    ----------
    concepts, prompt, layers, spaces, samples, seed, size, attend, pool, lse, text_mass, interventions
        As in :func:`workbench.capture`.
    store, home, verify, progress
        As in :func:`workbench.capture`. Whether ``home`` can be written to is asked by :func:`check_home`.
    made
        Whether an image is made, which needs a prompt.
    tried
        Runs ``check(*given)``; what it gives for a check that fails is nothing to go on with.

    Raises
    ------
    InputError
        If an argument is wrong.
    """
    words = tried(check_concepts, concepts)
    chosen = tried(check_spaces, spaces)
    tried(check_prompt, prompt, chosen or (), made)
    count, first = tried(check_count, "samples", samples, 1, MOST_SAMPLES), tried(check_seed, seed)
    tried(check_options, attend, pool)
    for name, flag in (("lse", lse), ("text_mass", text_mass), ("verify", verify)):
        tried(check_flag, name, flag)
    wanted = tried(check_size, size)
    edits = tried(read, interventions)
    first = first or 0
    return Request(
        concepts=words,
        prompt=prompt,
        layers=layers,
        spaces=chosen,
        seeds=tuple(range(first, first + (count or 1))),
        size=wanted,
        attend=attend,
        pool=pool,
        lse=lse,
        text_mass=text_mass,
        interventions=edits,
        store=store,
        home=home,
        verify=verify,
        progress=progress,
    )


def check_home(home: str | os.PathLike[str] | None) -> StoreError | None:
    """Why no run can be written there; None when one can.

    Raises
    ------
    StoreError
        When none can be opened there either.
    """
    try:
        runs_store.check_writable(home)
    except StoreError as error:
        try:
            stored = bool(runs_store.runs(home))
        except OSError:
            stored = False
        if not stored:
            raise
        return error
    return None
