"""``generate``: concept attention while a picture is made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from workbench.interventions import ITSELF, Given, Source
from workbench.models.defaults import own_defaults
from workbench.models.guidance import Branch
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Schedule
from workbench.recording.arguments import (
    MOST_STEPS,
    check_branch,
    check_layers,
    check_negative,
    check_offered,
    check_scale,
    check_steps,
    check_vocabulary,
    warn_beyond_training,
)
from workbench.recording.block_reading import Record
from workbench.recording.edits.edit_sources import check_interventions
from workbench.recording.extra_inputs import check_replaced, read_extra, with_extra
from workbench.recording.opening import concept_embeddings, found_or_recorded, open_adapter, traced
from workbench.recording.pictures import Pixels
from workbench.recording.plan import Plan, plan_tokens
from workbench.recording.provenance import model_name
from workbench.recording.request import check_home, read_request
from workbench.recording.sessions import check_cancelled, passed
from workbench.recording.streaming import Stream
from workbench.recording.text_warnings import warn_of_text
from workbench.recording.turns import quoted, turn
from workbench.schema import (
    BOTH,
    BRANCHES,
    CHANNEL,
    CONDITIONAL,
    IMAGE,
    INPUTS,
    LEFT_OUT,
    PIXEL_X,
    PIXEL_Y,
    SAMPLE,
    UNCONDITIONAL,
    InputError,
    TraceError,
)
from workbench.schema.given_options import check_count
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
    branch: str = "conditional",
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
    inputs: Mapping[str, Any] | None = None,
    store: bool = True,
    home: str | Path | None = None,
    verify: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Make pictures with the pipeline's own call, and record concept attention at every step of the schedule.

    The picture equals, bit for bit, what the plain pipeline makes from the same seed: ``pipe(prompt=prompt, height=,
    width=, num_inference_steps=steps, guidance_scale=guidance, max_sequence_length=<the model's text length>,
    generator=torch.Generator("cpu").manual_seed(seed))``, with ``inputs`` beside them. Of a compiled pipeline it is the
    uncompiled one's picture.

    Parameters
    ----------
    prompt
        What to draw; empty where ``inputs`` has embeddings in its place.
    concepts
        Words, 1 to 64.
    model
        ``"tiny-flux"``, a name or path for ``from_pretrained``, or a loaded pipeline.
    steps
        Length of the schedule; the model's own default otherwise (FLUX.1-dev 28, schnell 4).
    record
        Index or indices of the steps to record, of those that run, from 0; all by default.
    guidance
        Guidance scale, for models that take one (FLUX.1-dev: 3.5 by default).
    negative_prompt, true_guidance
        True classifier-free guidance of a model that is distilled otherwise: it is on when a negative prompt is given
        and ``true_guidance`` is above 1. Models with ordinary guidance take ``guidance`` and ``negative_prompt``.
    branch
        Which passes of classifier-free guidance are recorded, and reached by edits of the prompt: the ``conditional``
        ones, which read the prompt, the ``unconditional`` ones, which read the negative prompt, or ``both``, along a
        dimension ``branch`` of their own.
    layers, spaces, attend, pool, lse, text_mass, interventions, store, home, verify, progress
        As in :func:`workbench.capture`.
    samples
        Number of pictures; picture ``i`` uses ``seed + i``.
    seed
        Seed of the first picture's noise, drawn on the CPU.
    size
        (height, width) in pixels, multiples of the model's patch; the model's native size by default, with an image
        among the inputs its aspect ratio at the model's native area.
    inputs
        Further inputs of the pipeline's own call, by its own names: ``{"image": "photo.png", "strength": 0.6}``.
        ``workbench models`` says which are taken. Images are read as :func:`workbench.capture` reads them, and given to
        the pipeline as PIL images, which it resizes. They are part of the run: ``attrs["inputs"]`` has numbers, the
        pipeline's own where none is given, and of images and tensors a hash of their content. With a ``strength`` only
        the last steps of the schedule run, and those are recorded. Tokens of reference images (FLUX.1 Kontext, FLUX.2,
        Qwen-Image-Edit) take part in attention, also in that of the concepts; only the patches of the picture are
        recorded, as ``attrs["left_out"]`` says.

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
    >>> pipe = diffusers.FluxImg2ImgPipeline.from_pipe(workbench.load_model())  # doctest: +SKIP
    >>> inputs = {"image": "scene.png", "strength": 0.6}
    >>> ds = workbench.generate("a red heart on grass", ["heart"], model=pipe, inputs=inputs)  # doctest: +SKIP
    """
    extra = read_extra(inputs)
    request = read_request(
        concepts,
        prompt=prompt,
        made=not extra.replaces_prompt,
        layers=layers,
        spaces=spaces,
        samples=samples,
        seed=seed,
        size=size,
        attend=attend,
        pool=pool,
        lse=lse,
        text_mass=text_mass,
        interventions=interventions,
        store=store,
        home=home,
        verify=verify,
        progress=progress,
    )
    chosen_steps = None if steps is None else check_count("steps", steps, 1, MOST_STEPS)
    check_negative(negative_prompt, true_guidance)
    check_branch(branch, request.spaces, text_mass, negative_prompt)
    check_replaced(extra, request)
    request = replace(request, unwritable=check_home(home) if store else None)

    adapter, extra = with_extra(open_adapter(model), extra)
    words = request.concepts
    with own_defaults(), turn(adapter.pipe, f"a picture of {quoted(words)}", progress):
        name = model_name(model)
        check_offered(adapter.inner, name, request.spaces, attend)
        blocks = check_layers(layers, adapter.layers)
        check_vocabulary(words, " ".join([prompt, negative_prompt or ""]), name, adapter.info)
        height, width = request.size or (adapter.native_size(*extra.shape) if extra.shape else adapter.native)
        grid = adapter.grid(height, width)
        warn_beyond_training(adapter, name, request.size)
        warn_of_text(adapter, words, [prompt, negative_prompt or ""], made=True)
        scale = adapter.default_guidance if guidance is None else check_scale("guidance", guidance)
        if guidance is not None and adapter.default_guidance is None:
            raise InputError(f"guidance is {guidance}, but {name} takes no guidance scale: leave it out.")
        guided = {"guidance": scale, "negative_prompt": negative_prompt, "true_guidance": float(true_guidance)}
        branches = _branches(adapter, branch, guided, name)
        schedule = adapter.schedule(chosen_steps or adapter.default_steps, height, width)
        recorded = _recorded(record, len(schedule.timesteps))
        plan = Plan.of(
            request,
            kind="generate",
            timesteps=tuple(schedule.timesteps[step] for step in recorded),
            steps=recorded,
            layers=blocks,
            tokens=plan_tokens(adapter, request.spaces, prompt)
            if branch != UNCONDITIONAL
            else plan_tokens(adapter.negative(), request.spaces, negative_prompt or ""),
            size=(height, width),
            options={
                "sigmas": list(schedule.sigmas),
                **guided,
                # Without them, a run keeps the key it had before there was a choice.
                **({} if branch == CONDITIONAL else {"branch": branch}),
                **({"unread": True} if _is_unread(adapter, branch, text_mass, negative_prompt) else {}),
                **({"skipped_steps": schedule.skipped} if schedule.skipped else {}),
                **({"inputs": extra.described} if extra.described else {}),
            },
        )
        check_interventions(adapter, plan, name, schedule.timesteps)

        def describe(template: xr.Dataset) -> xr.Dataset:
            known: dict[str, Any] = guided | {"steps": schedule.length, "negative_prompt": negative_prompt or ""}
            if extra.described:
                known |= {INPUTS: extra.described} | ({LEFT_OUT: adapter.left_out} if adapter.left_out else {})
            return template.assign_attrs(known | dict(adapter.told(prompt)))

        image = (SAMPLE, PIXEL_Y, PIXEL_X, CHANNEL)
        return found_or_recorded(
            adapter,
            plan,
            request,
            model,
            name,
            describe,
            whole={IMAGE: (image, "uint8")},
            pending=lambda run: not run.complete,
            record=partial(_record, adapter, plan, schedule, branches, grid, progress=progress),
        )()


