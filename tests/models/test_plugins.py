"""Families that other distributions bring: found, told apart, refused with a sentence, and part of the key."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

import workbench as wb
from tests.distributions import OTHER_FAMILY, data, install
from tests.tiny_random import FLUX_CONFIG, flux_pipeline
from workbench.models import Family, plugins, register
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.models.fingerprint import fingerprint
from workbench.models.known import FAMILIES, families
from workbench.schema import InputError, ModelError, WorkbenchWarning, validate

SIZE = (16, 24)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No module or registered family of a test stays."""
    monkeypatch.setattr(plugins, "_registered", [])
    monkeypatch.setattr(plugins, "_told", set())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.endswith("_family"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of an installed family."""
    install(folder, monkeypatch, "other-family", {"other_family": OTHER_FAMILY}, "other_family:FAMILY", version="1.2")
    (family,) = families()[len(FAMILIES) :]
    assert family.origin == "other-family 1.2"
    return sys.modules["other_family"]


def other_pipeline(other: Any) -> FluxPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = other.OtherTransformer(**FLUX_CONFIG).eval()
    pipe: FluxPipeline = other.OtherPipeline(**(flux_pipeline().components | {"transformer": transformer}))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def captured(model: Any, **options: Any) -> Any:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return wb.capture(image, ["dog", "sky"], model=model, size=SIZE, progress=False, **options)


# --- found and used ----------------------------------------------------------------------------------------------
def test_a_family_is_found_used_and_part_of_the_key(other: Any, tmp_path: Path) -> None:
    pipe = other_pipeline(other)
    assert isinstance(pipeline_adapter_for(pipe), other.OtherPipelineAdapter)
    assert isinstance(adapter_for(pipe.transformer), other.OtherAdapter)
    told = fingerprint(pipe)["families"]
    assert [(each["name"], each["distribution"], each["version"]) for each in told] == [
        ("Other", "other-family", "1.2")
    ]
    ds = captured(pipe)
    assert (ds.attrs["family"], ds.attrs["family_from"]) == ("Other", "other-family 1.2")
    validate(ds, values=True)
    # By name, although diffusers has no class of this name.
    pipe.save_pretrained(tmp_path / "model")
    named = captured(wb.load_model(tmp_path / "model", device="cpu", dtype=torch.float32), store=False)
    assert named.attrs["family"] == "Other"
    np.testing.assert_allclose(named["output_total"], ds["output_total"], atol=1e-5, rtol=1e-4)


def test_families_of_this_package_change_no_key(other: Any) -> None:
    pipe = flux_pipeline()
    assert "families" not in fingerprint(pipe)
    assert not {"family", "family_from"} & set(captured(pipe, store=False).attrs)


def test_the_transformers_family_counts_in_another_familys_pipeline(other: Any) -> None:
    pipe = FluxPipeline(**other_pipeline(other).components)
    assert [each["name"] for each in fingerprint(pipe)["families"]] == ["Other"]


def test_other_code_or_another_version_is_another_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    changed = f"{OTHER_FAMILY}\n# changed\n"
    for version, module in [("1.2", OTHER_FAMILY), ("1.3", OTHER_FAMILY), ("1.3", changed), ("1.3", OTHER_FAMILY)]:
        site = folder / str(len(found))
        with monkeypatch.context() as patched:
            install(site, patched, "other-family", {"other_family": module}, "other_family:FAMILY", version=version)
            families()
            found.append(fingerprint(other_pipeline(sys.modules["other_family"]))["families"])
            del sys.modules["other_family"]
    assert found[1] == found[3]
    assert found[0] != found[1] != found[2]


def test_a_link_to_sources_is_not_stored(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pip install --editable` makes one: its code changes under the same version."""
    install(folder, monkeypatch, "other-family", {}, "other_family:FAMILY")
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "other_family.py").write_text(OTHER_FAMILY)
    monkeypatch.syspath_prepend(sources)
    families()
    pipe = other_pipeline(sys.modules["other_family"])
    with pytest.raises(ModelError, match=r"cannot be stored.*store=False"):
        captured(pipe)
    pipe = flux_pipeline()  # of known classes, but for the adapter
    pipe.transformer.__class__ = sys.modules["other_family"].OtherTransformer
    assert captured(pipe, store=False).attrs["family_from"] == "other-family 1.0"
    with monkeypatch.context() as patched:
        patched.setattr("workbench.models.runtime.foreign_code", lambda classes: [])
        with pytest.raises(
            ModelError, match=r"the adapter other_family\.OtherAdapter of other-family 1\.0 is code that"
        ):
            fingerprint(pipe)


@pytest.mark.parametrize("entry", ["one", "several", "made", "made_several"])
def test_what_an_entry_point_may_name(folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    module = data() + "one = FAMILY\nseveral = [one]\nmade = lambda: one\nmade_several = lambda: (one,)\n"
    install(folder, monkeypatch, "made-up", {"made_up_family": module}, f"made_up_family:{entry}")
    assert [family.name for family in families()[len(FAMILIES) :]] == ["Made up"]


# --- clashes -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("module", "what"),
    [
        (data(name="FLUX.1"), r"name FLUX\.1"),
        (data(transformers=("FluxTransformer2DModel",)), "transformer class FluxTransformer2DModel"),
        (data(pipelines=("Mine", "FluxPipeline")), "pipeline class FluxPipeline"),
    ],
)
def test_names_of_this_package_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, what: str) -> None:
    install(folder, monkeypatch, "grabbing", {"grabbing_family": module}, "grabbing_family:FAMILY")
    message = (
        rf"of grabbing 1\.0 is not used: its {what} is also that of the family 'FLUX\.1' of concept-workbench\. "
        r"Uninstall one of them: pip uninstall grabbing\.$"
    )
    with pytest.warns(WorkbenchWarning, match=message):
        assert families() == FAMILIES
    assert families() == FAMILIES, "told once"
    assert isinstance(pipeline_adapter_for(flux_pipeline()), object)


def test_two_distributions_of_one_name_are_both_refused_and_a_third_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {
        "first": data(name="First", transformers=(), adapter=""),
        "second": data(name="Second", transformers=(), adapter=""),
        "third": data(name="Third", pipelines=("ThirdPipeline",)),
    }
    for name, module in modules.items():
        install(folder, monkeypatch, name, {f"{name}_family": module}, f"{name}_family:FAMILY")
    with pytest.warns(WorkbenchWarning) as told:
        assert [family.name for family in families()[len(FAMILIES) :]] == ["Third"]
    said = sorted(str(each.message) for each in told)
    assert [text.partition(" is not used")[0] for text in said] == [
        "the family 'First' of first 1.0",
        "the family 'Second' of second 1.0",
    ]
    assert all("pipeline class MadeUpPipeline" in text and "first" in text and "second" in text for text in said)

    class MadeUpPipeline:
        transformer = None

    with pytest.raises(ModelError, match=r"class MadeUpPipeline is not supported.*The family 'First' of first 1\.0 is"):
        pipeline_adapter_for(MadeUpPipeline())


def test_who_is_refused_takes_no_name_from_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grabbing = data(name="Grabbing", pipelines=("FluxPipeline", "MadeUpPipeline"))
    install(folder, monkeypatch, "grabbing", {"grabbing_family": grabbing}, "grabbing_family:FAMILY")
    install(folder, monkeypatch, "made-up", {"made_up_family": data(transformers=())}, "made_up_family:FAMILY")
    with pytest.warns(WorkbenchWarning, match="of grabbing 1.0 is not used"):
        assert [family.name for family in families()[len(FAMILIES) :]] == ["Made up"]


