# setup  everything pinned, in .venv          demo  three iterations of T-SPIN, and the report
# check  lint, types, import contracts        test  the fast tests
# test-long  whole pipelines and runs, several processes, kills
# test-random  the fast tests, or those of TESTS, in a random order, in WORKERS processes
# test-threads  those that compute in a random order, with two threads
# test-processes  commands and what is killed, each process a new interpreter
# check-k8s  render every overlay and lint it (needs kubectl)
# docs  the documentation as a site, in build/site; links and anchors are checked
# dist  wheel and sdist, checked; release-dry-run  what a tag does, without publishing
# test-wheel  the wheel in an empty environment
# image  build TARGET (cpu, train, evaluate, generate) from PYTHON_IMAGE and VLLM_IMAGE
# push   the image TARGET to REGISTRY, under the commit; sbom  what is in it, as CycloneDX JSON
# locks  what images install, by version and hash; check-locks  whether that still resolves
# test-dvc  projects under dvc and git
# test-bench  benchmarks at toy size, each as a whole, and what takes a minute by itself
# test-study  the study of the paper's claims, and that its tables are those of its results
# test-s3  stores, commands and faults on a real S3 server (needs memcached and npm)
# test-trackers  MLflow on a real server that is killed; TensorBoard, W&B and trackio
# test-vllm  the vLLM engine on the CPU (an environment of 4 GB)
# test-containers  build and run the four images (as root: podman, buildah, debootstrap, docker-registry)
# bench  each BENCHMARK (training_step, generation, drafts, scale, overhead) on this machine
# bench-gpu  what only a GPU can show, in twelve minutes (GPUS, TSPIN_VLLM_PYTHON)
PYTHON ?= python3
# A laptop without a GPU saves gigabytes with TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

VENV := .venv
VENV_DIST := .venv-dist
VENV_DOCS := .venv-docs
VENV_K8S := .venv-k8s
VENV_LOCKS := .venv-locks
VENV_S3 := .venv-s3
VENV_TRACKERS := .venv-trackers
VENV_VLLM := .venv-vllm
BIN := $(VENV)/bin
AZURITE := build/azurite/node_modules/.bin/azurite-blob
SLOW := not vllm and not containers and not s3 and not trackers and not dvc and not study and not bench and not gpu and not wheel
PYTEST := $(BIN)/pytest --dist loadfile --no-loadscope-reorder
FAST := $(PYTEST) -m "$(SLOW) and not long"
WORKERS ?= 2
PROCESSES := cli run train_resume train_distributed
STOPPED := cli or killed or sigterm
COMPUTING := $(addprefix tests/unit/,attention engines forward models tokens train)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

ENGINE ?= $(firstword $(notdir $(shell command -v docker podman buildah)))
REGISTRY ?= tspin
TARGET ?= cpu
BENCHMARK ?= training_step generation drafts scale overhead
GPUS ?= 1
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' tspin/__init__.py)
REVISION = $(shell git rev-parse HEAD)$(if $(shell git status --porcelain),-dirty)
IMAGE_TAG ?= $(REVISION)
IMAGE = $(REGISTRY)/$(TARGET):$(IMAGE_TAG)

.PHONY: setup demo check check-types check-style check-imports check-k8s test test-long test-random test-threads test-processes docs dist test-wheel \
	release-tag release-dry-run publish build-containers test-containers test-s3 test-trackers test-dvc \
	test-bench test-study test-vllm bench bench-training_step bench-generation bench-drafts bench-scale bench-overhead bench-gpu image-bases image-commit image push sbom \
	locks check-locks clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(PIP) -c constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m tspin.demo build/demo
	$(BIN)/tspin run --config configs/demo.yaml

# Side by side: the types take as long as all the rest together.
check: setup
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-types check-style check-imports

check-types: build/packages
	$(BIN)/mypy

# mypy reads no import hook, which is how an editable installation maps names to folders.
build/packages:
	mkdir -p $@
	for folder in cluster components pipelines trainjob; do ln -sfn ../../$$folder $@/tspin_$$folder; done

check-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile

check-imports:
	$(BIN)/lint-imports

# In the order of the folders: the long files of tests/integration first, then the short ones fill
# up whichever process is free.
test: setup
	$(FAST) -n 2

# The largest files first: the last ones then end at about the same time.
test-long: setup
	$(PYTEST) -m "$(SLOW) and long" -n 2 tests/integration

# The first lines name the seed; `pytest -p randomly --randomly-seed SEED` is that order again.
test-random: setup
	$(FAST) -n $(WORKERS) -p randomly $(TESTS)

# Where the number of threads may matter.
test-threads: setup
	OMP_NUM_THREADS=2 $(MAKE) --no-print-directory test-random WORKERS=1 TESTS='$(COMPUTING)'

