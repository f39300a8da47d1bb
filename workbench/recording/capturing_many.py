"""``capture_many``: concept attention of many images, as one lazy dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import xarray as xr
from tqdm.auto import tqdm

from workbench import store as runs_store
from workbench.interventions import Given, in_words
from workbench.models.defaults import own_defaults
from workbench.models.pipeline import PipelineAdapter
from workbench.recording.arguments import (
    check_layers,
    check_offered,
    check_text,
    check_timesteps,
    check_vocabulary,
    warn_beyond_training,
)
from workbench.recording.identity import identity
from workbench.recording.image_capture import ImageCapture, check_ignore, plan_capture
from workbench.recording.named_images import (
    Named,
    NamedImages,
    check_prompts,
    content_name,
    name_images,
    read_concepts,
    read_prompts,
)
from workbench.recording.opening import open_for_images
from workbench.recording.pictures import read_image
from workbench.recording.provenance import derived, model_name
from workbench.recording.request import Request, check_home, read_request
from workbench.recording.sessions import Encodings, check_cancelled, session
from workbench.recording.text_warnings import warn_of_text
from workbench.recording.turns import quoted, turn
from workbench.schema import (
    CAPTURE_VERSION,
    EDIT,
    MANY,
    OF_MANY,
    SCHEMA_VERSION,
    CancelledError,
    InputError,
    ModelError,
    PerItem,
    StoreError,
    WorkbenchError,
    noted,
    warn,
)
from workbench.store import Item, Register

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_TOGETHER: Final = 64
"""Images after which the pipeline is compared with what it was: if it has changed, what was made is thrown away."""
_NAMED: Final = 3
"""Images that a warning names."""
_LISTED: Final = 20
"""Images that are listed with what they failed for."""
_MOST_NOTES: Final = 50
"""Different warnings that are kept for the end."""


def capture_many(
    images: Any,
    concepts: Sequence[str] | Sequence[Sequence[str]] | Mapping[str, Sequence[str]],
    *,
    names: Iterable[str] | None = None,
    title: str = "",
    errors: Literal["raise", "skip"] = "raise",
    model: str | os.PathLike[str] | DiffusionPipeline = "tiny-flux",
    prompt: str | Sequence[str] | Mapping[str, str] = "",
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
    truth: Mapping[str, Any] | Sequence[Any] | Callable[[str], Any] | None = None,
    ignore: str | None = None,
    home: str | Path | None = None,
    verify: bool = False,
    progress: bool = True,
    cancel: Event | None = None,
) -> xr.Dataset | xr.DataTree:
    """Record :func:`workbench.capture` of many images, as one lazy dataset along the dimension ``item``.

    Every item is a stored run, the same as :func:`workbench.capture` would make of its image with these options: one
    that is stored already is opened, and what is interrupted goes on where it stopped when the same call is made again.
    Several processes may make the same call, or calls with different images, at once: each takes the images that no
    other is at. ``workbench.open(ds.attrs["key"])`` opens what is complete by then, in any process.

    Images are encoded once each and words once altogether. Memory does not grow with the number of images.

    Parameters
    ----------
    images
        A folder; a mapping from names to images; a list, generator or other iterable of images as
        :func:`workbench.capture` takes them, or of pairs (name, image); or an array (item, pixel_y, pixel_x, channel).
        What is iterated over is read as it is needed, once.
    concepts
        Words that all images are asked; or for each image its own: a mapping from names, or a list of lists. Then the
        coordinate ``asked`` (item, concept) says which were asked, and the scores of others are NaN.
    names
        One for each image. By default those of the files without suffix, with as much of their folders as tells them
        apart; images without a file are called after their content.
    prompt
        What the model is told about all images; or about each: a mapping from names, or a list. Then the coordinate
        ``prompt`` (item) says what, where it is not the same. The space ``prompt`` and ``text_mass``, which are over
        the tokens of a prompt, need one for all.
    title
        Calls that differ in it make different runs. Those that differ in images alone add to the same run, and so do
        those that differ in the prompts or concepts that they give for each image: an image is in it once for each.
    errors
        What becomes of an image that cannot be captured: ``"raise"`` ends with its error, and what was finished is
        kept; ``"skip"`` lists it in ``attrs["failed"]`` and in a warning, and goes on.
    model, timesteps, layers, spaces, samples, seed, size, attend, pool, lse, text_mass, interventions
        As in :func:`workbench.capture`, for every image. Without ``size`` each image keeps its aspect ratio.
    truth
        Masks of the concepts for every image: a mapping from names, a list in the order of the images, or a function
        of the name, each as :func:`workbench.truth.read_regions` takes it.
    ignore
        Name of the mask among them that shows which pixels are void.
    home
        Folder of the runs; no URL. ``WORKBENCH_HOME`` or the user's cache folder by default.
    verify
        Compare stored runs of items with their checksums, and compute damaged ones anew.
    progress
        Show a progress bar.
    cancel
        An event that ends the call behind the forward pass that is under way.

    Returns
    -------
    xarray.Dataset or xarray.DataTree
        The variables of :func:`workbench.capture` with ``item`` first, in the order of ``images``, with the coordinates
        ``name``, ``run`` (key of the item's own run) and ``image_hash``; nothing of them is read before it is used. If
        processed images differ in size, a tree with one such dataset for each size, ``"<height>x<width>"``; ``size=``
        gives all the same.

    Raises
    ------
    InputError
        If an argument is wrong, or an image with ``errors="raise"``; or if no image can be captured.
    ModelError
        If the model cannot be loaded or is not supported, or was changed meanwhile.
    StoreError
        If runs cannot be written.
    CancelledError
        If ``cancel`` was set.

    Examples
    --------
    >>> ds = workbench.capture_many("photos", ["dog", "grass", "sky"], errors="skip")  # doctest: +SKIP
    >>> ds.wb.heatmap().sel(concept="dog")  # item, y, x  # doctest: +SKIP
    >>> ds.isel(item=3).wb.segment()  # as of a single capture  # doctest: +SKIP
    """
    words, told = read_concepts(concepts), read_prompts(prompt)
    texts = told.entries if isinstance(told, PerItem) else [told]
    common = read_request(
        words.entries[0] if isinstance(words, PerItem) else words,
        prompt=texts[0],
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
        home=home,
        verify=verify,
        progress=False,
    )
    check_prompts(texts, common)
    times = None if timesteps is None else check_timesteps(timesteps)
    if errors not in ("raise", "skip"):
        raise InputError(f"errors is {errors!r}; expected 'raise' or 'skip'.")
    check_text("title", title)
    masks = None if truth is None else PerItem.read("masks", truth)
    check_ignore(ignore, masks is not None)
    listed = name_images(images, names)
    for each in (words, told, masks):
        if isinstance(each, PerItem):
            each.check(listed.names, listed.total)
    common = replace(common, unwritable=check_home(home))
    if common.unwritable is not None:
        raise common.unwritable

    adapter = open_for_images(model)
    many = _Many(
        adapter,
        common,
        model,
        words,
        told,
        masks,
        (adapter.default_timestep,) if times is None else times,
        ignore,
        title,
        errors == "skip",
        progress,
    )
    many.check()
    return many.run(listed, cancel)


class _Waiting(NamedTuple):
    """An image that another process is at."""

    name: str
    place: int
    key: str
    capture: ImageCapture


@dataclass
class _Many:
    """A call of :func:`capture_many`, and what has become of its images so far, by their places."""

    adapter: PipelineAdapter
    request: Request
    model: Any
    words: tuple[str, ...] | PerItem
    prompts: str | PerItem
    masks: PerItem | None
    times: tuple[float, ...]
    ignore: str | None
    title: str
    skip: bool
    progress: bool
    items: dict[int, Item] = field(default_factory=dict)
    failed: dict[int, Item] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    waiting: list[_Waiting] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    known: dict[tuple[str, str], Item] = field(default_factory=dict)
    known_failures: dict[str, str] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what the model cannot do, and warn of what it does not know, before any image is read."""
        name, request = model_name(self.model), self.request
        lists = [self.words] if isinstance(self.words, tuple) else self.words.entries
        every = list(dict.fromkeys(word for words in lists for word in words))
        texts = list(dict.fromkeys([self.prompts] if isinstance(self.prompts, str) else self.prompts.entries))
        check_offered(self.adapter.inner, name, request.spaces, request.attend)
        check_vocabulary(every, " ".join(texts), name, self.adapter.info)
        check_layers(request.layers, self.adapter.layers)
        with own_defaults(), turn(self.adapter.pipe, f"a look at {quoted(every)}"), noted() as notes:
            warn_beyond_training(self.adapter, name, request.size)
            for place, words in enumerate(dict.fromkeys(lists)):
                warn_of_text(self.adapter, words, [] if place else texts, made=False)
        for note in notes[:_MOST_NOTES]:
            warn(note, stacklevel=3)

    def run(self, listed: NamedImages, cancel: Event | None) -> xr.Dataset | xr.DataTree:
        """Capture all images."""
        encodings, places = Encodings(), enumerate(listed.images)
        register: Register | None = None
        taken = _TOGETHER
        with tqdm(total=listed.total, desc="capture", unit="image", disable=not self.progress) as bar:
            while taken == _TOGETHER:
                taken = 0
                with session(cancel, encodings=encodings, images=1):
                    register = register or self._register()
                    self._check_model()
                    with derived(OF_MANY, register.key, self.model):
                        for place, one in islice(places, _TOGETHER):
                            taken += 1
                            check_cancelled()
                            with self._tried(register, place, one.name):
                                self._take(register, place, one)
                            self._collect(register)
                            bar.update(len(self.items) + len(self.failed) - bar.n)
                        if taken < _TOGETHER:
                            self._collect(register, wait=True)
                            bar.update(len(self.items) + len(self.failed) - bar.n)
        assert register is not None
        for each in (self.words, self.prompts, self.masks):
            if listed.total is None and isinstance(each, PerItem):
                each.check(None, len(self.items) + len(self.failed))
        return self._result(register)

    def _register(self) -> Register:
        """The register of this call; what it knows already is remembered."""
        adapter, request = self.adapter, self.request
        common = list(self.words) if isinstance(self.words, tuple) else []
        prompt = self.prompts if isinstance(self.prompts, str) else []
        self.before = identity(adapter, self.progress)
        recipe = {
            "kind": MANY,
            "title": self.title,
            "concepts": common,
            "prompt": prompt,
            "timesteps": self.times,
            "layers": [layer.index for layer in check_layers(request.layers, adapter.layers)],
            "spaces": request.spaces,
            "seeds": request.seeds,
            "size": request.size,
            "attend": request.attend,
            "pool": request.pool,
            "lse": request.lse,
            "text_mass": request.text_mass,
            "interventions": [edit.as_dict() for edit in request.interventions],
            "truth": self.masks is not None,
            "ignore": self.ignore,
            "text_length": adapter.text_length,
            "default_layers": adapter.default_layers,
            "pipeline": self.before,
        }
        record = {
            "model": model_name(self.model),
            "title": self.title,
            "prompt": prompt,
            "concepts": common,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "schema_version": SCHEMA_VERSION,
            "capture_version": CAPTURE_VERSION,
            EDIT: in_words(request.interventions) if request.interventions else "",
        }
        register = runs_store.register(runs_store.content_key(recipe), record, request.home)
        items, failed = register.items()
        runs_store.keep(self, register)
        self.known = {(item.name, item.run): item for item in items}
        self.known_failures = {item.name: item.error for item in failed}
        return register

    def _check_model(self) -> None:
        """Refuse a pipeline that is another than the one that the run is named after."""
        if identity(self.adapter, progress=False) != self.before:
            raise ModelError(
                "the pipeline was changed while images were captured; what was captured before is kept. Make the same "
                "call again while nothing else changes the pipeline."
            )

    @contextmanager
    def _tried(self, register: Register, place: int, name: str) -> Iterator[None]:
        """Take note of what is said of an image, and of what it failed for where that is to be skipped."""
        with noted() as notes:
            try:
                yield
            except (StoreError, ModelError, CancelledError):
                raise
            except Exception as error:
                name = name or f"image {place}"
                if not self.skip:
                    if not isinstance(error, WorkbenchError):
                        raise
                    raise type(error)(
                        f"{name}: {error} It is image {place}, counted from 0; what was finished is kept. Fix it and "
                        "make the same call again, or pass errors='skip' to go on without it."
                    ) from error
                kind = "" if isinstance(error, WorkbenchError) else f"{type(error).__name__}: "
                item = Item(name, place, error=f"{kind}{error}")
                self.failed[place] = item
                if self.known_failures.get(name) != item.error:
                    register.enter([item])
        for note in notes:
            if note in self.notes or len(self.notes) < _MOST_NOTES:
                self.notes.setdefault(note, []).append(name or f"image {place}")

    def _take(self, register: Register, place: int, one: Named) -> None:
        """Capture an image, unless it is there or another process is at it."""
        pixels = read_image(one.image)
        name = one.name or content_name(pixels)
        if name in self.names:
            raise InputError(
                f"another image is called {name!r} already"
                + (": give each image another name." if one.name else ", with the same pixels: give each once.")
            )
        self.names.add(name)
        words = self.words if isinstance(self.words, tuple) else self.words.of(one.name, place)
        truth = None if self.masks is None else self.masks.of(one.name, place)
        prompt = self.prompts if isinstance(self.prompts, str) else self.prompts.of(one.name, place)
        request = replace(self.request, concepts=words, prompt=prompt)
        with own_defaults(), turn(self.adapter.pipe, f"a capture of {quoted(words)}"):
            planned = plan_capture(
                self.adapter,
                request,
                pixels,
                self.model,
                model_name(self.model),
                times=self.times,
                truth=truth,
                ignore=self.ignore,
            )
            key = planned.key()
            item = self.known.get((name, key))
            stored = runs_store.find(key, request.home) is not None
            if stored and item is not None and not request.verify:
                self.items[place] = item
            elif not stored and self._is_written(register, key):
                self.waiting.append(_Waiting(name, place, key, planned))
            else:
                self._capture(register, name, place, planned)

    def _is_written(self, register: Register, key: str) -> bool:
        """Whether another process writes a run."""
        with runs_store.unwritten(key, register.home) as free:
            return not free

    def _capture(self, register: Register, name: str, place: int, planned: ImageCapture) -> None:
        """Record a run, or open it, and enter it into the register."""
        planned.record()
        key, plan = planned.key(), planned.plan
        prompt = None if isinstance(self.prompts, str) else plan.prompts[0]
        item = Item(name, place, key, plan.options["image_hash"], plan.concepts, plan.size, prompt=prompt)
        if (name, item.run) not in self.known:
            register.enter([item])
            self.known[name, item.run] = item
        self.items[place] = item

    def _collect(self, register: Register, wait: bool = False) -> None:
        """Take what other processes have finished; with ``wait`` also what they are at, or left behind."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            if not wait and runs_store.find(one.key, self.request.home) is None:
                self.waiting.append(one)
                continue
            what = f"a capture of {quoted(one.capture.plan.concepts)}"
            with self._tried(register, one.place, one.name), own_defaults(), turn(self.adapter.pipe, what):
                self._capture(register, one.name, one.place, one.capture)

    def _result(self, register: Register) -> xr.Dataset | xr.DataTree:
        failures = [self.failed[place] for place in sorted(self.failed)]
        if not self.items:
            first = f" {failures[0].name}: {failures[0].error}" if failures else ""
            raise InputError(
                f"none of the {len(failures)} images can be captured.{first}" if failures else "there are no images."
            )
        for note, names in self.notes.items():
            warn(f"{note} ({_named(names)})", stacklevel=4)
        if failures:
            said = "\n".join(f"  {item.name}: {item.error}" for item in failures[:_LISTED])
            more = f"\n  and {len(failures) - _LISTED} more" if len(failures) > _LISTED else ""
            warn(
                f"{len(failures)} of {len(failures) + len(self.items)} images were skipped, which attrs['failed'] "
                f"lists:\n{said}{more}",
                stacklevel=4,
            )
        ordered = [self.items[place] for place in sorted(self.items)]
        self._warn_of_others(ordered)
        return runs_store.one_or_tree(runs_store.grouped(register, ordered, failures))

    def _warn_of_others(self, items: Sequence[Item]) -> None:
        """Warn where the run holds other images, prompts or concepts under the names of these."""
        held: dict[str, set[tuple[Any, ...]]] = {}
        for item in self.known.values():
            held.setdefault(item.name, set()).add((item.image_hash, item.prompt, tuple(item.concepts)))
        if others := [item.name for item in items if len(held[item.name]) > 1]:
            warn(
                "earlier calls with these options and this title captured other images, prompts or concepts under the "
                f"same names: {_named(others)}. workbench.open of the run gives those too, with their own image_hash, "
                "prompt and asked words: a title of its own, title=..., keeps what is captured apart.",
                stacklevel=5,
            )


def _named(names: Sequence[str]) -> str:
    """Some names, and how many there are."""
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names)} images: {shown}" if len(names) > 1 else f"image {shown}"
