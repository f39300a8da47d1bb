"""Summing a profiler's trace: whose kernels, on which stream."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.kernels import OURS, summed


def launched(correlation: int, at: float, thread: int = 1) -> dict[str, Any]:
    return {"cat": "cuda_runtime", "tid": thread, "ts": at, "args": {"correlation": correlation}}


def ran(correlation: int, at: float, took: float, stream: int = 7, category: str = "kernel") -> dict[str, Any]:
    args = {"correlation": correlation, "stream": stream}
    return {"cat": category, "name": f"kernel {correlation}", "ts": at, "dur": took, "args": args}


def annotated(start: float, took: float, thread: int = 1, name: str = OURS) -> dict[str, Any]:
    return {"cat": "user_annotation", "name": name, "tid": thread, "ts": start, "dur": took}


def test_a_kernel_belongs_to_who_launched_it() -> None:
    events = [
        annotated(100, 50),
        annotated(300, 10),
        annotated(0, 1000, name="other"),
        annotated(0, 1000, thread=2),
        launched(1, 90),
        launched(2, 120),  # inside the first annotation
        launched(3, 200),
        launched(4, 305),  # inside the second
        ran(1, 1000, 2000),
        ran(2, 3000, 500),
        ran(3, 4000, 1000),
        ran(4, 4500, 250, stream=42, category="gpu_memcpy"),
        {"cat": "cpu_op", "name": "aten::add", "tid": 1, "ts": 1, "dur": 2},
        {"ph": "M", "name": "process_name"},
    ]
    found = summed(events)
    assert found["owners"] == {"the model's": [3.0, 2], "ours": [0.75, 2]}
    assert found["streams"] == {
        "the model's, stream 7": [3.0, 2],
        "ours, stream 7": [0.5, 1],
        "ours, stream 42": [0.25, 1],
    }
    assert list(found["kernels"]) == ["kernel 2", "kernel 4"], "ours, the longest first"
    assert found["span"] == pytest.approx(4.0)
    assert found["busy"] == pytest.approx(3.5), "of stream 7"


def test_a_trace_without_a_device() -> None:
    found = summed([annotated(0, 10), {"cat": "cpu_op", "name": "aten::add", "tid": 1, "ts": 1, "dur": 2}])
    assert (found["owners"], found["span"], found["busy"]) == ({}, 0.0, 0.0)
