"""Distributions of families by other people, installed as pip would into a folder on ``sys.path``."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

OTHER_FAMILY = '''
"""A family of other class names, which is FLUX.1 in all else."""

from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers import ModelMixin  # diffusers looks for it where it finds the transformer's class

from workbench.models import Family, Licence
from workbench.models.flux import FluxAdapter, FluxPipelineAdapter


class OtherTransformer(FluxTransformer2DModel):
    pass


class OtherPipeline(FluxPipeline):
    pass


class OtherAdapter(FluxAdapter):
    pass


class OtherPipelineAdapter(FluxPipelineAdapter):
    transformer_side = OtherAdapter


FAMILY = Family(
    name="Other",
    transformers=("OtherTransformer",),
    pipelines=("OtherPipeline",),
    adapter="other_family:OtherAdapter",
    pipeline_adapter="other_family:OtherPipelineAdapter",
    models=("other-1",),
    guidance="guidance=",
    licences=(Licence("MIT", ("other-1",)),),
)
'''
ONLY_DATA = """
from workbench.models.known import Family

FAMILY = Family({name!r}, {transformers!r}, {pipelines!r}, {adapter!r}, {pipeline_adapter!r}, (), "")
"""


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    files: dict[str, str],
    entry: str,
    *,
    version: str = "1.0",
) -> None:
    """Install a distribution, and put its folder on ``sys.path``.

    Parameters
    ----------
    folder : Path
        Where; several distributions may share one.
    monkeypatch : MonkeyPatch
        Takes it away again.
    name, version : str
        Of the distribution.
    files : dict of str to str
        Its modules by name.
    entry : str
        What its entry point names.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    written = {f"{module}.py": text for module, text in files.items()} | {
        f"{info.name}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info.name}/entry_points.txt": f"[workbench.families]\nfamily = {entry}\n",
    }
    record = ""
    for path, text in written.items():
        (folder / path).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    (info / "RECORD").write_text(record)
    monkeypatch.syspath_prepend(folder)


def data(
    name: str = "Made up",
    transformers: tuple[str, ...] = ("MadeUpTransformer",),
    pipelines: tuple[str, ...] = ("MadeUpPipeline",),
    adapter: str = "nowhere:Adapter",
    pipeline_adapter: str = "nowhere:PipelineAdapter",
) -> str:
    """The source of a module that has a family's data and no adapters."""
    return ONLY_DATA.format(**locals())
