"""Words, prompts and images as a model takes them: inside a session each is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import EncodedConcept, Posterior
from workbench.numerics.image_similarity import psnr
from workbench.recording.pictures import Pixels, image_hash
from workbench.recording.sessions import ENCODED_CONCEPT, ENCODED_IMAGE, ENCODED_PROMPT, UNFAMILIAR, once
from workbench.schema import warn


def encoded_concepts(
    adapter: PipelineAdapter, words: Sequence[str], pool: str, shown: str = ""
) -> list[EncodedConcept]:
    """What a trace is given for each word.

    Parameters
    ----------
    adapter
        Of the pipeline.
    words, pool
        As in :func:`workbench.capture`.
    shown
        The further inputs of the call: some text encoders are shown the image among them.
    """
    return [
        once(adapter.pipe, (ENCODED_CONCEPT, word, pool, shown), partial(adapter.encode_concept, word, pool))
        for word in words
    ]


def encoded_prompt(adapter: PipelineAdapter, prompt: str) -> Any:
    """What the model is told, as :meth:`workbench.models.pipeline.PipelineAdapter.encode_prompt` gives it."""
    return once(adapter.pipe, (ENCODED_PROMPT, prompt), lambda: adapter.encode_prompt(prompt))


def encoded_image(adapter: PipelineAdapter, pixels: Pixels, seen: str | None = None) -> Posterior:
    """The posterior of a processed image; warns of one that a model of drawn scenes cannot know.

    Parameters
    ----------
    adapter
        Of the pipeline.
    pixels
        (pixel_y, pixel_x, channel).
    seen
        Their hash, where it is known.
    """
    seen = image_hash(pixels) if seen is None else seen
    posterior, reached = once(adapter.pipe, (ENCODED_IMAGE, seen), lambda: _encoded(adapter, pixels))
    once(adapter.pipe, (UNFAMILIAR, seen), lambda: _warn_if_unfamiliar(adapter, reached))
    return posterior


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
            stacklevel=9,
        )
