# The two front doors: `make demo` shows what nfrl does, `make test` checks it.
# Each sets up what it needs in .venv; `make setup` does only that.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo demo-quick test lint types docs tests faults audit format clean

setup: $(VENV)/.installed

# Not done again until the requirements change. The constraints pin every version, so that what
# worked for us works for you.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nfrl needs Python 3.11 or later: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/nfrl demo

demo-quick: setup
	$(BIN)/nfrl demo --quick

test: lint types docs tests

lint: setup
	$(BIN)/ruff format --check src tests scripts faults
	$(BIN)/ruff check src tests scripts faults

types: setup
	$(BIN)/mypy

# The site, into site/. It needs no network; a warning is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Each of the two takes half of the files in a row, so that what a file's tests share is made once;
# who is done first takes over what the other has left.
tests: setup
	$(BIN)/pytest -n 2 --dist worksteal

# What may go wrong is made to go wrong (docs/faults.md).
faults: setup
	$(BIN)/python -m faults --out results/faults.json --page docs/faults.md

# Known weaknesses of the packages that are pinned. It asks a data base on the net.
audit: setup
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps

format: setup
	$(BIN)/ruff format src tests scripts faults
	$(BIN)/ruff check --fix src tests scripts faults

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
