# Commands of this repository. They need a POSIX make and Python 3.11 or newer; everything else is installed into .venv.
# uv is used if it is installed and makes the first run faster.
.POSIX:

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
INSTALL_DOCS = if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --group docs; \
    else $(BIN)/python -m pip install --quiet --group docs; fi
# Installs packages into .venv, which it creates if it is missing. Arguments as those of `pip install`.
INSTALL = install() { set -e; \
    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
        echo '$(PYTHON) must be Python 3.11 or newer: use make PYTHON=python3.12' >&2; exit 1; }; \
    if command -v uv >/dev/null; then \
        echo 'installing into $(VENV) with uv'; \
        test -x $(BIN)/python || uv venv --quiet --clear --python '$(PYTHON)' $(VENV); \
        uv pip install --quiet --python $(BIN)/python "$$@"; \
    else \
        echo 'installing into $(VENV) with pip: a minute or two'; \
        test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV); \
        export PIP_DISABLE_PIP_VERSION_CHECK=1; \
        $(BIN)/python -c 'import pip, sys; sys.exit([int(n) for n in pip.__version__.split(".")[:2]] < [25, 1])' || \
            $(BIN)/python -m pip install --quiet 'pip>=25.1'; \
        $(BIN)/python -m pip install --quiet "$$@"; \
    fi; }; install
# More arguments for pytest: make test-some PYTEST_ARGS='-k backoff -n 0'
PYTEST_ARGS =
# These tests measure coverage. The others run whole processes, whose code these tests cover too.
COVERING_TESTS = tests/unit tests/integration
# More arguments for jobfn dev: make demo DEMO_ARGS='--port 9090'
DEMO_ARGS =
# More arguments for the benchmark: make bench BENCH_ARGS='--family 2 --rounds 5'
BENCH_ARGS =
BENCH = .venv-bench
# More arguments for the simulation: make simulate SIMULATE_ARGS='--workers 100 --databases 5 --seed 2'
SIMULATE_ARGS =
# Jobs of the soak: make soak JOBS=100000
JOBS = 2000000
# Version and tests of make test-postgres. Other tests do not depend on the version.
VERSION = 14
POSTGRES_TESTS = tests/integration/database tests/integration/worker tests/integration/durable \
    tests/integration/scheduler tests/integration/operations tests/integration/triggers tests/integration/client
DEMO_JOB = {"to": "ada@example.com", "subject": "Hello from jobfn", "text": "It works."}

# The system's certificates, as pip uses.
UV = env UV_SYSTEM_CERTS=true $(BIN)/uv

# Locks for all systems and all Pythons from 3.11, without comments on the package index.
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

# Prints the folder of the development database. Exits with 3 while jobfn dev runs.
DATA = import pathlib, sys; from jobfn.devserver import postgres, state; here = pathlib.Path.cwd(); \
    sys.exit(3) if state.DevState.find(here) else print(postgres.folder_for(here))

# setup-demo installs what the demo needs: a fifth of setup.
.PHONY: help setup setup-demo docs schema-snapshot demo test test-some chaos fuzz attack interop audit audit-locks base-image test-lowest test-postgres lint format clean image dist release test-install manifests lock bench bench-quick simulate soak profile

help:           ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

setup: $(VENV)/.installed ## create .venv and install into it, if pyproject.toml has changed

setup-demo: $(VENV)/.installed-demo

demo: setup-demo ## run PostgreSQL, a worker and the send_email example (dry run); add one job; Ctrl-C stops it
	@unset DATABASE_URL PGHOST PGDATABASE PGSERVICE; \
	exec env SEND_EMAIL_DRY_RUN=true $(BIN)/jobfn dev examples/send_email/functions.py \
	    --enqueue send_email '$(DEMO_JOB)' $(DEMO_ARGS)

