"""Where a GPU's time goes, from a profiler's trace: whose kernels, on which stream, and how long it waits."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

OURS = "workbench"
"""Name of the annotation around everything that is ours."""

_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


def summed(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Milliseconds of kernels and copies, by owner and stream, from the events of a chrome trace.

    A kernel is ours when it was launched inside an annotation :data:`OURS` on the same thread.

    Returns
    -------
    dict
        ``owners``: milliseconds and number by ``"the model's"`` / ``"ours"``; ``streams``: by owner and stream;
        ``kernels``: ours, the longest first; ``span``, ``busy``: milliseconds from the first to the last, and of these
        during which the stream that has most to do was busy.
    """
    device, launches, ranges = [], {}, defaultdict(list)
    for event in events:
        category, args = event.get("cat"), event.get("args", {})
        if category in _DEVICE:
            device.append(event)
        elif category in ("cuda_runtime", "cuda_driver") and "correlation" in args:
            launches[args["correlation"]] = (event["tid"], event["ts"])
        elif category == "user_annotation" and event["name"] == OURS:
            ranges[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in ranges.values():
        spans.sort()

    def owner(event: Mapping[str, Any]) -> str:
        thread, at = launches.get(event["args"].get("correlation"), (None, 0))
        spans = ranges.get(thread, [])
        before = bisect.bisect_right(spans, (at, float("inf"))) - 1
        return "ours" if before >= 0 and at <= spans[before][1] else "the model's"

    owners: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    streams: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    kernels: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    busy: dict[Any, float] = defaultdict(float)
    for event in device:
        whose, stream, milliseconds = owner(event), event["args"].get("stream"), event["dur"] / 1000
        for table, name in ((owners, whose), (streams, f"{whose}, stream {stream}")):
            table[name][0] += milliseconds
            table[name][1] += 1
        if whose == "ours":
            kernels[event["name"][:90]][0] += milliseconds
            kernels[event["name"][:90]][1] += 1
        busy[stream] += milliseconds
    ends = [(event["ts"], event["ts"] + event["dur"]) for event in device]
    return {
        "owners": dict(owners),
        "streams": dict(streams),
        "kernels": dict(sorted(kernels.items(), key=lambda item: -item[1][0])[:25]),
        "span": (max(end for _, end in ends) - min(start for start, _ in ends)) / 1000 if ends else 0.0,
        "busy": max(busy.values(), default=0.0),
    }
