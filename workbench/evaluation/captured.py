"""Methods that read maps off a diffusion transformer, by :func:`workbench.capture`; several share one capture."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from workbench import schema
from workbench.analysis.heatmaps import heatmap
from workbench.evaluation import linear
from workbench.evaluation.examples import Example
from workbench.evaluation.methods import Setting, labelled
from workbench.evaluation.protocols import Protocol, resize_steps, spans
from workbench.numerics.scores import reduce_maps, softmax
from workbench.schema import CAPTURE_VERSION, InputError
from workbench.store.locations import canonical_json

_FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_ASKED = ("samples", "seed", "attend", "pool", "image_resize")
"""Knobs that decide what is captured; what else a protocol says is read off the capture."""


@dataclass
class Captures:
    """Captures of one model, each kept while its batch lasts.

    Attributes
    ----------
    model
        As :func:`workbench.capture` takes it.
    """

    model: Any = "tiny-flux"
    identity: dict[str, Any] | None = None
    wanted: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    held: dict[tuple[Any, ...], xr.Dataset] = field(default_factory=dict)
    _pipe: Any = None

    def pipe(self) -> Any:
        """The pipeline, loaded once."""
        if self._pipe is None:
            from workbench.models.loading import load_model

            named = isinstance(self.model, str | os.PathLike)
            self._pipe = load_model(self.model) if named else self.model
        return self._pipe

    def identify(self) -> dict[str, Any]:
        """What tells this model from others: a checksum over every element of its weights and its options."""
        if self.identity is None:
            from workbench.models.fingerprint import fingerprint
            from workbench.recording.provenance import model_name

            pipe = self.pipe()
            digest = hashlib.sha256(canonical_json(fingerprint(pipe, progress=False)).encode()).hexdigest()[:20]
            name = model_name(self.model)
            self.identity = {"model": name, "fingerprint": digest, "capture_version": CAPTURE_VERSION}
        return self.identity

    def want(self, protocol: Protocol, space: str) -> None:
        """Say what will be read, so that one capture holds it for all methods."""
        held = self.wanted.setdefault(_key(protocol, space), {"spaces": [], "layers": [], "timesteps": []})
        for part, values in (
            ("spaces", [space]),
            ("layers", list(protocol.layers or ())),
            ("timesteps", [protocol.timestep]),
        ):
            held[part] += [value for value in values if value not in held[part]]

    def get(
        self, example: Example, concepts: Sequence[str], caption: str, protocol: Protocol, space: str
    ) -> xr.Dataset:
        """The capture of an example that holds a space."""
        asked = _key(protocol, space)
        key = (example.name, tuple(concepts), caption, asked)
        if key not in self.held:
            self.held[key] = self._capture(example, concepts, caption, protocol, self.wanted[asked])
        return self.held[key]

    def forget(self) -> None:
        """Let the captures of a batch go."""
        self.held.clear()

    def _capture(
        self,
        example: Example,
        concepts: Sequence[str],
        caption: str,
        protocol: Protocol,
        wanted: Mapping[str, list[Any]],
    ) -> xr.Dataset:
        from workbench.recording.capturing import capture

        image, size = prepared_image(example.image, protocol.image_resize)
        return capture(
            image,
            concepts,
            model=self.pipe(),
            prompt=caption,
            timesteps=sorted(wanted["timesteps"], reverse=True),
            layers=sorted(wanted["layers"]),
            spaces=wanted["spaces"],
            samples=protocol.samples,
            seed=protocol.seed,
            size=size,
            attend=protocol.attend,
            pool=protocol.pool,
            store=False,
            progress=False,
        )

    def resolved(self, protocol: Protocol) -> Protocol:
        """A protocol with the model's own layers and timestep where it leaves them to the model.

        Raises
        ------
        InputError
            If it names layers that the model lacks.
        """
        adapter = self.adapter()
        there = [layer.index for layer in adapter.layers]
        layers = adapter.default_layers if protocol.layers is None else protocol.layers
        if missing := [layer for layer in layers if layer not in there]:
            raise InputError(
                f"the protocol asks for layers {spans(layers)}, and the model has {there[0]} to {there[-1]} (no "
                f"{spans(missing)}): --set layers=none takes the model's own, {spans(adapter.default_layers)}."
            )
        time = adapter.default_timestep if protocol.timestep is None else protocol.timestep
        return protocol.changed(layers=layers, timestep=time)

    def adapter(self) -> Any:
        """The adapter of the pipeline."""
        from workbench.recording.opening import open_adapter

        return open_adapter(self.pipe())


@dataclass
class Captured:
    """Maps of one space, as the protocol reads them.

    Attributes
    ----------
    name
        What tables call it.
    space
        One of :data:`workbench.schema.SPACES`. For ``prompt``, the model is told all concepts, joined by "and", and the
        map of a concept is the mean over its tokens: tokens that are not in the prompt have no map.
    captures
        Where the captures are; methods that share it share captures too.
    settings
        The model's checksum.
    """

    name: str
    space: str
    captures: Captures
    settings: Mapping[str, Any] = field(default_factory=dict)
    protocol: Protocol | None = None

    def prepare(self, setting: Setting) -> None:
        """Load the model, and say what is needed of it."""
        self.protocol = setting.protocol
        if self.protocol.concept_norm == "linear":
            linear.check_space(self.space)
        if self.space == schema.PROMPT and self.protocol.heads != "sum":
            raise InputError("heads='softmax' is for concepts; in the prompt space take heads=sum.")
        self.protocol = self.captures.resolved(self.protocol)
        self.settings = {
            **self.captures.identify(),
            "space": self.space,
            "layers": list(self.protocol.layers or ()),
            "timestep": self.protocol.timestep,
        }
        if self.space == schema.PROMPT:
            self.settings = {**self.settings, "caption": "all concepts, joined by and"}
        self.captures.want(self.protocol, self.space)

    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        """Capture each example and read its maps."""
        protocol = self.protocol
        if protocol is None:
            raise InputError(f"the method {self.name!r} is not prepared: evaluate calls prepare before maps.")
        for example, words in zip(examples, concepts, strict=True):
            if self.space == schema.PROMPT:
                caption = " and ".join(words)
                ds = self.captures.get(example, words, caption, protocol, self.space)
                yield labelled(_of_tokens(_read(ds, self.space, protocol), words), words)
            elif protocol.concept_norm == "linear":
                yield self._linear(example, words, protocol)
            else:
                ds = self.captures.get(example, words, example.caption, protocol, self.space)
                yield _read(ds, self.space, protocol)

    def _linear(self, example: Example, words: Sequence[str], protocol: Protocol) -> xr.DataArray:
        image, size = prepared_image(example.image, protocol.image_resize)
        pipe = self.captures.pipe()
        scores = linear.linear_scores(pipe, image, size, words, example.caption, protocol, self.space)
        if protocol.heads == "softmax":
            return _softmax_by_head(scores)
        values = scores.sum(schema.HEAD).transpose(schema.SAMPLE, schema.LAYER, schema.CONCEPT, schema.Y, schema.X)
        reduce = "mean" if protocol.reduce == "sum" else protocol.reduce
        maps = reduce_maps(values.to_numpy(), concept_axis=2, mean_axes=(0, 1), reduce=reduce)
        pieces = values.sizes[schema.SAMPLE] * values.sizes[schema.LAYER]
        return labelled(maps * pieces if protocol.reduce == "sum" else maps, words)


def prepared_image(image: NDArray[np.uint8], steps: str) -> tuple[NDArray[np.uint8], tuple[int, int] | None]:
    """An image after the protocol's steps, and the size to capture it in; None where the model's own will do."""
    wanted = resize_steps(steps)
    if not wanted:
        return image, None
    picture = Image.fromarray(image)
    for how, side in wanted:
        picture = picture.resize((side, side), _FILTERS[how])
    return np.asarray(picture), (wanted[-1][1], wanted[-1][1])


def _read(ds: xr.Dataset, space: str, protocol: Protocol) -> xr.DataArray:
    chosen: dict[str, Any] = {
        "layers": list(protocol.layers or ()),
        "timesteps": [protocol.timestep],
    }
    if protocol.heads == "softmax":
        return _softmax_by_head(ds[space].sel(layer=chosen["layers"], timestep=chosen["timesteps"]))
    if protocol.reduce == "sum":
        maps = heatmap(ds, space=space, reduce="mean", **chosen)
        pieces = len(maps.attrs["layers"]) * len(maps.attrs["timesteps"]) * len(maps.attrs["samples"])
        return maps * pieces
    return heatmap(ds, space=space, reduce=protocol.reduce, **chosen)


def _softmax_by_head(scores: xr.DataArray) -> xr.DataArray:
    """Softmax over concepts in every head, then the mean over heads and everything else, as the public baselines."""
    dims = [dim for dim in scores.dims if dim not in (schema.CONCEPT, schema.Y, schema.X)]
    ordered = scores.transpose(*dims, schema.CONCEPT, schema.Y, schema.X)
    values = softmax(ordered.to_numpy().astype(np.float32), -3).mean(tuple(range(len(dims))))
    return labelled(values, [str(one) for one in scores[schema.CONCEPT].to_numpy()])


def _of_tokens(maps: xr.DataArray, words: Sequence[str]) -> NDArray[np.float32]:
    """Maps (concept, y, x): the mean over the tokens of each word, which came in this order with "and" between them."""
    tokens = [str(token) for token in maps[schema.TOKEN].to_numpy()]
    values = maps.transpose(schema.TOKEN, schema.Y, schema.X).to_numpy()
    pieces = [token.replace("▁", "").replace("</w>", "").replace("Ġ", "").strip().lower() for token in tokens]
    found, place = [], 0
    for number, word in enumerate(words):
        plain = "".join(word.lower().split())
        held: list[int] = []
        text = ""
        while place < len(pieces) and len(text) < len(plain):
            text += pieces[place]
            held.append(place)
            place += 1
        if text != plain:
            raise InputError(
                f"the prompt's tokens end, or differ, at {word!r} (they are {', '.join(tokens[:40])}): the prompt "
                "space needs every word as tokens. Ask for fewer background words."
            )
        found.append(values[held].mean(0))
        if number < len(words) - 1:
            joint = ""
            while place < len(pieces) and len(joint) < len("and"):
                joint += pieces[place]
                place += 1
    return np.stack(found)


def _key(protocol: Protocol, space: str) -> str:
    """What is captured at once: the prompt's own tokens are of another prompt."""
    return canonical_json([space == schema.PROMPT, {name: getattr(protocol, name) for name in _ASKED}])
