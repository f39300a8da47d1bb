"""The family that a notebook writes, installed as a distribution: one file, and no change elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import workbench as wb
from tests.distributions import install
from workbench.contract import Case, check
from workbench.models import plugins

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "06_your_own_model.ipynb"
MAGIC = "%%writefile toy_family.py\n"


def module() -> str:
    """The file that the notebook writes."""
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]]
    (written,) = (cell for cell in cells if cell.startswith(MAGIC))
    return written.removeprefix(MAGIC) + "\n"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, found through the entry point of its distribution."""
    monkeypatch.setattr(plugins, "_registered", [])
    install(tmp_path / "site", monkeypatch, "toy-family", {"toy_family": module()}, "toy_family:FAMILY", version="3.1")
    assert ("Toy", "toy-family 3.1") in [(family.name, family.origin) for family in wb.families()]
    yield sys.modules["toy_family"]
    del sys.modules["toy_family"]


@pytest.mark.parametrize("batch", [1, 2])
def test_it_keeps_the_contract(toy: Any, batch: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = toy.ToyTransformer(side=5, depth=2).eval()
        inputs = {
            "hidden_states": torch.randn(batch, 25, 3),
            "encoder_hidden_states": torch.randn(batch, 4, 3),
            "timestep": torch.linspace(0.3, 0.6, batch),
        }
    check(Case(model, inputs))
    with torch.no_grad(), wb.trace(model, torch.eye(3)[None]) as seen:
        model(**inputs)
    assert seen.scores["output"].shape == (2, batch, 4, 3, 25)