def _is_unread(adapter: PipelineAdapter, branch: str, text_mass: bool, negative_prompt: str | None) -> bool:
    """Whether the mass on a negative prompt is recorded that is padding throughout, and as a prompt would not be.

    Such runs were once stored with the padding of a prompt. They have another key, and are not taken for these.
    """
    text = negative_prompt or ""
    unread = text_mass and branch == UNCONDITIONAL and all(adapter.negative().padding(text))
    return unread and not all(adapter.padding(text))


def _branches(adapter: PipelineAdapter, branch: str, guided: Mapping[str, Any], model: str) -> tuple[Branch, ...]:
    """The branches of guidance that are asked for.

    Raises
    ------
    InputError
        If the pipeline does not run one of them.
    """
    found = adapter.guidance(guided)
    wanted = BRANCHES if branch == BOTH else (branch,)
    if lacking := [name for name in wanted if name not in found]:
        told = ", ".join(f"{name} {value!r}" for name, value in guided.items())
        raise InputError(
            f"branch is {branch!r}, but {model} runs no {lacking[0]} branch with {told}: turn its classifier-free "
            "guidance on, or leave branch out."
        )
    return tuple(found[name] for name in wanted)


def _recorded(record: int | Iterable[int] | None, steps: int) -> tuple[int, ...]:
    if record is None:
        return tuple(range(steps))
    return check_steps(record, steps)


