"""``generate``: concept attention while a picture is made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from workbench.interventions import ITSELF, Given, Source, read
from workbench.models.defaults import own_defaults
from workbench.models.pipeline import PipelineAdapter
from workbench.recording.arguments import (
    MOST_SAMPLES,
    MOST_STEPS,
    check_concepts,
    check_count,
    check_flag,
    check_layers,
    check_negative,
    check_options,
    check_prompt,
    check_scale,
    check_seed,
    check_spaces,
    check_steps,
    check_vocabulary,
    warn_beyond_training,
)
from workbench.recording.capturing import check_home, concept_embeddings, open_adapter, opened, traced
from workbench.recording.edits.sources import check_interventions
from workbench.recording.identity import confirm, identity
from workbench.recording.pictures import Pixels, check_size
from workbench.recording.provenance import model_attrs, model_name
from workbench.recording.reading import Record
from workbench.recording.runs import Plan, writing
from workbench.recording.sessions import check_cancelled
from workbench.recording.streaming import Stream
from workbench.recording.text_warnings import warn_of_text
from workbench.recording.turns import quoted, turn
from workbench.schema import CHANNEL, IMAGE, PIXEL_X, PIXEL_Y, SAMPLE, InputError, TraceError
from workbench.store.pieces import Writer

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def generate(
    prompt: str,
    concepts: Sequence[str],
    *,
    model: str | os.PathLike[str] | DiffusionPipeline = "tiny-flux",
    steps: int | None = None,
    record: int | Iterable[int] | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    true_guidance: float = 1.0,
    layers: int | Iterable[int] | None = None,
    spaces: str | Sequence[str] = ("output", "cross"),
    samples: int = 1,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    attend: str = "both",
    pool: str = "first",
    lse: bool = False,
    text_mass: bool = False,
    interventions: Given | Iterable[Given] = (),
    store: bool = True,
    home: str | Path | None = None,
    verify: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Make pictures with the pipeline's own call, and record concept attention at every step of the schedule.

    The picture equals, bit for bit, what the plain pipeline makes from the same seed: ``pipe(prompt, height=, width=,
    num_inference_steps=steps, guidance_scale=guidance, max_sequence_length=<the model's text length>,
    generator=torch.Generator("cpu").manual_seed(seed))``. Of a compiled pipeline it is the uncompiled one's picture.

    Parameters
    ----------
    prompt
        What to draw.
    concepts
        Words, 1 to 64.
    model
        ``"tiny-flux"``, a name or path for ``from_pretrained``, or a loaded pipeline.
    steps
        Length of the schedule; the model's own default otherwise (FLUX.1-dev 28, schnell 4).
    record
        Index or indices of the steps to record, from 0; all by default.
    guidance
        Guidance scale, for models that take one (FLUX.1-dev: 3.5 by default).
    negative_prompt, true_guidance
        True classifier-free guidance: two passes a step, of which only the conditional one is recorded. It is on when
        a negative prompt is given and ``true_guidance`` is above 1.
    layers, spaces, attend, pool, lse, text_mass, interventions, store, home, verify, progress
        As in :func:`workbench.capture`.
    samples
        Number of pictures; picture ``i`` uses ``seed + i``.
    seed
        Seed of the first picture's noise, drawn on the CPU.
    size
        (height, width) in pixels, multiples of the model's patch; the model's native size by default.

    Returns
    -------
    xarray.Dataset
        As from :func:`workbench.capture`, with ``image`` (sample, pixel_y, pixel_x, channel).

    Raises
    ------
    InputError
        If an argument is wrong; no model runs, and nothing stored is touched.
    ModelError
        If the model cannot be loaded or is not supported, or its scheduler cannot run such a schedule, runs other
        sigmas than it announces, or adds noise that the seed does not decide.
    TraceError
        If a forward pass did not deliver every piece, or the pipeline ran another schedule than it announced.
    StoreError
        If the run cannot be written.

    Examples
    --------
    >>> ds = workbench.generate("a red heart on grass", ["heart", "grass"], seed=3)  # doctest: +SKIP
    """
    words = check_concepts(concepts)
    chosen_spaces = check_spaces(spaces)
    check_prompt(prompt, chosen_spaces, needed=True)
    count, first = check_count("samples", samples, 1, MOST_SAMPLES), check_seed(seed)
    check_options(attend, pool)
    check_flag("lse", lse)
    check_flag("text_mass", text_mass)
    wanted = check_size(size)
    chosen_steps = None if steps is None else check_count("steps", steps, 1, MOST_STEPS)
    check_negative(negative_prompt, true_guidance)
    check_flag("verify", verify)
    edits = read(interventions)
    unwritable = check_home(home) if store else None

    adapter = open_adapter(model)
    with own_defaults(), turn(adapter.pipe, f"a picture of {quoted(words)}", progress):
        name = model_name(model)
        blocks = check_layers(layers, adapter.layers)
        check_vocabulary(words, " ".join([prompt, negative_prompt or ""]), name, adapter.info)
        height, width = wanted or adapter.native
        grid = adapter.grid(height, width)
        warn_beyond_training(adapter, name, wanted)
        warn_of_text(adapter, words, [prompt, negative_prompt or ""], made=True)
        scale = adapter.default_guidance if guidance is None else check_scale("guidance", guidance)
        if guidance is not None and adapter.default_guidance is None:
            raise InputError(f"guidance is {guidance}, but {name} takes no guidance scale: leave it out.")
        sigmas = adapter.schedule(chosen_steps or adapter.default_steps, height, width).sigmas
        recorded = _recorded(record, len(sigmas))
        tokens: tuple[tuple[int, str], ...] = ()
        if "prompt" in chosen_spaces:
            tokens = tuple(zip(*adapter.prompt_tokens(prompt), strict=True))

        plan = Plan(
            kind="generate",
            concepts=words,
            timesteps=tuple(1000 * sigmas[step] for step in recorded),
            steps=recorded,
            layers=blocks,
            spaces=chosen_spaces,
            seeds=tuple(range(first, first + count)),
            prompts=(prompt,) * count,
            tokens=tokens,
            size=(height, width),
            attend=attend,
            pool=pool,
            lse=lse,
            text_mass=text_mass,
            interventions=edits,
            options={
                "sigmas": list(sigmas),
                "guidance": scale,
                "negative_prompt": negative_prompt,
                "true_guidance": float(true_guidance),
            },
        )
        check_interventions(adapter, plan, name)
        before = identity(adapter, progress) if store else {}
        key = plan.key(before, adapter.text_length, adapter.default_layers) if store else ""
        if store and (found := opened(key, home, progress, verify)) is not None:
            return found
        if unwritable is not None:
            raise unwritable
        template = plan.template(adapter, name, adapter.heads, key)
        template.attrs |= model_attrs(model)
        template.attrs |= {"steps": len(sigmas), "guidance": scale}
        template.attrs |= {"negative_prompt": negative_prompt or "", "true_guidance": float(true_guidance)}
        image = (SAMPLE, PIXEL_Y, PIXEL_X, CHANNEL)
        with writing(store, key, template, plan.variables() | {IMAGE: (image, "uint8")}, home) as run:
            if not run.complete:
                _record(adapter, plan, grid, run, progress)
                if store:
                    confirm(adapter, before, run, key, home, progress)
        return run.dataset()


