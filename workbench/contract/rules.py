"""The rules about a transformer, each a function of a case that returns what it measured and raises otherwise."""

from __future__ import annotations

from typing import Any

import torch

from workbench.contract.case import Case
from workbench.models.block_records import Attention
from workbench.models.hooks import Changes
from workbench.recording.selfcheck import attended
from workbench.schema import PROMPT, ContractError


def picture_is_untouched(case: Case) -> str:
    """The model's output is bit for bit the same with a trace and without one, whatever concepts attend to.

    Returns
    -------
    str
        What was compared.

    Raises
    ------
    ContractError
        If it is not, a score has another shape than (layer, batch, head, concept, patch), or two plain passes differ.
    """
    plain = case.output()
    if not torch.equal(plain, case.output()):
        raise ContractError(
            f"two plain passes of {case.named} with the same inputs differ, so nothing can be said of a trace: put it "
            "into eval mode, or turn on torch.use_deterministic_algorithms."
        )
    rows, columns = case.adapter.grid(case.adapter.given((), dict(case.inputs)))
    modes = case.modes or case.adapter.attends
    for attend in modes:
        traced, seen = case.traced(attend=attend, lse=True)
        if not torch.equal(plain, traced):
            raise ContractError(
                f"the output of {case.named} changes under a trace with attend={attend!r}, by up to "
                f"{case.off(traced, plain):.2g} of its largest value: a hook returns something, or writes into a "
                "tensor of the model."
            )
        for space, scores in seen.scores.items():
            concepts = scores.shape[3] if space == PROMPT else case.embeddings.shape[1]
            expected = (len(case.layers), len(case.text), case.adapter.heads, concepts, rows * columns)
            if tuple(scores.shape) != expected or scores.dtype != torch.float32:
                raise ContractError(
                    f"scores of the space {space!r} are {scores.dtype} of shape {tuple(scores.shape)}; expected "
                    "float32 of (layer, batch, "
                    f"head, concept, patch) = {expected}: look at heads, grid and patches of "
                    f"{type(case.adapter).__name__}."
                )
    return f"output bit-identical, {', '.join(modes)}"


def model_is_left_as_it_was(case: Case) -> str:
    """After a trace, and after an exception inside one, no hook, attribute or weight of the model is another.

    Raises
    ------
    ContractError
        If one is; it is named.
    """
    before = snapshot(case.transformer)
    case.scores()
    _compare_snapshots(case, before, "a trace")

    def fail(record: object) -> None:
        raise KeyboardInterrupt

    try:
        case.scores(on_record=fail)
    except KeyboardInterrupt:
        _compare_snapshots(case, before, "an exception inside a trace")
        return "hooks, attributes and weights as before"
    raise ContractError(
        f"a trace of {case.named} recorded nothing: look at watch_start and watch_block of its adapter."
    )


def heads_make_the_whole(case: Case) -> str:
    """Scores of the heads sum to the inner product of the whole attention outputs.

    Raises
    ------
    ContractError
        If they do not.
    """
    _, seen = case.traced(spaces=("output",), vectors=True)
    concept, image = (
        seen.vectors[name].float().transpose(2, 3).flatten(3) for name in ("concept_output", "image_output")
    )
    # Inner products of long vectors cancel: their rounding is that of the lengths.
    whole, summed = concept @ image.transpose(-1, -2), seen.scores["output"].sum(dim=2)
    lengths = concept.norm(dim=-1).amax() * image.norm(dim=-1).amax()
    off = float((whole - summed).abs().max() / lengths)
    if not off <= 1e-5:
        raise ContractError(
            f"scores of the heads of {case.named} do not sum to those of whole vectors: off by {off:.2g}."
        )
    return f"off by {off:.1e}"


def order_of_concepts_is_free(case: Case) -> str:
    """In another order, each concept has the scores that it had.

    Raises
    ------
    ContractError
        If one has others.
    """
    order = [*range(1, case.embeddings.shape[1]), 0]
    plain, permuted = case.scores(), case.scores(order)
    worst = 0.0
    for space in case.spaces:
        expected = plain[space] if space == PROMPT else plain[space][:, :, :, order]
        worst = max(
            worst, case.compare(permuted[space], expected, case.layers, f"scores of reordered concepts ({space})")
        )
    return f"off by {worst:.1e}"


def concepts_are_apart(case: Case) -> str:
    """Where concepts see the image only, each has alone the scores that it has among others.

    Raises
    ------
    ContractError
        If one has others.
    """
    spaces = tuple(space for space in case.spaces if space != PROMPT)
    options: dict[str, Any] = {"spaces": spaces} | ({"attend": "image"} if "image" in case.adapter.attends else {})
    together, alone = (case.scores(some, **options) for some in (None, [1]))
    worst = 0.0
    for space in spaces:
        expected = together[space][:, :, :, 1:2]
        worst = max(worst, case.compare(alone[space], expected, case.layers, f"scores of a concept alone ({space})"))
    return f"off by {worst:.1e}"


def prompt_is_its_own_concepts(case: Case) -> str:
    """The whole prompt given as concepts, with its own positions and pooled text, is the model's own text stream.

    The strongest rule: a wrong modulation, norm, position, mask or order of the streams shows, in the first layer where
    it matters.

    Raises
    ------
    ContractError
        If queries of the stream differ from those of the text in a layer.
    """
    if not {"cross", PROMPT} <= set(case.spaces):
        return "not tried: the family has no queries of concepts or of the prompt"
    tokens = case.text.shape[1]
    scores = case.scores(case.text, pooled=case.own_pooled, positions=range(tokens), spaces=("cross", PROMPT))
    before = case.adapter.registers
    own = scores[PROMPT][:, :, :, before : before + tokens]
    worst = case.compare(scores["cross"], own, case.layers, "scores of the prompt as concepts, and its own,")
    return f"off by {worst:.1e} in {len(case.layers)} layers"


