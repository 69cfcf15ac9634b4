PYTHON ?= python3
BIN := .venv/bin
LAUNCH := $(BIN)/accelerate launch --quiet --config_file launch/one_process.yaml
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help quickstart check test lint soak docs clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: .venv/installed  ## install, then fine-tune the bundled model on the bundled text and report how good it is
	$(LAUNCH) recipes/finetune.py

check: .venv/installed-test  ## lint, and the fast tests of what you changed: under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -q -m "not slow" $$($(BIN)/python tests/touched.py)

test: .venv/installed-test  ## run all tests, and show the ten slowest
	$(PYTEST) --durations=10

lint: .venv/installed-test  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: .venv/installed-test  ## kill runs and damage their files, 400 times, and print what became of them: about half an hour
	$(BIN)/python benchmarks/soak.py --kills 200 --damages 200
	$(PYTEST) -q -m exhaustive

docs: .venv/installed  ## write docs/code.md and docs/flags.md anew from the code
	$(BIN)/python docs/generate.py

clean:  ## delete the environment, caches and build products; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: setup.cfg constraints.txt .venv/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@
