"""What ``capture`` and ``generate`` share: the model's adapter, the stored run, the trace, the writing."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
import xarray as xr
from tqdm.auto import tqdm

from workbench import store as runs_store
from workbench.models.block_records import Concepts
from workbench.models.family import pipeline_adapter_for
from workbench.models.guidance import Branch
from workbench.models.loading import BUNDLED, bundled, info_of, load_model
from workbench.models.pipeline import PipelineAdapter
from workbench.models.shortcuts import refuse_shortcuts
from workbench.recording.block_reading import Record
from workbench.recording.edits.edit_sources import resolved
from workbench.recording.encoding import encoded_concepts
from workbench.recording.identity import confirm, identity
from workbench.recording.plan import Plan, Variables, writing
from workbench.recording.provenance import is_derived, model_attrs
from workbench.recording.request import Request
from workbench.recording.text_warnings import warn_of_embeddings
from workbench.recording.traced_passes import Trace
from workbench.recording.tracing import trace
from workbench.schema import ModelError, warn
from workbench.store.pieces import Writer

logger = logging.getLogger(__name__)


def open_adapter(model: Any) -> PipelineAdapter:
    """The adapter of a model given by name, path or as a loaded pipeline.

    Raises
    ------
    ModelError
        If it cannot be loaded, is not supported, or skips part of its work.
    """
    if isinstance(model, str | os.PathLike):
        name = os.fspath(model)
        pipe = bundled(name) if name in BUNDLED else load_model(name)
    else:
        pipe = model
        pipeline_adapter_for(pipe)
    adapter = pipeline_adapter_for(pipe, info_of(pipe))
    refuse_shortcuts(adapter.inner.transformer)
    return adapter


def open_for_images(model: Any) -> PipelineAdapter:
    """As :func:`open_adapter`, of a model that real images can be captured with.

    Raises
    ------
    ModelError
        Also if its transformer cannot be shown a real image alone.
    """
    adapter = open_adapter(model)
    if adapter.uncaptured:
        raise ModelError(
            f"{type(adapter.pipe).__name__} cannot be shown a real image alone: {adapter.uncaptured}. Make pictures "
            "with it, with generate, or capture with the family's main model."
        )
    return adapter


def found_or_recorded(
    adapter: PipelineAdapter,
    plan: Plan,
    request: Request,
    model: Any,
    name: str,
    describe: Callable[[xr.Dataset], xr.Dataset],
    whole: Variables,
    pending: Callable[[Writer], bool],
    record: Callable[[Writer], None],
) -> Callable[[], xr.Dataset]:
    """The run of a plan: found where it is stored already, recorded otherwise. What is returned opens it.

    Parameters
    ----------
    adapter
        Of the pipeline.
    plan
        What to record.
    request
        What was asked.
    model, name
        The model as it was given, and what it is called.
    describe
        Adds coordinates, attributes and known values to the run's empty dataset.
    whole
        Dimensions and dtype of variables beside the plan's that are written as a whole.
    pending
        Whether something of a run is still to be written.
    record
        Writes it.

    Raises
    ------
    ModelError
        If the pipeline has no identity, or is another by the end.
    StoreError
        If the run cannot be written.
    """
    stored, home, progress = request.store, request.home, request.progress
    before = identity(adapter, progress) if stored else {}
    key = plan.key(before, adapter.text_length, adapter.default_layers) if stored else ""
    if stored and (found := opened(key, home, progress, request.verify)) is not None:
        return lambda: found
    if request.unwritable is not None:
        raise request.unwritable
    template = plan.template(adapter, name, adapter.heads, key)
    template.attrs |= model_attrs(model)
    with writing(stored, key, describe(template), plan.variables() | dict(whole), home) as run:
        if pending(run):
            record(run)
            if stored:
                confirm(adapter, before, run, key, home, progress)
    return run.dataset


def opened(key: str, home: str | os.PathLike[str] | None, progress: bool, verify: bool) -> xr.Dataset | None:
    """The stored run of this key, saying that it is opened; None when there is none, or verifying found damage."""
    if runs_store.find(key, home) is None:
        return None
    if verify and (problems := runs_store.damage(key, home)):
        warn(
            f"the stored run {key} is damaged and is computed anew: {'; '.join(problems[:5])}",
            stacklevel=4,
        )
        runs_store.discard_for_anew(key, is_derived(), home)
        return None
    if not is_derived():
        runs_store.claim(key, home)
    message = f"run {key} is stored already: opened, nothing was computed"
    logger.info(message)
    if progress:
        tqdm.write(message)
    return runs_store.open(key, home)


def concept_embeddings(adapter: PipelineAdapter, plan: Plan) -> Concepts:
    """What a trace is given for the concepts, with a warning for words that are not read as a whole or alike."""
    inputs = plan.options.get("inputs")
    shown = json.dumps(inputs, sort_keys=True) if inputs else ""
    each = encoded_concepts(adapter, plan.concepts, plan.pool, shown)
    embeddings = torch.cat([found.vector for found in each], dim=1)
    warn_of_embeddings(adapter, plan.concepts, each, plan.pool)
    texts = tuple(found.text for found in each if found.text is not None)
    places = adapter.concept_positions(plan.concepts, plan.pool)
    return Concepts(embeddings, own_positions=places, texts=texts or None)


def traced(
    adapter: PipelineAdapter,
    plan: Plan,
    embeddings: Concepts,
    on_record: Callable[[Record], None],
    on_pass: Callable[[int], Any],
    branches: Sequence[Branch] = (Branch(),),
) -> Trace:
    """A trace of what the plan wants."""
    found = trace(
        adapter.transformer,
        embeddings.embeddings,
        [layer.index for layer in plan.layers],
        plan.spaces,
        plan.attend,
        lse=plan.lse,
        text_mass=plan.text_mass,
        tokens=[position for position, _ in plan.tokens] or None,
        own_positions=embeddings.own_positions,
        own_texts=embeddings.texts,
        branches=branches,
        on_record=on_record,
        on_pass=on_pass,
        interventions=resolved(adapter, plan),
    )
    found.editing.concepts = plan.concepts
    return found
