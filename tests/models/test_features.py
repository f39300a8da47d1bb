"""What families can do, from their adapters, and the table of it in docs/models.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from workbench.models.family import adapter_class
from workbench.models.features import BEGIN, END, features, main, table
from workbench.models.known import FAMILIES
from workbench.models.known_variants import VARIANTS
from workbench.models.sd3 import SD3Adapter
from workbench.models.sd3_pipeline import SD3PipelineAdapter
from workbench.schema import SPACES, InputError

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
README = Path(__file__).parents[2] / "README.md"
FLUX = FAMILIES[0]


def test_the_page_has_the_table() -> None:
    written = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()
    assert written == table(), "make readme"


def test_the_readme_names_every_family_and_points_to_the_table() -> None:
    text = README.read_text("utf-8")
    variants = {row["name"] for row in VARIANTS}
    for family in FAMILIES:
        assert family.name in variants or family.name.split(" ")[0] in text, family.name
    assert "(docs/models.md)" in text


def test_features_are_what_the_adapters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    (family,) = (each for each in FAMILIES if "StableDiffusion3Pipeline" in each.pipelines)
    found = features(family)
    assert (found.capture, found.generate, found.trace, found.edits, found.text_mass) == (True,) * 5
    assert found.spaces == SPACES
    assert not found.positions
    monkeypatch.setattr(SD3Adapter, "spaces", ("output", "cross"))
    monkeypatch.setattr(SD3PipelineAdapter, "process", "variance-preserving")
    monkeypatch.setattr(SD3PipelineAdapter, "concept_positions", lambda self, concepts, pool: (0,))
    changed = features(family)
    assert (changed.spaces, changed.text_mass, changed.positions) == (("output", "cross"), False, True)
    (row,) = table([family]).splitlines()[2:]
    assert "(variance-preserving)" in row
    assert "`output`, `cross`" in row


def test_a_family_without_a_pipeline() -> None:
    alone = replace(FLUX, pipelines=(), pipeline_adapter="")
    found = features(alone)
    assert (found.capture, found.generate, found.trace) == (False, False, True)
    assert "none: `FluxTransformer2DModel`" in table([alone])


def test_all_families_have_features() -> None:
    for family in FAMILIES:
        assert features(family).trace
        assert adapter_class(family, "adapter") is not None


def test_the_command_writes_between_the_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out.startswith("| family |")
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    main([str(file)])
    assert file.read_text() == f"before\n{BEGIN}\n{table()}\n{END}\nafter\n"
    file.write_text("nothing")
    with pytest.raises(InputError, match="has no place for the table"):
        main([str(file)])


def test_the_licences_of_all_weights_are_named() -> None:
    """Of variants, with the family whose transformer they share."""
    named = {model for family in FAMILIES for licence in family.licences for model in licence.models}
    variants = {row["name"] for row in VARIANTS}
    for family in FAMILIES:
        assert family.licences or family.name in variants, family.name
        assert family.name not in variants or set(family.models) <= named, family.name
