"""``check_model``: the contract on a model at hand, then a capture, with what it took."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import psutil
import torch

import workbench as wb
from workbench.contract.maps import MAP_RULES
from workbench.contract.pipeline_case import PipelineCase
from workbench.contract.pipelines import PIPELINE_RULES
from workbench.contract.report import Part, Report
from workbench.contract.trying import RULES, Rule, Tried, tried
from workbench.folders import BUNDLED
from workbench.models.family import family_of
from workbench.models.loading import info_of
from workbench.models.pipeline import PipelineAdapter
from workbench.recording.opening import open_adapter
from workbench.recording.pictures import Pixels, read_image
from workbench.recording.plan import revision, versions
from workbench.recording.provenance import model_name
from workbench.schema import InputError, noted
from workbench.tiny import scenes

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SCENE: Final = scenes.SPLITS["gallery"][8]
"""The drawn scene that is captured where no photo is given."""
WORDS: Final = ("person", "animal", "plant", "building", "sky", "ground")
"""Concepts of a photo where none are given."""


def check_model(
    model: str | os.PathLike[str] | DiffusionPipeline = "tiny-flux",
    photo: Any = None,
    concepts: Sequence[str] | None = None,
    *,
    progress: Callable[[str], object] | None = None,
    load: Callable[[], Any] | None = None,
) -> Report:
    """Try the contract on a model, on small inputs, then capture a picture with it at its own size.

    The first thing to do with weights that nobody has tried: it says whether maps of them can be trusted as far as
    anything but masks can tell, what they cost, and what to send along with a question.

    Parameters
    ----------
    model
        As :func:`workbench.capture` takes it.
    photo
        A picture, as :func:`workbench.capture` takes it; a drawn scene by default.
    concepts
        Words, at least two; those of the drawn scene by default, or a few of a photo.
    progress
        Is told what is done next.
    load
        Loads the model in another way than :func:`workbench.load_model` does by default.

    Returns
    -------
    Report
        What was found. Rules that are broken do not raise.

    Raises
    ------
    InputError
        If an argument is wrong; the model is not loaded.
    ModelError
        If the model cannot be loaded or is not supported.
    """
    pixels, words, text = _asked(photo, concepts)
    say = progress or (lambda what: None)
    parts: list[Part] = []
    with noted() as warned, _part(parts, "load"):
        say("loading")
        adapter = open_adapter(model if load is None else load())
        words = _known(adapter, words, concepts)
    found: list[Tried] = []
    with noted(), _part(parts, "contract"):  # its pictures are smaller than any that a model was made for
        for rule, given in _rules(PipelineCase(adapter, pixels, words, _prompt(adapter, text, words, photo)), found):
            say(f"contract: {rule.__name__.replace('_', ' ')}")
            found.append(tried(rule, given))
    picture = b""
    with noted() as warned_of_capture:
        with _part(parts, "capture"):
            say("capture")
            ds = _captured(adapter, pixels, words, found)
        if ds is not None:
            with _part(parts, "maps"):
                say("maps")
                found += [tried(rule, ds) for rule in MAP_RULES.values()]
                picture = _picture(ds)
    family = family_of(adapter.pipe)
    assert family is not None
    return Report(
        model=model_name(model if load is None else adapter.pipe),
        revision=revision(adapter.pipe),
        bundled=isinstance(model, str) and model in BUNDLED,
        family=family.name,
        origin=family.origin,
        tried=tuple(found),
        parts=tuple(parts),
        facts=_facts(adapter, ds),
        warnings=(*warned, *warned_of_capture),
        versions=versions(),
        machine=_machine(adapter),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        picture=picture,
    )


def _asked(photo: Any, concepts: Sequence[str] | None) -> tuple[Pixels, tuple[str, ...], str]:
    """Picture, words and prompt.

    Raises
    ------
    InputError
        If they cannot be read, or there are too few words.
    """
    if concepts is not None and (isinstance(concepts, str) or len(dict.fromkeys(concepts)) < 2):
        raise InputError(f"concepts is {concepts!r}; expected at least two words, which a map can tell apart.")
    scene = scenes.render(SCENE)
    pixels = scene.image if photo is None else read_image(photo)
    words = tuple(concepts) if concepts is not None else scene.words if photo is None else WORDS
    return pixels, tuple(words), scene.caption


def _known(adapter: PipelineAdapter, words: tuple[str, ...], given: Sequence[str] | None) -> tuple[str, ...]:
    """The words, or some that a model with a closed vocabulary knows where none were given."""
    known = tuple(adapter.info.get("vocabulary", ()))
    return words if given is not None or not known or set(words) <= set(known) else known[: len(WORDS)]


def _prompt(adapter: PipelineAdapter, caption: str, words: Sequence[str], photo: Any) -> str:
    """A text for the contract, of words that the model knows."""
    if photo is None:
        return caption
    return words[0] if adapter.info.get("vocabulary") else f"a picture of {words[0]}"


def _rules(case: PipelineCase, found: list[Tried]) -> Iterator[tuple[Rule, Any]]:
    """Rules with what they are tried on; that the transformer's inputs cannot be made is noted instead of its rules."""
    for rule in PIPELINE_RULES.values():
        yield rule, case
    try:
        made = case.case()
    except Exception as error:  # of the model, or of an adapter that does not fit it
        found.append(_failed("inputs of the transformer", error))
        return
    for rule in RULES.values():
        yield rule, made


