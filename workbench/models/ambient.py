"""State of the process that decides numbers: precision switches, autocast, dispatch modes."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import torch
from diffusers.models import attention_dispatch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from workbench.models.foreign_code import name_of

_DEVICES: Final = ("cpu", "cuda", "mps", "xpu")
_PRECISIONS: Final = ("cuda.matmul", "cudnn.conv", "mkldnn.matmul", "mkldnn.conv")
"""Where torch may compute float32 in less; a switch that says ``none`` follows the one above it."""
_REDUCTIONS: Final = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)


def ambient() -> dict[str, Any]:
    """What is switched on around a call, plain values.

    Returns
    -------
    dict
        ``autocast`` (dtype by device, where it is on), ``default_dtype``, ``float32`` (precision of products and
        convolutions by backend), ``reductions`` (of 16-bit products), ``attention`` (diffusers' choice of a kernel).
    """
    matmul = torch.backends.cuda.matmul
    return {
        "autocast": {
            device: str(torch.get_autocast_dtype(device)) for device in _DEVICES if torch.is_autocast_enabled(device)
        },
        "default_dtype": str(torch.get_default_dtype()),
        "float32": _float32(),
        "reductions": {name: str(getattr(matmul, name)) for name in _REDUCTIONS if hasattr(matmul, name)},
        "attention": attention_dispatch._AttentionBackendRegistry.get_active_backend()[0].value,
    }


def foreign_modes() -> list[str]:
    """Active modes that may replace any operation, by class; those that choose a device aside."""
    modes = [*_get_current_function_mode_stack(), *_get_current_dispatch_mode_stack()]
    return [name_of(type(mode)) for mode in modes if not isinstance(mode, DeviceContext)]


def _float32() -> dict[str, str]:
    backends = torch.backends
    if not hasattr(backends, "fp32_precision"):  # torch before 2.9
        found = {"matmul": torch.get_float32_matmul_precision(), "cudnn": str(backends.cudnn.allow_tf32)}
        return found | {"cuda": str(backends.cuda.matmul.allow_tf32)}

    def effective(path: str) -> str:
        while (value := str(attrgetter(f"{path}.fp32_precision".lstrip("."))(backends))) == "none" and path:
            path = path.rpartition(".")[0]
            if path == "cuda":  # has no switch of its own
                path = ""
        return "ieee" if value == "none" else value

    return {path: effective(path) for path in _PRECISIONS}
