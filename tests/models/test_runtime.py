"""Whatever changes what a pipeline computes changes its key, or keeps its runs from being stored."""

from __future__ import annotations

import copy
import functools
import importlib
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from diffusers import FluxPipeline
from diffusers.models import attention_dispatch, embeddings
from diffusers.models.transformers import transformer_flux
from torch import nn
from torch.overrides import TorchFunctionMode

from tests.tiny_random import flux_pipeline
from workbench.models import foreign_code
from workbench.models.fingerprint import fingerprint
from workbench.recording.capturing import capture
from workbench.schema import ModelError

Change = Callable[[FluxPipeline], Any]
"""What is done between two equal calls; it may return a context in which the second one is made."""


def _halved(module: nn.Module, args: Any, output: Any) -> Any:
    return tuple(each * 0.5 for each in output) if isinstance(output, tuple) else output * 0.5


class _OwnProcessor(transformer_flux.FluxAttnProcessor):
    pass


class _OwnLinear(nn.Linear):
    pass


class _Mode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _set(path: str, value: Any) -> Change:
    """Set an attribute of a part of the pipeline."""

    def change(pipe: FluxPipeline) -> None:
        *parents, name = path.split(".")
        target: Any = pipe
        for parent in parents:
            target = target[int(parent)] if parent.isdigit() else getattr(target, parent)
        setattr(target, name, value)

    return change


def _patched(owner: Any, name: str) -> Change:
    """Replace a function of a class or module for the time of the call."""

    def change(pipe: FluxPipeline) -> AbstractContextManager[None]:
        original = getattr(owner, name)

        @functools.wraps(original)
        def other(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs)

        return _replaced(owner, name, other)

    return change


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def _switched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _set_to(read: Callable[[], Any], write: Callable[[Any], None], value: Any) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


_default_dtype = functools.partial(_set_to, torch.get_default_dtype, torch.set_default_dtype)
_precision = functools.partial(_set_to, torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)


@contextmanager
def _global_hook() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(_halved)
    try:
        yield
    finally:
        handle.remove()


def _row(pipe: FluxPipeline) -> None:
    pipe.transformer.single_transformer_blocks[1].attn.to_k.weight.data[7] *= 30


def _sign(pipe: FluxPipeline) -> None:
    pipe.text_encoder_2.encoder.block[0].layer[0].SelfAttention.q.weight.data.neg_()


def _swapped(pipe: FluxPipeline) -> None:
    blocks = pipe.transformer.transformer_blocks
    blocks[0], blocks[1] = blocks[1], blocks[0]


def _buffer(pipe: FluxPipeline) -> None:
    pipe.text_encoder.embeddings.position_ids.data[0, 0] = 3


def _processor_option(pipe: FluxPipeline) -> None:
    pipe.transformer.transformer_blocks[0].attn.processor._attention_backend = "flash"


def _backend(pipe: FluxPipeline) -> AbstractContextManager[None]:
    stack = ExitStack()  # diffusers makes it the choice of the whole process too
    stack.enter_context(attention_dispatch.attention_backend("native"))
    pipe.transformer.set_attention_backend("_native_math")
    return stack


def _image_processor(pipe: FluxPipeline) -> None:
    pipe.image_processor.register_to_config(do_normalize=False)


def _padding_side(pipe: FluxPipeline) -> None:
    pipe.tokenizer_2.padding_side = "left"


def _forward(pipe: FluxPipeline) -> None:
    feed = pipe.transformer.transformer_blocks[0].ff
    original = feed.forward
    feed.forward = lambda *args, **kwargs: 0.5 * original(*args, **kwargs)


def _bound_forward(pipe: FluxPipeline) -> None:
    feed = pipe.transformer.transformer_blocks[0].ff
    feed.forward = types.MethodType(lambda self, x: 0 * x, feed)


def _own_class(pipe: FluxPipeline) -> None:
    pipe.transformer.proj_out.__class__ = _OwnLinear


def _upsampled(pipe: FluxPipeline) -> None:
    pipe.vae.decoder.up_blocks[0].resnets[0].output_scale_factor = 2.0


