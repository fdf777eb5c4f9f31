# Everything that a fresh machine needs is installed by the first target that needs it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?=

.PHONY: demo test test-slow test-install lint format docs bench papers clean

demo: $(VENV)/installed  ## Real peers on this machine learn together (options: make demo DEMO="--kill-one")
	$(BIN)/python -m gossipjax.peer demo $(DEMO)

test: $(VENV)/installed-dev  ## Everything that has to pass: lint, types, contracts, docs, tests
	$(MAKE) --jobs=2 lint docs test-install
	JAX_PLATFORMS=cpu $(BIN)/pytest -m "not slow" --numprocesses=2 --dist=loadfile

test-slow: $(VENV)/installed-dev  ## Minutes-long tests: many fault scenarios, long churn
	JAX_PLATFORMS=cpu $(BIN)/pytest -m slow --timeout 1200

test-install: $(VENV)/installed-dev  ## pip install into clean environments, every Python at hand
	$(BIN)/python tests/install_check.py

lint: $(VENV)/installed-dev  ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(VENV)/installed-dev  ## Rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/installed-dev  ## Build the documentation into site/, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/installed-dev  ## Every benchmark: tables on the screen, JSON in benchmarks/results/
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

papers: $(VENV)/installed-dev  ## Every paper example in full, about an hour: CSV and pictures in runs/, table in docs/papers.md
	$(BIN)/python examples/papers/table.py

clean:  ## Remove the virtual environment and what was built
	rm -rf $(VENV) site build dist runs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/installed
