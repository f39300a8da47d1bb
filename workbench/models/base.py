"""What recording needs to know about a model family, and the small records that pass between the two.

An adapter has two sides. The transformer side says where a block's tensors are and how a text-side token goes through
a block; the pipeline side encodes concepts, prompts and images and builds the transformer's inputs. Everything that
differs between families is behind these two classes; hooks, attention and scores are not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from workbench.schema import InputError, ModelError


@dataclass(frozen=True)
class Layer:
    """One transformer block, by depth.

    Attributes
    ----------
    index : int
        Depth in the model: dual-stream blocks first, then single-stream blocks.
    kind : {"dual", "single"}
        Whether text and image have weights of their own.
    name : str
        Path of the module, such as ``"transformer_blocks.3"``.
    """

    index: int
    kind: Literal["dual", "single"]
    name: str


@dataclass(frozen=True)
class BlockTensors:
    """What the model itself computed in one block; only the tensors that were asked for are present.

    Attributes
    ----------
    output : Tensor (batch, head, patch, dim)
        Attention output of the image patches, before the output projection.
    query, key, value : Tensor (batch, head, patch, dim)
        Of the image patches; queries and keys normalised, before the rotary embedding.
    prompt_query, prompt_key : Tensor (batch, head, token, dim)
        Normalised queries and keys of the prompt, before the rotary embedding.
    rotary, prompt_rotary : Any
        Position embeddings of patches and prompt, for :meth:`TransformerAdapter.rotate`.
    """

    output: Tensor
    query: Tensor | None
    key: Tensor | None
    value: Tensor | None
    prompt_query: Tensor | None
    prompt_key: Tensor | None
    rotary: Any
    prompt_rotary: Any


@dataclass(frozen=True)
class ConceptStream:
    """The concept tokens between two blocks.

    Attributes
    ----------
    hidden : Tensor (batch, concept, width)
        Hidden states.
    conditioning : Any
        What the family modulates text tokens with (FLUX.1: the timestep embedding of a zero pooled text).
    """

    hidden: Tensor
    conditioning: Any

    def to(self, device: torch.device) -> ConceptStream:
        """The stream on a device, for a model whose blocks are on several."""
        if self.hidden.device == device:
            return self
        return ConceptStream(*send_to_device((self.hidden, self.conditioning), device))


@dataclass(frozen=True)
class Projection:
    """Concept tokens inside a block, ready for attention.

    Attributes
    ----------
    query, key, value : Tensor (batch, head, concept, dim)
        With the family's norms, and with whatever position embedding concepts have.
    rest : Any
        What :meth:`TransformerAdapter.advance` needs to finish the block.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    rest: Any


def for_batch(name: str, given: Tensor, batch: int) -> Tensor:
    """Expand a tensor of batch 1 to the batch of the forward pass, as a view.

    Raises
    ------
    InputError
        If its batch is neither 1 nor that of the forward pass.
    """
    if len(given) not in (1, batch):
        raise InputError(
            f"{name} has batch {len(given)} but the forward pass has batch {batch}: give batch 1 or {batch}."
        )
    return given.expand(batch, *given.shape[1:])


class Hooks:
    """Forward hooks that are placed together, can be silenced together and are removed together.

    The callbacks only look: whatever they return is dropped, so a hook cannot alter the model's output.

    Attributes
    ----------
    active : bool
        While false, no callback is called.
    """

    def __init__(self) -> None:
        self.active = False
        self.modules: list[nn.Module] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def before(self, module: nn.Module, callback: Callable[[tuple[Any, ...], dict[str, Any]], None]) -> None:
        """Call ``callback(args, kwargs)`` before each forward pass of a module."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self.active:
                callback(args, kwargs)

        self.modules.append(module)
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module: nn.Module, callback: Callable[[tuple[Any, ...], dict[str, Any], Any], None]) -> None:
        """Call ``callback(args, kwargs, output)`` after each forward pass of a module."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self.active:
                callback(args, kwargs, output)

        self.modules.append(module)
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Let the trace call the model's modules without being seen by its own hooks, and without gradients."""
        active, self.active = self.active, False
        try:
            with torch.no_grad():
                yield
        finally:
            self.active = active

    def remove(self) -> None:
        """Remove every hook."""
        self.active = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.modules.clear()


