# make demo     the walkthrough, from nothing to nothing (KEEP=1 leaves the mesh up)
# make test     linters, types and every test; those that wait most come first
# make bench    the measurements, as tables, in a short form (TOPICS="dns latency" for some of them)
# make bench-full  all sizes and rounds, into docs/performance.md; takes an hour
# make coverage-page  write docs/coverage.md anew: what is honoured of Istio's API, and which test shows it
# make lock     renew the pinned requirements after a change of dependencies (needs pip-tools)
SHELL := /bin/bash
PY := .venv/bin/python
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)
WORKERS ?= 2
# Test modules, too, are compiled once and not by each worker of each run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-dev demo test lint unit e2e bench bench-full coverage-page lock clean

setup:
	@scripts/setup.sh run

setup-dev:
	@scripts/setup.sh dev

demo: setup
	@$(SUDO) $(PY) examples/hello-mesh/walkthrough.py $(if $(KEEP),--keep)

test: setup-dev lint unit

lint:
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

unit:
	$(SUDO) $(PY) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder -q tests

bench: setup-dev
	$(SUDO) $(PY) -m benchmarks $(TOPICS)

bench-full: setup-dev
	$(SUDO) $(PY) -m benchmarks --full --page docs/performance.md --json docs/performance/results.json $(TOPICS)

coverage-page:
	$(PY) -m scripts.api_coverage

lock:
	pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--strip-extras --no-header --no-annotate --allow-unsafe -o requirements/run.txt pyproject.toml requirements/build.in
	pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--strip-extras --no-header --no-annotate --allow-unsafe -o requirements/dev.txt requirements/dev.in

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
