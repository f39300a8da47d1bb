"""The pipeline's side of a model family: encoders, schedule, guidance, and what the transformer is given.

What a family hands from one of its methods to another (:class:`Text`, noised latents) is opaque to recording.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from workbench.models.block_records import ConceptText
from workbench.models.call_inputs import CallInputs
from workbench.models.guidance import Branch, alone
from workbench.models.layers import Layer, usual_layers
from workbench.models.pipeline_records import EncodedConcept, Posterior, Schedule, Text
from workbench.models.readers import TextReader
from workbench.models.transformer import TransformerAdapter
from workbench.schema import FLOW, POOLS, InputError, ModelError


class PipelineAdapter(CallInputs, ABC):
    """Encoders and input conventions of one family's pipeline.

    Parameters
    ----------
    pipe : DiffusionPipeline
        A loaded pipeline; its components may be offloaded or quantised.
    info : mapping, optional
        What a pipeline's ``workbench.json`` says about it; every key is optional: ``size`` (height and width, pixels),
        ``text_length`` (tokens), ``default_layers``, ``timestep``, ``vocabulary``, ``sides`` (of its training, pixels).

    Attributes
    ----------
    transformer_side : type of TransformerAdapter
        The family's other side.
    process : str
        How noise is added: by a flow, ``sigma * noise + (1 - sigma) * latents``, unless the family says otherwise.
    scheduler : str
        Name of a scheduler class that runs what it announces.
    uncaptured : str
        Why the pipeline's transformer cannot be shown a real image alone; empty where it can.
    conventions : tuple of str
        Arguments of the transformer that have other values for a real image than for a picture that is made.
    """

    transformer_side: ClassVar[type[TransformerAdapter]]
    process: ClassVar[str] = FLOW
    scheduler: ClassVar[str] = "FlowMatchEulerDiscreteScheduler"
    uncaptured: ClassVar[str] = ""
    conventions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, pipe: Any, info: Mapping[str, Any] | None = None) -> None:
        super().__init__(pipe, MappingProxyType(dict(info or {})))

    @property
    def transformer(self) -> nn.Module:
        """The pipeline's transformer as it is now (it may have been replaced or compiled since)."""
        module: nn.Module = self.pipe.transformer
        return module

    @cached_property
    def device(self) -> torch.device:
        """Where the pipeline computes, whatever is offloaded; asked for once, since diffusers looks at every module."""
        return torch.device(self.pipe._execution_device)

    @property
    def inner(self) -> TransformerAdapter:
        """The adapter of the transformer."""
        module: Any = self.transformer
        make: Any = self.transformer_side
        adapter: TransformerAdapter = make(getattr(module, "_orig_mod", module))
        return adapter

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All blocks of the transformer by depth."""
        return self.inner.layers

    @property
    def heads(self) -> int:
        """Attention heads of each block."""
        return self.inner.heads

    @property
    @abstractmethod
    def patch(self) -> int:
        """Side of one image token, in pixels."""

    @property
    def native(self) -> tuple[int, int]:
        """Height and width in pixels the model was made for."""
        if "size" in self.info:
            height, width = self.info["size"]
            return int(height), int(width)
        pipe = self.pipe
        latents = (
            pipe.default_sample_size if hasattr(pipe, "default_sample_size") else pipe.transformer.config.sample_size
        )
        side = int(latents) * int(pipe.vae_scale_factor)
        return side, side

    @property
    @abstractmethod
    def text_length(self) -> int:
        """Length in tokens that text is padded to, or, in a family that does not pad it, cut to."""

    def length_of(self, prompt: str) -> int:
        """Tokens of the text that the transformer is given for a prompt."""
        return self.text_length

    @property
    def default_layers(self) -> tuple[int, ...]:
        """Layers of a heat map when none are named: the deeper half of the usual ones (FLUX.1: 9 to 18)."""
        if "default_layers" in self.info:
            return tuple(int(index) for index in self.info["default_layers"])
        chosen = [layer.index for layer in usual_layers(self.layers)]
        return tuple(chosen[len(chosen) // 2 :])

    @property
    def default_timestep(self) -> float:
        """Timestep of a real image when none is given: the paper's best, the middle."""
        return float(self.info.get("timestep", 500.0))

    def native_size(self, height: int, width: int) -> tuple[int, int]:
        """Size an image is brought to when none is given: its own aspect ratio at the model's native area.

        Parameters
        ----------
        height, width : int
            The image's, in pixels.

        Returns
        -------
        tuple of int
            Height and width in pixels, each a multiple of :attr:`patch`.
        """
        native_height, native_width = self.native
        scale = (native_height * native_width / (height * width)) ** 0.5
        rounded = (max(1, round(side * scale / self.patch)) * self.patch for side in (height, width))
        return next(rounded), next(rounded)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patches per column and row of an image of ``height`` by ``width`` pixels.

        Raises
        ------
        InputError
            If a side is no multiple of the patch.
        """
        if height % self.patch or width % self.patch or height <= 0 or width <= 0:
            raise InputError(
                f"size {height} x {width} is no multiple of the model's patch of {self.patch} pixels: "
                f"use for example {' x '.join(map(str, self.native_size(max(height, 1), max(width, 1))))}."
            )
        return height // self.patch, width // self.patch

    def component(self, name: str) -> Any:
        """Return a component of the pipeline.

        Raises
        ------
        ModelError
            If the pipeline was loaded without it.
        """
        found = getattr(self.pipe, name, None)
        if found is None:
            raise ModelError(f"the pipeline was loaded without its {name}, which is needed here: load it with {name}.")
        return found

    def release(self) -> None:
        """Send offloaded components back, as the pipeline itself does after a call."""
        self.pipe.maybe_free_model_hooks()

    def concept_tokens(self, concept: str) -> list[int]:
        """Positions of a concept's own tokens in a text that is nothing else, of those a concept can take."""
        return self.prompt_tokens(concept)[0]

    def encode_concepts(self, concepts: Sequence[str], pool: str = "first") -> tuple[Tensor, list[int]]:
        """Turn concept words into embeddings, each encoded on its own.

        Parameters
        ----------
        concepts : sequence of str
            The words.
        pool : {"first", "last", "mean"}
            Take the vector of the first token (the paper), of the last, or the mean over the word's own tokens.

        Returns
        -------
        embeddings : Tensor (1, concept, embedding_dim)
        tokens : list of int
            How many tokens each word has. With ``"first"`` the tail of longer words is lost: the caller warns.

        Raises
        ------
        InputError
            If a word has no token of its own, or the pool is unknown.
        """
        found = [self.encode_concept(concept, pool) for concept in concepts]
        return torch.cat([each.vector for each in found], dim=1), [each.count for each in found]

    def encode_concept(self, concept: str, pool: str = "first") -> EncodedConcept:
        """Turn one concept into what a trace is given for it; as :meth:`encode_concepts`.

        Raises
        ------
        InputError
            If the word has no token of its own, or the pool is unknown.
        """
        own = self.concept_tokens(concept)
        used = _pooled(concept, own, pool)
        text = self.encode_prompt(concept)
        vector = text.embeddings[:, used].mean(dim=1, keepdim=True)
        return EncodedConcept(
            vector, len(own), self.concept_text(text, used) if self.transformer_side.refines else None
        )

    def concept_text(self, text: Text, used: Sequence[int]) -> ConceptText:
        """The tokens of a concept's own text that are seen, with those that stand for the concept."""
        seen = list(range(text.embeddings.shape[1]))
        if text.mask is not None:
            seen = [place for place in seen if text.mask[0, place]]
        return ConceptText(text.embeddings[:, seen], tuple(seen.index(place) for place in used))

    def concept_positions(self, concepts: Sequence[str], pool: str = "first") -> tuple[int, ...] | None:
        """Positions that concepts take in the transformer's text, in a family whose text has some; None elsewhere."""
        return None

    def own_positions(self, concepts: Sequence[str], pool: str) -> tuple[int, ...]:
        """Where the used token of each concept stands when the concept is all of the text; the last of several."""
        return tuple(_pooled(concept, self.concept_tokens(concept), pool)[-1] for concept in concepts)

    @abstractmethod
    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        """Positions and strings of a prompt's own tokens, without padding or end-of-text."""

    def negative(self) -> PipelineAdapter:
        """The adapter as it reads negative prompts, where the pipeline reads them in another way."""
        return self

    @abstractmethod
    def readers(self, made: bool) -> tuple[TextReader, ...]:
        """What reads text: concepts and prompts first, then the prompt alone where an image is ``made``."""

    def padding(self, prompt: str) -> list[bool]:
        """Which positions of the text sequence are padding: those after a prompt's own tokens and its end of text."""
        positions, _ = self.prompt_tokens(prompt)
        return [index > len(positions) for index in range(self.text_length)]

    @abstractmethod
    def encode_prompt(self, prompt: str) -> Text:
        """Encode a prompt, padded to :attr:`text_length`."""

    @abstractmethod
    def encode_image(self, image: np.ndarray[Any, np.dtype[np.uint8]]) -> Posterior:
        """Encode an image (pixel_y, pixel_x, channel) of RGB bytes whose sides are multiples of :attr:`patch`."""

    @abstractmethod
    def decode(self, latents: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Decode latents (1, channel, latent_y, latent_x) to RGB bytes (pixel_y, pixel_x, channel)."""

    @property
    @abstractmethod
    def default_steps(self) -> int:
        """Length of the schedule when none is given."""

    @property
    @abstractmethod
    def default_guidance(self) -> float | None:
        """Guidance when none is given; None for a model that takes none."""

    @abstractmethod
    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        """What the pipeline will run for a picture of this size; see :func:`.schedules.checked_schedule`."""

    def sigma(self, timestep: float, size: tuple[int, int] | None = None) -> float:
        """How noisy latents are at a timestep of this family, 0 to 1; a flow's timestep is 1000 x sigma.

        Parameters
        ----------
        timestep : float
            The timestep.
        size : tuple of int
            Height and width of the picture in pixels, for families whose noise depends on it; the native size by
            default.
        """
        return timestep / 1000

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        """Where the branches of classifier-free guidance are, by name.

        Parameters
        ----------
        options : mapping
            ``guidance``, ``negative_prompt`` and ``true_guidance``, as :meth:`generate` gets them.

        Returns
        -------
        mapping of str to Branch
            ``conditional``, and ``unconditional`` where the pipeline runs one under these options.
        """
        return alone()

    def told(self, prompt: str) -> Mapping[str, str]:
        """What else decides a picture of a prompt, by name, for the attributes of its dataset."""
        return {}

    def ran(self) -> tuple[float, ...]:
        """Timesteps of the pipeline's last run, as its scheduler has them."""
        return tuple(float(timestep) for timestep in self.pipe.scheduler.timesteps)

    @abstractmethod
    def generate(
        self,
        prompt: str,
        *,
        steps: int,
        guidance: float | None,
        seed: int,
        size: tuple[int, int],
        negative_prompt: str | None = None,
        true_guidance: float = 1.0,
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Call the pipeline itself, with noise drawn on the CPU from ``seed``.

        Returns
        -------
        ndarray (pixel_y, pixel_x, channel)
            The picture, RGB bytes.
        """

    def noised(self, latents: Tensor, noise: Tensor, timestep: float) -> Any:
        """Latents (sample, channel, latent_y, latent_x) with as much noise as at a timestep, for :meth:`inputs`."""
        sigma = self.sigma(timestep)
        return sigma * noise + (1 - sigma) * latents

    @abstractmethod
    def inputs(self, noised: Any, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        """Keyword arguments of the transformer for a real image.

        Parameters
        ----------
        noised : Any
            From :meth:`noised`.
        timestep : float
            The same; 1000 x sigma for a flow.
        text : Text
            From :meth:`encode_prompt`.
        grid : tuple of int
            Patches per column and row.
        """


def _pooled(concept: str, own: Sequence[int], pool: str) -> list[int]:
    """Those of a concept's own tokens that stand for it."""
    if pool not in POOLS:
        raise InputError(f"pool is {pool!r}; expected one of {', '.join(POOLS)}.")
    if not own:
        raise InputError(f"the text encoder reads no token of the concept {concept!r}: choose another word.")
    return {"first": list(own[:1]), "last": list(own[-1:]), "mean": list(own)}[pool]