class TransformerAdapter(ABC):
    """Where the tensors of one family's transformer are, and how a text-side token goes through its blocks.

    Modules are always called, never read: LoRA, quantisation and offloading keep working.

    Attributes
    ----------
    transformer : nn.Module
        The unmodified diffusers model.
    layers : tuple of Layer
        All blocks by depth.
    heads, head_dim : int
        Attention heads, and the width of each.
    embedding_dim : int
        Width of the text encoder's output that concepts are given in.
    pooled_dim : int or None
        Width of the pooled text input; None for a family that has none.
    rotates_pairs : bool
        Whether rotary embeddings are ``(cos, sin)`` (sequence, dim) of neighbouring dimensions: ``(a, b)`` becomes
        ``(a cos - b sin, b cos + a sin)`` in float32, rounded to the dtype of the vectors.
    """

    transformer: nn.Module
    layers: tuple[Layer, ...]
    heads: int
    head_dim: int
    embedding_dim: int
    pooled_dim: int | None
    rotates_pairs = False

    @abstractmethod
    def watch_start(
        self, hooks: Hooks, concepts: Tensor, pooled: Tensor | None, on_start: Callable[[ConceptStream], None]
    ) -> None:
        """Place the hooks that start the concept stream of each forward pass.

        Parameters
        ----------
        hooks : Hooks
            Where to place them.
        concepts : Tensor (batch or 1, concept, embedding_dim)
            Embeddings before the model's own text embedder.
        pooled : Tensor (batch or 1, pooled_dim) or None
            Pooled text the concepts are conditioned on; None for zeros.
        on_start : callable
            Receives the stream before the first block.
        """

    @abstractmethod
    def watch_block(
        self, hooks: Hooks, layer: Layer, needs: Collection[str], on_block: Callable[[BlockTensors], None]
    ) -> None:
        """Place the hooks of one block.

        Parameters
        ----------
        hooks : Hooks
            Where to place them.
        layer : Layer
            The block.
        needs : collection of str
            Which of ``query``, ``key``, ``value``, ``prompt_query``, ``prompt_key`` to deliver; the others are None.
        on_block : callable
            Receives the tensors once the block's attention is computed, while the block's weights are in place.
        """

    def structure(self) -> Any:
        """What, beside the modules themselves, decides where hooks go; a trace refuses passes once it has changed."""
        return ()

    @abstractmethod
    def project(self, layer: Layer, stream: ConceptStream) -> Projection:
        """Take concept tokens to the block's attention: modulation, projections, norms, position."""

    @abstractmethod
    def advance(self, layer: Layer, stream: ConceptStream, projection: Projection, attended: Tensor) -> ConceptStream:
        """Take concept tokens from the attention output (batch, head, concept, dim) to the end of the block."""

    @abstractmethod
    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        """Apply the family's position embedding to queries or keys (batch, head, sequence, dim)."""

    def block(self, layer: Layer) -> nn.Module:
        """Return the module of a layer."""
        return self.transformer.get_submodule(layer.name)


