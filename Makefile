# What there is to do with Packhorse's sources. Each target makes what it needs first, and says what it does.
#
#   make test                        everything: static checks, unit tests, and the end-to-end tests on a real cluster
#   make e2e KUBECONFIG=~/my/config  on a cluster of yours instead of a kind cluster made for the purpose

.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

CACHE := $(or $(PACKHORSE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/packhorse)
VENV := $(CACHE)/venv/$(shell sha256sum requirements-dev.lock | cut -c1-16)
PYTHON := $(VENV)/bin/python
CLUSTER := $(PYTHON) -m tests.cluster
PYTEST := $(PYTHON) -m pytest

# A kubeconfig counts only when it is named for this purpose: one that is merely in the environment may be anybody's.
ifeq ($(origin KUBECONFIG),command line)
export PACKHORSE_KUBECONFIG := $(KUBECONFIG)
endif

.PHONY: help
help: ## Say what there is
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: venv
venv: $(VENV)/.complete ## Make a Python environment with all that development takes, outside the checkout
	@echo "Python environment: $(VENV)"

$(VENV)/.complete:
	@./tests/cluster/make-venv "$(VENV)"

.PHONY: cluster
cluster: $(VENV)/.complete ## Find, mend or make the test cluster, with all images
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: $(VENV)/.complete ## Remove the test cluster
	@$(CLUSTER) down

.PHONY: sync
sync: $(VENV)/.complete ## Bring the sources as they are now to the running cluster
	@$(CLUSTER) sync

.PHONY: demo
demo: $(VENV)/.complete ## Show the product at work on the cluster
	@PYTHONPATH=operator $(PYTHON) -m demo

.PHONY: test
test: lint unit e2e ## Everything

.PHONY: lint
lint: $(VENV)/.complete ## Static checks: style, format, types, who may import whom
	@echo "== ruff check"; $(VENV)/bin/ruff check
	@echo "== ruff format --check"; $(VENV)/bin/ruff format --check
	@echo "== mypy"; $(VENV)/bin/mypy
	@echo "== lint-imports"; PYTHONPATH=operator $(VENV)/bin/lint-imports

.PHONY: unit
unit: $(VENV)/.complete ## Unit tests: no cluster, no network beyond this machine
	@echo "== unit tests"; $(PYTEST) tests/unit -n auto

.PHONY: e2e
e2e: $(VENV)/.complete cluster ## End-to-end tests on the cluster
	@echo "== end-to-end tests, side by side, since they mostly wait"
	@$(PYTEST) tests/e2e -m 'not alone' -n 4 --dist loadfile
	@echo "== end-to-end tests that take parts of the cluster away, one by one"
	@$(PYTEST) tests/e2e -m alone

# Chosen otherwise by e.g. BENCH_INSTALL="--load blender --rounds 3".
.PHONY: bench-install
bench-install: $(VENV)/.complete ## Measure installing packages against curl with unzip, and Azure's SDK with zipfile
	@PYTHONPATH=operator $(PYTHON) -m benchmarks.install $(BENCH_INSTALL)

.PHONY: crds
crds: $(VENV)/.complete ## Generate the CRDs in crds/ and in the chart from the models
	@PYTHONPATH=operator $(PYTHON) -m packhorse.model.crd --write crds
	@PYTHONPATH=operator $(PYTHON) -m packhorse.model.crd --write helm/packhorse/files/crds
	@echo "Wrote the CRDs in crds/ and helm/packhorse/files/crds/."

# uv resolves for every platform and Python at once; nothing here names the index that the packages come from.
UV_COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links

.PHONY: lock
lock: ## Lock the dependencies of pyproject.toml anew (takes uv)
	@command -v uv >/dev/null || { echo "uv is not installed. Install it: pipx install uv" >&2; exit 1; }
	@echo "Locking requirements.lock"; $(UV_COMPILE) pyproject.toml --output-file requirements.lock
	@echo "Locking requirements-dev.lock"
	@$(UV_COMPILE) pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock
