# Needs python3 (3.11 to 3.13) with venv, and make. Nothing else.

PYTHON ?= python3
BIN := .venv/bin
DOCUMENTS ?= examples/documents
QUESTION ?= When must driver positions in Waypost be deleted, and how old were the oldest driver positions that were found in Waypost?
export QUESTION DOCUMENTS

.DEFAULT_GOAL := help
.PHONY: help setup run tickets kill dev test drill containers check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.run ## make the environment, from the lock file

run: .venv/.run ## answer QUESTION from the folder DOCUMENTS
	@$(BIN)/python starter.py ask "$$QUESTION" --documents "$$DOCUMENTS" --embedded

tickets: .venv/.run ## answer the example tickets from the example handbook, each once
	@$(BIN)/python starter.py run examples/missions/tickets.yaml --embedded

kill: .venv/.run ## kill the same agent on Outlast and on stock Temporal
	@$(BIN)/python -m benchmarks.kill_demo

dev: .venv/.run ## run the embedded server, its Web UI and workers
	@$(BIN)/python starter.py dev

test: .venv/.dev ## run all tests but the long drills
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not long and not containers"

drill: .venv/.dev ## run the long drills
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m long

containers: .venv/.dev ## run image and compose file on a docker engine (root, Linux)
	@$(BIN)/python -m pytest -m containers --timeout 900

check: .venv/.dev ## format, lint, layers and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

clean: ## remove the environment and the state in .outlast
	rm -rf .venv .outlast

.venv/bin/python:
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(not ok and f"Python 3.11 to 3.13 is needed; {sys.executable} is {sys.version.split()[0]}: make PYTHON=...")'
	@$(PYTHON) -m venv .venv

.venv/.run: requirements.lock | .venv/bin/python
	@echo "setting up .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/.dev: requirements-dev.lock | .venv/bin/python
	@echo "setting up .venv for tests"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@ .venv/.run
