"""Interventions of a run: checked against the model before anything runs, and the other runs they take from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from workbench.interventions import Intervention, Source
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Posterior, Text
from workbench.recording.arguments import check_vocabulary
from workbench.recording.edits.resolving import missing_pieces, refuse_mass, resolve, warn_of_idle
from workbench.recording.pictures import Pixels, read_image, resize
from workbench.recording.plan import Plan
from workbench.recording.text_warnings import warn_of_text
from workbench.schema import InputError


def resolved(adapter: PipelineAdapter, plan: Plan) -> tuple[Intervention, ...]:
    """The interventions of a plan with tokens and concepts as positions.

    Raises
    ------
    InputError
        If something of them is outside the model, the prompt or the concepts.
    """
    if not plan.interventions:
        return ()
    reader = plan.reader(adapter)
    words = [] if plan.read is None else list(zip(*reader.prompt_tokens(plan.read), strict=True))
    return resolve(
        plan.interventions,
        len(adapter.layers),
        adapter.heads,
        plan.concepts,
        reader.length_of(plan.prompts[0] if plan.read is None else plan.read),
        words,
    )


def check_interventions(adapter: PipelineAdapter, plan: Plan, model: str, run: Sequence[float]) -> None:
    """Refuse interventions that the model cannot have, and warn of those that change nothing.

    Parameters
    ----------
    adapter : PipelineAdapter
        Of the pipeline.
    plan : Plan
        Of the run.
    model : str
        What the model is called.
    run : sequence of float
        Timesteps of all passes, recorded or not.

    Raises
    ------
    InputError
        If something of them is outside the model, a source does not fit this kind of run, or nothing would be left to
        capture.
    """
    resolved(adapter, plan)
    refuse_mass(plan.interventions, plan.text_mass)
    captured = plan.kind == "capture"
    for source in sources_of(plan.interventions):
        if source.image is not None and not captured:
            raise InputError(f"{source} names a picture, but generate makes its own: give a prompt or a seed instead.")
        if source.prompt is not None:
            check_vocabulary((), source.prompt, model, adapter.info)
            warn_of_text(adapter, (), [source.prompt], made=not captured)
    layers = [layer.index for layer in plan.layers]
    pieces = len(plan.seeds) * len(plan.timesteps) * len(layers)
    if captured and len(missing_pieces(plan.interventions, len(plan.seeds), plan.timesteps, layers)) == pieces:
        raise InputError(f"every captured block, {layers}, is skipped: capture others as well, with layers=.")
    warn_of_idle(plan.interventions, run, layers[-1] if captured else None, stacklevel=4)


def sources_of(interventions: Iterable[Intervention]) -> list[Source]:
    """The runs that interventions take from, each once."""
    return list(dict.fromkeys(source for edit in interventions for source in edit.sources()))


def source_pictures(interventions: Iterable[Intervention], size: tuple[int, int]) -> dict[str, Pixels]:
    """The pictures that sources name, by path, at the size of the run.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    paths = dict.fromkeys(source.image for source in sources_of(interventions) if source.image is not None)
    return {path: resize(read_image(path), size) for path in paths}


class SourceInputs:
    """What the transformer is given in the runs that the interventions of a captured run take from.

    Parameters
    ----------
    adapter : PipelineAdapter
        Of the pipeline.
    plan : Plan
        Of the run.
    text : Text
        That of the run's own prompt.
    posterior : Posterior
        Of the run's own picture.
    pictures : mapping of str to Pixels
        Those that sources name.
    """

    def __init__(
        self,
        adapter: PipelineAdapter,
        plan: Plan,
        text: Text,
        posterior: Posterior,
        pictures: dict[str, Pixels],
    ) -> None:
        self._adapter = adapter
        self._plan = plan
        self._text: dict[str | None, Text] = {None: text}
        self._posteriors: dict[str | None, Posterior] = {None: posterior}
        for source in sources_of(plan.interventions):
            if source.prompt is not None and source.prompt not in self._text:
                self._text[source.prompt] = adapter.encode_prompt(source.prompt)
            if source.image is not None and source.image not in self._posteriors:
                self._posteriors[source.image] = adapter.encode_image(pictures[source.image])

    def inputs(self, source: Source, sample: int, timestep: float, grid: tuple[int, int]) -> dict[str, Any]:
        """Keyword arguments of the transformer for one pass of a source."""
        seed = self._plan.seeds[sample] if source.seed is None else source.seed
        noised = self._adapter.noised(*self._posteriors[source.image].draw(seed), timestep)
        return self._adapter.inputs(noised, timestep, self._text[source.prompt], grid)
