# Every task by name. `make` alone does what a newcomer wants; `make help` lists the rest.
# Works with GNU make 3.81 and later, also under Git Bash on Windows.

ifeq ($(OS),Windows_NT)
  BIN := Scripts
else
  BIN := bin
endif
VENV ?= .venv
PY := $(VENV)/$(BIN)/python
# The first Python in the range that the lock was made for; `make PYTHON=...` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && echo $$p && break; done)
INSTALLED := $(VENV)/installed

# glibc gives large blocks back to Linux after every training step, and gets them page by page,
# zeroed, in the next: up to a third of the time. Kept, and on large pages, they cost nothing.
train: export MALLOC_ARENA_MAX := 1
train: export MALLOC_MMAP_MAX_ := 0
train: export MALLOC_TRIM_THRESHOLD_ := 16000000000
train: export THP_MEM_ALLOC_ENABLE := 1

.DEFAULT_GOAL := notebooks
.PHONY: notebooks test test-long data render train keep html pdf bench lint lock clean help

notebooks: $(INSTALLED) ## (default) install, get the data, execute both notebooks into build/
	@$(PY) -m assignment notebooks

test: $(INSTALLED) ## every test but the long ones, with coverage; ARGS="-k name" to choose
	@$(PY) -m pytest $(or $(ARGS),-n auto --dist worksteal -m "not long" --cov --cov-fail-under=95)

test-long: $(INSTALLED) ## the long ones: a browser, several processes, `make` from nothing
	@$(PY) -m pytest -n auto --dist loadfile -m long

data: $(INSTALLED) ## get both datasets and the pretrained weights, however long it takes
	@$(PY) -m assignment data

render: $(INSTALLED) ## write the committed notebooks and figures/ (clean tree, real data)
	@$(PY) -m assignment render

train: $(INSTALLED) ## execute both notebooks with every long run done again, into data/runs/
	@$(PY) -m assignment train

keep: $(INSTALLED) ## promote fresh runs from data/runs/ to data/records/
	@$(PY) -m assignment keep

html: $(INSTALLED) ## web pages from the committed notebooks, and two to try things on, into build/site/
	@$(PY) -m assignment html

pdf: $(INSTALLED) ## the committed notebooks as PDF, into build/pdf/ (needs Chromium)
	@$(PY) -m assignment pdf

bench: $(INSTALLED) ## speed, as ratios against named alternatives in the same run, into data/records/
	@TQDM_DISABLE=1 $(PY) -m tests.bench $(ARGS)

lint: $(INSTALLED) ## formatting, lint and types, notebooks included
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

lock: $(INSTALLED) ## solve requirements.lock anew from pyproject.toml
	@$(PY) -m pip install --quiet uv
	@$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --all-extras \
	  --no-header --no-annotate pyproject.toml --output-file requirements.solved
	@grep '^#' requirements.lock > requirements.new && cat requirements.solved >> requirements.new
	@mv requirements.new requirements.lock && rm requirements.solved

clean: ## remove what was built here; data/ and the environment stay
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Made anew when the lock or the package's own definition changes; nothing is asked of the network
# otherwise.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found;" \
	  "install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Installing into $(VENV) (with CUDA libraries, on Linux, about 6 GB; a few minutes)"
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing;" \
	  "on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PY) -m pip install --disable-pip-version-check --quiet -r requirements.lock
	@$(PY) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $(INSTALLED)
