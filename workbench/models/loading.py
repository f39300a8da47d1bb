"""Loading pipelines by name, with messages that help when weights are gated, unknown or too large."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workbench.schema import InputError, ModelError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

logger = logging.getLogger(__name__)

BUNDLED: Final = ("tiny-flux",)
"""Models that come with the package."""
OFFLOADS: Final = ("model", "sequential")
INFO_FILE: Final = "workbench.json"
"""Optional file beside ``model_index.json``: native size, text length, default layers, vocabulary."""

_HEADROOM: Final = 1.15  # activations and buffers beside the weights


def load_model(
    name: str | os.PathLike[str] = "tiny-flux",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    offload: str | None = None,
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

    Returns
    -------
    DiffusionPipeline
        A plain pipeline; :func:`workbench.capture` takes it as ``model=``.

    Raises
    ------
    InputError
        If ``offload`` is unknown or asks for a GPU where there is none.
    ModelError
        If the model is unknown, gated, of an unsupported class, or does not fit into memory. Nothing is loaded then.
    """
    import torch

    if offload is not None and offload not in OFFLOADS:
        raise InputError(f"offload is {offload!r}; expected one of {', '.join(OFFLOADS)}, or None.")
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if offload is not None and target.type == "cpu":
        raise InputError(
            f"offload={offload!r} moves weights to an accelerator, but the device is the CPU: leave it out."
        )
    folder = _folder(str(name))
    chosen = dtype or (torch.float32 if str(name) in BUNDLED or target.type == "mps" else torch.bfloat16)
    _check_class(folder)
    _check_memory(str(name), folder, chosen, target, offload)
    return _load(folder, chosen, target, offload)


@lru_cache(maxsize=1)
def bundled(name: str) -> DiffusionPipeline:
    """The bundled model on the CPU, loaded once per process."""
    return load_model(name, device="cpu")


def bundled_folder(name: str) -> Path:
    """Folder of a bundled model: inside the installed package, or ``data/`` of a checkout.

    Raises
    ------
    ModelError
        If the installation lacks it.
    """
    package = Path(str(resources.files("workbench")))
    for folder in (package / "data" / name, package.parent / "data" / name):
        if (folder / "model_index.json").is_file():
            return folder
    raise ModelError(f"the bundled model {name} is missing from this installation: reinstall concept-workbench.")


def info_of(pipe: Any) -> Mapping[str, Any]:
    """What ``workbench.json`` beside a pipeline's ``model_index.json`` says; empty where there is none."""
    path = Path(str(pipe.config.get("_name_or_path", "")), INFO_FILE)
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}; expected a JSON object.")
    return content


def _folder(name: str) -> Path:
    if name in BUNDLED:
        return bundled_folder(name)
    path = Path(name).expanduser()
    if path.exists():
        if not (path / "model_index.json").is_file():
            raise ModelError(f"{path} is no diffusers pipeline: it has no model_index.json.")
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"unknown model {name!r}; expected {' or '.join(map(repr, BUNDLED))}, a folder in diffusers format, or a "
            "hub name such as 'black-forest-labs/FLUX.1-schnell'."
        )
    return _download(name)


def _download(name: str) -> Path:
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(DiffusionPipeline.download(name))
    except Exception as error:
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
            chain.append(cause)
        if any(isinstance(link, GatedRepoError) for link in chain):
            raise ModelError(
                f"the weights of {name} are gated: accept the licence at https://huggingface.co/{name}, then log in "
                "with `hf auth login` (or set HF_TOKEN to a token of that account) and call again."
            ) from error
        if any(isinstance(link, RepositoryNotFoundError) for link in chain):
            raise ModelError(
                f"the hub has no model {name}, or it is private: check the spelling at https://huggingface.co/{name}, "
                "or log in with `hf auth login`."
            ) from error
        if any(isinstance(link, LocalEntryNotFoundError | HfHubHTTPError | OSError) for link in chain):
            raise ModelError(
                f"{name} cannot be fetched ({type(error).__name__}: {str(error).splitlines()[0]}): check the network, "
                "or give the folder of a local copy."
            ) from error
        raise


def _check_class(folder: Path) -> None:
    from workbench.models.families import PIPELINES

    named = json.loads((folder / "model_index.json").read_text()).get("_class_name", "")
    supported = [cls.__name__ for cls in PIPELINES]
    if named not in supported:
        raise ModelError(f"{folder} holds a {named or 'nameless pipeline'}; supported are {', '.join(supported)}.")


def weight_bytes(folder: Path, dtype: torch.dtype) -> dict[str, int]:
    """Bytes the weights of each component take in ``dtype``, from the headers of its safetensors files."""
    return {
        component.name: sum(count * dtype.itemsize for file in files for count in _element_counts(file))
        for component in sorted(folder.iterdir())
        if component.is_dir() and (files := sorted(component.glob("*.safetensors")))
    }


def _element_counts(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for name, entry in header.items():
        if name != "__metadata__":
            count = 1
            for side in entry["shape"]:
                count *= side
            yield count


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


def _load(folder: Path, dtype: torch.dtype, device: torch.device, offload: str | None) -> DiffusionPipeline:
    from diffusers import DiffusionPipeline

    logger.info("loading %s in %s for %s", folder, dtype, device)
    pipe: DiffusionPipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    return pipe
