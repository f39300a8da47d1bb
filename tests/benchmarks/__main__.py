"""Every figure of docs/performance.md that needs no GPU and no browser: ``make bench``.

Each benchmark runs in a process of its own, with nothing else beside it; a few minutes on two cores.
"""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.report import FILE, loaded, table

NAMES = ("overhead", "recording", "rounding", "identity", "starvation", "opening", "sweep", "interventions", "coverage")

if __name__ == "__main__":
    for name in NAMES:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], check=True, stdout=subprocess.DEVNULL)
    print(table([figure for name in NAMES for figure in loaded(name)]))
    print(f"\nwritten to {FILE}")
