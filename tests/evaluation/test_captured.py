from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.evaluation.fixtures import Arrays
from tests.tiny_random import flux_pipeline
from workbench.evaluation.captured import Captured, Captures, prepared_image
from workbench.evaluation.examples import Example
from workbench.evaluation.harness import evaluate
from workbench.evaluation.methods import Setting
from workbench.evaluation.protocols import Protocol
from workbench.recording import capturing
from workbench.schema import SPACES, InputError

WORDS = ("dog", "grass", "sky")
RULES = Protocol(layers=(1, 2), timestep=500.0, samples=2, seed=3, image_resize="nearest 32")


@pytest.fixture(scope="module")
def pipe() -> Any:
    return flux_pipeline()


@pytest.fixture
def example() -> Example:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    return Example("a", pixels, "a dog", ("dog",))


def maps_of(pipe: Any, example: Example, space: str, rules: Protocol = RULES, captures: Captures | None = None) -> Any:
    method = Captured(space, space, captures or Captures(pipe))
    method.prepare(Setting(None, rules, ("a",)))  # type: ignore[arg-type]
    return next(iter(method.maps([example], [WORDS])))


def captured(pipe: Any, example: Example, space: str, **options: Any) -> Any:
    chosen = {"timesteps": 500, "samples": 2, "seed": 3, "prompt": "a dog", "layers": [1, 2], "size": (32, 32)}
    chosen["spaces"] = [space]
    return wb.capture(example.image, WORDS, model=pipe, store=False, progress=False, **{**chosen, **options})


@pytest.mark.slow
@pytest.mark.parametrize("space", [space for space in SPACES if space != "prompt"])
def test_maps_are_those_of_a_capture(pipe: Any, example: Example, space: str) -> None:
    found = maps_of(pipe, example, space)
    expected = captured(pipe, example, space).wb.heatmap(space=space, layers=[1, 2])
    assert (found.to_numpy() == expected.to_numpy()).all()
    assert found.concept.to_numpy().tolist() == list(WORDS)


@pytest.mark.slow
@pytest.mark.parametrize("reduce", ["mean", "mean_softmax", "sum"])
def test_reductions(pipe: Any, example: Example, reduce: str) -> None:
    found = maps_of(pipe, example, "output", RULES.changed(reduce=reduce)).to_numpy()
    ds = captured(pipe, example, "output")
    if reduce == "sum":
        expected = ds.output_total.sum(["sample", "timestep", "layer"]).to_numpy()
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    else:
        assert (found == ds.wb.heatmap(layers=[1, 2], reduce=reduce).to_numpy()).all()


def test_softmax_in_every_head(pipe: Any, example: Example) -> None:
    found = maps_of(pipe, example, "cross", RULES.changed(heads="softmax")).to_numpy()
    scores = captured(pipe, example, "cross").cross.astype(np.float32)
    powers = np.exp(scores - scores.max("concept"))
    expected = (powers / powers.sum("concept")).mean(["sample", "timestep", "layer", "head"])
    assert np.abs(found - expected.transpose("concept", "y", "x").to_numpy()).max() < 1e-6


def test_attend_decides(pipe: Any, example: Example) -> None:
    found = maps_of(pipe, example, "output", RULES.changed(attend="none"))
    expected = captured(pipe, example, "output", attend="none").wb.heatmap(layers=[1, 2])
    assert (found.to_numpy() == expected.to_numpy()).all()


def test_the_prompts_own_tokens(pipe: Any, example: Example) -> None:
    found = maps_of(pipe, example, "prompt")
    caption = "dog and grass and sky"
    expected = captured(pipe, example, "prompt", prompt=caption).wb.heatmap(space="prompt", layers=[1, 2])
    assert expected.token.to_numpy().tolist() == ["dog", "and", "grass", "and", "sky"]
    assert (found.to_numpy() == expected.isel(token=[0, 2, 4]).to_numpy()).all()


