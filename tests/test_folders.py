from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_pipelines.auraflow import auraflow_transformer
from tests.tiny_pipelines.flux3 import flux3_transformer
from tests.tiny_pipelines.lumina2 import lumina2_transformer
from tests.tiny_pipelines.sd3 import sd3_transformer
from tests.tiny_pipelines.z_image import z_image_transformer
from tests.tiny_random import flux_transformer
from workbench.folders import blocks_in, bundled_folder, info_in, json_object, local_folder
from workbench.models.family import adapter_for
from workbench.schema import ModelError


def test_the_bundled_folder_says_what_it_holds() -> None:
    folder = local_folder("tiny-flux")
    assert folder == bundled_folder("tiny-flux")
    assert folder is not None
    assert "sun" in info_in(folder)["vocabulary"]
    assert blocks_in(folder) == (5, 2)


@pytest.mark.parametrize(
    "make",
    [
        auraflow_transformer,
        flux3_transformer,
        flux_transformer,
        lumina2_transformer,
        sd3_transformer,
        z_image_transformer,
    ],
)
def test_blocks_are_counted_as_the_adapters_do(make: Callable[[], Any], tmp_path: Path) -> None:
    model = make()
    model.save_config(tmp_path / "transformer")
    kinds = [layer.kind for layer in adapter_for(model).layers]
    assert blocks_in(tmp_path) == (kinds.count("dual"), kinds.count("single"))


def test_a_name_of_the_hub_has_no_folder_here() -> None:
    assert local_folder("black-forest-labs/FLUX.1-schnell") is None


def test_a_folder_without_those_files_says_nothing(tmp_path: Path) -> None:
    assert info_in(tmp_path) == {}
    assert blocks_in(tmp_path) is None
    with pytest.raises(ModelError, match="no diffusers pipeline"):
        local_folder(str(tmp_path))


def test_what_is_no_json_object_is_refused(tmp_path: Path) -> None:
    for content, message in (("{", "is no JSON"), ("[1]", "holds a list")):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ModelError, match=message):
            json_object(tmp_path / "x.json")