def test_two_of_one_name_in_one_distribution(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = data() + "from dataclasses import replace\nTWO = [FAMILY, replace(FAMILY, pipelines=('Other',))]\n"
    install(folder, monkeypatch, "twice", {"twice_family": module}, "twice_family:TWO")
    with pytest.warns(WorkbenchWarning, match="that distribution brings two of this name"):
        assert families() == FAMILIES


# --- broken ones -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("raise RuntimeError('no such\\nlibrary')", r"RuntimeError: no such library\)"),
        ("import a_library_that_is_missing", "ModuleNotFoundError: No module named"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("", "AttributeError"),
        ("FAMILY = 'FLUX'", "it gives a str; expected a Family, or a list of them"),
        ("FAMILY = lambda: None", "it gives a NoneType"),
        ("def FAMILY(): 1 / 0", "ZeroDivisionError"),
        (data(transformers="FluxTransformer2DModel"), "expected a tuple of names"),  # type: ignore[arg-type]
        (data(adapter="nowhere.Adapter"), "expected 'module:Class'"),
        (data(name=" "), "the name of a family is ' '"),
        (data(transformers=(), pipelines=()), "names no class"),
    ],
)
def test_a_broken_plugin_breaks_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, why: str
) -> None:
    install(folder, monkeypatch, "broken", {"broken_family": module}, "broken_family:FAMILY", version="0.1")
    install(folder, monkeypatch, "other-family", {"other_family": OTHER_FAMILY}, "other_family:FAMILY")
    message = rf"the families of broken 0\.1 are not used: its entry point .*{why}.*pip uninstall broken\.$"
    with pytest.warns(WorkbenchWarning, match=message):
        assert [family.name for family in families()[len(FAMILIES) :]] == ["Other"]
    assert adapter_for(flux_pipeline().transformer)


@pytest.mark.parametrize(
    ("adapter", "why"),
    [
        ("nowhere:Adapter", r"its adapter nowhere:Adapter cannot be imported \(ModuleNotFoundError"),
        ("other_family:FAMILY", r"its adapter other_family:FAMILY is no workbench\.models\.TransformerAdapter"),
        ("workbench.models:JointAdapter", r"its adapter failed on a OtherTransformer \(TypeError: JointAdapter"),
    ],
)
def test_an_adapter_that_does_not_work(folder: Path, monkeypatch: pytest.MonkeyPatch, adapter: str, why: str) -> None:
    module = OTHER_FAMILY.replace("other_family:OtherAdapter", adapter)
    install(folder, monkeypatch, "other-family", {"other_family": module}, "other_family:FAMILY")
    families()
    pipe = other_pipeline(sys.modules["other_family"])
    with pytest.raises(ModelError, match=rf"the family 'Other' of other-family 1\.0 cannot be used: {why}"):
        adapter_for(pipe.transformer)


# --- while it is written -----------------------------------------------------------------------------------------
def test_a_registered_family_is_used_and_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.models import test_family

    nearer = Family("Mine", (), ("Patched",), "", "tests.models.test_family:OtherAdapter", (), "")
    register(nearer)
    register(nearer)
    assert [family.origin for family in families()[len(FAMILIES) :]] == ["this process"]

    class Patched(FluxPipeline):
        pass

    pipe = Patched(**flux_pipeline().components)
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipeline_adapter_for(pipe), test_family.OtherAdapter)
    monkeypatch.setattr("workbench.models.runtime.foreign_code", lambda classes: [])
    with pytest.raises(ModelError, match=r"the family 'Mine' was registered in this process.*store=False"):
        captured(pipe)
    assert captured(pipe, store=False).attrs["family_from"] == "this process"


def test_what_cannot_be_registered(other: Any) -> None:
    with pytest.raises(InputError, match="a str was given; expected a workbench"):
        register("Mine")  # type: ignore[arg-type]
    for taken, whose in (("FluxPipeline", "'FLUX.1' of concept-workbench"), ("OtherPipeline", "of other-family 1.2")):
        with pytest.raises(InputError, match=rf"pipeline class {taken} is taken by the family .*{whose}"):
            register(Family("Mine", (), (taken,), "", "a:B", (), ""))


def test_the_command_line_says_where_families_come_from(
    other: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from workbench.cli import main

    for arguments in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["workbench", "models", *arguments])
        with pytest.raises(SystemExit):
            main()
        out = capsys.readouterr().out
        if arguments:
            assert [each["distribution"] for each in json.loads(out)][-2:] == ["", "other-family"]
        else:
            assert "other-family 1.2" in out
            assert "built in" in out
