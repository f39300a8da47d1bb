"""Where a GPU's time goes when FLUX.1 is captured: its real size, random bfloat16 weights, one stage more in each row.

``python -m tests.benchmarks.flux_gpu``, on a CUDA device with 48 GB or more, in at most nine minutes: runs of 4 and of
28 passes, all stages in turn in each round; the longest runs come last and are cut when the time is up. ``--rehearse``
takes every path on the CPU with a narrow model. Everything is written to one JSON file as it is measured.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from torch.profiler import ProfilerActivity, profile, record_function

from tests.benchmarks.kernels import OURS, summed
from tests.benchmarks.records import GRID, WORDS, template, variables
from tests.benchmarks.report import Figure, keep, ratio, table
from tests.benchmarks.starvation import beside_writers
from tests.tiny_random import concept_embeddings, flux_inputs
from workbench import store, trace
from workbench.models.hooks import Hooks
from workbench.recording.block_reading import Record
from workbench.recording.reducing import Layout, reduce_into
from workbench.recording.streaming import Stream
from workbench.store import partial as partial_run

FLUX_1: Final[dict[str, Any]] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
NARROW: Final = FLUX_1 | {"num_layers": 2, "num_single_layers": 1, "num_attention_heads": 1, "joint_attention_dim": 64}
TEXT: Final = 512
SPACES: Final = ("output", "cross")
FILE: Final = Path(__file__).parents[2] / "build" / "flux_gpu.json"

PLAIN: Final = "plain"
DROPPED: Final = "trace, records dropped"
REDUCED: Final = "+ rounding, sums and extremes on the device"
COPIED: Final = "+ copy to pinned memory"
UNCODED: Final = "+ writer without codec"
EVERYTHING: Final = "+ codec: everything"
ON_HOST: Final = "everything, rounding and sums on the host"
DEFAULT: Final = "everything, `output` of the default layers"
NAIVE: Final = "vectors copied to the host"
STAGES: Final = (PLAIN, DROPPED, REDUCED, COPIED, UNCODED, EVERYTHING, ON_HOST, DEFAULT, NAIVE)

Measured = dict[str, float]
"""Seconds of a run by part: ``all``, ``open``, ``passes``, ``flush``, ``close``, and ``processor`` over all threads."""


class _Dropped:
    """A writer that takes everything and keeps nothing."""

    def write(self, at: Mapping[str, int], values: Mapping[str, Any]) -> None:
        pass

    def commit(self) -> None:
        pass


class _NoCodec:
    """In place of the store's codec; nobody reads what is written."""

    def __init__(self, **options: Any) -> None:
        pass

    def encode(self, values: np.ndarray[Any, Any]) -> memoryview:
        return memoryview(values).cast("B")


