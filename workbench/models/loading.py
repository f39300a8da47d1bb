"""Loading pipelines by name, with messages that help when weights are gated, unknown or too large."""

from __future__ import annotations

import inspect
import logging
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workbench.folders import BUNDLED as BUNDLED
from workbench.folders import bundled_folder as bundled_folder
from workbench.folders import info_in, json_object, local_folder
from workbench.models.exclusive_loading import loading_alone
from workbench.schema import InputError, ModelError, warn
from workbench.schema.paths import check_path

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

logger = logging.getLogger(__name__)

OFFLOADS: Final = ("model", "sequential")

_HEADROOM: Final = 1.15  # activations and buffers beside the weights

_bundled: dict[str, DiffusionPipeline] = {}
"""Those that were loaded."""


def load_model(
    name: str | os.PathLike[str] = "tiny-flux",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    offload: str | None = None,
    pipeline: str | None = None,
) -> DiffusionPipeline:
    """Load a diffusers pipeline.

    Parameters
    ----------
    name
        ``"tiny-flux"`` (bundled), a folder in diffusers format, or a name on the Hugging Face hub such as
        ``"black-forest-labs/FLUX.1-schnell"``.
    device
        Torch device; CUDA when there is one, else the CPU.
    dtype
        Torch dtype; float32 for the bundled model and bfloat16 for others by default.
    offload
        ``"model"`` or ``"sequential"``: accelerate keeps the weights in host memory and moves them to ``device``
        component by component, or layer by layer.
    pipeline
        Name of the class to load it as, where it is not its own: ``"FluxImg2ImgPipeline"`` for FLUX.1. It is one around
        the same transformer that needs no component beside those of the model, as a ControlNet would be.

    Returns
    -------
    DiffusionPipeline
        A plain pipeline; :func:`workbench.capture` takes it as ``model=``.

    Raises
    ------
    InputError
        If ``dtype``, ``device``, ``offload`` or ``pipeline`` is unknown, or asks for a GPU where there is none.
    ModelError
        If the model is unknown, gated, of an unsupported class, damaged, or does not fit into memory.
    """
    import torch

    if offload is not None and offload not in OFFLOADS:
        raise InputError(f"offload is {offload!r}; expected one of {', '.join(OFFLOADS)}, or None.")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise InputError(f"dtype is {dtype!r}; expected a torch dtype such as torch.bfloat16, or None.")
    target = _device(device)
    if offload is not None and target.type == "cpu":
        raise InputError(
            f"offload={offload!r} moves weights to an accelerator, but the device is the CPU: leave it out."
        )
    check_path(name, "the model")
    name = os.fspath(name)
    folder = local_folder(name)
    # Of a model on the hub this is fetched alone, before gigabytes of one that cannot be used.
    index = _fetched_index(name) if folder is None else folder / "model_index.json"
    chosen = dtype or (torch.float32 if name in BUNDLED or target.type == "mps" else torch.bfloat16)
    _check_class(name if folder is None else str(folder), index)
    if pipeline is not None:
        _check_other(name, index, pipeline)
    folder = folder or _download(name)
    with loading_alone(name):
        _check_memory(name, folder, chosen, target, offload)
        return _load(folder, chosen, target, pipeline, offload)