def _captured(adapter: PipelineAdapter, pixels: Pixels, words: Sequence[str], found: list[Tried]) -> Any:
    """The dataset of a capture at the model's own size; None where it failed, which is noted."""
    try:
        return wb.capture(pixels, words, model=adapter.pipe, store=False, progress=False).load()
    except Exception as error:
        found.append(_failed("capture", error))
        return None


def _failed(what: str, error: Exception) -> Tried:
    return Tried(what, False, f"{type(error).__name__}: {' '.join(str(error).split())}", 0.0)


@contextmanager
def _part(parts: list[Part], name: str) -> Iterator[None]:
    """Note time and memory of what is done inside."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    yield
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    parts.append(Part(name, seconds, torch.cuda.max_memory_allocated() if cuda else 0, _peak_of_host()))


def _peak_of_host() -> int:
    """The most memory that this process has taken so far, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _facts(adapter: PipelineAdapter, ds: Any) -> dict[str, str]:
    inner = adapter.inner
    parameters = sum(parameter.numel() for parameter in inner.transformer.parameters())
    kinds = [layer.kind for layer in inner.layers]
    facts = {
        "transformer": f"{type(inner.transformer).__name__}, {parameters / 1e9:.3g} billion parameters",
        "dtype": str(next(inner.transformer.parameters()).dtype).removeprefix("torch."),
        "blocks": ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)),
        "heads": f"{inner.heads} of {inner.head_dim}",
    }
    if info_of(adapter.pipe).get("recipe"):
        facts["training"] = "of the model that comes with this package, on drawn scenes"
    if ds is not None:
        height, width = ds.attrs["size"]
        facts["captured"] = (
            f"{height} x {width} pixels, timestep {', '.join(f'{t:g}' for t in ds.timestep.values)}, layers "
            f"{ds.layer.values[0]} to {ds.layer.values[-1]}, spaces {', '.join(ds.attrs['spaces'])}, "
            f"concepts {', '.join(ds.concept.values.tolist())}"
        )
    return facts


def _machine(adapter: PipelineAdapter) -> dict[str, str]:
    device = adapter.device
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device.type}: {named}",
        "system": platform.platform(),
        "threads": str(torch.get_num_threads()),
    }


def _picture(ds: Any) -> bytes:
    """The maps over the picture, as PNG."""
    import io

    stream = io.BytesIO()
    wb.figures.concept_grid(ds).savefig(stream, format="png", dpi=120)
    return stream.getvalue()
