.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# requirements.lock has one section a group: runtime, build, embedded, tracing, development, bench.
locked = $(PIP) --require-hashes -r <(sed -n '/^\# $(1)$$/,/^$$/p' requirements.lock)

.PHONY: help
help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: serve
serve: $(VENV)/.serve ## Install what is needed and run the service, with a Postgres of its own.
	@$(BIN)/participants serve

# Where this is set to keep folders clean, each of several hundred processes would compile all of its code anew.
test: export PYTHONDONTWRITEBYTECODE =

.PHONY: test
test: $(VENV)/.development ## Install what is needed and run the tests, with a Postgres of their own.
	@$(BIN)/pytest

.PHONY: test-postgres
test-postgres: $(VENV)/.development ## Run the tests on Postgres 14 to 18, which npm has; VERSIONS=14 for one; slow.
	@$(BIN)/python -m tests.postgres_matrix $(VERSIONS)

.PHONY: hostile
hostile: $(VENV)/.development ## Attack the service with nothing else running: nobody else may wait 0.5 s; slow.
	@$(BIN)/pytest tests/hostile --numprocesses=0

.PHONY: faults
faults: $(VENV)/.development ## Do every fault to two replicas under load, in about 5 minutes: none may lose a write.
	@$(BIN)/python -m tests.faults

.PHONY: rolling
rolling: $(VENV)/.bench ## Restart two replicas under load again and again: no call may fail; slow.
	@$(BIN)/python -m tests.rolling

.PHONY: bench
bench: $(VENV)/.bench ## Compare the service with its peers, in about 9 minutes; writes tests/bench/results.*.
	@$(BIN)/python -m tests.bench

.PHONY: bench-size
bench-size: $(VENV)/.bench ## Compare requests/s with 5 million participants to 10 thousand; slow.
	@$(BIN)/python -m tests.bench.size

.PHONY: bench-lists
bench-lists: $(VENV)/.bench ## Show the blocks that a page of a list touches, with 5 million participants; slow.
	@$(BIN)/python -m tests.bench.lists

.PHONY: bench-memory
bench-memory: $(VENV)/.bench ## Compare the memory after 1 million requests to that after 100 thousand; slow.
	@$(BIN)/python -m tests.bench.memory

.PHONY: bench-fairness
bench-fairness: $(VENV)/.bench ## Compare how long four callers wait alone and beside an organization that floods.
	@$(BIN)/python -m tests.bench.fairness

.PHONY: lint
lint: $(VENV)/.development ## Check format, style, types, imports, protos and the Dockerfile.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/python protos/generate.py image $(VENV)/image.binpb
	$(BIN)/buf lint $(VENV)/image.binpb --config protos/buf.yaml
	$(BIN)/python protos/breaking.py
	$(BIN)/hadolint Dockerfile

.PHONY: format
format: $(VENV)/.development ## Format the code and the protos.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos

.PHONY: generate
generate: $(VENV)/.development ## Write generated/ anew from protos/.
	$(BIN)/python protos/generate.py stubs generated

.PHONY: lock
lock: $(VENV)/.development ## Choose the newest versions of all dependencies and pin them in requirements.lock.
	$(BIN)/python .ci/lock.py

.PHONY: sbom
sbom: $(VENV)/.development ## Write dist/sbom.json: what the service is made of, as CycloneDX.
	@mkdir -p dist
	@$(BIN)/python -W ignore::UserWarning -m cyclonedx_py requirements --pyproject pyproject.toml \
	  --output-reproducible --output-file dist/sbom.json <(sed -n '/^# runtime$$/,/^$$/p' requirements.lock)

.PHONY: clean
clean: ## Remove what was installed and built; the data in .data stays.
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements.lock pyproject.toml generated/pyproject.toml | $(VENV)/bin/python
	$(call locked,runtime)
	$(call locked,build)
	$(call locked,embedded)
	$(PIP) --no-deps --no-build-isolation -e generated -e .
	@touch $@

$(VENV)/.development: $(VENV)/.serve
	$(call locked,tracing)
	$(call locked,development)
	@touch $@

$(VENV)/.bench: $(VENV)/.development
	$(call locked,bench)
	@touch $@
