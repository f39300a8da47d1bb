"""What a pipeline is: everything about its components, and around them, that determines what it computes.

A pipeline object has no name that says which weights it holds: they may be quantised, fine-tuned or patched with
adapters, and edited in place without a trace. Its fingerprint stands for them in the content key of a run. It is taken
anew each time, over every element of every tensor, where the tensors are and at about the speed of memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors import safe_open
from tqdm.auto import tqdm

from workbench.models.ambient import ambient
from workbench.models.checksums import checksum, size_of
from workbench.models.family import adapter_class, brought_to
from workbench.models.foreign_code import is_library, name_of
from workbench.models.known import Family
from workbench.models.plugins import PROCESS_ONLY, identity
from workbench.models.runtime import COMPILED, parts_of, runtime
from workbench.schema import ModelError

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

_HISTORY: Final = frozenset({"transformers_version", "architectures", "dtype", "torch_dtype"})
"""Entries of a config that tell how a component was saved, like all that begin with ``_``; tensors have their dtype."""
_PER_CALL: Final = frozenset({"padding", "truncation"})
"""State of a tokenizer that each call sets anew."""
_TOKENIZER: Final = (
    "model_max_length",
    "padding_side",
    "truncation_side",
    "special_tokens_map",
    "split_special_tokens",
)
"""What a tokenizer's Python side decides."""
_PATIENCE: Final = 2.0
"""Seconds after which a bar says what takes so long."""


def fingerprint(pipe: DiffusionPipeline, progress: bool = True) -> dict[str, Any]:
    """Describe a pipeline so that two of them are described alike when they compute the same.

    Parameters
    ----------
    pipe
        Any diffusers pipeline: with models on any device, quantised, offloaded, with adapters.
    progress
        Show a bar when it takes longer than two seconds.

    Returns
    -------
    dict
        Plain values, for a content key: ``class``, ``options`` of the pipeline itself, ``ambient`` switches of the
        process, and for each of its ``components`` its class, its config, the ``options`` set on its parts, the hash of
        its weights (name, shape, dtype and every element of every tensor), and the adapters that are active with their
        scales; and the ``families`` of other distributions that serve it. Folders, devices and versions of libraries
        are left out.

    Raises
    ------
    ModelError
        When weights cannot be read, because a component is on the meta device; or when code takes part that no key can
        hold: hooks, replaced methods, classes, attention processors or families of one's own.
    """
    found = runtime(pipe)
    brought = brought_to(pipe)
    found.foreign += chain.from_iterable(map(_foreign_family, brought))
    if found.foreign:
        more = f", and {len(found.foreign) - 3} more" if len(found.foreign) > 3 else ""
        raise ModelError(
            f"a run of this pipeline cannot be stored: {'; '.join(found.foreign[:3])}{more}. What such code computes "
            "cannot be part of a run's name, so the run could be taken for another later: pass store=False to keep it "
            "in memory, or take the code off the pipeline first"
        )
    components = {name: component for name, component in sorted(pipe.components.items()) if component is not None}
    tensors = {
        name: _tensors(name, component)
        for name, component in components.items()
        if isinstance(component, torch.nn.Module)
    }
    size = sum(size_of(value) for each in tensors.values() for value in each.values() if torch.is_tensor(value))
    bar = tqdm(total=size, desc="reading all weights", unit="B", unit_scale=True, delay=_PATIENCE, disable=not progress)
    with bar:
        return {
            "class": type(pipe).__name__,
            "options": found.state[""],
            "ambient": ambient(),
            "components": {
                name: _component(component, tensors.get(name), found.state[name], bar)
                for name, component in components.items()
            },
        } | ({"families": [identity(family) for family in brought]} if brought else {})


def _foreign_family(family: Family) -> Iterator[str]:
    """Why no key can hold a family of another distribution: its adapters decide numbers, and are no library's."""
    if family.distribution == PROCESS_ONLY:
        yield f"the family {family.name!r} was registered in this process, and is no installed distribution's"
        return
    sides: dict[Literal["adapter", "pipeline_adapter"], tuple[str, ...]]
    sides = {"adapter": family.transformers, "pipeline_adapter": family.pipelines}
    for side, served in sides.items():
        cls = adapter_class(family, side) if served else object
        if own := [name_of(base) for base in cls.__mro__ if not is_library(base)]:
            yield (
                f"the adapter {own[0]} of {family.origin} is code that can change under one version: install the "
                "distribution itself, not a link to its sources"
            )


def _component(component: Any, tensors: Mapping[str, Any] | None, options: str, bar: Any) -> dict[str, Any]:
    # A traced model runs uncompiled, so compiling it does not change what is recorded.
    component = getattr(component, COMPILED, component)
    described = {"class": type(component).__name__, "config": _config(component), "options": options}
    if tensors is not None:
        described |= {"weights": _weights(tensors, bar), "adapters": _adapters(component)}
    return described


