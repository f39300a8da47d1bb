"""The capture of one image: planned on its model, then opened where it is stored already, or recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xarray as xr
from tqdm.auto import tqdm

from workbench.models.pipeline import PipelineAdapter
from workbench.recording.arguments import check_layers, check_offered, check_vocabulary
from workbench.recording.edits.edit_sources import SourceInputs, check_interventions, source_pictures
from workbench.recording.encoding import encoded_image, encoded_prompt
from workbench.recording.identity import identity
from workbench.recording.opening import concept_embeddings, found_or_recorded, traced
from workbench.recording.pictures import Pixels, image_hash, resize, warn_of_stretch
from workbench.recording.plan import Plan, plan_tokens, remaining_passes
from workbench.recording.request import Request
from workbench.recording.sessions import check_cancelled, passed
from workbench.recording.streaming import Stream
from workbench.schema import CHANNEL, IMAGE, PIXEL_X, PIXEL_Y, InputError
from workbench.store.pieces import Writer
from workbench.truth import Regions, bits_hash, read_regions

if TYPE_CHECKING:
    from workbench.truth import Truth


def check_ignore(ignore: Any, truth: bool) -> None:
    """Refuse a name of void pixels without masks.

    Raises
    ------
    InputError
        If it is no name, or there are no masks among which it could be.
    """
    if ignore is not None and (not truth or not isinstance(ignore, str)):
        raise InputError(
            f"ignore is {ignore!r}; here it names one of the masks in truth=. Values of a label map are given to "
            "ds.wb.with_truth(label_map, labels=..., ignore=255)."
        )


@dataclass(frozen=True)
class ImageCapture:
    """What is to be recorded of one image, all of it checked.

    Attributes
    ----------
    adapter
        Of the pipeline.
    plan
        What to record.
    request
        What was asked.
    model, name
        The model as it was given, and what it is called.
    pixels
        The processed image.
    pictures
        Other images that interventions take activations from.
    regions
        Masks, where they were given.
    """

    adapter: PipelineAdapter
    plan: Plan
    request: Request
    model: Any
    name: str
    pixels: Pixels = field(repr=False)
    pictures: dict[str, Pixels] = field(repr=False)
    regions: Regions | None = field(repr=False)

    def key(self) -> str:
        """Key of the stored run.

        Raises
        ------
        ModelError
            If the pipeline has no identity.
        """
        before = identity(self.adapter, self.request.progress)
        return self.plan.key(before, self.adapter.text_length, self.adapter.default_layers)

    def dataset(self) -> xr.Dataset:
        """The run: opened where it is stored already, recorded otherwise; see :meth:`record` for what it raises."""
        return self.record()()

    def record(self) -> Callable[[], xr.Dataset]:
        """Record the run unless it is stored already; what is returned opens it.

        Raises
        ------
        ModelError
            If the pipeline has no identity, or is another by the end.
        TraceError
            If a forward pass did not deliver every piece.
        StoreError
            If the run cannot be written.
        """
        return found_or_recorded(
            self.adapter,
            self.plan,
            self.request,
            self.model,
            self.name,
            self._describe,
            whole={},
            pending=lambda run: bool(remaining_passes(run)),
            record=lambda run: _record(self, run),
        )

    def _describe(self, template: xr.Dataset) -> xr.Dataset:
        template[IMAGE] = ((PIXEL_Y, PIXEL_X, CHANNEL), self.pixels)
        return template if self.regions is None else template.assign(self.regions.variables())


def plan_capture(
    adapter: PipelineAdapter,
    request: Request,
    pixels: Pixels,
    model: Any,
    name: str,
    *,
    times: Iterable[float] | None,
    truth: Truth | None = None,
    ignore: str | None = None,
) -> ImageCapture:
    """Check what is asked of an image against its model; in a turn on the pipeline.

    Parameters
    ----------
    adapter
        Of the pipeline.
    request
        What is asked.
    pixels
        The image, (pixel_y, pixel_x, channel) RGB bytes.
    model, name
        The model as it was given, and what it is called.
    times
        Timesteps, decreasing; None for the model's own.
    truth, ignore
        As in :func:`workbench.capture`.

    Raises
    ------
    InputError
        If the model cannot do it, or masks do not fit.
    """
    words = request.concepts
    check_offered(adapter.inner, name, request.spaces, request.attend)
    check_vocabulary(words, request.prompt, name, adapter.info)
    blocks = check_layers(request.layers, adapter.layers)
    height, width = request.size or adapter.native_size(*pixels.shape[:2])
    adapter.grid(height, width)  # refuses a size that is no multiple of the patch
    if request.size is None:
        warn_of_stretch(pixels.shape, (height, width))
    pixels = resize(pixels, (height, width))
    regions = None if truth is None else read_regions(truth, words, (height, width), ignore=ignore)
    pictures = source_pictures(request.interventions, (height, width))
    chosen = (adapter.default_timestep,) if times is None else tuple(times)
    plan = Plan.of(
        request,
        kind="capture",
        timesteps=chosen,
        steps=tuple(range(len(chosen))),
        layers=blocks,
        tokens=plan_tokens(adapter, request.spaces, request.prompt),
        size=(height, width),
        options={
            "image_hash": image_hash(pixels),
            "truth_hash": "" if regions is None else bits_hash(regions.masks),
            **({"void_hash": bits_hash(regions.void)} if regions is not None and regions.void is not None else {}),
            **({"source_hashes": [image_hash(picture) for picture in pictures.values()]} if pictures else {}),
        },
    )
    check_interventions(adapter, plan, name, plan.timesteps)
    return ImageCapture(adapter, plan, request, model, name, pixels, pictures, regions)


def _record(one: ImageCapture, run: Writer) -> None:
    """Run every forward pass that is not written yet."""
    adapter, plan = one.adapter, one.plan
    grid = adapter.grid(*plan.size)
    passes = remaining_passes(run)
    current = passes[0]
    try:
        embeddings = concept_embeddings(adapter, plan)
        text = encoded_prompt(adapter, plan.prompts[0])
        posterior = encoded_image(adapter, one.pixels, plan.options["image_hash"])
        others = SourceInputs(adapter, plan, text, posterior, one.pictures)
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
            for done, current in enumerate(
                tqdm(passes, desc="capture", unit="pass", disable=not one.request.progress), 1
            ):
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