def attention_is_rebuilt(case: Case) -> str:
    """In every layer, attention computed from what the adapter finds there is the model's own.

    Raises
    ------
    ContractError
        If it differs in a layer, or a layer has none.
    """
    worst = 0.0
    found = attention_of(case)
    for layer in case.adapter.layers:
        attention = found.get(layer.index)
        if attention is None:
            raise ContractError(f"change_attention of {type(case.adapter).__name__} was never called in {layer.name}.")
        rebuilt = attended(attention, list(range(attention.output.shape[2])))
        off = case.off(rebuilt, attention.output)
        if not off <= case.tolerance:
            raise ContractError(
                f"attention of {layer.name} that follows from its queries, keys and values differs from the output of "
                f"{case.named} by {off:.2g} of its largest value: look at taps, rotary, scale, mask and the order of "
                f"text and image of {type(case.adapter).__name__}."
            )
        worst = max(worst, off)
    return f"off by {worst:.1e} in {len(case.layers)} layers"


def masked_text_is_unseen(case: Case) -> str:
    """Text that the model masks has none of the image's attention, all other text has some.

    Raises
    ------
    ContractError
        If it is otherwise.
    """
    _, seen = case.traced(spaces=case.spaces[:1], text_mass=True)
    mass = seen.mass["text_mass"]
    hidden = torch.zeros(mass.shape[-1], dtype=torch.bool, device=mass.device)
    hidden[list(case.masked)] = True
    if bool(mass[..., hidden].any()):
        raise ContractError(
            f"text that {case.named} masks has some of the image's attention: look at mask of the adapter."
        )
    if not bool((mass[..., ~hidden].amax(dim=(0, 1, 2)) > 0).all()) or not bool((mass.sum(-1) < 1 + 1e-3).all()):
        raise ContractError(
            f"text that {case.named} sees has none of the image's attention, or more than all of it: look at mask and "
            "text_tokens of the adapter."
        )
    return f"{len(case.masked)} of {mass.shape[-1]} tokens masked"


def layers_are_all_there(case: Case) -> str:
    """Layers are numbered by depth, each is recorded alone as among all, and a pass may stop behind the last wanted.

    Raises
    ------
    ContractError
        If it is otherwise.
    """
    if case.layers != tuple(range(len(case.layers))) or not case.layers:
        raise ContractError(
            f"layers of {type(case.adapter).__name__} are {list(case.layers)}; expected 0, 1, 2, … by depth."
        )
    every = case.scores()
    for layer in {case.layers[0], case.layers[-1], case.layers[len(case.layers) // 2]}:
        with case.trace(layers=[layer]) as seen:
            seen.run(**case.inputs)
        for space in case.spaces:
            if not torch.equal(seen.scores[space][0], every[space][layer]):
                raise ContractError(
                    f"layer {layer} of {case.named} has other scores ({space}) alone, in a pass that stops behind it, "
                    f"than among all: {type(case.adapter).__name__} keeps something from one pass or block to another."
                )
    return f"{len(case.layers)} layers"


# --- what the rules are made of ---------------------------------------------------------------------------------
def attention_of(case: Case) -> dict[int, Attention]:
    """What the image attends with in every block of a plain pass, by depth."""
    found: dict[int, Attention] = {}
    changes, adapter = Changes(), case.adapter

    def look(layer: int, attention: Attention) -> None:
        attention.text_bias  # noqa: B018 - kept, while the block's call is at hand
        found[layer] = attention

    try:
        for layer in adapter.layers:
            adapter.change_attention(changes, layer, lambda attention, index=layer.index: look(index, attention))  # type: ignore[misc]
        adapter.begin(adapter.given((), dict(case.inputs)))
        changes.active = True
        case.output()
    finally:
        changes.remove()
    return found


def snapshot(model: Any) -> list[Any]:
    """Everything a trace could leave behind: hooks and attributes of every module, and the weights.

    Offloading exchanges weights at each pass: of a model that is offloaded only their names are kept.
    """
    offloaded = any("_hf_hook" in part.__dict__ or "_diffusers_hook" in part.__dict__ for part in model.modules())

    def kept(key: str, value: Any) -> Any:
        return sorted(value) if offloaded and key in ("_parameters", "_buffers") else _shallow(value)

    return [
        [
            (name, type(module), {key: kept(key, value) for key, value in sorted(module.__dict__.items())})
            for name, module in model.named_modules()
        ],
        [] if offloaded else [(name, one.data_ptr(), one._version) for name, one in model.state_dict().items()],
    ]


def _shallow(value: Any) -> Any:
    """Containers by their members, anything else by identity."""
    if isinstance(value, dict):
        return {key: id(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [id(member) for member in value]
    return value if isinstance(value, bool | int | float | str) else id(value)


def _compare_snapshots(case: Case, before: list[Any], what: str) -> None:
    for part, now in zip(before, snapshot(case.transformer), strict=True):
        changed = [one[0] for one, other in zip(part, now, strict=False) if one != other]
        if changed or len(part) != len(now):
            where = f"the part {changed[0]!r}" if changed and changed[0] else "something"
            raise ContractError(
                f"after {what}, {where} of {case.named} is not as it was before: place hooks with Hooks and Changes, "
                "which are removed, and write into nothing of the model."
            )