class Bench:
    """FLUX.1's transformer with random weights, and the ways to run it."""

    def __init__(self, config: Mapping[str, Any], device: str, text: int = TEXT) -> None:
        self.device = device
        self.text = text
        self.config = config
        self.layers = range(config["num_layers"] + config["num_single_layers"])
        self.default_layers = range(config["num_layers"] // 2, config["num_layers"])
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
        try:
            with torch.device(device):
                self.model = FluxTransformer2DModel(**config).eval()
        finally:
            torch.set_default_dtype(default)
        self.concepts = concept_embeddings(len(WORDS), config["joint_attention_dim"])
        self.inputs = self._inputs(GRID, text)
        self.few = self._inputs((4, 4), 8)
        self.ways: dict[str, Callable[[int], Measured]] = {
            PLAIN: lambda passes: self._timed(passes, ExitStack()),
            DROPPED: lambda passes: self._traced(passes, lambda piece: None),
            REDUCED: lambda passes: self._traced(passes, self._reduce),
            COPIED: lambda passes: self._streamed(passes, writes=False),
            UNCODED: lambda passes: self._streamed(passes, codec=False),
            EVERYTHING: self._streamed,
            ON_HOST: lambda passes: self._streamed(passes, on_device=False),
            DEFAULT: lambda passes: self._streamed(passes, self.default_layers, SPACES[:1]),
            NAIVE: self._naive,
        }

    def _inputs(self, grid: tuple[int, int], text: int) -> dict[str, Any]:
        given = flux_inputs(self.model, grid=grid, text=text)
        return {
            name: value.to(self.device) if isinstance(value, torch.Tensor) else value for name, value in given.items()
        }

    def wait(self) -> None:
        """Until the device has nothing left to do."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    # --- a run, one stage more each --------------------------------------------------------------------------------
    def _timed(self, passes: int, inside: ExitStack, opened: Callable[[], None] = lambda: None) -> Measured:
        """Seconds of the parts of a run; ``opened`` enters what belongs to it, and leaving ``inside`` ends that."""
        self.wait()
        begin, processor = time.perf_counter(), time.process_time()
        marks = [begin]
        with torch.no_grad(), inside:
            opened()
            marks.append(time.perf_counter())
            for _ in range(passes):
                self.model(**self.inputs)
            self.wait()
            marks.append(time.perf_counter())
        self.wait()
        end = time.perf_counter()
        return {
            "all": end - begin,
            "open": marks[1] - marks[0],
            "passes": marks[2] - marks[1],
            "close": end - marks[2],
            "processor": time.process_time() - processor,
        }

    def _traced(self, passes: int, on_record: Callable[[Record], None], **options: Any) -> Measured:
        options = {"layers": self.layers, "spaces": SPACES} | options
        inside = ExitStack()
        return self._timed(
            passes,
            inside,
            lambda: inside.enter_context(trace(self.model, self.concepts, on_record=on_record, **options)),
        )

    def _reduce(self, piece: Record) -> None:
        layout = Layout(piece)
        device = next(iter(piece.tensors.values())).device
        reduce_into(layout.views(torch.empty(layout.size, dtype=torch.uint8, device=device)), piece)

    def _streamed(
        self,
        passes: int,
        layers: Sequence[int] = (),
        spaces: Sequence[str] = SPACES,
        *,
        writes: bool = True,
        codec: bool = True,
        on_device: bool = True,
    ) -> Measured:
        layers = layers or self.layers
        inside = ExitStack()
        flushed: list[float] = []
        sizes = {"dual": self.config["num_layers"], "single": self.config["num_single_layers"]}
        bare = template(passes, layers, heads=self.config["num_attention_heads"], **sizes) if writes else None

        def opened() -> None:
            writer: Any = _Dropped()
            if not codec:
                inside.enter_context(mock.patch.object(partial_run, "Zstd", _NoCodec))
            if writes:
                writer = inside.enter_context(store.writer("0a", bare, variables(spaces), home))
            inside.callback(lambda: flushed.append(time.perf_counter()))
            positions = {layer: index for index, layer in enumerate(layers)}
            stream = inside.enter_context(Stream(writer, GRID, positions, on_device=on_device))
            inside.callback(lambda: flushed.append(time.perf_counter()))
            inside.enter_context(
                trace(
                    self.model,
                    self.concepts,
                    layers=layers,
                    spaces=spaces,
                    on_record=lambda piece: stream.write(piece, 0, piece.step),
                    on_pass=lambda step: stream.commit(),
                )
            )

        with tempfile.TemporaryDirectory() as home:
            measured = self._timed(passes, inside, opened)
        before, after = flushed
        return measured | {"flush": after - before, "close": measured["close"] - (after - before)}

    def _naive(self, passes: int) -> Measured:
        kept: list[dict[str, torch.Tensor]] = []

        def keep_vectors(piece: Record) -> None:
            kept.append({name: vectors.cpu() for name, vectors in piece.vectors.items()})
            if len(kept) > len(self.layers):  # of one pass; of a whole run they would not fit
                kept.clear()

        return self._traced(passes, keep_vectors, spaces=SPACES[:1], vectors=True)

    # --- other figures ----------------------------------------------------------------------------------------------
    def peak(self, stage: str, passes: int = 2) -> int:
        """Most bytes of device memory that a run took."""
        if self.device != "cuda":
            return 0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self.ways[stage](passes)
        return torch.cuda.max_memory_allocated()

    def launches(self, rounds: int) -> dict[str, list[float]]:
        """Seconds of a pass of few tokens, nearly all of which are the host's launches: three ways, in turn."""

        def one_pass() -> None:
            with torch.no_grad():
                self.model(**self.few)
            self.wait()

        def alone() -> float:
            start = time.perf_counter()
            one_pass()
            return time.perf_counter() - start

        def traced() -> float:
            with trace(self.model, self.concepts, layers=self.layers, spaces=SPACES, on_record=lambda piece: None):
                return alone()

        ways = {"plain": alone, "traced": traced, "plain, beside the writers": lambda: beside_writers(one_pass)}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for index in range(rounds + 1):
            for name, way in ways.items():
                seconds = way()
                if index:  # the first round warms up
                    found[name].append(seconds)
        return found

    def profiles(self, folder: Path) -> dict[str, Any]:
        """Kernels of one pass, plain and with everything; the traces are kept beside the figures."""
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self.device == "cuda")
        found = {}
        for stage, file in ((PLAIN, "plain"), (EVERYTHING, "everything")):
            with _annotated(), profile(activities=activities) as profiler:
                self.ways[stage](1)
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / "trace.json"
                profiler.export_chrome_trace(str(path))
                text = path.read_bytes()
            (folder / f"flux_gpu_{file}.json.gz").write_bytes(gzip.compress(text))
            found[stage] = summed(json.loads(text)["traceEvents"])
        return found


@contextmanager
def _annotated() -> Iterator[None]:
    """Name everything that the hooks of a trace do, for the profiler."""

    def named(place: Callable[..., None]) -> Callable[..., None]:
        def placed(hooks: Hooks, module: Any, callback: Callable[..., None]) -> None:
            def called(*args: Any) -> None:
                with record_function(OURS):
                    callback(*args)

            place(hooks, module, called)

        return placed

    with mock.patch.object(Hooks, "before", named(Hooks.before)), mock.patch.object(Hooks, "after", named(Hooks.after)):
        yield


Round = dict[str, Measured]


def rounds_of(bench: Bench, passes: int, count: int, until: float) -> Iterator[list[Round]]:
    """Every stage in turn, again and again, until the time is up; what was measured so far, after each of them.

    A round begins with the plain run, and goes through the others forwards and backwards in turn.
    """
    found: list[Round] = []
    taken: dict[str, float] = {}
    for index in range(count):
        found.append({})
        others = STAGES[1:] if index % 2 == 0 else STAGES[:0:-1]
        for stage in (PLAIN, *others):
            if time.monotonic() + taken.get(stage, 0.0) > until:
                continue
            begin = time.monotonic()
            found[-1][stage] = bench.ways[stage](passes)
            taken[stage] = time.monotonic() - begin
        yield found


def measure(bench: Bench, file: Path, *, minutes: float, counts: Mapping[int, int], launches: int) -> dict[str, Any]:
    """Measure everything for which there is time, and write it down as it comes.

    Parameters
    ----------
    file
        The JSON file.
    minutes
        For everything.
    counts
        Rounds for each number of passes.
    launches
        Rounds of launch times.
    """
    until = time.monotonic() + 60 * minutes
    name = torch.cuda.get_device_name() if bench.device == "cuda" else "CPU"
    found: dict[str, Any] = {
        "device": name,
        "torch": version("torch"),
        "diffusers": version("diffusers"),
        "size": f"{len(bench.layers)} blocks, {bench.config['num_attention_heads']} heads, "
        f"{GRID[0] * GRID[1]} patches, {bench.text} text tokens, {len(WORDS)} concepts",
        "rounds": {},
    }
    file.parent.mkdir(parents=True, exist_ok=True)

    def written(part: str, value: Any) -> None:
        found[part] = value
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{part}: {60 * minutes - (until - time.monotonic()):.0f} s so far", file=sys.stderr, flush=True)

    few, *more = sorted(counts)
    for way in bench.ways.values():
        way(1)
    for rounds in rounds_of(bench, few, counts[few], until):
        written("rounds", {str(few): rounds})
    written("peaks", {stage: bench.peak(stage) for stage in STAGES})
    written("launch", bench.launches(launches))
    written("profile", bench.profiles(file.parent))
    for passes in more:
        for rounds in rounds_of(bench, passes, counts[passes], until):
            written("rounds", found["rounds"] | {str(passes): rounds})
    return found


def ratios(found: Mapping[str, Any], passes: str, stage: str) -> list[tuple[float, float]]:
    """Seconds of the plain run and of a stage, by round in which both were measured."""
    rounds = found["rounds"].get(passes, [])
    return [(each[PLAIN]["all"], each[stage]["all"]) for each in rounds if PLAIN in each and stage in each]


