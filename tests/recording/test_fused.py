"""Fused kernels give what float64 gives, up to float32 rounding, and the general path is taken where they cannot be."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

from tests.tiny_random import concept_embeddings, flux_inputs, flux_transformer
from workbench import trace
from workbench.models.family import adapter_for
from workbench.numerics.scores import head_scores
from workbench.recording import fused
from workbench.recording.checks import magnitude

SPACES = ("output", "cross", "reverse_cross", "value", "query", "prompt")
SCALE = 0.25


class Case:
    """Random concepts and image of one block, laid out as a model lays them out: heads inside the sequence."""

    def __init__(self, dtype: torch.dtype, batch: int, heads: int, concepts: int, dim: int, patches: int) -> None:
        generator = torch.Generator().manual_seed(patches)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        def tokens(count: int) -> Tensor:
            return draw(batch, count, heads, dim).to("cuda", dtype).transpose(1, 2)

        self.concepts = tuple(tokens(concepts) for _ in range(3))
        self.key = 3 * tokens(patches + 7)[:, :, 7:]
        joined = draw(batch, patches, 3 * heads * dim).to("cuda", dtype)
        self.value = joined.chunk(3, dim=-1)[2].reshape(batch, patches, heads, dim).transpose(1, 2)
        angles = draw(patches + 7, dim // 2).repeat_interleave(2, dim=1).cuda()
        self.table = (angles.cos()[7:], angles.sin()[7:])

    @property
    def rotated(self) -> Tensor:
        return apply_rotary_emb(self.key, self.table, sequence_dim=2)  # type: ignore[return-value]


def off(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


CASES = [
    (torch.bfloat16, 1, 2, 3, 32, 24),
    (torch.float16, 2, 3, 1, 64, 130),
    (torch.bfloat16, 1, 24, 5, 128, 1024),
    (torch.bfloat16, 1, 2, 64, 128, 4100),
]


@pytest.mark.parametrize("with_own", [True, False])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_attention_is_as_exact_as_float32(case: Any, with_own: bool) -> None:
    given = Case(*case)
    found = fused.attend(*given.concepts, given.key, given.value, given.table, SCALE, with_own=with_own)
    assert found is not None
    query, key, value = (tensor.double() for tensor in given.concepts)
    logits = SCALE * query @ given.rotated.double().transpose(-1, -2)
    own = SCALE * query @ key.transpose(-1, -2)
    both = torch.cat([own, logits], dim=-1) if with_own else logits
    values = torch.cat([value, given.value.double()], dim=2) if with_own else given.value.double()
    assert off(found.logits, logits) < 3e-7
    assert off(found.output, both.softmax(dim=-1) @ values) < 2e-6
    assert off(found.lse[0], logits.logsumexp(dim=-1)) < 3e-7
    assert off(found.lse[1], own.logsumexp(dim=-1)) < 3e-7
    assert found.magnitude == found.logits.abs().max()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_keys_are_rotated_and_rounded_as_the_model_does(case: Any) -> None:
    given = Case(*case)
    for start in range(0, given.key.shape[-1], fused.MOST_CONCEPTS):
        units = torch.eye(given.key.shape[-1], device="cuda")[start : start + fused.MOST_CONCEPTS]
        units = units.expand(*given.key.shape[:2], -1, -1)
        found = fused.scores(units, given.key, 1.0, given.table)
        assert found is not None
        picked = given.rotated[..., start : start + fused.MOST_CONCEPTS].transpose(-1, -2)
        assert torch.equal(found[0], picked.float())


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_values_that_are_not_finite_show_in_the_magnitude(wrong: float) -> None:
    given = Case(*CASES[1])
    given.value[1, 2, 129, 5] = wrong
    found = fused.scores(given.concepts[0], given.value)
    assert found is not None
    assert not found[1].isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_traced_model_is_read_as_without_the_kernels(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = flux_transformer().to("cuda", dtype)
    inputs = {n: v.cuda() if isinstance(v, Tensor) else v for n, v in flux_inputs(model, batch=2, grid=(9, 15)).items()}
    concepts = concept_embeddings(3)

    def run() -> tuple[Any, Any]:
        with torch.no_grad(), trace(model, concepts, range(5), SPACES, lse=True, vectors=True) as seen:
            output = model(**inputs).sample
        return output, {**seen.scores, **seen.lse, **seen.vectors}

    with torch.no_grad():
        plain = model(**inputs).sample
    output, with_kernels = run()
    assert torch.equal(output, plain)
    assert torch.equal(run()[1]["output"], with_kernels["output"]), "the same again"
    monkeypatch.setattr(fused, "fits", lambda *_: False)
    _, without = run()
    for name, values in without.items():
        assert off(with_kernels[name][0], values[0].double()) < 1e-6, f"{name} of the first block"
        # Behind it, concepts differ where an attention output lay between two 16-bit numbers.
        assert off(with_kernels[name], values.double()) < 1e-2, name


_INTERPRETED = """
import torch
from workbench.recording import kernels
from workbench.store.residuals import split

generator = torch.Generator().manual_seed(0)
for scale in (1e-6, 0.1, 1, 30, 200, 3000, 20000):
    scores = torch.randn(3, 1300, generator=generator).mul(scale).clamp(-65000, 65000)
    scores[0, :6] = torch.tensor([512.25, -512.25, 256.125, 65504.0, 511.9999, -0.0])
    half, rest = torch.empty_like(scores, dtype=torch.float16), torch.empty_like(scores, dtype=torch.int8)
    summed, most = torch.empty(1300), torch.empty(())
    kernels.reducing_kernel[(2,)](scores, scores.abs().max(), half, rest, summed, most, 3, 1300, BLOCK=1024)
    assert all(map(torch.equal, (half, rest), split(scores, torch))), scale
    torch.testing.assert_close(summed, scores.sum(0))
    assert most == scores.abs().max()
"""


def test_the_reducing_kernel_gives_the_bits_of_the_host() -> None:
    """In Triton's interpreter, which needs no GPU."""
    pytest.importorskip("triton")
    subprocess.run([sys.executable, "-c", _INTERPRETED], env={**os.environ, "TRITON_INTERPRET": "1"}, check=True)


def test_the_cpu_takes_the_general_path() -> None:
    vectors = torch.zeros(1, 2, 3, 32, dtype=torch.bfloat16)
    assert not fused.fits((vectors,), (vectors,))
    assert not fused.reduce(vectors[0].float(), *[torch.zeros(())] * 5)


def test_kernels_that_cannot_be_built_are_tried_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def missing() -> Any:
        tried.append(1)
        raise ImportError("no Triton")

    monkeypatch.setattr(fused, "_kernels", missing)
    monkeypatch.setattr(fused, "_proven", {})
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    vectors = torch.zeros(1, 2, 3, 32)
    with caplog.at_level(logging.WARNING):
        assert fused.scores(vectors, vectors) is None
        assert fused.scores(vectors, vectors) is None
    assert len(tried) == 1
    assert "no Triton" in caplog.text


def test_the_vectors_beside_the_kernels_are_those_of_the_general_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """With plain products in place of the kernels, so that it needs no device."""
    model = flux_transformer()
    adapter, inputs, concepts = adapter_for(model), flux_inputs(model), concept_embeddings(3)
    calls: list[str] = []

    def compared(one: Tensor, image: Tensor, scale: float = 1.0, table: Any = None) -> tuple[Tensor, Tensor]:
        found = head_scores(one * scale, image if table is None else adapter.rotate(image, table))
        return found, magnitude(found)

    def attended(
        query: Tensor,
        own_key: Tensor,
        own_value: Tensor,
        key: Tensor,
        value: Tensor,
        table: Any,
        scale: float,
        **_: Any,
    ) -> fused.Attended:
        calls.append("attend")
        logits, most = compared(query, key, scale, table)
        own = head_scores(query * scale, own_key)
        weights = torch.cat([own, logits], dim=-1).softmax(dim=-1)
        output = weights[..., : own.shape[-1]] @ own_value + weights[..., own.shape[-1] :] @ value
        return fused.Attended(output, logits, most, torch.stack([logits.logsumexp(-1), own.logsumexp(-1)]))

    def run() -> dict[str, Tensor]:
        with torch.no_grad(), trace(model, concepts, range(5), SPACES, vectors=True) as seen:
            model(**inputs)
        return {**seen.vectors, **seen.scores}

    general = run()
    for name, plain in (("fits", lambda *_: True), ("attend", attended), ("scores", compared)):
        monkeypatch.setattr(fused, name, plain)
    beside = run()
    assert calls == ["attend"] * 5
    assert set(beside) == set(general)
    for name, values in general.items():
        assert off(beside[name], values.double()) < 1e-5, name
