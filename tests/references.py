"""The official code's numbers of other families than FLUX.1; see tests/golden/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by key, and the configuration of the model they are of."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        return tensors, json.loads(file.metadata()["config"])


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest absolute value."""
    assert actual.shape == expected.shape
    return float((actual.double() - expected.double()).abs().max() / expected.double().abs().max())