def _config(component: Any) -> Any:
    """The config of a model or scheduler; all of a tokenizer, its vocabulary as a hash."""
    if hasattr(component, "get_vocab"):
        backend = getattr(component, "backend_tokenizer", None)
        state = component.get_vocab() if backend is None else json.loads(backend.to_str())
        kept = {key: value for key, value in state.items() if backend is None or key not in _PER_CALL}
        return {"tokenizer": _hash(kept)} | {name: _plain(getattr(component, name, None)) for name in _TOKENIZER}
    config = getattr(component, "config", component)
    attention = getattr(config, "_attn_implementation", None)
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    return _plain(config) | {"attention": attention} if isinstance(config, Mapping) else {}


def _plain(value: Any) -> Any:
    """The value as JSON would hold it; what JSON cannot hold, such as a dtype, as text."""
    if isinstance(value, Mapping):
        kept = {str(key): item for key, item in value.items() if key not in _HISTORY}
        return {key: _plain(item) for key, item in kept.items() if not key.startswith("_")}
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    if hasattr(value, "to_dict"):  # the config of a quantisation
        return {"class": type(value).__name__, **_plain(value.to_dict())}
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _tensors(name: str, module: torch.nn.Module) -> dict[str, Any]:
    """Every tensor of a model, and the extra state of quantised layers, by name.

    Raises
    ------
    ModelError
        When some have no data.
    """
    # Buffers that are not saved are not in the state, but count as much.
    found = dict(module.named_buffers()) | module.state_dict() | _offloaded(module)
    for key, tensor in found.items():
        if torch.is_tensor(tensor) and tensor.is_meta:
            raise ModelError(
                f"the weights of {name!r} cannot be identified: {key!r} has no data (it is on the meta device), so a "
                "stored run could not be named after this pipeline; pass store=False to keep the run in memory, or "
                "load the weights first"
            )
    return {key.replace(f"{COMPILED}.", ""): tensor for key, tensor in found.items()}


def _weights(tensors: Mapping[str, Any], bar: Any) -> str:
    """Hash of every tensor of a model: name, shape, type and all elements."""
    digest = hashlib.sha256()
    known: dict[tuple[Any, ...], str] = {}  # tied weights have several names
    for key, tensor in sorted(tensors.items()):
        if not torch.is_tensor(tensor):  # extra state of a quantised layer
            digest.update(f"{key} {_plain(tensor)}\n".encode())
            continue
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or not tensor.numel():
            seen = checksum(tensor, bar.update)
        elif (found := known.get(place)) is not None:
            seen = found
            bar.update(tensor.nbytes)
        else:
            seen = known[place] = checksum(tensor, bar.update)
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype} {_quantisation(tensor)} {seen}\n".encode())
    return digest.hexdigest()


def _quantisation(tensor: torch.Tensor) -> str:
    """What a quantised tensor says of itself beside its parts, such as its block size."""
    return str(_plain(tensor.__tensor_flatten__()[1])) if hasattr(tensor, "__tensor_flatten__") else ""


def _offloaded(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that sequential and group offload keep aside while a model's own have no data."""
    found = {}
    files: dict[int, tuple[str, str]] = {}
    for path, part in parts_of(module):
        hook = getattr(part, "_hf_hook", None)
        for single in getattr(hook, "hooks", [hook]):
            kept = getattr(single, "weights_map", None)
            if kept is not None:
                for name, tensor in part.named_parameters(recurse=False):
                    if tensor.is_meta:
                        found[f"{path}.{name}".lstrip(".")] = kept[name]
        for hook in getattr(part.__dict__.get("_diffusers_hook"), "hooks", {}).values():
            group: Any = getattr(hook, "group", None)
            if getattr(group, "offload_to_disk_path", None) is not None:
                files |= {id(tensor): (group.safetensors_file_path, key) for tensor, key in group.tensor_to_key.items()}
    for name, tensor in chain(module.named_parameters(), module.named_buffers()) if files else ():
        if id(tensor) in files:
            path, key = files[id(tensor)]
            with safe_open(path, "pt") as file:
                found[name] = file.get_tensor(key)
    return found


def _adapters(module: torch.nn.Module) -> list[list[Any]]:
    """What each adapted layer applies: its name, the active adapters with their scales, and those merged into it."""
    return [
        [
            path,
            [] if part.disable_adapters else [[name, _plain(part.scaling.get(name))] for name in part.active_adapters],
            list(part.merged_adapters),
        ]
        for path, part in parts_of(module)
        if hasattr(part, "adapter_layer_names") and hasattr(part, "scaling")
    ]
