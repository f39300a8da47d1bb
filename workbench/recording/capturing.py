"""``capture``: concept attention of a real image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.interventions import Given
from workbench.models.defaults import own_defaults
from workbench.models.pipeline import PipelineAdapter, Posterior
from workbench.numerics.image_similarity import psnr
from workbench.recording.arguments import (
    check_layers,
    check_offered,
    check_timesteps,
    check_vocabulary,
    warn_beyond_training,
)
from workbench.recording.edits.sources import SourceInputs, check_interventions, source_pictures
from workbench.recording.opening import concept_embeddings, open_adapter, opened_or_recorded, traced
from workbench.recording.pictures import Pixels, image_hash, read_image, resize
from workbench.recording.plan import Plan, plan_tokens, remaining_passes
from workbench.recording.provenance import model_name
from workbench.recording.request import check_home, read_request
from workbench.recording.sessions import ENCODED_IMAGE, ENCODED_PROMPT, check_cancelled, once, passed
from workbench.recording.streaming import Stream
from workbench.recording.text_warnings import warn_of_text
from workbench.recording.turns import quoted, turn
from workbench.schema import CHANNEL, IMAGE, PIXEL_X, PIXEL_Y, InputError, ModelError, warn
from workbench.store.pieces import Writer
from workbench.truth import read_regions

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from workbench.truth import Truth


def capture(
    image: Any,
    concepts: Sequence[str],
    *,
    model: str | os.PathLike[str] | DiffusionPipeline = "tiny-flux",
    prompt: str = "",
    timesteps: float | Iterable[float] | None = None,
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
    truth: Truth | None = None,
    ignore: str | None = None,
    store: bool = True,
    home: str | Path | None = None,
    verify: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Record what each patch of a real image has to do with each concept, for every layer, timestep and head.

    The image is encoded, noised to each timestep, and goes through the transformer once per timestep and sample; the
    forward pass stops after the last wanted block. What else a model is told is its family's convention, as in the
    public code's ``encode_image``: guidance 0 where it was learnt, pooled text zero for FLUX.1 and the prompt's own for
    SD3. Helbling et al. 2025 (arXiv 2502.04320), section 4.

    Parameters
    ----------
    image
        Path, open file, PIL image, array or tensor; see :func:`workbench.recording.pictures.read_image`.
    concepts
        Words, 1 to 64; each becomes a token beside the prompt that image and prompt do not see.
    model
        ``"tiny-flux"`` (bundled: drawn scenes), a name or path for ``from_pretrained``, or a loaded pipeline.
    prompt
        What the model is told about the image; nothing by default.
    timesteps
        1000 x sigma, one or several in (0, 1000], never snapped to a schedule; the model's own choice by default,
        500 for FLUX.1.
    layers
        Blocks by depth, dual-stream blocks first; all dual ones by default.
    spaces
        Any of ``output``, ``cross``, ``reverse_cross``, ``value``, ``query``, ``prompt``.
    samples
        Number of noise samples; sample ``i`` uses ``seed + i`` for the VAE's posterior and the noise.
    seed
        Seed of the first sample; drawn on the CPU, so it means the same on every device.
    size
        (height, width) in pixels, multiples of the model's patch; by default the image's own aspect ratio at the
        model's native area. Nothing is cropped.
    attend
        What concepts attend to: ``both`` (concepts and image), ``image``, ``concepts`` or ``none``.
    pool
        ``first`` token of a concept (the paper), the ``last`` (the public code of FLUX.2, whose language model has read
        all of the word only there), or the ``mean`` over its tokens.
    lse
        Also record ``lse_image`` and ``lse_concept`` (sample, timestep, layer, head, concept), the log-sum-exp of a
        concept's logits over image patches and over concepts, from which attention shares follow.
    text_mass
        Also record ``text_mass`` (sample, timestep, layer, head, text), the model's own attention of the image to each
        token of the text sequence, padding included, averaged over patches. It costs a second comparison of all queries
        with all keys, a few queries at a time.
    interventions
        Edits of the network, see :mod:`workbench.interventions`. They are part of the run, in
        ``attrs["interventions"]``, which can be given here again. Blocks they skip are NaN.
    truth
        Masks of the concepts in pixels of the processed image; see :func:`workbench.truth.read_regions`.
    ignore
        Name of the mask among them that shows which pixels are void: left out of every comparison.
    store
        Keep the run on disk, and open it instead of computing when it is there already.
    home
        Folder of the runs, or a URL such as ``s3://bucket/runs`` (extra ``cloud``); ``WORKBENCH_HOME`` or the user's
        cache folder by default.
    verify
        Compare a stored run with its checksums before it is opened, and compute it anew when it is damaged.
    progress
        Show a progress bar, and say when a stored run is opened.

    Returns
    -------
    xarray.Dataset
        The dataset of :mod:`workbench.schema`: for each space ``<space>`` (sample, timestep, layer, head, concept, y,
        x) and ``<space>_total`` summed over heads, ``image``, and ``truth`` when given. Lazy when stored.

    Raises
    ------
    InputError
        If an argument is wrong; no model runs, and nothing stored is touched.
    ModelError
        If the model cannot be loaded or is not supported.
    TraceError
        If a forward pass did not deliver every piece.
    StoreError
        If the run cannot be written.

    Examples
    --------
    >>> scene = workbench.tiny.scenes.render(7)  # doctest: +SKIP
    >>> ds = workbench.capture(scene.image, scene.words)  # doctest: +SKIP
    >>> ds.wb.heatmap().sel(concept="sun").plot()  # doctest: +SKIP
    """
    request = read_request(
        concepts,
        prompt=prompt,
        made=False,
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
    times = None if timesteps is None else check_timesteps(timesteps)
    if ignore is not None and (truth is None or not isinstance(ignore, str)):
        raise InputError(
            f"ignore is {ignore!r}; here it names one of the masks in truth=. Values of a label map are given to "
            "ds.wb.with_truth(label_map, labels=..., ignore=255)."
        )
    pixels = read_image(image)
    request = replace(request, unwritable=check_home(home) if store else None)

    adapter, words = open_adapter(model), request.concepts
    if adapter.uncaptured:
        raise ModelError(
            f"{type(adapter.pipe).__name__} cannot be shown a real image alone: {adapter.uncaptured}. Make pictures "
            "with it, with generate, or capture with the family's main model."
        )
    with own_defaults(), turn(adapter.pipe, f"a capture of {quoted(words)}", progress):
        name = model_name(model)
        check_offered(adapter.inner, name, request.spaces, attend)
        check_vocabulary(words, prompt, name, adapter.info)
        blocks = check_layers(layers, adapter.layers)
        height, width = request.size or adapter.native_size(*pixels.shape[:2])
        grid = adapter.grid(height, width)
        warn_beyond_training(adapter, name, request.size)
        warn_of_text(adapter, words, [prompt], made=False)
        pixels = resize(pixels, (height, width))
        regions = None if truth is None else read_regions(truth, words, (height, width), ignore=ignore)
        pictures = source_pictures(request.interventions, (height, width))
        if times is None:
            times = (adapter.default_timestep,)
        plan = Plan.of(
            request,
            kind="capture",
            timesteps=times,
            steps=tuple(range(len(times))),
            layers=blocks,
            tokens=plan_tokens(adapter, request.spaces, prompt),
            size=(height, width),
            options={
                "image_hash": image_hash(pixels),
                "truth_hash": "" if regions is None else _bits_hash(regions.masks),
                **({"void_hash": _bits_hash(regions.void)} if regions is not None and regions.void is not None else {}),
                **({"source_hashes": [image_hash(picture) for picture in pictures.values()]} if pictures else {}),
            },
        )
        check_interventions(adapter, plan, name, plan.timesteps)

        def describe(template: xr.Dataset) -> xr.Dataset:
            template[IMAGE] = ((PIXEL_Y, PIXEL_X, CHANNEL), pixels)
            return template if regions is None else template.assign(regions.variables())

        return opened_or_recorded(
            adapter,
            plan,
            request,
            model,
            name,
            describe,
            whole={},
            pending=lambda run: bool(remaining_passes(run)),
            record=partial(_record, adapter, plan, pixels, pictures, grid, progress=progress),
        )


def _record(
    adapter: PipelineAdapter,
    plan: Plan,
    pixels: Pixels,
    pictures: dict[str, Pixels],
    grid: tuple[int, int],
    run: Writer,
    progress: bool,
) -> None:
    """Run every forward pass that is not written yet."""
    passes = remaining_passes(run)
    current = passes[0]
    try:
        embeddings = concept_embeddings(adapter, plan)
        text = once(adapter.pipe, (ENCODED_PROMPT, plan.prompts[0]), lambda: adapter.encode_prompt(plan.prompts[0]))
        seen = plan.options["image_hash"]
        posterior, reached = once(adapter.pipe, (ENCODED_IMAGE, seen), lambda: _encoded(adapter, pixels))
        once(adapter.pipe, ("unfamiliar", seen), lambda: _warn_if_unfamiliar(adapter, reached))
        others = SourceInputs(adapter, plan, text, posterior, pictures)
        latents, noise = posterior.draw(plan.seeds[current[0]])
        drawn = current[0]
        with (
            Stream(run, grid, plan.positions) as stream,
            traced(
                adapter,
                plan,
                embeddings,
                on_record=lambda piece: stream.write(piece, *current),
                on_pass=lambda step: stream.commit(),
            ) as recorder,
        ):
            for done, current in enumerate(tqdm(passes, desc="capture", unit="pass", disable=not progress), 1):
                check_cancelled()
                sample, timestep = current
                if sample != drawn:
                    latents, noise = posterior.draw(plan.seeds[sample])
                    drawn = sample
                time = plan.timesteps[timestep]
                recorder.editing.timesteps = [time]
                recorder.editing.run = (plan.options["image_hash"], plan.prompts[sample], plan.seeds[sample])
                for source in recorder.editing.sources(time):
                    recorder.collect(source, **others.inputs(source, sample, time, grid))
                recorder.run(**adapter.inputs(adapter.noised(latents, noise, time), time, text, grid))
                recorder.editing.forget()
                passed(done, len(passes), run)
    finally:
        adapter.release()


def _bits_hash(masks: NDArray[np.bool_]) -> str:
    return hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()[:20]


def _encoded(adapter: PipelineAdapter, pixels: Pixels) -> tuple[Posterior, float | None]:
    """The posterior, and for a model of drawn scenes the PSNR at which its autoencoder reproduces the image, in dB."""
    posterior = adapter.encode_image(pixels)
    if adapter.info.get("familiar_psnr") is None:
        return posterior, None
    return posterior, psnr(adapter.decode(posterior.mean), pixels)


def _warn_if_unfamiliar(adapter: PipelineAdapter, reached: float | None) -> None:
    """Warn when a model of drawn scenes is shown something its autoencoder cannot reproduce: PSNR in dB."""
    threshold = adapter.info.get("familiar_psnr")
    if reached is not None and threshold is not None and reached < threshold:
        warn(
            f"the model knows drawn scenes only, and this picture is none (its autoencoder reproduces it at "
            f"{reached:.1f} dB; scenes reach {threshold:g} dB): the maps mean little. For photographs load FLUX.1, "
            'for example model="black-forest-labs/FLUX.1-schnell".',
            stacklevel=7,
        )
