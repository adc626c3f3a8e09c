# `make demo` and `make test` do all of their own set-up; CI runs `make check` and `make test`.
# Needs: Python 3.11 or newer with venv, make, git. Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST ?=

# the environment's programs first: DVC's stages call `lnmt`
export PATH := $(BIN):$(PATH)
# where bytecode is not kept, every command compiles its imports again: seconds each
unexport PYTHONDONTWRITEBYTECODE
export DO_NOT_TRACK := true
export BENTOML_DO_NOT_TRACK := True
export DVC_NO_ANALYTICS := 1
export EVIDENTLY_DISABLE_TELEMETRY := 1
export GX_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export ORT_DISABLE_TELEMETRY := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

# Where pip is told of local wheels, uv takes them too, and torch comes as the build offered there;
# elsewhere uv picks torch's build for this machine, so that nobody without a GPU downloads CUDA.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
else
export UV_TORCH_BACKEND ?= auto
endif

.PHONY: help setup demo test check lint types layers docs format serve ui lock clean bench soak
.DEFAULT_GOAL := help

help:
	@echo "make demo    real data to a served, A/B-released, monitored model, and where to look"
	@echo "make test    every test            make check   lint, types, layers, docs"
	@echo "make serve   serve what is released"
	@echo "make ui      Prefect, MLflow, validation and Evidently pages"
	@echo "make bench   every benchmark       make bench-NAME   benchmarks/NAME.py"
	@echo "make soak    real faults, counted: kills, full disks, power cuts, overload, hostile requests"
	@echo "make lock    resolve constraints.txt again"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || $(VENV)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints.txt)"
	$(VENV)/bin/uv pip install --quiet --python $(VENV) --constraints constraints.txt --editable '.[dev,postgres,redis]'
	@touch $@

demo: setup
	@python -m examples.demo

test: setup
	python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile $(PYTEST)

check: lint types layers docs

lint: setup
	ruff check .
	ruff format --check .

types: setup
	mypy

layers: setup
	lint-imports

docs: setup
	python -m pytest -q tests/contracts

format: setup
	ruff check --fix .
	ruff format .

serve: setup
	lnmt serve

ui: setup
	lnmt ui

bench: setup
	@for script in benchmarks/*.py; do echo "== $$script"; python -m "benchmarks.$$(basename "$$script" .py)" || exit 1; done

bench-%: setup
	python -m benchmarks.$*

soak: setup
	python -m tests.faults

# The +cpu of a local torch wheel is this machine's; the pin holds for every build. Nothing is built
# for the extras' own interpreters: the pins are those of the oldest Python that LNMT runs on.
lock: setup
	uv pip compile --quiet pyproject.toml --all-extras --python-version 3.11 --upgrade-package torch \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --output-file constraints.txt
	sed -i 's/+cpu$$//' constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
