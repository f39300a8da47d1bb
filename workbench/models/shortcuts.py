"""What diffusers can put on a transformer that keeps a forward pass from being the whole one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from workbench.schema import ModelError

_OTHERS = frozenset({"pyramid_attention_broadcast", "layer_skip", "smoothed_energy_guidance_utils", "context_parallel"})
"""Modules of `diffusers.hooks`, beside those named ``*_cache``, whose hooks skip, reuse or split work."""


def refuse_shortcuts(transformer: nn.Module, parts: Iterable[nn.Module] | None = None) -> None:
    """Refuse a transformer whose passes skip, reuse or split part of their work.

    Parameters
    ----------
    transformer : nn.Module
        A diffusers model.
    parts : iterable of nn.Module, optional
        All modules of it, where they are known already: finding them takes longer than looking at them.

    Raises
    ------
    ModelError
        If a cache such as ``FirstBlockCache``, layer skipping or context parallelism is on; it is named.
    """
    config = getattr(transformer, "_cache_config", None)
    if config is not None:
        name = type(config).__name__.removesuffix("Config")
        raise ModelError(
            f"{name} is enabled on the transformer: it leaves out or reuses part of a step, so layers would be missing "
            "or stale. Call transformer.disable_cache() first."
        )
    found = sorted(set(_shortcuts(transformer.modules() if parts is None else parts)))
    if found:
        raise ModelError(
            f"hooks of diffusers.hooks.{', '.join(found)} are on the transformer: they leave out, reuse or split part "
            "of a step, so layers would be missing or stale. Remove them, or load the model again without them."
        )


def _shortcuts(parts: Iterable[nn.Module]) -> Iterator[str]:
    for module in parts:
        # Most modules have no registry, and asking nn.Module for a missing attribute is slow.
        registry = module.__dict__.get("_diffusers_hook")
        for hook in () if registry is None else registry.hooks.values():
            package, _, kind = type(hook).__module__.rpartition(".")
            if package == "diffusers.hooks" and (kind.endswith("_cache") or kind in _OTHERS):
                yield kind