def _recorded(record: int | Iterable[int] | None, steps: int) -> tuple[int, ...]:
    if record is None:
        return tuple(range(steps))
    return check_steps(record, steps)


def _draw(adapter: PipelineAdapter, plan: Plan, sample: int, source: Source = ITSELF) -> Pixels:
    """Call the pipeline for one picture, or for that of another run that interventions take from."""
    return adapter.generate(
        plan.prompts[sample] if source.prompt is None else source.prompt,
        steps=len(plan.options["sigmas"]),
        guidance=plan.options["guidance"],
        seed=plan.seeds[sample] if source.seed is None else source.seed,
        size=plan.size,
        negative_prompt=plan.options["negative_prompt"],
        true_guidance=plan.options["true_guidance"],
    )


def _record(adapter: PipelineAdapter, plan: Plan, grid: tuple[int, int], run: Writer, progress: bool) -> None:
    """Call the pipeline once for each picture that an interrupted run has not finished."""
    embeddings = concept_embeddings(adapter, plan)
    positions = {step: index for index, step in enumerate(plan.steps)}
    sigmas: list[float] = plan.options["sigmas"]
    samples = sorted({piece.sample for piece in run.remaining} | set(run.absent(IMAGE)))
    with (
        tqdm(total=len(samples) * len(sigmas), desc="generate", unit="step", disable=not progress) as bar,
        Stream(run, grid, plan.positions) as stream,
    ):
        for sample in samples:

            def on_record(piece: Record, sample: int = sample) -> None:
                if piece.step in positions:
                    stream.write(piece, sample, positions[piece.step])

            def on_pass(step: int) -> None:
                bar.update()
                check_cancelled()

            with traced(adapter, plan, embeddings, on_record, on_pass) as recorder:
                recorder.editing.timesteps = [1000 * sigma for sigma in sigmas]
                recorder.editing.run = ("", plan.prompts[sample], plan.seeds[sample])
                for source in recorder.editing.sources():
                    with recorder.collecting(source):
                        _draw(adapter, plan, sample, source)
                picture = _draw(adapter, plan, sample)
            ran = [float(timestep) / 1000 for timestep in adapter.pipe.scheduler.timesteps]
            if recorder.passes != len(sigmas) or not np.allclose(ran, sigmas, rtol=0, atol=1e-6):
                raise TraceError(
                    f"the pipeline made {recorder.passes} passes at sigmas {ran}, but announced {sigmas}: its "
                    "scheduler takes several passes a step or has options of its own; use a "
                    "FlowMatchEulerDiscreteScheduler."
                )
            stream.put(IMAGE, picture, sample)
            stream.commit()