docs: setup     ## build the site into site/; a broken link or image fails
	@$(BIN)/python -c 'import mkdocs' 2>/dev/null || $(INSTALL_DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	$(BIN)/python tools/check_site.py site

schema-snapshot: setup ## write src/jobfn/database/schema.sql, which a test compares with the migrations
	$(BIN)/python tests/schema_snapshot.py

test: setup     ## run all tests, those of units and integration with coverage
	@code=0; \
	$(BIN)/pytest -n 4 --dist worksteal --cov --cov-report=term-missing:skip-covered $(COVERING_TESTS) || code=$$?; \
	$(BIN)/pytest -n 4 --dist worksteal $(COVERING_TESTS:%=--ignore=%) || code=$$?; \
	exit $$code

test-some: setup ## run the tests that PYTEST_ARGS selects
	$(BIN)/pytest -n 4 --dist worksteal $(PYTEST_ARGS)

test-postgres: setup ## run the tests of SQL, worker and durable functions on PostgreSQL VERSION (14 to 18); needs npm
	$(BIN)/python tools/run_with_postgres.py $(VERSION) $(BIN)/pytest -n 4 --no-cov $(POSTGRES_TESTS) $(PYTEST_ARGS)

fuzz: setup     ## send about 40,000 random hostile requests to the servers; make test sends 1,600
	FUZZ=long $(BIN)/pytest -s -n 0 tests/fuzz $(PYTEST_ARGS)

attack: setup   ## run honest jobs in 50 rounds while each kind of attacker attacks; make test stops after the first good round
	ATTACK=long $(BIN)/pytest -n 0 tests/attack $(PYTEST_ARGS)

chaos: setup    ## kill processes, cut and repeat requests for some minutes in each settlement mode; count lost and repeated jobs; CHAOS_SEED repeats a run
	$(BIN)/pytest -s -n 0 -m 'long or not long' tests/chaos $(PYTEST_ARGS)

test-lowest: setup ## run all tests on the lowest versions that pyproject.toml allows
	$(UV) venv --quiet --clear --python '$(PYTHON)' .venv-lowest
	$(UV) pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e '.[dev]' --group test --group lint
	.venv-lowest/bin/pytest -n 3 $(PYTEST_ARGS)

audit: setup    ## check the locks, and look up known vulnerabilities of their packages and of .venv; 3: no data
	$(BIN)/python tools/audit.py

audit-locks: setup ## check that each lock pins every package with hashes; needs no network
	$(BIN)/python tools/audit.py --locks

base-image: setup ## pin the base image of the Dockerfiles to the digest that its tag has now; uses its registry
	$(BIN)/python tools/base_image.py

interop: setup  ## test with the platform's Node packages and with TypeScript; needs node and npm
	for folder in interop typescript; do \
	    (cd tests/$$folder && npm install --no-audit --no-fund --no-package-lock --silent) || exit 1; \
	done
	$(BIN)/pytest -n 2 -m external tests/interop tests/typescript $(PYTEST_ARGS)

image: setup    ## build and run the images, and run jobs through them; needs root, buildah and debootstrap
	$(BIN)/pytest -s -n 0 --no-cov -m image tests/image $(PYTEST_ARGS)

dist: setup     ## build sdist and wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

test-install: setup ## install the wheel into empty environments and follow the READMEs; uses the package index
	$(BIN)/pytest -n 2 --no-cov -m install tests/install $(PYTEST_ARGS)

manifests: setup ## write deploy/base, the base of the overlays in deploy/
	$(BIN)/jobfn manifests examples/send_email --image 'registry.example.com/{function}:latest' \
	    --service-image registry.example.com/jobs:latest --egress any:587 --output deploy/base --force

lock: setup     ## lock the newest versions for images; uses the package index
	LOCK='$(LOCK)'; set -e; wheel=$$(mktemp -d); trap 'rm -rf "$$wheel"' EXIT; \
	$(BIN)/python -m build --no-isolation --wheel --outdir "$$wheel" . >/dev/null; \
	$$LOCK --upgrade --extra worker --extra otel pyproject.toml -o locks/service.txt; \
	printf 'hatchling>=1.25\n' | $$LOCK --upgrade - -o locks/build.txt; \
	for project in templates/function examples/send_email; do \
	    $$LOCK --upgrade --find-links "$$wheel" --no-emit-package jobfn $$project/pyproject.toml \
	        -o $$project/requirements.lock; \
	done

bench: $(BENCH)/.installed ## measure jobfn next to its peers, at most 12 minutes: tables, latest.json, plots
	$(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)

bench-quick: $(BENCH)/.installed ## one round of the target rows, at most 3 minutes
	$(BENCH)/bin/python -m benchmarks --quick $(BENCH_ARGS)

simulate: setup ## simulate 1,000 workers on 50 databases with failures, on a virtual clock; about 7 minutes
	$(BIN)/python -m benchmarks.simulation $(SIMULATE_ARGS)

soak: $(BENCH)/.installed ## run JOBS jobs (2,000,000) through the whole path; say whether memory, tables and claims stay flat
	$(BENCH)/bin/python -m benchmarks.soak --jobs $(JOBS)

profile: $(BENCH)/.installed ## flame graphs of worker and function over HTTP, by py-spy
	$(BENCH)/bin/python -m benchmarks.profiling $(BENCH_ARGS)

release: dist test-install ## build and check sdist and wheel, and install them into empty environments; say what to push
	$(BIN)/twine check --strict dist/*
	@version=$$($(BIN)/python -c 'import jobfn; print(jobfn.__version__)'); \
	grep -q "^## \[$$version\] - " CHANGELOG.md || { echo "CHANGELOG.md has no section [$$version]" >&2; exit 1; }; \
	echo "dist/ is ready. To publish, set the date of [$$version] in CHANGELOG.md, commit and push it, and push the tag:"; \
	echo "  git tag v$$version && git push origin v$$version"

lint: setup     ## check style, format, types, imports between packages, prose and the files in .github
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python tests/types
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/prose_check.py
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

format: setup   ## fix style and format automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:          ## remove environments, caches, builds and the development database
	@code=0; data=$$($(BIN)/python -c '$(DATA)' 2>/dev/null) || code=$$?; \
	if [ $$code -eq 3 ]; then echo 'jobfn dev is running in this folder: stop it first' >&2; exit 1; fi; \
	rm -rf "$${data:-.jobfn}"
	rm -rf $(VENV) site .venv-lowest $(BENCH) benchmarks/peers/node_modules .jobfn \
	    .coverage .coverage.* htmlcov build dist \
	    .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml
	@$(INSTALL) -e '.[dev]' --group test --group lint
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-demo: pyproject.toml
	@$(INSTALL) -e '.[dev]' --group demo
	@touch $@

# Prefer Python 3.12 or newer, which one of the peers needs. Install the Node peers if npm exists.
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
	        || echo 'npm failed: the Node peers are not measured' >&2; \
	else \
	    echo 'npm is not installed: the Node peers are not measured' >&2; \
	fi
	@touch $@