def _draw(adapter: PipelineAdapter, plan: Plan, sample: int, source: Source = ITSELF) -> Pixels:
    """Call the pipeline for one picture, or for that of another run that interventions take from."""
    return adapter.generate(
        plan.prompts[sample] if source.prompt is None else source.prompt,
        steps=len(plan.options["sigmas"]) + plan.options.get("skipped_steps", 0),
        guidance=plan.options["guidance"],
        seed=plan.seeds[sample] if source.seed is None else source.seed,
        size=plan.size,
        negative_prompt=plan.options["negative_prompt"],
        true_guidance=plan.options["true_guidance"],
    )


def _record(
    adapter: PipelineAdapter,
    plan: Plan,
    schedule: Schedule,
    branches: tuple[Branch, ...],
    grid: tuple[int, int],
    run: Writer,
    progress: bool,
) -> None:
    """Call the pipeline once for each picture that an interrupted run has not finished."""
    embeddings = concept_embeddings(adapter, plan)
    positions = {step: index for index, step in enumerate(plan.steps)}
    steps = len(schedule.timesteps)
    samples = sorted({piece.sample for piece in run.remaining} | set(run.absent(IMAGE)))
    with (
        tqdm(total=len(samples) * steps, desc="generate", unit="step", disable=not progress) as bar,
        Stream(run, grid, plan.positions, branches=plan.branches) as stream,
    ):
        for position, sample in enumerate(samples):

            def on_record(piece: Record, sample: int = sample) -> None:
                if piece.step in positions:
                    stream.write(piece, sample, positions[piece.step])

            def on_pass(step: int, before: int = position * steps) -> None:
                bar.update()
                passed(before + step + 1, len(samples) * steps, run)
                check_cancelled()

            with traced(adapter, plan, embeddings, on_record, on_pass, branches) as recorder:
                recorder.editing.timesteps = list(schedule.timesteps)
                recorder.editing.run = ("", plan.prompts[sample], plan.seeds[sample])
                for source in recorder.editing.sources():
                    with recorder.collecting(source):
                        _draw(adapter, plan, sample, source)
                picture = _draw(adapter, plan, sample)
            ran = adapter.ran()
            as_announced = len(ran) == steps and np.allclose(ran, schedule.timesteps, rtol=0, atol=1e-3)
            if set(recorder.steps.values()) != {steps} or not as_announced:
                made = " and ".join(
                    f"{count} {f'{name} ' if len(branches) > 1 else ''}passes" for name, count in recorder.steps.items()
                )
                sigmas = [adapter.sigma(timestep, plan.size) for timestep in ran]
                raise TraceError(
                    f"the pipeline made {made} at sigmas {sigmas}, but announced {list(schedule.sigmas)}: its "
                    "scheduler takes several passes a step or has options of its own, or guidance is off in some "
                    f"steps; use a {adapter.scheduler}."
                )
            stream.put(IMAGE, picture, sample)
            stream.commit()
