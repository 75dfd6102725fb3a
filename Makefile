# Everything a newcomer or a machine runs. Needs make and python3 (3.11 or later, with venv); the rest is set up in .venv.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check bench serve lock docs clean setup setup-serve setup-dev python interop nightly
.NOTPARALLEL:
export RECORDS ARGS TESTS HOME_DIR ORIGIN

help:  ## this list
	@echo "Safehold: custody of AI training data that outside contractors make."
	@echo
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter; now: $(PYTHON)"

demo: setup  ## replay the incident end to end; RECORDS=FILE.jsonl takes your own records
	@$(BIN)/safehold demo $${RECORDS:+--records "$$RECORDS"} $$ARGS

test: setup-dev  ## run every test; TESTS='tests/unit -k tree' runs some
	@$(BIN)/python -m tools.chromium
	@$(BIN)/python -m tools.softhsm
	@$(BIN)/python -m tools.torch_peer --wheel
	@$(BIN)/python -m pytest $${TESTS:-tests}

check: setup-dev  ## style, types, rooms, sizes, names, words, figures
	@$(BIN)/python -m tools.check

bench: setup-dev  ## run the measurements in bench/
	@$(BIN)/python -m tools.bench

serve: setup-serve  ## serve the broker of a home over HTTP; HOME_DIR=my-lab (made if it is not there), ARGS='--listen …'
	@test -e "$${HOME_DIR:-safehold-home}/home.json" || $(BIN)/safehold --home "$${HOME_DIR:-safehold-home}" init --origin "$${ORIGIN:-localhost/custody}"
	@$(BIN)/safehold --home "$${HOME_DIR:-safehold-home}" serve $$ARGS

docs: setup-dev  ## write the generated pages anew (docs/reference)
	@$(BIN)/python -m tools.error_reference --write
	@$(BIN)/python -m tools.command_reference --write

interop: setup-dev  ## let another implementation read our trees and witness them (needs Python 3.12)
	@$(BIN)/python -m tools.peers "$(PEER_PYTHON)"
	@$(BIN)/python -m pytest tests/contract/ledger/test_another_implementation.py

nightly: setup-dev  ## 10,000 power cuts, 200 kills: what `make test` does some hundreds of times
	@NIGHTLY=1 $(BIN)/python -m pytest tests/faults/ledger/test_power_cuts.py tests/faults/ledger/test_killed.py

lock: setup-dev  ## write requirements/*.txt anew; UPGRADE=1 moves to the latest versions
	@$(BIN)/python -m tools.lock $(if $(UPGRADE),--upgrade)

clean:  ## remove .venv, caches and the demo's home
	@rm -rf .venv .venv.lock .peers .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist demo-home
	@find src tools tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# --- set-up, run by the targets above ---

setup: python
	@$(PYTHON) tools/setup_env.py core

setup-serve: python
	@$(PYTHON) tools/setup_env.py serve

setup-dev: python
	@$(PYTHON) tools/setup_env.py dev

python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "Safehold needs Python 3.11 or later, and '$(PYTHON)' is not on the path." >&2; \
	  echo "Install it (Debian: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Safehold needs Python 3.11 or later; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." >&2; \
	  echo "Name a later one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module, which Safehold's set-up needs." >&2; \
	  echo "Install it (Debian: apt-get install python3-venv), or name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
