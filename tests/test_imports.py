from __future__ import annotations

import json
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


WITHOUT_TORCH = ("schema", "numerics", "images", "truth", "store", "analysis", "accessor", "figures", "widgets")


@pytest.fixture(scope="module")
def brought() -> dict[str, list[str]]:
    """What each package brings into one fresh interpreter that the packages before it did not."""
    code = f"""
import importlib, json, pkgutil, sys
brought = {{}}
for name in {WITHOUT_TORCH}:
    before = set(sys.modules)
    root = importlib.import_module(f"workbench.{{name}}")
    for found in pkgutil.walk_packages(getattr(root, "__path__", ()), root.__name__ + "."):
        importlib.import_module(found.name)
    brought[name] = sorted({{module.partition(".")[0] for module in set(sys.modules) - before}})
print(json.dumps(brought))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_stored_data_are_handled_without_torch(module: str, brought: dict[str, list[str]]) -> None:
    assert not set(brought[module]) & {"torch", "diffusers", "transformers", "safetensors", "accelerate"}


@pytest.mark.slow
def test_knowing_the_families_imports_none_of_their_pipelines() -> None:
    loaded = _loaded(
        "import workbench.models, workbench.models.family as family\n"
        "assert 'FluxPipeline' in family.pipeline_names() and 'FluxTransformer2DModel' in family.transformer_names()\n"
        "assert not [name for name in sys.modules if name.startswith('workbench.models.flux')]"
    )
    assert "diffusers" not in loaded


@pytest.mark.slow
def test_listing_and_opening_runs_needs_no_torch() -> None:
    assert not _loaded("import workbench as wb\nassert wb.runs() == []") & {"torch", "diffusers"}


PUBLIC = """
import workbench
for name in workbench.__all__:
    getattr(workbench, name)
names = ('capture', 'generate', 'trace', 'load_model', 'runs', 'open', 'explore', 'intervene', 'vital_layers')
assert all(callable(getattr(workbench, name)) for name in names), names
assert set(names) <= set(dir(workbench))
import pkgutil
# A module of a public function's name would replace it once imported.
modules = {module.name for module in pkgutil.iter_modules(workbench.__path__)}
assert not modules & {*names, 'compare', 'ablate', 'start', 'intervene'}, modules
"""


def test_every_public_name_resolves_to_what_its_module_defines() -> None:
    exec(PUBLIC, {})


@pytest.mark.slow
def test_every_public_name_resolves_in_a_fresh_interpreter() -> None:
    subprocess.run([sys.executable, "-c", PUBLIC], check=True)