CHANGES: dict[str, Change] = {
    "one row of a weight": _row,
    "signs of a text encoder's weight": _sign,
    "blocks that change places": _swapped,
    "a buffer that is not saved": _buffer,
    "a forward hook": lambda pipe: pipe.transformer.transformer_blocks[0].register_forward_hook(_halved),
    "a hook of the VAE": lambda pipe: pipe.vae.encoder.register_forward_hook(_halved),
    "a hook of a text encoder": lambda pipe: pipe.text_encoder_2.shared.register_forward_hook(_halved),
    "a forward pre-hook": lambda pipe: pipe.transformer.register_forward_pre_hook(lambda module, args: args),
    "a hook on all modules": lambda pipe: _global_hook(),
    "an attention processor of one's own": lambda pipe: pipe.transformer.set_attn_processor(_OwnProcessor()),
    "an option of an attention processor": _processor_option,
    "an attention backend of a model": _backend,
    "an attention backend for all": lambda pipe: attention_dispatch.attention_backend("_native_math"),
    "forward of a part": _forward,
    "forward of a part, bound": _bound_forward,
    "a class of one's own": _own_class,
    "a method of the pipeline": _set("encode_prompt", lambda *args, **kwargs: None),
    "a method of the VAE": _set("vae.encode", lambda *args, **kwargs: None),
    "a method of a tokenizer": _set("tokenizer_2.convert_tokens_to_ids", lambda *args: 0),
    "a method of the scheduler": _set("scheduler.step", lambda *args, **kwargs: None),
    "a method of a class": _patched(transformer_flux.FluxTransformerBlock, "forward"),
    "a processor's call": _patched(transformer_flux.FluxAttnProcessor, "__call__"),
    "a method of torch's own layer": _patched(nn.LayerNorm, "forward"),
    "a function of diffusers": _patched(embeddings, "apply_rotary_emb"),
    "a function of the model's module": _patched(transformer_flux, "dispatch_attention_fn"),
    "a function of torch": _patched(functional, "gelu"),
    "theta of the rotary embedding": _set("transformer.pos_embed.theta", 500),
    "axes of the rotary embedding": _set("transformer.pos_embed.axes_dim", [8, 8, 16]),
    "an epsilon of a norm": _set("transformer.norm_out.norm.eps", 1e-2),
    "heads of an attention": _set("transformer.transformer_blocks.1.attn.heads", 1),
    "training mode": lambda pipe: pipe.text_encoder_2.train(),
    "tiling of the VAE": lambda pipe: pipe.vae.enable_tiling(),
    "slicing of the VAE": lambda pipe: pipe.vae.enable_slicing(),
    "a tile's size": _set("vae.tile_sample_min_size", 16),
    "a scale in the VAE": _upsampled,
    "the image processor": _image_processor,
    "the VAE's scale": _set("vae_scale_factor", 4),
    "a tokenizer's side": _padding_side,
    "a tokenizer's length": _set("tokenizer_2.model_max_length", 5),
    "a new token": lambda pipe: pipe.tokenizer_2.add_tokens(["moon"]),
    "the scheduler's shift": lambda pipe: pipe.scheduler.set_shift(2.0),
    "the scheduler's config": lambda pipe: pipe.scheduler.register_to_config(shift=3.0),
    "autocast": lambda pipe: torch.autocast("cpu", torch.bfloat16),
    "another dtype of autocast": lambda pipe: torch.autocast("cpu", torch.float16),
    "the default dtype": lambda pipe: _default_dtype(torch.float64),
    "less precise products": lambda pipe: _precision("medium"),
    "16-bit reductions": lambda pipe: _switched(
        torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False
    ),
    "convolutions in TF32": lambda pipe: _switched(torch.backends.cudnn, "allow_tf32", False),
    "a mode that sees every operation": lambda pipe: _Mode(),
    "fused projections": lambda pipe: pipe.transformer.fuse_qkv_projections(),
    "a dtype": lambda pipe: pipe.vae.to(torch.bfloat16),
}


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return fingerprint(flux_pipeline())


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_changes_the_key_or_is_refused(what: str, reference: dict[str, Any]) -> None:
    pipe = flux_pipeline()
    with ExitStack() as stack:
        context = CHANGES[what](pipe)
        if hasattr(context, "__enter__") and not isinstance(context, nn.Module):
            stack.enter_context(context)
        try:
            found = fingerprint(pipe)
        except ModelError as error:
            assert "store=False" in str(error)  # noqa: PT017 - either answer is right
        else:
            assert found != reference


def test_nothing_is_left_behind(reference: dict[str, Any]) -> None:
    """The changes above say nothing when one of them stays."""
    assert fingerprint(flux_pipeline()) == reference


def _saved(pipe: FluxPipeline, folder: Path) -> FluxPipeline:
    pipe.save_pretrained(folder)
    return FluxPipeline.from_pretrained(folder)


