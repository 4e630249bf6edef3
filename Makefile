# make demo                  the main job on simulated tissue (no download)
# make demo DATA=mouse-ca1   the same on the mouse CA1 section
# make test                  the tests
# make lint types imports docs
# Other settings: PYTHON (3.11 or newer), VENV (where the environment goes), PYTEST (arguments for pytest)

PYTHON ?= python3
VENV ?= .venv
DATA ?=
PYTEST ?=

ifndef SJG_DATA_DIR
ifneq ($(wildcard ../shared/data/.),)
SJG_DATA_DIR := $(abspath ../shared/data)
endif
endif
ifdef SJG_DATA_DIR
export SJG_DATA_DIR
endif

BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports docs clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# one stamp for each set of extras: an install is repeated only when what it reads has changed
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sjg needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.sjg: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.sjg-%: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	@touch $@

demo: $(VENV)/.sjg
	$(BIN)/sjg demo $(if $(DATA),--data $(DATA))

test: $(VENV)/.sjg-test
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.sjg-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.sjg-dev
	$(BIN)/mypy

imports: $(VENV)/.sjg-dev
	$(BIN)/lint-imports

docs: $(VENV)/.sjg-doc
	@rm -rf docs/generated
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) docs/_build docs/generated .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
