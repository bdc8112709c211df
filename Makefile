# What a person calls; `make` alone lists it. Needs Python 3.11 or newer, and git.

PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/.installed

# DVC starts the stages as `python -m flows.STAGE`: this puts the environment's python first, activated or not.
export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: help install reproduce server verify test torture benchmark check format clean

help:  ## list what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

install: $(INSTALLED)  ## create the virtual environment with the locked versions

$(INSTALLED): pyproject.toml constraints.txt constraints-numeric.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

reproduce: install server  ## from raw pictures to the report: everything that is stale
	dvc repro
	@echo "report: $(CURDIR)/report/index.html"

server: install  ## start a Prefect server in the background, if none answers
	@python -m flows.server

verify: install  ## rebuild the committed revision from nothing, and compare every hash
	python -m flows.verify

test: install  ## the tests, two files at a time; then whole pipelines
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --ignore=tests/flows
	python -m pytest -n 2 --dist loadfile tests/flows

torture: install  ## kill, damage, fill and stop everything on purpose, half an hour; KILLS=5 ONLY="damage stops" for less
	python -m torture $(if $(KILLS),--kills $(KILLS)) $(if $(ONLY),--only $(ONLY))

benchmark: install  ## how fast this is beside its peers: what fits the machine, minutes to an hour
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	python -m benchmarks

check: install  ## style, types, and who may import whom
	ruff check .
	ruff format --check .
	lint-imports
	mypy

format: install  ## bring the code to the one style
	ruff check --fix .
	ruff format .

clean:  ## remove the environment and caches; data, models and results stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache *.egg-info .logs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
