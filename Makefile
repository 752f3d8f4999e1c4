# setup  everything pinned, in .venv          demo  three iterations of T-SPIN, and the report
# check  lint, types, import contracts        test  the fast tests
# check-k8s  render every overlay and lint it (needs kubectl)
PYTHON ?= python3
# A laptop without a GPU saves gigabytes with TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

VENV := .venv
VENV_K8S := .venv-k8s
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo check check-k8s test clean

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

# checkov does not resolve with constraints.txt: an environment of its own.
$(VENV_K8S)/installed: k8s/requirements.txt
	$(PYTHON) -m venv $(VENV_K8S)
	$(VENV_K8S)/bin/python -m pip install --quiet --disable-pip-version-check -r k8s/requirements.txt
	touch $@

check-k8s: $(VENV_K8S)/installed
	rm -rf build/k8s
	mkdir -p build/k8s
	set -e; for overlay in $(notdir $(wildcard k8s/overlays/*)); do \
		kubectl kustomize k8s/overlays/$$overlay > build/k8s/$$overlay.yaml; done
	$(VENV_K8S)/bin/kubernetes-validate --strict --quiet --no-warn build/k8s/*.yaml
	$(VENV_K8S)/bin/checkov --config-file k8s/checkov.yaml --directory build/k8s --compact --quiet
	$(VENV_K8S)/bin/shellcheck k8s/pools/*/*.sh

clean:
	rm -rf build runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