def _called(pipe: FluxPipeline, folder: Path) -> FluxPipeline:
    pipe("a dog", num_inference_steps=2, height=32, width=32, output_type="latent")
    return pipe


def _captured(pipe: FluxPipeline, folder: Path) -> FluxPipeline:
    capture(np.zeros((32, 32, 3), np.uint8), ["dog"], model=pipe, size=(32, 32), store=False, progress=False)
    return pipe


def _compiled(pipe: FluxPipeline, folder: Path) -> FluxPipeline:
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    return pipe


def _moved(pipe: FluxPipeline, folder: Path) -> FluxPipeline:
    return pipe.to("cpu")


KEPT: dict[str, Callable[[FluxPipeline, Path], FluxPipeline]] = {
    "a copy": lambda pipe, folder: copy.deepcopy(pipe),
    "saving and loading": _saved,
    "a call": _called,
    "a capture": _captured,
    "compiling": _compiled,
    "moving": _moved,
}


def _heatmap(pipe: FluxPipeline) -> Any:
    options: dict[str, Any] = {"model": pipe, "size": (32, 32), "store": False, "progress": False}
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return capture(picture, ["dog", "sky"], prompt="a dog", **options).wb.heatmap()


@pytest.fixture(scope="module")
def heatmap() -> Any:
    return _heatmap(flux_pipeline())


@pytest.mark.filterwarnings("ignore:the transformer is compiled")
@pytest.mark.parametrize("what", KEPT)
def test_what_changes_no_number_keeps_the_key(
    what: str, reference: dict[str, Any], heatmap: Any, tmp_path: Path
) -> None:
    pipe = KEPT[what](flux_pipeline(), tmp_path)
    assert fingerprint(pipe) == reference
    assert abs(_heatmap(pipe) - heatmap).max() <= 1e-4


@pytest.mark.slow
def test_threads_and_switches_set_to_what_they_are_keep_the_key(reference: dict[str, Any], heatmap: Any) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with _precision("highest"), torch.no_grad(), torch.device("cpu"):
            pipe = flux_pipeline()
            assert fingerprint(pipe) == reference
            assert abs(_heatmap(pipe) - heatmap).max() <= 1e-4
    finally:
        torch.set_num_threads(threads)


def test_device_and_threads_are_recorded() -> None:
    options: dict[str, Any] = {"model": flux_pipeline(), "size": (32, 32), "store": False, "progress": False}
    ds = capture(np.zeros((32, 32, 3), np.uint8), ["dog"], **options)
    assert (ds.attrs["device"], ds.attrs["threads"]) == ("cpu", torch.get_num_threads())


def test_code_that_cannot_be_named_is_named_in_the_refusal() -> None:
    pipe = flux_pipeline()
    pipe.vae.encoder.register_forward_hook(_halved)
    _forward(pipe)
    with pytest.raises(ModelError, match=r"vae\.encoder has a forward hook, .*_halved") as caught:
        fingerprint(pipe)
    assert "transformer.transformer_blocks.0.ff runs another forward" in str(caught.value)


def test_a_pipeline_with_code_of_ones_own_still_runs_unstored(home: Path) -> None:
    pipe = flux_pipeline()
    options: dict[str, Any] = {"model": pipe, "size": (32, 32), "home": home, "progress": False}
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    before = capture(picture, ["dog", "sky"], **options)
    pipe.transformer.transformer_blocks[0].register_forward_hook(_halved)
    with pytest.raises(ModelError, match="cannot be stored"):
        capture(picture, ["dog", "sky"], **options)
    after = capture(picture, ["dog", "sky"], **(options | {"store": False}))
    assert abs(after.wb.heatmap() - before.wb.heatmap()).max() > 1e-3, "what the old run would have hidden"


def test_libraries_are_known_wherever_they_were_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of scripts is none of an installer's."""
    for folder, installed in (("target", True), ("scripts", False)):
        place = tmp_path / folder
        place.mkdir()
        (place / f"helpful_{folder}.py").write_text("def act(x):\n    return x\n")
        if installed:
            (place / f"helpful_{folder}-1.0.dist-info").mkdir()
        monkeypatch.syspath_prepend(place)
        foreign_code._roots.cache_clear()
        foreign_code._is_under_roots.cache_clear()
        assert foreign_code.is_library(importlib.import_module(f"helpful_{folder}").act) is installed
    foreign_code._roots.cache_clear()
    foreign_code._is_under_roots.cache_clear()
