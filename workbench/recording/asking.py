"""What is wrong with a call, as far as it shows before a model, or torch, is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from workbench.folders import blocks_in, info_in, local_folder
from workbench.recording.arguments import (
    MOST_STEPS,
    check_depths,
    check_negative,
    check_scale,
    check_steps,
    check_timesteps,
    check_vocabulary,
)
from workbench.recording.extra_inputs import ExtraInputs, read_extra
from workbench.recording.named_images import name_images
from workbench.recording.pictures import read_image
from workbench.recording.request import check_home, read_request
from workbench.schema import InputError, WorkbenchError, noted
from workbench.schema.given_options import check_count
from workbench.schema.paths import is_folder


def model_facts(model: str) -> dict[str, Any]:
    """What the files of a model say of it; nothing of one on the hub.

    Parameters
    ----------
    model
        As ``capture`` takes a name or path.

    Returns
    -------
    dict
        ``words``, those of a closed vocabulary; ``fillers``, which its prompts may hold too; ``blocks``, how many
        of each kind (None where unknown).

    Raises
    ------
    ModelError
        If there is no such model.
    """
    folder = local_folder(model)
    return facts_of({} if folder is None else info_in(folder), None if folder is None else blocks_in(folder))


def facts_of(info: Mapping[str, Any], blocks: tuple[int, int] | None) -> dict[str, Any]:
    """As :func:`model_facts`, from what ``workbench.json`` says, and the numbers of blocks."""
    return {
        "words": list(info.get("vocabulary", ())),
        "fillers": list(info.get("fillers", ())),
        "blocks": None if blocks is None else list(blocks),
    }


def check_asked(
    concepts: Sequence[str],
    *,
    prompt: str,
    model: str,
    layers: Iterable[int] | None,
    spaces: Sequence[str],
    samples: int,
    seed: int,
    size: tuple[int, int] | None,
    attend: str,
    pool: str,
    home: str | os.PathLike[str] | None,
    image: str | os.PathLike[str] | None = None,
    timesteps: Iterable[float] | None = None,
    steps: int | None = None,
    record: Iterable[int] | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    true_guidance: float | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a call of ``capture`` (with ``image``) or ``generate`` that cannot succeed, without torch.

    Parameters
    ----------
    concepts, prompt, model, layers, spaces, samples, seed, size, attend, pool, home
        As in :func:`workbench.capture`.
    image, timesteps
        As in :func:`workbench.capture`; a folder as in :func:`workbench.capture_many`.
    steps, record, guidance, negative_prompt, true_guidance, inputs
        As in :func:`workbench.generate`.

    Raises
    ------
    WorkbenchError
        If anything is wrong; the message says everything that is, one thing a line. It is an :class:`InputError` when
        an argument is.
    """
    found: list[WorkbenchError] = []

    def tried(check: Callable[..., Any], *given: Any) -> Any:
        try:
            with noted():  # the call itself warns
                return check(*given)
        except WorkbenchError as error:
            found.append(error)
        except OSError as error:
            found.append(InputError(f"{error}: check the path."))
        return None

    extra = tried(read_extra, inputs)
    request = read_request(
        concepts,
        prompt=prompt,
        made=image is None and not (extra or ExtraInputs()).replaces_prompt,
        layers=layers,
        spaces=spaces,
        samples=samples,
        seed=seed,
        size=size,
        attend=attend,
        pool=pool,
        tried=tried,
    )
    if timesteps is not None:
        tried(check_timesteps, timesteps)
    if image is not None:
        tried(name_images if is_folder(image) else read_image, image)
    if steps is not None:
        tried(check_count, "steps", steps, 1, MOST_STEPS)
    for name, scale in (("guidance", guidance), ("true_guidance", true_guidance)):
        if scale is not None:
            tried(check_scale, name, scale)
    tried(check_negative, negative_prompt, 1.0 if true_guidance is None else true_guidance)
    folder = tried(local_folder, model)
    info = folder and tried(info_in, folder)
    if info is not None:
        tried(check_vocabulary, request.concepts or (), f"{prompt} {negative_prompt or ''}", model, info)
    blocks = folder and tried(blocks_in, folder)
    if layers is not None and blocks is not None:
        tried(check_depths, layers, *blocks)
    if record is not None and (length := steps or (info or {}).get("steps")):
        tried(check_steps, record, length)
    if not found:  # a refused call makes no folder
        tried(check_home, home)
    if found:
        kind = InputError if any(isinstance(error, InputError) for error in found) else type(found[0])
        raise kind("\n".join(map(str, found)))
