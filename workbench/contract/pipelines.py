"""The rules about a whole pipeline: times, sizes, the picture, and which branch of guidance is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

import workbench as wb
from workbench.contract.passes import batch_of, item_of, reads
from workbench.contract.pipeline_case import COLUMNS, ROWS, PipelineCase
from workbench.contract.pipeline_inputs import image_goes_in_as_the_pipelines_do
from workbench.contract.trying import Rule
from workbench.models.pipeline import PipelineAdapter
from workbench.numerics.image_similarity import psnr
from workbench.recording.tracing import trace
from workbench.schema import CONCEPT, LAYER, UNCONDITIONAL, ContractError, WorkbenchError, X, Y

_GUIDED: Final = (
    {"guidance": 3.0, "negative_prompt": None, "true_guidance": 1.0},
    {"guidance": None, "negative_prompt": "", "true_guidance": 3.0},
    {"guidance": None, "negative_prompt": "", "true_guidance": 1.0},
)
"""Ways of asking for classifier-free guidance, where the family's own default is not one."""


def transformer_is_told_the_time(case: PipelineCase) -> str:
    """The timestep and the grid that the transformer's adapter reads are those that the pipeline's was asked for.

    Raises
    ------
    ContractError
        If they are others.
    """
    inner = case.adapter.inner
    for asked in (250.0, 500.0, 750.0):
        given = inner.given((), case.inputs(asked))
        told = float(inner.timesteps(given).flatten()[0])
        if not abs(told - asked) <= 0.005 * asked:
            raise ContractError(
                f"a picture noised to timestep {asked:g} reaches the transformer as one of {told:g}: look at inputs of "
                f"{type(case.adapter).__name__} and timesteps of {type(inner).__name__}."
            )
        if tuple(inner.grid(given)) != (ROWS, COLUMNS):
            raise ContractError(
                f"a picture of {ROWS} x {COLUMNS} patches reaches the transformer as {inner.grid(given)}: look at "
                f"grid of {type(inner).__name__}, and patch and inputs of {type(case.adapter).__name__}."
            )
    return f"timesteps 250, 500, 750; {ROWS} x {COLUMNS} patches"


def pictures_go_there_and_back(case: PipelineCase) -> str:
    """An image that is encoded and decoded has its size, and looks like itself.

    Raises
    ------
    ContractError
        If it does not.
    """
    back = case.adapter.decode(case.adapter.encode_image(case.small).mean)
    if back.shape != case.small.shape or back.dtype != np.uint8:
        raise ContractError(
            f"a picture of {case.small.shape} comes back from the autoencoder as {back.dtype} {back.shape}: look at "
            f"encode_image and decode of {type(case.adapter).__name__}."
        )
    return f"PSNR {psnr(back, case.small):.1f} dB at {case.size[0]} x {case.size[1]}"


def picture_is_the_pipelines(case: PipelineCase) -> str:
    """``generate`` makes the picture that the pipeline makes, bit for bit.

    Raises
    ------
    ContractError
        If it makes another, or the pipeline itself makes two different ones of a seed.
    """
    plain = case.generated(steps=2)
    if not np.array_equal(plain, case.generated(steps=2)):
        raise ContractError(
            "two calls of the pipeline with one seed make different pictures, so nothing can be said of a recorded "
            "one: turn on torch.use_deterministic_algorithms."
        )
    ds = wb.generate(case.prompt, case.concepts, steps=2, **_quiet(case))
    if not np.array_equal(ds["image"].isel(sample=0), plain):
        raise ContractError(
            f"generate makes another picture than {type(case.adapter.pipe).__name__} alone: look at generate of "
            f"{type(case.adapter).__name__}, and at hooks that change something."
        )
    return "2 steps, bit-identical"


def branch_is_the_conditional_one(case: PipelineCase) -> str:
    """Under classifier-free guidance, what is recorded is the pass or item of the batch that reads the prompt.

    Which that is follows from the text in the transformer's arguments, not from what the adapter says.

    Raises
    ------
    ContractError
        If it is another.
    """
    options = _guided(case.adapter)
    if options is None:
        return "not tried: no classifier-free guidance"
    seen: list[dict[str, Any]] = []
    inner = case.adapter.inner
    handle = inner.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(inner.given(args, kwargs)), with_kwargs=True
    )
    try:
        case.generated(**options)
    finally:
        handle.remove()
    with torch.no_grad():
        prompt = case.adapter.encode_prompt(case.prompt).embeddings[0]
    items = [(given, item) for given in seen for item in range(batch_of(given, prompt))]
    reading = [reads(given, item, prompt) for given, item in items]
    if reading.count(True) != 1 or len(items) != 2:
        return f"not tried: {reading.count(True)} of {len(items)} passes were found to read the prompt"
    ds = wb.generate(case.prompt, case.concepts, steps=1, **_quiet(case), **options)
    totals = ds["output_total"].isel(sample=0, timestep=0).transpose(LAYER, CONCEPT, Y, X)
    recorded = torch.from_numpy(totals.to_numpy()).flatten(2)
    off = {}
    concepts = case.given
    with torch.no_grad():
        for (given, item), conditional in zip(items, reading, strict=True):
            with trace(
                inner.transformer,
                concepts.embeddings,
                ds.layer.values.tolist(),
                own_positions=concepts.own_positions,
                own_texts=concepts.texts,
            ) as traced:
                inner.transformer(**item_of(given, item, prompt))
            expected = traced.scores["output"][:, 0].sum(dim=1).cpu()
            off[conditional] = float((expected - recorded).norm() / expected.norm())
    if not off[True] < off[False]:
        raise ContractError(
            f"generate under guidance records the unconditional branch: its scores differ by {off[True]:.2g} from the "
            f"pass that reads the prompt, and by {off[False]:.2g} from the other one; look at guidance of "
            f"{type(case.adapter).__name__}."
        )
    return f"off by {off[True]:.1e}; the other branch is off by {off[False]:.1e}"


PIPELINE_RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        rule.__name__: rule
        for rule in (
            transformer_is_told_the_time,
            image_goes_in_as_the_pipelines_do,
            pictures_go_there_and_back,
            picture_is_the_pipelines,
            branch_is_the_conditional_one,
        )
    }
)
"""All rules about a pipeline by name."""


def _quiet(case: PipelineCase) -> dict[str, Any]:
    return {"model": case.adapter.pipe, "size": case.size, "seed": 0, "store": False, "progress": False}


def _guided(adapter: PipelineAdapter) -> dict[str, Any] | None:
    """How this family is asked for classifier-free guidance; None where it has none."""
    by_default = {"guidance": adapter.default_guidance, "negative_prompt": None, "true_guidance": 1.0}
    for options in (by_default, *_GUIDED):
        try:
            scaled = options["guidance"] is None or adapter.default_guidance is not None
            if scaled and UNCONDITIONAL in adapter.guidance(options):
                return {name: value for name, value in options.items() if value is not None}
        except WorkbenchError:
            continue
    return None
