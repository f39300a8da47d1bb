"""What decides a pipeline's numbers beside configs and weights: options set since it was built, and foreign code.

Options are plain attributes of every object that takes part: modules, attention processors, image processors, the
pipeline itself. They are described for the key of a run. Hooks, replaced methods and classes of one's own are code that
no key can hold, so runs with them are not stored; offloading's own hooks, which change no number, are known by name.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from workbench.models.ambient import foreign_modes
from workbench.models.checksums import checksum
from workbench.models.foreign_code import foreign_code, is_library, name_of

COMPILED: Final = "_orig_mod"
"""Where torch.compile's wrapper keeps the module."""

_OFFLOADING: Final = frozenset(
    {
        "accelerate.hooks.AlignDevicesHook",
        "accelerate.hooks.CpuOffload",
        "accelerate.hooks.SequentialHook",
        "diffusers.hooks.group_offloading.GroupOffloadingHook",
        "diffusers.hooks.group_offloading.LazyPrefetchGroupOffloadingHook",
        "diffusers.hooks.group_offloading.LayerExecutionTrackerHook",
    }
)
"""Hooks that move tensors and change no number."""
_COLLECTING: Final = frozenset(
    f"transformers.utils.output_capturing.install_output_{spelt}_hook.<locals>.output_capturing_hook"
    for spelt in ("capuring", "capturing")  # in versions of transformers
)
"""A hook that models of transformers keep once they were asked for hidden states; it puts outputs aside."""
_HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks")
_OF_TORCH: Final = frozenset({*vars(nn.Module()), "_compiled_call_impl", "_hook_handles"}) - {"training"}
"""Attributes every module has; tensors, parts and hooks are looked at by themselves."""
_BOOKKEEPING: Final = frozenset(
    {
        # how a component was loaded and may be split, saved or trained
        "name_or_path",
        "warnings_issued",
        "hf_device_map",
        "hf_quantizer",
        "generation_config",
        "gradient_checkpointing",
        "_gradient_checkpointing_func",
        "all_tied_weights_keys",
        "_is_hf_initialized",
        "_is_torch_compile",
        "_use_kernels",
        "_weight_conversions",
        "_hf_peft_config_loaded",
        "_internal_dict",
        "_keep_in_fp32_modules",
        "_keep_in_fp32_modules_strict",
        "_no_split_modules",
        "_skip_keys_device_placement",
        "_keys_to_ignore_on_load_unexpected",
        "_keys_to_ignore_on_load_missing",
        "_keys_to_ignore_on_save",
        "_tp_plan",
        "_ep_plan",
        "_pp_plan",
        "_fsdp_plan",
        # described as configs and adapters
        "config",
        "peft_config",
        # of offloading
        "_hf_hook",
        "_old_forward",
        "_diffusers_hook",
        "forward",
        # what a pipeline's call leaves behind
        "_guidance_scale",
        "_skip_layer_guidance_scale",
        "_clip_skip",
        "_attention_kwargs",
        "_joint_attention_kwargs",
        "_current_timestep",
        "_num_timesteps",
        "_interrupt",
        "_cfg_normalization",
        "_cfg_truncation",
        "_progress_bar_config",
        "_all_hooks",
        "_offload_gpu_id",
        "_offload_device",
        # what a text encoder that was asked for hidden states leaves behind
        "_output_capturing_hooks_installed",
        # what an autoencoder of videos leaves behind
        "_conv_num",
        "_conv_idx",
        "_feat_map",
        "_enc_conv_num",
        "_enc_conv_idx",
        "_enc_feat_map",
        # what a schedule leaves behind
        "timesteps",
        "sigmas",
        "num_inference_steps",
        "_step_index",
        "_begin_index",
        # what a guider leaves behind
        "_step",
        "_timestep",
        "_num_inference_steps",
        "_count_prepared",
        "momentum_buffer",
    }
)
_TABLES: Final = {"diffusers.models.transformers.transformer_z_image.RopeEmbedder": "freqs_cis"}
"""Attributes that the first pass fills from others of the same object, by class."""
_DEPTH: Final = 4
"""Objects within objects that are looked into."""


@dataclass
class Runtime:
    """What was found.

    Attributes
    ----------
    state : dict of str to str
        By component, a hash of the classes and options of all its parts.
    foreign : list of str
        Code that no key can hold; empty when the pipeline can be named.
    """

    state: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)


def runtime(pipe: Any) -> Runtime:
    """Describe the options of a pipeline and all its components, and find foreign code.

    Parameters
    ----------
    pipe
        Any diffusers pipeline.
    """
    found = Runtime()
    classes: set[type] = {type(pipe)}
    components = {name: component for name, component in pipe.components.items() if component is not None}
    own = {name: value for name, value in vars(pipe).items() if name not in pipe.components}
    described = _Description("the pipeline", classes, found.foreign)
    found.state[""] = _hash(described.attributes(own))
    for name, component in components.items():
        described = _Description(name, classes, found.foreign)
        if isinstance(component, nn.Module):
            found.state[name] = _hash([described.module(path, part) for path, part in parts_of(component)])
        else:
            classes.add(type(component))
            # Tokenizers keep much that only says where they came from; their fingerprint has what they compute with.
            options = described.attributes(vars(component))
            found.state[name] = "" if hasattr(component, "get_vocab") else _hash(options)
    found.foreign += foreign_code(classes)
    found.foreign += [f"the mode {mode} is active" for mode in foreign_modes()]
    everywhere = torch.nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        found.foreign.append("a forward hook is on all modules of the process")
    return found


