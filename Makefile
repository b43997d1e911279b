# birdlab: set-up, checks and the demo. `make` lists what there is.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.birdlab-ready
SHELL := /bin/sh

# Sweeps on the demo competition, the shortest first.
DEMO_SWEEPS := lr augmentations chunk_length pretraining distillation lr_optuna one_factor null testtime context stack suspects
CRASHES := $(addprefix tests/test_,crash.py run.py recovery.py local.py dask.py slurm.py background.py)
# By name: files with few tests, which start many processes, would come last and be waited for.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder
REFERENCE_SWEEPS := reference_positives reference_negatives

# Some machines switch bytecode off; importing torch and mlflow then takes seconds more each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: audit help demo demo-all test slow crash campaign soak lint docs docs-serve bench browser
.PHONY: postgres
.NOTPARALLEL:

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## install once, then sweep the learning rate on the demo competition
	@echo "generates its recordings (a minute, 240 MB in mlruns/, once), then trains 12 small networks (5 minutes on 2 cores)"
	$(BIN)/birdlab sweep experiments/lr.yaml

demo-all: $(READY) ## every sweep on the demo competition, one after the other
	$(BIN)/birdlab run experiments/teacher.yaml
	@set -e; for sweep in $(DEMO_SWEEPS) $(REFERENCE_SWEEPS); do \
		echo "$(BIN)/birdlab sweep experiments/$$sweep.yaml"; \
		$(BIN)/birdlab sweep experiments/$$sweep.yaml; \
	done

test: $(READY) ## run the tests
	@$(MAKE) --no-print-directory browser || \
		echo "no browser: its tests are skipped, or fail under BIRDLAB_REQUIRE_BROWSER=1"
	@$(MAKE) --no-print-directory postgres || echo "no PostgreSQL: its test is skipped"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE)

slow: $(READY) ## campaigns of minutes on real recordings, which `test` leaves out
	$(BIN)/python -m pytest -m slow

crash: $(READY) ## kill cells, drivers, workers and servers at many moments
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(CRASHES) -m "crash or slow or not slow" -v

campaign: $(READY) ## bad input: 10,000 broken files and words (N=, SEED= change it), with a report
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.badinput --n $(or $(N),10000) \
		--seed $(or $(SEED),10) --report build/campaign.jsonl

soak: $(READY) ## six sweeps with kills at random moments, compared with a lab left alone
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/soak.py

lint: $(READY) ## formatting, lint rules, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY) ## the reference from the code, and the documentation as a site in site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "wrote site/index.html"

docs-serve: $(READY) ## the same at http://127.0.0.1:8000, built again at every change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

audit: $(READY) ## known faults of the installed packages (asks the network)
	@$(BIN)/pip-audit --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet '.[audit]'
	@list=$$(mktemp); trap 'rm -f "$$list"' EXIT; \
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' | grep == >"$$list"; \
	$(BIN)/pip-audit --strict --disable-pip --no-deps -r "$$list" --progress-spinner off --timeout 15 || { \
		code=$$?; echo "the audit found faults, or a package could not be looked up: see above"; exit $$code; }

bench: $(READY) ## benchmarks, into docs/benchmarks.md (ONLY=loader: one file, HEAVY=1: the heavy ones)
	$(BIN)/python tests/benchmarks/page.py $(if $(HEAVY),--heavy) $(if $(ONLY),--only $(ONLY))

# The first import compiles what birdlab needs of each package, about a quarter of their files:
# quicker than to compile everything, and done before the processes of a sweep start side by side.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "birdlab needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), once: about 6 GB on disk where PyTorch comes with CUDA, 3 to 6 minutes"
	$(BIN)/python -m pip install --no-compile --editable '.[dev]'
	@echo "compiling what birdlab imports (once)"
	@$(BIN)/python -c 'import birdlab.run, birdlab.sed.fit, birdlab.sed.model, birdlab.study.report, mlflow.tracking'
	touch $@

browser: ## Chromium for the dashboard tests (installed by apt-get, as root)
	@if command -v chromedriver >/dev/null && { command -v chromium || command -v chromium-browser; } >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver </dev/null >/dev/null; \
	else echo "install chromium and chromedriver to run the browser tests"; exit 1; fi

postgres: ## PostgreSQL for the test of MLflow on it (installed by apt-get, as root)
	@if command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql </dev/null >/dev/null; \
	else echo "install PostgreSQL to run its test"; exit 1; fi
