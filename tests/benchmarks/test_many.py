from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = 200
BOUND = 20
"""kB an image. An image that stayed in memory would take 196, its scores alone 30."""
_MEASURE = f"""
from tests.benchmarks import many
for figure in many.measure({COUNT}, evaluated=False):
    print(figure.unit, figure.value)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images() -> None:
    told = subprocess.run([sys.executable, "-c", _MEASURE], check=True, capture_output=True, text=True)
    figures = [line.split() for line in told.stdout.splitlines() if line.split()[0] in ("kB", "MB")]
    grown = [float(value) for unit, value in figures if unit == "kB"]
    assert len(grown) == 2, told.stderr
    assert max(grown) < BOUND, told.stderr
