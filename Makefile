# `make demo` and `make test` start from a machine that has python3 (3.11 to 3.13), make and git.
# Not PYTHON: that is the user's, and names the interpreter that `make setup` starts from.
RUN := .venv/bin/python
WORKERS ?= 2
SHARED ?= ../shared

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lfw serve clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: ## create .venv from poetry.lock (does nothing when it is up to date)
	@bash tools/bootstrap.sh

demo: setup ## synthetic faces, a short training, an evaluation: runs/demo/report.html
	$(RUN) -m pipeline.demo

test: setup ## all tests, in WORKERS=2 processes of one thread each
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile

check: setup ## format, lint, types, tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	$(RUN) -m mypy
	@$(MAKE) --no-print-directory test

format: setup ## rewrite the code in the house format
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lfw: setup ## LFW from 8 to 32 pixels, from SHARED=../shared: tables, and runs/lfw/report.html
	@SHARED="$(SHARED)" DSR="$(DSR)" EDGEFACE="$(EDGEFACE)" bash tools/lfw.sh

serve: setup ## the API and the page on http://localhost:8000: exports what is missing, builds the page
	@PORT="$(PORT)" LISTEN="$(LISTEN)" DSR="$(DSR)" EDGEFACE="$(EDGEFACE)" CALIBRATION="$(CALIBRATION)" \
		RESULTS="$(RESULTS)" SERVE_OPTIONS="$(SERVE_OPTIONS)" bash tools/serve.sh

clean: ## remove caches; keeps .venv, data, weights and runs
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find technical tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