def bundled(name: str) -> DiffusionPipeline:
    """The bundled model on the CPU, loaded once per process, without the progress bars of a large one."""
    if name not in _bundled:
        with loading_alone(name), _without_progress_bars():
            if name not in _bundled:
                _bundled[name] = load_model(name, device="cpu")
    return _bundled[name]


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    shown = [library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def info_of(pipe: Any) -> Mapping[str, Any]:
    """What ``workbench.json`` beside a pipeline's ``model_index.json`` says; empty where there is none."""
    folder = str(pipe.config.get("_name_or_path") or "")
    # A pipeline built in code has no folder; the working folder is none of its own.
    return info_in(Path(folder)) if folder else {}


def _device(device: str | torch.device | None) -> torch.device:
    import torch

    cuda = torch.cuda.is_available()
    try:
        target = torch.device(device or ("cuda" if cuda else "cpu"))
    except RuntimeError as error:
        raise InputError(f"device is {device!r}; expected a torch device such as 'cpu' or 'cuda:0'.") from error
    if target.type == "cpu":
        return target
    # Whatever kind it is: torch knows one accelerator at a time, and CPU.
    found = torch.accelerator.current_accelerator(check_available=True)
    seen = cuda if target.type == "cuda" else found is not None and found.type == target.type
    if not seen:
        kind = target.type.upper()
        raise InputError(
            f"device is {str(device)!r}, but torch sees no {kind} device here: use 'cpu', or leave it out."
        )
    if target.index is not None and target.index >= (count := torch.accelerator.device_count()):
        raise InputError(f"device is {str(device)!r}, but torch sees {count} of them, numbered from 0: give another.")
    return target


def _fetched_index(name: str) -> Path:
    """The ``model_index.json`` of a model on the hub, from its cache where there is no network."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        with _told(name):
            return Path(huggingface_hub.hf_hub_download(name, "model_index.json"))
    except ModelError as error:
        if isinstance(error.__cause__, EntryNotFoundError) and not isinstance(error.__cause__, LocalEntryNotFoundError):
            raise ModelError(
                f"{name} on the hub is no diffusers pipeline: it has no model_index.json. Give the name of a model in "
                "diffusers format, or load it with diffusers and pass the pipeline as model=."
            ) from error
        raise


def _download(name: str) -> Path:
    """The folder of a model on the hub, fetched where it is not in its cache."""
    from workbench.models.quiet import imported

    with _told(name):
        return Path(imported("diffusers", "DiffusionPipeline").download(name))


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say what it means when the hub does not hand a model out."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        yield
    except Exception as error:
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
            chain.append(cause)
        if any(isinstance(link, GatedRepoError) for link in chain):
            raise ModelError(
                f"the weights of {name} are gated: accept the licence at https://huggingface.co/{name}, then log in "
                "with `hf auth login` (or set HF_TOKEN to a token of that account) and call again."
            ) from error
        if any(isinstance(link, RepositoryNotFoundError | HFValidationError) for link in chain):
            raise ModelError(
                f"the hub has no model {name}, or it is private: check the spelling at https://huggingface.co/{name}, "
                "or log in with `hf auth login`."
            ) from error
        reason, _, _ = str(error).partition("\n")
        raise ModelError(
            f"{name} cannot be fetched ({type(error).__name__}: {reason}): check the network, or give the folder of a "
            "local copy."
        ) from error


def _check_class(where: str, index: Path) -> None:
    """Refuse a model by the class that its ``model_index.json`` names."""
    from workbench.models.family import adapter_class, pipeline_names
    from workbench.models.known import family_named
    from workbench.models.refused import refusal

    named = json_object(index).get("_class_name", "")
    family = family_named(str(named))
    if family is None:
        if sentence := refusal(str(named)):
            raise ModelError(f"{where} cannot be used: {sentence}")
        raise ModelError(
            f"{where} holds a {named or 'nameless pipeline'}; supported are {', '.join(pipeline_names())}. Of another "
            "pipeline around a supported transformer, load it with diffusers and record its call with workbench.trace."
        )
    adapter_class(family, "pipeline_adapter")  # with the pipeline, before diffusers looks for it


def _check_other(name: str, index: Path, pipeline: str) -> None:
    """Refuse a class that is none around the transformer of the model, or needs more than the model has."""
    from workbench.models.known import around_the_same

    components = json_object(index)
    others = around_the_same(str(components["_class_name"]))
    if pipeline not in others:
        raise InputError(
            f"pipeline is {pipeline!r}; expected one around the transformer of {name}: {', '.join(others)}."
        )
    needed = inspect.signature(_pipeline_class(index, pipeline).__init__).parameters.values()
    if lacking := [one.name for one in needed if one.default is one.empty and one.name not in ("self", *components)]:
        raise InputError(
            f"pipeline is {pipeline!r}, which needs {' and '.join(lacking)}, and {name} has none: load it with "
            "diffusers, and pass the pipeline as model=."
        )


def weight_bytes(folder: Path, dtype: torch.dtype) -> dict[str, int]:
    """Bytes the weights of each component take in ``dtype``, from the headers of its safetensors files.

    Variants that are not loaded, such as ``model.fp16.safetensors`` beside ``model.safetensors``, do not count.

    Raises
    ------
    ModelError
        If a file is no safetensors file.
    """
    variant = weight_variant(folder)
    return {
        name: sum(
            count * dtype.itemsize
            for file in files[variant if variant in files else ""]
            for count in _element_counts(file)
        )
        for name, files in _weight_files(folder).items()
        if variant in files or "" in files
    }


def weight_variant(folder: Path) -> str:
    """The variant to load, such as ``fp16``; empty where every component has plain weights.

    Raises
    ------
    ModelError
        If components without plain weights have no variant in common.
    """
    lacking = {name: set(files) for name, files in _weight_files(folder).items() if "" not in files}
    if not lacking:
        return ""
    common = set.intersection(*lacking.values())
    if not common:
        held = "; ".join(f"{name}: {', '.join(sorted(variants))}" for name, variants in lacking.items())
        raise ModelError(
            f"{folder} has components without plain weights, and with no variant in common ({held}): fetch the plain "
            "ones, or load it with diffusers and pass the pipeline as model=."
        )
    return "fp16" if "fp16" in common else sorted(common)[0]


def _weight_files(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Safetensors files of each component by variant, the plain ones under an empty name."""
    found: dict[str, dict[str, list[Path]]] = {}
    for component in sorted(folder.iterdir()):
        for file in sorted(component.glob("*.safetensors")) if component.is_dir() else ():
            # model.safetensors, model.fp16.safetensors, model-00001-of-00002.safetensors,
            # model.fp16-00001-of-00002.safetensors
            _, _, variant = re.sub(r"-\d{5}-of-\d{5}", "", file.stem).partition(".")
            found.setdefault(component.name, {}).setdefault(variant, []).append(file)
    return found


def _element_counts(path: Path) -> Iterator[int]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                yield math.prod(file.get_slice(name).get_shape())
    except SafetensorError as error:
        raise ModelError(
            f"{path} is damaged ({error}): fetch it again (a file of a few hundred bytes may stand for one that "
            "`git lfs pull` fetches)."
        ) from error


def _check_memory(name: str, folder: Path, dtype: torch.dtype, device: torch.device, offload: str | None) -> None:
    """Refuse a model that does not fit before loading it, and say how much memory it takes."""
    import psutil
    import torch

    parts = weight_bytes(folder, dtype)
    total = sum(parts.values()) * _HEADROOM
    needs: list[tuple[str, float, float]] = []
    if device.type == "cuda":
        largest = max(parts.values(), default=0) * _HEADROOM
        needs.append(
            (
                str(device),
                {None: total, "model": largest, "sequential": 0.0}[offload],
                torch.cuda.mem_get_info(device)[0],
            )
        )
    if device.type != "cuda" or offload is not None:
        needs.append(("host memory", total, psutil.virtual_memory().available))
    for where, needed, free in needs:
        if needed > free:
            remedies = "load it on a machine with more memory, or load a quantised pipeline and pass it as model="
            if device.type == "cuda" and offload != "sequential":
                remedies = f'use offload="{"model" if offload is None else "sequential"}", or ' + remedies
            raise ModelError(
                f"{name} needs about {needed / 2**30:.1f} GiB of {where} in {str(dtype).removeprefix('torch.')}, and "
                f"{free / 2**30:.1f} GiB are free: {remedies}."
            )


def _load(
    folder: Path, dtype: torch.dtype, device: torch.device, pipeline: str | None, offload: str | None
) -> DiffusionPipeline:
    from workbench.models.defaults import own_defaults

    variant = weight_variant(folder)
    if variant:
        warn(f"{folder} has {variant} weights only: they are loaded, and brought to {dtype}.", stacklevel=3)
    logger.info("loading %s in %s for %s", folder, dtype, device)
    try:
        with own_defaults():
            pipe: DiffusionPipeline = _pipeline_class(folder / "model_index.json", pipeline).from_pretrained(
                folder, dtype=dtype, variant=variant or None, local_files_only=True
            )
    except (OSError, ValueError) as error:
        if lacking := _lacking(folder):
            raise ModelError(f"{folder} cannot be loaded: {lacking} Then call again.") from error
        raise ModelError(f"{folder} cannot be loaded ({error}): files may be missing or damaged.") from error
    pipe.set_progress_bar_config(disable=True)
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    return pipe


def _pipeline_class(index: Path, asked: str | None) -> Any:
    """What loads the pipeline of an index: diffusers, or the class itself where another is asked for or it has none."""
    from workbench.models.family import adapter_class
    from workbench.models.known import family_named
    from workbench.models.quiet import imported

    named = asked or str(json_object(index)["_class_name"])
    if (family := family_named(named)) is not None and family.distribution:
        module = sys.modules[adapter_class(family, "pipeline_adapter").__module__]
        if isinstance(cls := getattr(module, named, None), type):
            return cls
    return imported("diffusers", asked or "DiffusionPipeline")


def _lacking(folder: Path) -> str:
    """What transformers says of a component that needs a library which is not installed; empty where none does."""
    import transformers

    for component in json_object(folder / "model_index.json").values():
        if not isinstance(component, list) or component[0] != "transformers":
            continue
        cls = getattr(transformers, str(component[1]), None)
        # In place of a class that cannot be had stands one that says why when it is called.
        if getattr(cls, "__name__", "") == "Placeholder" or type(cls).__name__ == "DummyObject":
            try:
                cls()  # type: ignore[misc]
            except ImportError as error:
                return " ".join(str(error).split())
    return ""
