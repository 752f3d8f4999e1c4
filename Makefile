# setup  everything pinned, in .venv          demo  three iterations of T-SPIN, and the report
# check  lint, types, import contracts        test  the fast tests
PYTHON ?= python3
# A laptop without a GPU saves gigabytes with TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo check test clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(PIP) -c constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m tspin.demo build/demo
	$(BIN)/tspin run --config configs/demo.yaml

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup
	$(BIN)/pytest -n 2 --dist loadfile -m "not vllm and not containers and not s3 and not gpu"

clean:
	rm -rf build runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
