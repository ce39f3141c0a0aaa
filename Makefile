# The two commands of the README, and the checks of CI. Each target does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: reproduce test check bench faults clean

reproduce: $(VENV)/.installed
	$(BIN)/harness reproduce

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

check: $(VENV)/.installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Hundreds of injected faults and thousands of fuzzed command lines; about five minutes.
faults: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --editable '.[test,cluster]'
	HARNESS_FAULTS=full $(BIN)/python -m pytest tests/faults tests/test_cli_fuzz.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Stamps: nothing is installed a second time until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-check: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	touch $@ $(VENV)/.installed $(VENV)/.installed-test

clean:
	rm -rf $(VENV)
