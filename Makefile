# The two front doors: `make demo` shows what nfrl does, `make test` checks it.
# Each sets up what it needs in .venv; `make setup` does only that.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo demo-quick test lint types tests format clean

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

test: lint types tests

lint: setup
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests

types: setup
	$(BIN)/mypy

tests: setup
	$(BIN)/pytest -n 2

format: setup
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
