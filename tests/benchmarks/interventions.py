"""What interventions cost: an edited against a plainly traced pass, and a whole sweep of the bundled model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable

import torch

import workbench as wb
from tests.benchmarks.overhead import MID_SIZE
from tests.benchmarks.report import Figure, interleaved, ratio, run
from tests.tiny_random import concept_embeddings, flux_inputs, flux_transformer
from workbench.interventions import Intervention
from workbench.schema import read_attributes
from workbench.tiny.scenes import SPLITS, render

ROUNDS = 15
TOLD_ROUNDS = 5
DRAWS = 10
LIMITED: dict[str, Intervention] = {
    "SkipBlock": wb.SkipBlock(1),
    "ScaleHeads": wb.ScaleHeads(range(3), heads=[0, 1], factor=0.5),
    "MeanHeads": wb.MeanHeads(range(3), heads=[0, 1]),
    "AttendMode": wb.AttendMode("image"),
}
TOLD: dict[str, Intervention] = {
    "NullText": wb.NullText(),
    "MaskText": wb.MaskText(1, tokens=range(8)),
    "BlurAttention": wb.BlurAttention(1),
}


def measure(rounds: int = ROUNDS) -> list[Figure]:
    """Edited / traced pass for each kind, and seconds of a sweep."""
    torch.set_num_threads(1)
    model = flux_transformer(**MID_SIZE)
    given = flux_inputs(model, grid=(32, 32), text=128)
    concepts = concept_embeddings(5, MID_SIZE["joint_attention_dim"])

    def seconds(edits: Iterable[Intervention] = ()) -> float:
        with wb.trace(model, concepts, layers=range(3), on_record=lambda piece: None, interventions=edits) as traced:
            for source in traced.editing.sources():  # a pass of its own, that of the baseline
                traced.collect(source, **given)
            start = time.perf_counter()
            model(**given)
            return time.perf_counter() - start

    size = "width 1024, 8 heads, 2 + 1 blocks, 1024 patches, 128 text tokens, 5 concepts, one thread"
    figures = []
    with torch.no_grad():
        for name, edit in (LIMITED | TOLD).items():
            limited = name in LIMITED
            often = rounds if limited else min(rounds, TOLD_ROUNDS)
            pairs = interleaved(seconds, lambda edit=edit: seconds([edit]), often)  # type: ignore[misc]
            target = 1.05 if limited else None
            figures.append(ratio(f"edited / traced forward pass: `{edit}`", pairs, target, size))
    return [*figures, _sweep()]


def _sweep() -> Figure:
    """Seconds for every block of the bundled model, with the draws of its control."""
    scene = render(SPLITS["gallery"][0])
    wb.capture(scene.image, scene.words, store=False, progress=False)
    with tempfile.TemporaryDirectory() as home:
        start = time.perf_counter()
        result = wb.intervene(
            scene.image, scene.words, wb.SkipBlock.each(), layers=range(7), repeats=DRAWS, home=home, progress=False
        )
        taken = time.perf_counter() - start
    runs = len(read_attributes(result.attrs)["keys"])
    return Figure(
        f"all blocks of the bundled model skipped, {DRAWS} control draws each",
        taken,
        "s",
        target=60,
        detail=f"{runs} stored runs of one picture, {result.sizes['intervention']} blocks, one thread",
    )


if __name__ == "__main__":
    run("interventions", measure)