def parts_of(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Parts of a model by path, whether compiled or not."""
    for path, part in module.named_modules():
        if COMPILED not in part._modules:
            yield path.replace(f"{COMPILED}.", "").removesuffix(COMPILED).rstrip("."), part


class _Description:
    """Describes the objects of one component, and notes what cannot be described."""

    def __init__(self, component: str, classes: set[type], foreign: list[str]) -> None:
        self._component = component
        self._classes = classes
        self._foreign = foreign

    def module(self, path: str, part: nn.Module) -> list[Any]:
        """Class and options of a part of a model; its hooks and replaced methods are noted."""
        self._classes.add(type(part))
        for kind in _HOOKS:
            for hook in getattr(part, kind).values():
                if not (name_of(hook) in _COLLECTING and is_library(hook)):
                    self._refuse(path, f"has a forward hook, {name_of(hook)}")
        hooks = self._wrappers(path, part)
        forward = part.__dict__.get("forward")
        if forward is not None and not (hooks and is_library(forward)):
            self._refuse(path, f"runs another forward, {name_of(_function(forward))}")
        others = [self._object(hook, path, 0) for hook in hooks if name_of(type(hook)) not in _OFFLOADING]
        return [path, name_of(type(part)), self.attributes(vars(part), path), others]

    def attributes(self, attributes: Mapping[str, Any], path: str = "", depth: int = 0) -> dict[str, Any]:
        """Options among the attributes of an object."""
        return {
            name: self._value(value, f"{path}.{name}".lstrip("."), depth)
            for name, value in attributes.items()
            if name not in _BOOKKEEPING and name not in _OF_TORCH
        }

    def _value(self, value: Any, path: str, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return repr(value)
        if isinstance(value, torch.Tensor):
            return ["tensor", str(value.dtype), list(value.shape), "" if value.is_meta else checksum(value)]
        if isinstance(value, np.ndarray):
            return ["array", str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        if isinstance(value, torch.dtype | torch.Size | Enum | PurePath | np.generic):
            return str(value)
        if isinstance(value, torch.device):  # where, not what
            return "device"
        if isinstance(value, Mapping):
            return {str(key): self._value(item, path, depth) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item, path, depth) for item in value]
        if isinstance(value, set | frozenset):
            return sorted(str(self._value(item, path, depth)) for item in value)
        if isinstance(value, type):
            return name_of(value)
        if isinstance(value, FunctionType | MethodType | BuiltinFunctionType | functools.partial):
            return self._callable(value, path)
        return self._object(value, path, depth)

    def _callable(self, value: Any, path: str) -> str:
        if not is_library(value):
            self._refuse(path, f"is {name_of(_function(value))}")
        return name_of(_function(value))

    def _object(self, value: Any, path: str, depth: int) -> Any:
        cls = type(value)
        self._classes.add(cls)
        if isinstance(value, nn.Module) or depth == _DEPTH or not hasattr(value, "__dict__"):
            return name_of(cls)
        config = getattr(value, "config", None)
        plain = dict(config) if isinstance(config, Mapping) else {}
        public = {key: item for key, item in plain.items() if not key.startswith("_")}
        own = {name: item for name, item in vars(value).items() if name != _TABLES.get(name_of(cls))}
        return [name_of(cls), self.attributes({**public, **own}, path, depth + 1)]

    def _wrappers(self, path: str, part: nn.Module) -> list[Any]:
        """Hooks of accelerate and diffusers, which replace ``forward``; what they replaced is looked at too."""
        hook = part.__dict__.get("_hf_hook")
        hooks = [] if hook is None else list(getattr(hook, "hooks", [hook]))
        originals = [part.__dict__.get("_old_forward")]
        registry = part.__dict__.get("_diffusers_hook")
        if registry is not None:
            hooks += registry.hooks.values()
            originals += [reference.original_forward for reference in registry._fn_refs]
        for original in originals:
            if original is not None and not is_library(original):
                self._refuse(path, f"runs another forward, {name_of(_function(original))}")
        return hooks

    def _refuse(self, path: str, why: str) -> None:
        where = f"{self._component}.{path}".rstrip(".") if path else self._component
        self._foreign.append(f"{where} {why}")


def _function(value: Any) -> Any:
    """The function of a method or a partial."""
    while isinstance(value, MethodType | functools.partial):
        value = value.__func__ if isinstance(value, MethodType) else value.func
    return value


def _hash(value: Sequence[Any] | Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
