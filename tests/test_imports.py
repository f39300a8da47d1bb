from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "plotly", "matplotlib", "PIL", "anywidget", "ipywidgets")


def _loaded(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running the code."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_registers_the_accessor_and_loads_nothing_heavy() -> None:
    loaded = _loaded("import workbench, xarray\nassert hasattr(xarray.Dataset, 'wb')\nassert workbench.__version__")
    assert "xarray" in loaded
    assert not loaded & set(HEAVY)
    assert "zarr" not in loaded


@pytest.mark.parametrize(
    "module", ["schema", "numerics", "images", "truth", "store", "analysis", "accessor", "figures", "widgets"]
)
def test_stored_data_are_handled_without_torch(module: str) -> None:
    loaded = _loaded(f"import pkgutil, importlib, workbench.{module} as root\n{_EVERY_SUBMODULE}")
    assert not loaded & {"torch", "diffusers", "transformers", "safetensors", "accelerate"}


_EVERY_SUBMODULE = """
for found in pkgutil.walk_packages(getattr(root, '__path__', ()), root.__name__ + '.'):
    importlib.import_module(found.name)
"""


def test_knowing_the_families_imports_none_of_their_pipelines() -> None:
    loaded = _loaded(
        "import workbench.models, workbench.models.family as family\n"
        "assert 'FluxPipeline' in family.pipeline_names() and 'FluxTransformer2DModel' in family.transformer_names()\n"
        "assert not [name for name in sys.modules if name.startswith('workbench.models.flux')]"
    )
    assert "diffusers" not in loaded


def test_listing_and_opening_runs_needs_no_torch() -> None:
    assert not _loaded("import workbench as wb\nassert wb.runs() == []") & {"torch", "diffusers"}


def test_every_public_name_resolves_to_what_its_module_defines() -> None:
    code = """
import workbench
for name in workbench.__all__:
    getattr(workbench, name)
names = ('capture', 'generate', 'trace', 'load_model', 'runs', 'open', 'explore', 'intervene', 'vital_layers')
assert all(callable(getattr(workbench, name)) for name in names), names
assert set(names) <= set(dir(workbench))
import pkgutil
# A module of a public function's name would replace it once imported.
modules = {module.name for module in pkgutil.iter_modules(workbench.__path__)}
assert not modules & {*names, 'compare', 'ablate', 'intervene'}, modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
