# The commands of this repository. They need a POSIX make and python3 3.11 or newer; everything else goes into .venv.
# uv is used where it is installed, and makes the first run quicker.
.POSIX:

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
INSTALL_DOCS = if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --group docs; \
    else $(BIN)/python -m pip install --quiet --group docs; fi
# What pytest gets beside its own: make test PYTEST_ARGS='-k backoff --no-cov -n 0'
PYTEST_ARGS =
# What jobfn dev gets beside its own: make demo DEMO_ARGS='--port 9090'
DEMO_ARGS =
# What the benchmark gets beside its own: make bench BENCH_ARGS='--family 2 --rounds 5', or --readme
BENCH_ARGS =
BENCH = .venv-bench
DEMO_JOB = {"to": "ada@example.com", "subject": "Hello from jobfn", "text": "It works."}

# For all Pythons from 3.11 on and all systems; without a word about where that was looked up.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

# Prints where the development database lies; ends with 3 while it is in use.
DATA = import pathlib, sys; from jobfn.devserver import postgres, state; here = pathlib.Path.cwd(); \
    sys.exit(3) if state.DevState.find(here) else print(postgres.folder_for(here))

.PHONY: help setup docs demo test chaos fuzz interop audit test-lowest lint format clean image dist test-install manifests lock bench bench-quick profile

help:           ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

setup: $(VENV)/.installed ## make .venv and install into it, when pyproject.toml has changed

demo: setup     ## run the send_email example (dry run) with PostgreSQL and a worker, add one job; Ctrl-C ends it
	@unset DATABASE_URL PGHOST PGDATABASE PGSERVICE; \
	exec env SEND_EMAIL_DRY_RUN=true $(BIN)/jobfn dev examples/send_email/functions.py \
	    --enqueue send_email '$(DEMO_JOB)' $(DEMO_ARGS)

