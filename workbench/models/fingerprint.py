"""What a pipeline is: everything about its components that determines what it computes.

A pipeline object has no name that says which weights it holds: they may be quantised, fine-tuned or patched with
adapters. Its fingerprint stands for them in the content key of a run. It is taken anew each time (tens of
microseconds a tensor, so a fraction of a second for FLUX.1), because weights can be changed in place without a trace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open

from workbench.schema import ModelError

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

_SAMPLED: Final = 256
"""Elements of a tensor that are hashed, evenly spaced; adapters are hashed whole."""
_HISTORY: Final = frozenset({"transformers_version", "architectures", "dtype", "torch_dtype"})
"""Entries of a config that tell how a component was saved, like all that begin with ``_``; tensors have their dtype."""
_WRAPPED: Final = "_orig_mod"
"""Where torch.compile's wrapper keeps the module."""
_PER_CALL: Final = frozenset({"padding", "truncation"})
"""State of a tokenizer that each call sets anew."""


def fingerprint(pipe: DiffusionPipeline) -> dict[str, Any]:
    """Describe a pipeline so that two of them are described alike when they compute the same.

    Parameters
    ----------
    pipe
        Any diffusers pipeline: with models on any device, quantised, offloaded, with adapters.

    Returns
    -------
    dict
        Plain values, for a content key: ``class`` and for each of its ``components`` its class, its config, the hash
        of its weights (name, shape, dtype and 256 evenly spaced elements of every tensor; all elements of adapters),
        and the adapters that are active with their scales. Folders and library versions are left out.

    Raises
    ------
    ModelError
        When weights cannot be read, because a component is on the meta device.
    """
    return {
        "class": type(pipe).__name__,
        "components": {
            name: _component(name, component)
            for name, component in sorted(pipe.components.items())
            if component is not None
        },
    }


def _component(name: str, component: Any) -> dict[str, Any]:
    # A traced model runs uncompiled, so compiling it does not change what is recorded.
    component = getattr(component, _WRAPPED, component)
    described: dict[str, Any] = {"class": type(component).__name__, "config": _config(component)}
    if isinstance(component, torch.nn.Module):
        described |= {"weights": _weights(name, component), "adapters": _adapters(component)}
    return described


def _config(component: Any) -> Any:
    """The config of a model or scheduler; all of a tokenizer, its vocabulary as a hash."""
    if (backend := getattr(component, "backend_tokenizer", None)) is not None:
        state = {key: value for key, value in json.loads(backend.to_str()).items() if key not in _PER_CALL}
        return {"tokenizer": _hash(state), "length": component.model_max_length}
    if hasattr(component, "get_vocab"):
        return {"tokenizer": _hash(component.get_vocab()), "length": component.model_max_length}
    config = getattr(component, "config", component)
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    return _plain(config) if isinstance(config, Mapping) else {}


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


def _weights(name: str, module: torch.nn.Module) -> str:
    """Hash of every tensor of a model.

    Raises
    ------
    ModelError
        When some have no data.
    """
    tensors = module.state_dict() | _offloaded(module)
    tensors = {key.replace(f"{_WRAPPED}.", ""): tensor for key, tensor in tensors.items()}
    whole = tuple(_adapter_prefixes(module))
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        if not isinstance(tensor, torch.Tensor):  # extra state of a quantised layer
            digest.update(f"{key} {_plain(tensor)}\n".encode())
            continue
        if tensor.is_meta:
            raise ModelError(
                f"the weights of {name!r} cannot be identified: {key!r} has no data (it is on the meta device), so a "
                "stored run could not be named after this pipeline; pass store=False to keep the run in memory, or "
                "load the weights first"
            )
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        for part in _parts(tensor):
            digest.update(_elements(part, None if key.startswith(whole) else _SAMPLED))
    return digest.hexdigest()


def _named_modules(module: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Parts of a model by path, whether compiled or not."""
    for path, part in module.named_modules():
        yield path.replace(f"{_WRAPPED}.", ""), part


def _offloaded(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that sequential and group offload keep aside while a model's own have no data."""
    found = {}
    files: dict[int, tuple[str, str]] = {}
    for path, part in _named_modules(module):
        hook = getattr(part, "_hf_hook", None)
        for single in getattr(hook, "hooks", [hook]):
            kept = getattr(single, "weights_map", None)
            for name, tensor in part.named_parameters(recurse=False):
                if kept is not None and tensor.is_meta:
                    found[f"{path}.{name}".lstrip(".")] = kept[name]
        for hook in getattr(part.__dict__.get("_diffusers_hook"), "hooks", {}).values():
            group: Any = getattr(hook, "group", None)
            if getattr(group, "offload_to_disk_path", None) is not None:
                files |= {id(tensor): (group.safetensors_file_path, key) for tensor, key in group.tensor_to_key.items()}
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if id(tensor) in files:
            path, key = files[id(tensor)]
            with safe_open(path, "pt") as file:
                found[name] = file.get_tensor(key)
    return found


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The plain tensors that a tensor subclass, such as a quantised weight, is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
    else:
        yield tensor.detach().as_subclass(torch.Tensor)


def _elements(tensor: torch.Tensor, count: int | None) -> bytes:
    """Bytes of a tensor's elements, or of ``count`` evenly spaced ones, the first and the last among them."""
    flat = tensor.reshape(-1)
    if count is not None and flat.numel() > count:
        flat = flat[torch.arange(count, device=flat.device) * (flat.numel() - 1) // (count - 1)]
    # NumPy knows neither bfloat16 nor float8; bytes are enough.
    return flat.cpu().contiguous().view(torch.uint8).numpy().tobytes()


def _adapter_prefixes(module: torch.nn.Module) -> Iterator[str]:
    """Beginnings of the names of adapter tensors."""
    for path, part in _named_modules(module):
        for name in getattr(part, "adapter_layer_names", ()):
            yield f"{path}.{name}."


def _adapters(module: torch.nn.Module) -> list[list[Any]]:
    """What each adapted layer applies: its name, the active adapters with their scales, and those merged into it."""
    return [
        [
            path,
            [] if part.disable_adapters else [[name, _plain(part.scaling.get(name))] for name in part.active_adapters],
            list(part.merged_adapters),
        ]
        for path, part in _named_modules(module)
        if hasattr(part, "adapter_layer_names") and hasattr(part, "scaling")
    ]
