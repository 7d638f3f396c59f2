.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
UV := $(BIN)/uv pip
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy
export UV_COMPILE_BYTECODE := 1
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),)
export UV_SYSTEM_CERTS ?= true# the machine's own: a network that inspects TLS has put its certificate there
endif
unexport PYTHONDONTWRITEBYTECODE # or each process that a test starts compiles 1,100 modules anew
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do "$$p" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null && { echo "$$p"; break; }; done)
EXTRAS ?=# of pyproject.toml: postgres, celery, dramatiq, s3, otel, mcp, all …
PYTHONS := 3.11 3.12 3.13 3.14
T ?=
QUICK_TESTS := not full and not node and not live and not browser
FULL_TESTS := (full or hypothesis) and not node and not live and not browser
ALL_TESTS := not node and not live and not browser
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WAITING := $(shell echo $$(($(CORES) * 5 / 2)))# processes of tests that wait for others most of their time
BESIDE := $(shell echo $$((($(CORES) + 1) / 2)) | sed 's/^1$$/0/')# of tests of the page, beside those; 0: without another process
CODE := src tests benchmarks scripts
CLIENTS := $(basename $(wildcard tests/api/facades/py/*.in tests/providers/openai/proxy/*.in))# what tests run, each in its own environment
POSTGRES := tests/store tests/contracts/test_databases.py tests/engine/test_upgrade.py

.PHONY: help run dev install check check-pythons check-postgres format lint types contracts test test-full test-browser test-page test-again test-all coverage chaos docs docs-site bench release lock clean

help:       ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(VENV)/.boot:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with the venv module is required."; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || { echo "Could not make $(VENV); on Debian: apt install python3-venv"; exit 1; }
	@$(PY) -m pip install -q --disable-pip-version-check uv
	@touch $@

$(VENV)/.run: $(VENV)/.boot pyproject.toml packages/client/pyproject.toml requirements-run.lock
	@echo "Installing the packages of requirements-run.lock into $(VENV), once …"
	@$(UV) install -q --python $(PY) --require-hashes -r requirements-run.lock
	@$(UV) install -q --python $(PY) --no-deps -e packages/client -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(UV) install -q --python $(PY) --require-hashes -r requirements-dev.lock
	@touch $@

install: $(VENV)/.dev ## Install everything for a developer into .venv

run: $(VENV)/.run ## Install what is needed and serve on http://127.0.0.1:8000 (API_PORT=… for another port, EXTRAS=postgres,s3 for more)
	@$(if $(EXTRAS),$(UV) install -q --python $(PY) --constraints requirements.lock -e 'packages/client' -e '.[$(EXTRAS)]')
	@$(BIN)/fleek serve

dev: $(VENV)/.dev ## Serve, and start anew when the code changes
	@$(BIN)/watchfiles --filter python '$(BIN)/fleek serve' src

check: $(VENV)/.dev ## Everything CI runs
	@$(PY) -m scripts.chromium
	@$(MAKE) --no-print-directory -j2 lint contracts
	@$(MAKE) --no-print-directory -j3 ALL=1 types test test-page # no core is idle while tests wait

check-pythons: ## The quick tests on each supported Python that is here
	@tried=; for version in $(PYTHONS); do \
		for python in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python; do \
			"$$python" -c 'import venv' 2>/dev/null || continue; \
			echo "Python $$version: $$python"; tried="$$tried $$version"; \
			$(MAKE) --no-print-directory VENV=.venv-$$version PYTHON="$$python" test || exit 1; \
			continue 2; \
		done; echo "Python $$version: not here"; \
	done; echo "Passed on:$$tried"; test -n "$$tried"

format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff format -q $(CODE)
	@$(BIN)/ruff check -q --fix $(CODE)

lint: $(VENV)/.dev ## Format and lint rules, spelling, lengths
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/codespell src tests docs benchmarks *.md
	@$(PY) -m scripts.lengths

types: $(VENV)/.dev ## Type checks
	@$(BIN)/mypy

contracts: $(VENV)/.dev ## Who may import whom
	@$(BIN)/lint-imports

test: $(VENV)/.dev ## Quick tests: in process, SQLite (T=path to narrow; ALL=1 for those of test-full in the same run)
	@$(BIN)/pytest --dist worksteal $(if $(ALL),-n $(WAITING) -m "$(ALL_TESTS)",-n $(CORES) -m "$(QUICK_TESTS)" --hypothesis-profile=quick -p no:schemathesis) $(T)

test-full: $(VENV)/.dev ## What make test leaves out: real servers and processes, many rows, all examples
	@$(BIN)/pytest -n $(WAITING) --dist worksteal -m "$(FULL_TESTS)" $(T)

test-again: $(VENV)/.dev ## What failed last, one at a time; an error where a guarantee failed, or many tests
	@$(PY) -m scripts.failed_tests
	@$(BIN)/pytest -n 0 --last-failed --last-failed-no-failures none -m "not node and not live"

test-browser: $(VENV)/.dev ## The web page in Chromium, which is installed by apt if it is missing and you are root
	@$(PY) -m scripts.chromium
	@$(BIN)/pytest -n $(CORES) --dist loadscope -m browser $(or $(T),tests/browser)

test-page: $(VENV)/.dev # those of the browser beside the others of a check; what they print is shown if one fails
	@shown=$$(mktemp); $(BIN)/pytest -n $(BESIDE) --dist loadscope -p no:cacheprovider -p no:schemathesis -m browser $(or $(T),tests/browser) >"$$shown" 2>&1; \
		code=$$?; test $$code = 0 && tail -1 "$$shown" || cat "$$shown"; rm -f "$$shown"; exit $$code

test-all: ## All tests
	@$(MAKE) --no-print-directory test ALL=1
	@$(MAKE) --no-print-directory test-browser

coverage: $(VENV)/.dev ## All tests, and which branches none of them takes
	@$(BIN)/pytest -n auto --cov --cov-report=term-missing:skip-covered $(T)

check-postgres: $(VENV)/.dev ## The store's tests on each PostgreSQL that is installed (VERSIONS="15 18" narrows)
	@for version in $(or $(VERSIONS),$(shell PYTHONPATH=tests:src $(PY) tests/backing_services.py)); do \
		echo "PostgreSQL $$version"; \
		TEST_PG_VERSION=$$version $(BIN)/pytest -n auto -k "postgresql or pooler" $(POSTGRES) || exit 1; \
	done

chaos: $(VENV)/.dev ## Every crash point, long storms, mutations (about two hours; SEED=… repeats, CHAOS="storm --wild" narrows)
	@PYTHONPATH=$(CURDIR)/src:$(CURDIR)/tests $(PY) -m chaos $(or $(CHAOS),all) $(if $(SEED),--seed $(SEED))

docs: $(VENV)/.dev ## Write anew the pages that are made from the code
	@$(PY) -m scripts.docs
	@$(PY) scripts/make_cli_reference.py

docs-site: $(VENV)/.dev ## Build the documentation as a site into site/
	@$(PY) -m scripts.docs_site

bench: $(VENV)/.dev ## Measure against yardsticks, ten minutes; QUICK=1 two minutes
	@$(PY) -m benchmarks $(if $(QUICK),--quick)

release: $(VENV)/.dev ## Write VERSION=… and its date, print the notes; see CONTRIBUTING.md
	@$(PY) -m scripts.release "$(VERSION)"
	@$(PY) tests/docs/test_openapi.py
	@$(MAKE) --no-print-directory docs

lock: $(VENV)/.boot ## Refresh the locked dependencies
	@$(UV) compile -q pyproject.toml --extra all --no-emit-package fleek-client --universal --generate-hashes --no-header -o requirements.lock
	@$(UV) compile -q pyproject.toml --no-emit-package fleek-client --universal --generate-hashes --no-header -c requirements.lock -o requirements-run.lock
	@$(UV) compile -q pyproject.toml --all-extras --group dev --no-emit-package fleek-client --universal --generate-hashes --no-header -c requirements.lock -o requirements-dev.lock
	@for each in $(CLIENTS); do $(UV) compile -q $$each.in --universal --python-version 3.11 --generate-hashes --no-header -o $$each.lock; done

clean: ## Remove what was installed and made
	@rm -rf $(VENV) site $(PYTHONS:%=.venv-%) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