def told(found: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    numbers = list(found["rounds"])
    head = ["stage", *(f"{passes} pass{'es' * (passes != '1')} / plain" for passes in numbers), "a pass more"]
    head += ["open", "flush", "close", "processor, a pass", "peak GPU memory"]
    lines = [f"{found['device']}, torch {found['torch']}: {found['size']}", ""]
    lines += [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for stage in STAGES:
        cells = [stage]
        for passes in numbers:
            pairs = ratios(found, passes, stage)
            if not pairs:
                cells.append("not measured")
            elif stage == PLAIN:
                cells.append(f"{np.median([seconds for seconds, _ in pairs]):.2f} s")
            else:
                figure = ratio(stage, pairs, None)
                cells.append(f"{figure.value:.3f} ({figure.low:.3f} – {figure.high:.3f})")
        cells.append(_slope(found, stage))
        most = found["rounds"][numbers[-1]]
        of_stage = [each[stage] for each in most if stage in each]
        cells += [
            _middle([1000 * one.get(part, np.nan) for one in of_stage], "ms") for part in ("open", "flush", "close")
        ]
        cells.append(_middle([1000 * one["processor"] / int(numbers[-1]) for one in of_stage], "ms"))
        cells.append(f"{found['peaks'][stage] / 2**30:.2f} GiB" if "peaks" in found else "")
        lines.append(f"| {' | '.join(cells)} |")
    if "launch" in found:
        lines += ["", "| host time of a pass with few tokens | median | least | most |", "| --- | ---: | ---: | ---: |"]
        for name, seconds in found["launch"].items():
            ms = [1000 * second for second in seconds]
            lines.append(f"| {name} | {np.median(ms):.1f} ms | {min(ms):.1f} ms | {max(ms):.1f} ms |")
    if "profile" in found:
        lines += ["", "| kernels and copies of one pass | time | number |", "| --- | ---: | ---: |"]
        for stage, summary in found["profile"].items():
            for name, (milliseconds, number) in (summary["owners"] | summary["streams"]).items():
                lines.append(f"| {stage}: {name} | {milliseconds:.1f} ms | {number} |")
            lines.append(f"| {stage}: busiest stream, of {summary['span']:.1f} ms | {summary['busy']:.1f} ms | |")
    return "\n".join(lines)


def _slope(found: Mapping[str, Any], stage: str) -> str:
    """Milliseconds of one pass more, from the shortest and the longest runs."""
    numbers = list(found["rounds"])
    middles = {
        int(passes): np.median(seconds)
        for passes in numbers
        if (seconds := [each[stage]["all"] for each in found["rounds"][passes] if stage in each])
    }
    if len(middles) < 2:
        return ""
    few, many = min(middles), max(middles)
    return f"{1000 * (middles[many] - middles[few]) / (many - few):.1f} ms"


def _middle(values: Sequence[float], unit: str) -> str:
    return f"{np.median(values):.0f} {unit}" if values and np.isfinite(values).all() else ""


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """The ratios, with the target of what is captured and kept."""
    targets = {EVERYTHING: 1.03}
    return [
        ratio(f"{stage} / plain, {passes} passes", pairs, targets.get(stage), f"{found['size']}, {found['device']}")
        for passes in found["rounds"]
        for stage in STAGES[1:]
        if (pairs := ratios(found, passes, stage))
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="a narrow model on the CPU: does every path run?")
    parser.add_argument("--minutes", type=float, default=9, help="time for everything; the longest runs are cut")
    parser.add_argument("--out", type=Path, default=FILE, help="the JSON file; profiler traces are put beside it")
    options = parser.parse_args()
    if options.rehearse:
        done = measure(Bench(NARROW, "cpu", text=16), options.out, minutes=1, counts={1: 1, 2: 1}, launches=1)
    elif not torch.cuda.is_available():
        sys.exit("no CUDA device: run this on a machine with one (48 GB or more), or --rehearse the script on the CPU")
    else:
        bench = Bench(FLUX_1, "cuda")
        done = measure(bench, options.out, minutes=options.minutes, counts={4: 5, 28: 4}, launches=10)
        keep("flux_gpu", figures(done))
        print(table(figures(done)))
    print(told(done))
