"""Folders that hold a pipeline in diffusers' format, and what their JSON files say; nothing here loads torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from workbench.schema import ModelError
from workbench.schema.paths import expanded

BUNDLED: Final = ("tiny-flux",)
"""Models that come with the package."""
INFO_FILE: Final = "workbench.json"
"""Optional file beside ``model_index.json``: native size, text length, default layers, vocabulary."""

_BLOCKS: Final[Mapping[str, tuple[str, str]]] = {
    "AuraFlowTransformer2DModel": ("num_mmdit_layers", "num_single_dit_layers"),
    "Flux3Transformer2DModel": ("", "num_single_layers"),
    "Lumina2Transformer2DModel": ("", "num_layers"),
    "ZImageTransformer2DModel": ("", "n_layers"),
}
"""Entries of a transformer's configuration that count dual-stream and single-stream blocks, where they are others."""


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


def local_folder(name: str) -> Path | None:
    """Folder of a model on this machine; None for a name that only the Hugging Face hub can know.

    Raises
    ------
    ModelError
        If it can be neither, or the folder holds no pipeline.
    InputError
        If it begins with ``~`` and an unknown user.
    """
    if name in BUNDLED:
        return bundled_folder(name)
    path = expanded(name, "the model")
    try:
        exists = path.exists()
    except OSError as error:
        raise ModelError(f"the model {name!r} cannot be looked for ({error.strerror}): check the name.") from error
    if exists:
        if not (path / "model_index.json").is_file():
            raise ModelError(f"{path} is no diffusers pipeline: it has no model_index.json.")
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"unknown model {name!r}; expected {' or '.join(map(repr, BUNDLED))}, a folder in diffusers format, or a "
            "hub name such as 'black-forest-labs/FLUX.1-schnell'."
        )
    return None


def info_in(folder: Path) -> Mapping[str, Any]:
    """What ``workbench.json`` in a folder says; empty where there is none.

    Raises
    ------
    ModelError
        If it is no JSON object.
    """
    path = folder / INFO_FILE
    return json_object(path) if path.is_file() else {}


def blocks_in(folder: Path) -> tuple[int, int] | None:
    """Dual-stream and single-stream blocks of the transformer in a folder; None where its configuration says neither.

    Raises
    ------
    ModelError
        If the configuration is no JSON object.
    """
    path = folder / "transformer" / "config.json"
    config = json_object(path) if path.is_file() else {}
    entries = _BLOCKS.get(str(config.get("_class_name")), ("num_layers", "num_single_layers"))
    dual, single = (config.get(entry) for entry in entries)
    if dual is None and (single is None or entries[0]):
        return None
    return int(dual or 0), int(single or 0)


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises
    ------
    ModelError
        If it holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is no JSON ({error}); expected a JSON object: restore the file.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}; expected a JSON object: restore the file.")
    return content