@dataclass(frozen=True)
class Posterior:
    """The image encoder's Gaussian for one image, in the latent units the transformer works in.

    Attributes
    ----------
    mean, std : Tensor (1, channel, latent_y, latent_x)
        float32, on the CPU.
    """

    mean: Tensor
    std: Tensor

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Draw latents from the posterior, then noise of the same shape, from one seeded CPU generator.

        Drawn in float32 on the CPU, so a seed means the same on every device.

        Returns
        -------
        latents, noise : Tensor (1, channel, latent_y, latent_x)
        """
        generator = torch.Generator("cpu").manual_seed(seed)
        latents = self.mean + self.std * torch.randn(self.mean.shape, generator=generator)
        return latents, torch.randn(self.mean.shape, generator=generator)


class PipelineAdapter(ABC):
    """Encoders and input conventions of one family's pipeline.

    Parameters
    ----------
    pipe : DiffusionPipeline
        A loaded pipeline; its components may be offloaded or quantised.
    info : mapping, optional
        What a pipeline's ``workbench.json`` says about it; every key is optional: ``size`` (native height and width in
        pixels), ``text_length`` (tokens), ``default_layers``, ``timestep``, ``vocabulary``, ``sides`` (shortest
        and longest side of its training, in pixels).
    """

    def __init__(self, pipe: Any, info: Mapping[str, Any] | None = None) -> None:
        self.pipe = pipe
        self.info: Mapping[str, Any] = MappingProxyType(dict(info or {}))

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
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """All blocks of the transformer by depth."""

    @property
    @abstractmethod
    def patch(self) -> int:
        """Side of one image token, in pixels."""

    @property
    @abstractmethod
    def native(self) -> tuple[int, int]:
        """Height and width in pixels the model was made for."""

    @property
    @abstractmethod
    def text_length(self) -> int:
        """Length in tokens that text is padded to."""

    @property
    def default_layers(self) -> tuple[int, ...]:
        """Layers of a heat map when none are named: the second half of the dual blocks (FLUX.1: 9 to 18)."""
        if "default_layers" in self.info:
            return tuple(int(index) for index in self.info["default_layers"])
        dual = [layer.index for layer in self.layers if layer.kind == "dual"]
        return tuple(dual[len(dual) // 2 :])

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

    @abstractmethod
    def encode_concepts(self, concepts: Sequence[str], pool: str = "first") -> tuple[Tensor, list[int]]:
        """Turn concept words into embeddings, each encoded on its own.

        Parameters
        ----------
        concepts : sequence of str
            The words.
        pool : {"first", "mean"}
            Take the first token's vector (the paper) or the mean over the word's own tokens.

        Returns
        -------
        embeddings : Tensor (1, concept, embedding_dim)
        tokens : list of int
            How many tokens each word has. With ``"first"`` the tail of longer words is lost: the caller warns.
        """

    @abstractmethod
    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        """Positions and strings of a prompt's own tokens, without padding or end-of-text."""

    @abstractmethod
    def prompt_length(self, prompt: str) -> int:
        """Tokens of a whole prompt with its end of text; what is beyond :attr:`text_length` is cut off."""

    def padding(self, prompt: str) -> list[bool]:
        """Which positions of the text sequence are padding: those after a prompt's own tokens and its end of text."""
        positions, _ = self.prompt_tokens(prompt)
        return [index > len(positions) for index in range(self.text_length)]

    @abstractmethod
    def encode_prompt(self, prompt: str) -> Tensor:
        """Embeddings (1, token, embedding_dim) of a prompt padded to :attr:`text_length`."""

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
    def schedule(self, steps: int, height: int, width: int) -> tuple[float, ...]:
        """Sigmas the pipeline itself will run for a picture of this size, decreasing, without the final zero."""

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

    @abstractmethod
    def noised_tokens(self, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """Image tokens (sample, patch, channel) of ``sigma * noise + (1 - sigma) * latents``, in float32."""

    @abstractmethod
    def inputs(
        self, tokens: Tensor, sigma: float, text: Tensor, grid: tuple[int, int], guidance: float = 0.0
    ) -> dict[str, Any]:
        """Keyword arguments of the transformer for a real image: pooled text is zero (the public code's convention).

        Parameters
        ----------
        tokens : Tensor (batch, patch, channel)
            Noised image tokens.
        sigma : float
            Noise level, 0 to 1 (timestep / 1000).
        text : Tensor (batch or 1, token, embedding_dim)
            Prompt embeddings.
        grid : tuple of int
            Patches per column and row.
        guidance : float
            Guidance scale of a guidance-distilled model; the public code encodes images with 0.
        """
