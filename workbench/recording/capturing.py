"""``capture``: concept attention of a real image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from workbench.interventions import Given
from workbench.models.defaults import own_defaults
from workbench.recording.arguments import check_timesteps, warn_beyond_training
from workbench.recording.image_capture import check_ignore, plan_capture
from workbench.recording.opening import open_for_images
from workbench.recording.pictures import read_image
from workbench.recording.provenance import model_name
from workbench.recording.request import check_home, read_request
from workbench.recording.text_warnings import warn_of_text
from workbench.recording.turns import quoted, turn

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
        500 for FLUX.1. Of CogView4 it is the time that the model is told; ``sigma`` says how noisy the image then is.
    layers
        Blocks by depth, dual-stream blocks first; all dual ones by default, and all of a model that has none or few.
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
    check_ignore(ignore, truth is not None)
    pixels = read_image(image)
    request = replace(request, unwritable=check_home(home) if store else None)

    adapter = open_for_images(model)
    with own_defaults(), turn(adapter.pipe, f"a capture of {quoted(request.concepts)}", progress):
        name = model_name(model)
        planned = plan_capture(adapter, request, pixels, model, name, times=times, truth=truth, ignore=ignore)
        warn_beyond_training(adapter, name, request.size)
        warn_of_text(adapter, request.concepts, [prompt], made=False)
        return planned.dataset()
