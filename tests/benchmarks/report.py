"""Figures of a benchmark: how they are summarised, printed and kept."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

FILE = Path(__file__).parents[2] / "benchmarks.json"


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes
    ----------
    name : str
        What was measured.
    value : float
        The number: a median where there were several rounds.
    unit : str
        ``"x"`` for a ratio, otherwise as it stands.
    target : float or None
        What it must not exceed; None for a figure that is only told.
    low, high : float or None
        95 % interval of a ratio's median, least and most of other figures.
    detail : str
        How it was measured, or what it is made of.
    """

    name: str
    value: float
    unit: str = "x"
    target: float | None = None
    low: float | None = None
    high: float | None = None
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.value <= self.target


def ratio(name: str, pairs: Sequence[tuple[float, float]], target: float | None, detail: str = "") -> Figure:
    """The median of second / first over interleaved rounds, with the bootstrap interval of that median.

    Parameters
    ----------
    name, target, detail
        As in :class:`Figure`.
    pairs
        Seconds of the two things that are compared, one pair a round.
    """
    each = np.array([second / first for first, second in pairs])
    draws = np.random.default_rng(0).choice(each, size=(10_000, len(each)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    first, second = np.median(np.array(pairs), axis=0)
    told = f"{len(pairs)} rounds, {first:.3g} s against {second:.3g} s"
    return Figure(name, float(np.median(each)), "x", target, float(low), float(high), f"{detail}; {told}".lstrip("; "))


def interleaved(
    first: Callable[[], float], second: Callable[[], float], rounds: int, warm_up: int = 1
) -> list[tuple[float, float]]:
    """Seconds of two functions called in turn; the one that begins alternates."""
    for _ in range(warm_up):
        first(), second()
    pairs = []
    for index in range(rounds):
        if index % 2:
            after, before = second(), first()
        else:
            before, after = first(), second()
        pairs.append((before, after))
    return pairs


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| figure | measured | interval | target | |", "| --- | ---: | ---: | ---: | --- |"]
    for figure in figures:
        interval = "" if figure.low is None or figure.high is None else f"{figure.low:.3f} – {figure.high:.3f}"
        target = "" if figure.target is None else f"≤ {figure.target:g} {figure.unit}"
        verdict = {True: "met", False: "**missed**", None: ""}[figure.reached]
        lines.append(f"| {figure.name} | {figure.value:.3f} {figure.unit} | {interval} | {target} | {verdict} |")
    return "\n".join(lines)


def keep(name: str, figures: Sequence[Figure]) -> None:
    """Write the figures to ``benchmarks.json``, beside those of other benchmarks."""
    content = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    content[name] = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": psutil.cpu_count(),
            "memory": psutil.virtual_memory().total,
            "python": platform.python_version(),
            "torch": version("torch"),
            "diffusers": version("diffusers"),
        },
        "figures": [asdict(figure) | {"reached": figure.reached} for figure in figures],
    }
    FILE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def loaded(name: str) -> list[Figure]:
    """The figures of a benchmark that ``benchmarks.json`` holds."""
    figures = json.loads(FILE.read_text(encoding="utf-8"))[name]["figures"]
    return [Figure(**{key: value for key, value in figure.items() if key != "reached"}) for figure in figures]


def run(name: str, measure: Callable[[], Sequence[Figure]]) -> None:
    """Measure, print the table and keep it: the main program of a benchmark."""
    figures = measure()
    print(table(figures))
    keep(name, figures)