docs: setup     ## build the site into site/, strictly: a broken link fails
	@$(BIN)/python -c 'import mkdocs' 2>/dev/null || $(INSTALL_DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

test: setup     ## run all tests with coverage
	$(BIN)/pytest -n 3 --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

fuzz: setup     ## send the servers some 40,000 hostile requests, others each time; make test sends 4,000
	FUZZ=long $(BIN)/pytest -s -n 0 tests/fuzz $(PYTEST_ARGS)

chaos: setup    ## kill, cut, delay and repeat for some minutes, and count what is lost or doubled; CHAOS_SEED repeats a run
	$(BIN)/pytest -s -n 0 -m 'long or not long' tests/chaos $(PYTEST_ARGS)

test-lowest:    ## run all tests on the lowest versions that pyproject.toml allows, in .venv-lowest; needs uv
	@command -v uv >/dev/null || { echo 'make test-lowest needs uv, which resolves to the lowest versions' >&2; exit 1; }
	uv venv --quiet --clear --python '$(PYTHON)' .venv-lowest
	uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e '.[dev]' --group test --group lint
	.venv-lowest/bin/pytest -n 3 $(PYTEST_ARGS)

audit: setup    ## look for known vulnerabilities in what images and this environment hold; an index that cannot tell fails
	@test -x .venv-audit/bin/pip-audit || { \
	    $(PYTHON) -m venv --clear .venv-audit; .venv-audit/bin/python -m pip install --quiet pip-audit; }
	.venv-audit/bin/pip-audit --strict --disable-pip -r locks/service.txt -r locks/build.txt \
	    -r templates/function/requirements.lock -r examples/send_email/requirements.lock
	.venv-audit/bin/pip-audit --skip-editable --path "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')"

interop: setup  ## run beside the platform's own packages, in all combinations; needs node and npm
	cd tests/interop && npm install --no-audit --no-fund --no-package-lock --silent
	$(BIN)/pytest -n 2 -m external tests/interop $(PYTEST_ARGS)

image: setup    ## build the images, run them, and drive jobs through them; needs root, buildah and debootstrap
	$(BIN)/pytest -s -n 0 --no-cov -m image tests/image $(PYTEST_ARGS)

dist: setup     ## build sdist and wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

test-install: setup ## install the wheel into empty environments, and do what the READMEs say; asks the package index
	$(BIN)/pytest -n 0 --no-cov -m install tests/install $(PYTEST_ARGS)

manifests: setup ## write deploy/base, which the overlays in deploy/ refer to, for examples/send_email
	$(BIN)/jobfn manifests examples/send_email --image 'registry.example.com/{function}:latest' \
	    --service-image registry.example.com/jobs:latest --output deploy/base --force

lock: setup     ## look up the newest versions that images may have, and lock them; asks the package index
	LOCK='$(LOCK)'; set -e; wheel=$$(mktemp -d); trap 'rm -rf "$$wheel"' EXIT; \
	$(BIN)/python -m build --no-isolation --wheel --outdir "$$wheel" . >/dev/null; \
	$$LOCK --upgrade --extra worker --extra otel pyproject.toml -o locks/service.txt; \
	printf 'hatchling>=1.25\n' | $$LOCK --upgrade - -o locks/build.txt; \
	for project in templates/function examples/send_email; do \
	    $$LOCK --upgrade --find-links "$$wheel" --no-emit-package jobfn $$project/pyproject.toml \
	        -o $$project/requirements.lock; \
	done

bench: $(BENCH)/.installed ## measure jobfn beside its peers in at most 10 minutes: table, latest.json, plots
	$(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)

bench-quick: $(BENCH)/.installed ## the same with fewer jobs, in 90 seconds
	$(BENCH)/bin/python -m benchmarks --quick $(BENCH_ARGS)

profile: $(BENCH)/.installed ## where worker and function spend their time over HTTP: flame graphs by py-spy
	$(BENCH)/bin/python -m benchmarks.profiling $(BENCH_ARGS)

lint: setup     ## check style, format, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup   ## fix what can be fixed by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:          ## remove .venv, caches, builds and the development database
	@code=0; data=$$($(BIN)/python -c '$(DATA)' 2>/dev/null) || code=$$?; \
	if [ $$code -eq 3 ]; then echo 'jobfn dev runs here: stop it first' >&2; exit 1; fi; \
	rm -rf "$${data:-.jobfn}"
	rm -rf $(VENV) site .venv-audit .venv-lowest $(BENCH) benchmarks/peers/node_modules .jobfn \
	    .coverage .coverage.* htmlcov build dist \
	    .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'jobfn needs Python 3.11 or newer as $(PYTHON): make PYTHON=python3.12 ... names another' >&2; exit 1; }
	@set -e; if command -v uv >/dev/null; then \
	    echo 'installing into $(VENV) with uv'; \
	    test -x $(BIN)/python || uv venv --quiet --clear --python '$(PYTHON)' $(VENV); \
	    uv pip install --quiet --python $(BIN)/python -e '.[dev]' --group test --group lint; \
	else \
	    echo 'installing into $(VENV) with pip: a minute or two'; \
	    test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV); \
	    $(BIN)/python -m pip install --quiet 'pip>=25.1'; \
	    $(BIN)/python -m pip install --quiet -e '.[dev]' --group test --group lint; \
	fi
	@touch $@

# Python 3.12 or newer where there is one, because one of the peers wants it; the Node peers where npm is.
$(BENCH)/.installed: pyproject.toml benchmarks/peers/package.json
	@set -e; for python in python3.13 python3.12 '$(PYTHON)'; do \
	    if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	done; \
	echo "installing the peers into $(BENCH) with $$python: a minute"; \
	test -x $(BENCH)/bin/pip || $$python -m venv --clear $(BENCH); \
	$(BENCH)/bin/python -m pip install --quiet 'pip>=25.1'; \
	$(BENCH)/bin/python -m pip install --quiet -e '.[dev]' --group bench; \
	if command -v npm >/dev/null; then \
	    (cd benchmarks/peers && npm install --no-audit --no-fund --no-package-lock --silent) \
	        || echo 'npm failed: the rows of the Node peers are left out' >&2; \
	else \
	    echo 'no npm here: the rows of the Node peers are left out' >&2; \
	fi
	@touch $@
