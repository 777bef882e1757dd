# Every target works on a fresh clone: the environment is made first where it is missing.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
LIGHT  ?= .venv-light

# Compiled modules are kept whatever the machine says: without them each start of a program compiles torch and transformers anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install light demo test test-slow test-all check lint types layers coverage docs train-deps clean

help:          ## show this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## ?/  make \1\t/' | expand -t 22

install: $(READY)  ## make .venv and install the package with everything the tests need

# made once, and again when the dependencies change; modules are compiled when they are first imported, not all of them here
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

light: $(LIGHT)/.installed  ## make .venv-light: all commands but training, exporting and EMOVA's checkpoints, in 300 MB

$(LIGHT)/.installed: requirements-light.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps -r requirements-light.txt
	@touch $@

demo: $(LIGHT)/.installed  ## hear, see and answer: prints the turns, writes the answers and a picture of them to demo/
	$(LIGHT)/bin/emova demo

test: $(READY)     ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -rs $(TESTS)

test-slow: $(READY) ## run the slow tests, all or TESTS=tests/exporters
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -rs -m slow $(TESTS)

test-all: test test-slow  ## run all tests

check: lint types layers test  ## everything a change must pass

lint: $(READY)     ## ruff: style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)    ## pyright, strict
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(READY)   ## nothing imports upward
	$(BIN)/lint-imports

coverage: $(READY) ## run the tests and show what they do not reach
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

docs: $(READY)     ## build the documentation into site/
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict

train-deps:        ## the speech programs that training data is made with (Debian, Ubuntu)
	apt-get install --yes --no-install-recommends \
		build-essential espeak-ng flite festival festlex-cmu festlex-poslex \
		festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts

clean:             ## remove what was built, the environment included
	rm -rf $(VENV) $(LIGHT) build dist site demo .pytest_cache .ruff_cache .coverage htmlcov