# What the other targets fork from a process that has imported torch, as new interpreters.
test-processes: setup
	TSPIN_TEST_PROCESSES=new $(PYTEST) -m "$(SLOW)" -n 2 -k '$(STOPPED)' \
		$(addprefix tests/integration/test_,$(PROCESSES:=.py))

# Beforehand and beside what waits, the images of test-containers; not needed, it builds its own.
build-containers: setup
	$(BIN)/python -m tests.containers.images

test-containers: setup
	TSPIN_REQUIRE_CONTAINERS=1 $(BIN)/pytest --timeout 1800 -o faulthandler_timeout=0 \
		-m containers tests/containers

test-dvc: setup
	$(BIN)/pytest -n 2 --dist loadfile -m dvc tests/dvc

test-bench: setup
	$(BIN)/pytest -m bench tests/integration

test-study: setup
	$(BIN)/pytest -n 2 --dist loadfile --timeout 1800 -o faulthandler_timeout=0 tests/study

bench: $(addprefix bench-,$(BENCHMARK))

bench-training_step: setup
	$(BIN)/python benchmarks/training_step.py --scaling --json build/bench/training_step.json \
		--document docs/reference/performance.md

# Exit code 2 where there is no GPU.
bench-gpu: setup
	PYTHON=$(BIN)/python benchmarks/gpu.sh --gpus $(GPUS) --json build/bench/gpu.json \
		--document docs/reference/performance.md

# A real S3 server, with an environment of its own; memcached is a package of the system.
$(VENV_S3)/installed: tests/s3/requirements.txt
	$(PYTHON) -m venv $(VENV_S3)
	$(VENV_S3)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/s3/requirements.txt
	touch $@

# Azurite is Microsoft's emulator of Blob Storage.
$(AZURITE):
	npm install --prefix build/azurite --silent --no-audit --no-fund azurite@3.35.0

test-s3: setup $(VENV_S3)/installed $(AZURITE)
	TSPIN_REQUIRE_S3=1 TSPIN_SWIFT=$(CURDIR)/$(VENV_S3)/bin TSPIN_AZURITE=$(CURDIR)/$(AZURITE) $(BIN)/pytest -n 2 --dist loadfile \
		tests/s3 tests/unit/store/test_store.py tests/integration/test_checkpoint_mirror.py

