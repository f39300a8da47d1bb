"""The GPU benchmark takes every path on the CPU, and says what it could not measure."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.flux_gpu import EVERYTHING, NARROW, PLAIN, STAGES, Bench, figures, measure, rounds_of, told

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench() -> Bench:
    narrow = NARROW | {"num_layers": 2, "num_single_layers": 1, "attention_head_dim": 16, "axes_dims_rope": (4, 6, 6)}
    return Bench(narrow, "cpu", text=4)


@pytest.fixture(scope="module")
def found(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("out") / "flux_gpu.json"
    measured = measure(bench, file, minutes=10, counts={1: 1, 2: 1}, launches=1)
    assert json.loads(file.read_text()) == json.loads(json.dumps(measured)), "all of it is in the file"
    assert {path.name for path in file.parent.glob("*.gz")} == {"flux_gpu_plain.json.gz", "flux_gpu_everything.json.gz"}
    return measured


def test_every_stage_is_measured(found: dict[str, Any]) -> None:
    for passes in ("1", "2"):
        (each,) = found["rounds"][passes]
        assert set(each) == set(STAGES)
        for stage, parts in each.items():
            split = [parts.get(part, 0.0) for part in ("open", "passes", "flush", "close")]
            assert all(seconds >= 0 for seconds in split)
            assert sum(split) == pytest.approx(parts["all"]), stage
    assert set(found["launch"]) == {"plain", "traced", "plain, beside the writers"}
    assert set(found["peaks"]) == set(STAGES)
    assert set(found["profile"]) == {PLAIN, EVERYTHING}


def test_the_table_names_every_stage(found: dict[str, Any]) -> None:
    text = told(found)
    assert all(f"| {stage} |" in text for stage in STAGES)
    assert "not measured" not in text
    assert len(figures(found)) == 2 * (len(STAGES) - 1)


def test_what_there_was_no_time_for_is_said(found: dict[str, Any], bench: Bench) -> None:
    (cut,) = [*rounds_of(bench, 1, 1, until=time.monotonic() - 1)]
    assert cut == [{}]
    assert "not measured" in told(found | {"rounds": {"1": found["rounds"]["1"], "28": cut}})


def test_the_file_is_written_as_it_is_measured(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "flux_gpu.json"
    measured = measure(bench, file, minutes=0, counts={1: 1, 2: 2}, launches=0)
    assert file.exists()
    assert not any(measured["rounds"]["2"])
