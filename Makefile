# A fresh machine needs Python 3.11 or newer, nothing else: every target makes .venv first when it is missing.
# The torch to install is yours to choose, for example
#   make test TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
TORCH ?= torch
KILLS ?= 200
CAPTURES ?= 500

VENV := .venv
PY := $(VENV)/bin/python
PACKAGE := $(VENV)/.installed-package
INSTALLED := $(VENV)/.installed
DOCUMENTING := $(VENV)/.installed-docs
LOWEST := .venv-lowest
TESTED_LOWEST := tests/models tests/contract tests/recording/test_selfcheck.py tests/recording/test_tracing.py \
	tests/recording/test_capturing.py tests/store/test_writing.py tests/test_schema.py tests/test_accessor.py
TESTING := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto
DOCUMENTED := schema numerics store models recording interventions experiments analysis figures widgets tiny evaluation contract

.PHONY: help install demo test test-slow test-all soak bench bench-gpu bench-tiny bench-widgets bench-charts lint docs readme pictures lowest

help:
	@echo "make demo | test | test-slow | test-all | soak | lowest | lint | docs | readme | pictures | install    (TORCH=$(TORCH))"
	@echo "make bench | bench-gpu | bench-tiny | bench-widgets | bench-charts"

install: $(INSTALLED)

$(PY):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python %s found, 3.11 or newer needed: make PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

# The stamps are younger than pyproject.toml once everything it names is installed: what the package needs, then what
# its development does.
$(PACKAGE): pyproject.toml | $(PY)
	$(PY) -m pip install $(TORCH)
	$(PY) -m pip install --editable .
	@touch $@

$(INSTALLED): $(PACKAGE)
	$(PY) -m pip install --editable ".[test]"
	@touch $@

$(DOCUMENTING): $(INSTALLED)
	$(PY) -m pip install --editable ".[docs]"
	@touch $@

demo: $(PACKAGE)
	$(PY) -m workbench.tiny.demo

# Tests of a file share what is expensive to make, and so do those with a browser: conftest.py keeps them together.
test: $(INSTALLED)
	$(TESTING) --dist loadfile --no-loadscope-reorder -m "not slow"

# What takes long by nature (notebooks, the wheel, inductor, pictures in numbers), and what repeats a rule over all
# families, crash points and libraries.
test-slow: $(INSTALLED)
	$(TESTING) --dist load -m slow

test-all: test test-slow

# Adapters, and what is under them, at the lowest versions that pyproject.toml allows; torch is the one with CUDA.
lowest: $(LOWEST)/.installed
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses auto --dist loadfile \
		-p no:cacheprovider -m "not slow" $(TESTED_LOWEST)

$(LOWEST)/.installed: pyproject.toml tests/lowest.py
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install uv
	$(PYTHON) -m tests.lowest > $(LOWEST)/requirements.txt
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct \
		--requirement $(LOWEST)/requirements.txt --editable .
	@touch $@

# Every figure of docs/performance.md that needs no GPU; keep the machine idle meanwhile.
bench: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(PY) -m tests.benchmarks

# What only a large CUDA device can tell.
bench-gpu: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(PY) -m tests.benchmarks.flux_gpu

# Scores of the bundled model on the drawn test scenes.
bench-tiny: $(INSTALLED)
	$(PY) -m workbench.tiny.training.evaluate --scenes 500

# Times, sizes and memory of explore() in JupyterLab; needs Chromium, like the tests marked `browser`.
bench-widgets: $(INSTALLED)
	$(PY) -m tests.benchmarks.widgets

# Curves and matrices of the views beside the same ones in plotly: bytes, and times in the browser.
bench-charts: $(INSTALLED)
	$(PY) -m tests.benchmarks.charts

# Kill processes that compute a run, many times, and capture from many threads; look at what becomes of the runs.
soak: $(INSTALLED)
	HF_HUB_OFFLINE=1 WORKBENCH_KILLS=$(KILLS) $(PY) -m pytest tests/store/test_killing.py
	HF_HUB_OFFLINE=1 WORKBENCH_CAPTURES=$(CAPTURES) $(PY) -m pytest tests/recording/test_turns.py

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# The table of families in docs/models.md, from the adapters' own declarations; a test compares.
readme: $(INSTALLED)
	$(PY) -m workbench.models.features docs/models.md

# docs/demo.png and docs/explore.png; needs Chromium.
pictures: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(PY) -m tests.browser.pictures

# pdoc follows the package's list of public names; the packages below it are named here.
docs: $(DOCUMENTING)
	$(PY) -m pdoc --docformat numpy --output-directory build/docs workbench $(DOCUMENTED:%=workbench.%)