# A real MLflow server, and trackers whose packages do not resolve with constraints.txt.
$(VENV_TRACKERS)/installed: tests/trackers/requirements.txt
	$(PYTHON) -m venv $(VENV_TRACKERS)
	$(VENV_TRACKERS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/trackers/requirements.txt
	touch $@

test-trackers: setup $(VENV_TRACKERS)/installed
	TSPIN_REQUIRE_TRACKERS=1 TSPIN_TRACKERS=$(CURDIR)/$(VENV_TRACKERS)/bin $(BIN)/pytest -n 2 --dist loadfile tests/trackers

# vLLM pins other versions than constraints.txt: an environment of its own, on the CPU.
$(VENV_VLLM)/installed: tests/vllm/requirements.txt tests/vllm/named_vllm/pyproject.toml pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r tests/vllm/requirements.txt tests/vllm/named_vllm \
		--editable .
	touch $@

# Two processes: one waits for its vLLM to start while the other computes.
test-vllm: $(VENV_VLLM)/installed
	TSPIN_REQUIRE_VLLM=1 $(VENV_VLLM)/bin/pytest -n 2 --dist loadfile tests/vllm

bench-scale: setup
	$(BIN)/python -m benchmarks.scale --json build/bench/scale.json --document docs/reference/performance.md

bench-overhead: setup
	$(BIN)/python -m benchmarks.overhead --json build/bench/overhead.json --document docs/reference/performance.md

bench-drafts: setup
	$(BIN)/python -m benchmarks.drafts --json build/bench/drafts.json

bench-generation: $(VENV_VLLM)/installed
	mkdir -p build/bench
	$(VENV_VLLM)/bin/python -m benchmarks.generation --json build/bench/generation.json

# MkDocs does not resolve with constraints.txt: an environment of its own, without torch.
$(VENV_DOCS)/installed: docs/requirements.txt pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV_DOCS)
	$(VENV_DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	$(VENV_DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The reference is made from the code of this checkout: docs/hooks.
docs: $(VENV_DOCS)/installed
	NO_MKDOCS_2_WARNING=1 $(VENV_DOCS)/bin/mkdocs build --strict

# What builds, checks and uploads a release, without torch.
$(VENV_DIST)/installed: tests/wheel/requirements.txt
	$(PYTHON) -m venv $(VENV_DIST)
	$(VENV_DIST)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/wheel/requirements.txt
	touch $@

dist: $(VENV_DIST)/installed
	rm -rf dist build/lib build/bdist.*  # What setuptools left there would come into the wheel.
	mkdir -p build
	$(VENV_DIST)/bin/python -m build --no-isolation --outdir dist > build/dist.log 2>&1 \
		|| { cat build/dist.log; exit 1; }
	$(VENV_DIST)/bin/twine check --strict dist/*

# The suite's own conftest.py needs what the wheel must do without.
test-wheel: dist
	$(VENV_DIST)/bin/pytest --confcutdir tests/wheel -m wheel tests/wheel

release-tag:
	@test '$(TAG)' = 'v$(VERSION)' || { echo 'the tag is $(TAG), the version v$(VERSION)' >&2; exit 2; }

release-dry-run: TAG ?= v$(VERSION)
release-dry-run: release-tag test-wheel
	@echo 'v$(VERSION) could be released:' && ls dist

# In the release workflow only: twine gets its token from PyPI for the workflow's identity.
publish: $(VENV_DIST)/installed
	$(VENV_DIST)/bin/twine upload --non-interactive dist/*

# Base images are given by digest, never by a tag alone: docs/guides/images.md.
image-bases:
	@for base in 'PYTHON_IMAGE=$(PYTHON_IMAGE)' $(if $(filter generate,$(TARGET)),'VLLM_IMAGE=$(VLLM_IMAGE)'); do \
		echo "$${base#*=}" | grep -Eqx '[^@[:space:]]+@sha256:[0-9a-f]{64}' || { \
			echo "$(TARGET): $${base%%=*} must name a digest (NAME@sha256:...), not '$${base#*=}':" \
				'docs/guides/images.md' >&2; exit 2; }; done

# The tag of an image is the commit it was made from; what is not committed has no name to pull it by.
image-commit:
	@test -z "$$(git status --porcelain)" || { \
		echo 'the working tree has changes that no commit holds; commit them before an image is pushed:' >&2; \
		git status --short >&2; exit 2; }

image: image-bases
	$(ENGINE) build --target $(TARGET) --tag $(IMAGE) \
		--build-arg PYTHON_IMAGE='$(PYTHON_IMAGE)' \
		$(if $(VLLM_IMAGE),--build-arg VLLM_IMAGE='$(VLLM_IMAGE)') \
		$(if $(TORCH_INDEX),--build-arg TORCH_INDEX='$(TORCH_INDEX)') \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		--build-arg SOURCE='$(shell git config --get remote.origin.url)' .
	@echo '$(IMAGE)'

# The digest that the registry gave the image, for profiles and overlays; docker prints it by itself.
push: image-commit
	mkdir -p build
	$(ENGINE) push $(if $(filter docker,$(ENGINE)),,--digestfile build/digest-$(TARGET)) $(IMAGE)
	@$(if $(filter docker,$(ENGINE)),:,echo "$(IMAGE)@$$(cat build/digest-$(TARGET))")

# The image's list of packages (CycloneDX), made when it was built.
sbom:
	mkdir -p build
	$(ENGINE) run --rm --entrypoint cat $(IMAGE) /opt/tspin/sbom.cdx.json > build/sbom-$(TARGET).cdx.json

# What the images install, by version and hash, made from pyproject.toml and constraints.txt.
$(VENV_LOCKS)/installed: locks/requirements.txt
	$(PYTHON) -m venv $(VENV_LOCKS)
	$(VENV_LOCKS)/bin/python -m pip install --quiet --disable-pip-version-check -r locks/requirements.txt
	touch $@

locks: $(VENV_LOCKS)/installed
	PATH="$(CURDIR)/$(VENV_LOCKS)/bin:$$PATH" $(VENV_LOCKS)/bin/python locks/compile.py

check-locks: $(VENV_LOCKS)/installed
	PATH="$(CURDIR)/$(VENV_LOCKS)/bin:$$PATH" $(VENV_LOCKS)/bin/python locks/compile.py --check

# checkov does not resolve with constraints.txt: an environment of its own.
$(VENV_K8S)/installed: k8s/requirements.txt
	$(PYTHON) -m venv $(VENV_K8S)
	$(VENV_K8S)/bin/python -m pip install --quiet --disable-pip-version-check -r k8s/requirements.txt
	touch $@

check-k8s: $(VENV_K8S)/installed
	rm -rf build/k8s
	mkdir -p build/k8s
	set -e; for folder in $(wildcard k8s/overlays/* k8s/cluster/* k8s/examples/*); do \
		kubectl kustomize $$folder > build/k8s/$$(echo $$folder | tr / -).yaml; done
	$(VENV_K8S)/bin/kubernetes-validate --strict --quiet --no-warn build/k8s/*.yaml
	$(VENV_K8S)/bin/checkov --config-file k8s/checkov.yaml --directory build/k8s --compact --quiet
	$(VENV_K8S)/bin/shellcheck k8s/pools/*/*.sh

clean:
	rm -rf build runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
