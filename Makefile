# `make demo` and `make test` do all their own set-up: a virtual environment in .venv, everything pinned by
# constraints.txt. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-rl lint types bench clean

demo: $(STAMP)
	$(BIN)/memstore demo --folder demo-memory

# loadgroup: the tests with Ray are of one group, so that one process starts it once.
test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup

test-rl: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup tests/rl

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/ingest.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "memstore needs Python 3.11 or newer; call: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# torch first and by itself: its pin then keeps every other package from asking for another build.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo-memory out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
