from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from workbench.tiny.training import control


@pytest.mark.slow
def test_two_pipelines_are_scored_layer_by_layer(
    untrained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = str(untrained.config["_name_or_path"]), tmp_path / "control.json"
    monkeypatch.setattr(sys, "argv", ["control", folder, folder, str(path), "--scenes", "2", "--workers", "1"])
    monkeypatch.setattr(control, "workers", lambda folder, count: nullcontext())  # in this process
    control.main()
    found = json.loads(path.read_text())
    assert found["scenes"] == 2
    assert found["trained"] == found["control"], "the same pipeline twice"
    layers = len(untrained.transformer.transformer_blocks) + len(untrained.transformer.single_transformer_blocks)
    for space in control.SPACES:
        figures = found["control"]["layers"][space]
        assert len(figures) == layers
        assert all(0 <= one["words"] < found["control"]["baselines"]["oracle"]["words"] for one in figures)