@pytest.mark.filterwarnings("ignore::workbench.schema.WorkbenchWarning")
def test_words_of_several_tokens_in_the_prompt(pipe: Any, example: Example) -> None:
    method = Captured("prompt", "prompt", Captures(pipe))
    method.prepare(Setting(None, RULES, ("a",)))  # type: ignore[arg-type]
    words = ("skyscraper", "dog")
    (found,) = method.maps([example], [words])
    ds = wb.capture(
        example.image,
        words,
        model=pipe,
        store=False,
        progress=False,
        prompt="skyscraper and dog",
        spaces=["prompt"],
        timesteps=500,
        samples=2,
        seed=3,
        layers=[1, 2],
        size=(32, 32),
    )
    maps = ds.wb.heatmap(space="prompt", layers=[1, 2]).to_numpy()
    assert np.abs(found.to_numpy() - np.stack([maps[:2].mean(0), maps[3]])).max() < 1e-6


@pytest.mark.slow
def test_methods_share_one_capture(pipe: Any, example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    real = capturing.capture

    def counted(image: Any, concepts: Any, **options: Any) -> Any:
        calls.append(options)
        return real(image, concepts, **options)

    monkeypatch.setattr(capturing, "capture", counted)
    captures = Captures(pipe)
    rules = [RULES, RULES.changed(layers=(0,)), RULES.changed(timestep=250.0), RULES.changed(reduce="mean")]
    methods = [Captured(space, space, captures) for space in ("output", "cross", "value", "output")]
    for method, one in zip(methods, rules, strict=True):
        method.prepare(Setting(None, one, ("a",)))  # type: ignore[arg-type]
    found = [next(iter(method.maps([example], [WORDS]))) for method in methods]
    assert len(calls) == 1
    assert (calls[0]["layers"], calls[0]["timesteps"]) == ([0, 1, 2], [500.0, 250.0])
    for one, space, rule in zip(found, ("output", "cross", "value", "output"), rules, strict=True):
        alone = maps_of(pipe, example, space, rule)
        assert np.abs(one.to_numpy() - alone.to_numpy()).max() < 1e-6
    captures.forget()
    next(iter(methods[0].maps([example], [WORDS])))
    assert len(calls) == 2 + len(found)


class Different(Arrays):
    def image(self, name: str) -> np.ndarray:
        return np.random.default_rng(int(name)).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def test_an_image_is_encoded_once_for_all_methods_and_words_once_for_all_images(
    pipe: Any, tests_code: None, tmp_path: Path
) -> None:
    half = np.arange(32)[:, None] + np.zeros((32, 32)) < 16
    held = Different({str(number): half for number in range(3)})
    rules = RULES.changed(backgrounds=("grass", "sky"), samples=1)
    calls: list[str] = []
    parts = {"image": pipe.vae.encoder, "text": pipe.text_encoder_2}
    hooks = [part.register_forward_pre_hook(lambda *_, name=name: calls.append(name)) for name, part in parts.items()]
    try:
        found = evaluate(
            held, ["output", "cross", "prompt"], model=pipe, protocol=rules, folder=tmp_path, batch=2, progress=False
        )
    finally:
        for hook in hooks:
            hook.remove()
    assert found.problems == ()
    assert calls.count("image") == 3
    # Three words, the caption, and for the prompt's own tokens all words in one: the same for all images.
    assert calls.count("text") == 5


def test_images_are_resized_in_steps() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    assert prepared_image(image, "antialiased") == (image, None)
    squared, size = prepared_image(image, "bicubic 16, nearest 32")
    assert (squared.shape, size) == ((32, 32, 3), (32, 32))
    assert (squared[::2, ::2] == squared[1::2, 1::2]).all()


def test_layers_that_the_model_lacks_are_refused_before_it_runs(pipe: Any, example: Example) -> None:
    with pytest.raises(InputError, match=r"layers 14-17, and the model has 0 to 4 .*--set layers=none"):
        maps_of(pipe, example, "output", RULES.changed(layers=(14, 15, 16, 17)))


def test_what_the_protocol_leaves_to_the_model_is_in_the_settings(pipe: Any) -> None:
    method = Captured("output", "output", Captures(pipe))
    method.prepare(Setting(None, Protocol(layers=None, timestep=None), ()))  # type: ignore[arg-type]
    assert method.settings["layers"] == [1, 2]
    assert method.settings["timestep"] == 500


def test_another_model_has_another_checksum(pipe: Any) -> None:
    assert Captures(pipe).identify() == Captures(pipe).identify()
    assert Captures(pipe).identify()["fingerprint"] != Captures(flux_pipeline(seed=1)).identify()["fingerprint"]
