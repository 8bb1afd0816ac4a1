# `make run` and `make test` need Python >= 3.11 and make; they build their own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

unexport PYTHONDONTWRITEBYTECODE # every start would compile the checkout anew

.PHONY: run test check bench proof docs lock format clean

run: .venv/run.stamp
	$(BIN)/cliniq up --demo

test: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n auto

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/squawk src/cliniq/migrations/*.sql
	$(BIN)/python -m tools.reference --check

bench: .venv/dev.stamp
	$(BIN)/python -m bench

proof: .venv/dev.stamp
	$(BIN)/python -m tools.proof

docs: .venv/dev.stamp
	$(BIN)/python -m tools.reference

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/dev.stamp
	$(BIN)/uv pip compile --quiet --universal --generate-hashes \
		--custom-compile-command "make lock" pyproject.toml --group build -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes \
		--custom-compile-command "make lock" -c requirements.lock --group dev -o requirements-dev.lock

clean:
	rm -rf .venv var

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cliniq needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing what Cliniq needs into .venv (first time only) ..."
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/run.stamp
	@echo "Installing what the tests need into .venv (first time only) ..."
	$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	@touch $@
