# POPular for Python.  `make` alone lists the targets; reading this file does nothing.

PYTHON ?= python3
VENV   ?= .venv
PREFIX ?= /usr/local
DESTDIR ?=
INIT   ?=
DIST   ?= dist
ARGS   ?=
ONCE   ?=
DB     ?=
T      ?= 60
RELEASE ?=

BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help venv venv-tests run test test-debian test-systemd test-fast check lint types layers sizes check-generated bench bench-smoke fuzz faults man sample install dist deb clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: PYTHON=$(PYTHON)  VENV=$(VENV)  ARGS=(for tests, benchmark or fuzzing)  RELEASE=$(RELEASE)  DESTDIR=$(DESTDIR)  PREFIX=$(PREFIX)  INIT=$(INIT)"

venv: $(VENV)/.ready ## Make .venv with POPular and all it needs to run

venv-tests: $(VENV)/.tests ## Bring what tests and checks need into .venv, too

$(VENV)/.ready: setup.cfg pyproject.toml scripts/venv.sh
	@PYTHON="$(PYTHON)" sh scripts/venv.sh "$(VENV)"

$(VENV)/.tests: $(VENV)/.ready
	@sh scripts/venv.sh "$(VENV)" tests

run: venv ## Run a complete mail system under ./run and show its sessions (ONCE=1: then end; DB=ldap: users there)
	@$(BIN)/python -m demo $(if $(ONCE),--once) $(if $(DB),--database $(DB))

test: venv-tests ## Run all tests, after getting what they need (ARGS="-k word" for some)
	@PYTHON="$(BIN)/python" sh scripts/prepare.sh
	@PYTHON="$(BIN)/python" sh scripts/test.sh $(ARGS)

test-debian: ## Run `make run ONCE=1` and `make test` on another Debian, as root (RELEASE=bookworm or trixie)
	@sh scripts/test-debian.sh $(RELEASE)

test-systemd: ## Boot systemd and run the package's daemons by their units, as root (RELEASE=bookworm or trixie)
	@sh scripts/test-systemd.sh $(RELEASE)

test-fast: venv-tests ## Run the tests that start no daemon
	$(PYTEST) -q tests/unit tests/meta --ignore tests/meta/test_packaging.py $(ARGS)

check: lint types layers sizes check-generated ## Check style, types, layers, sizes and generated files

lint: venv-tests ## Check the style (flake8)
	$(BIN)/python -m flake8 popular pdm_modules demo tests scripts

types: venv-tests ## Check the types (mypy, strict on the package)
	$(BIN)/python -m mypy popular pdm_modules demo tests

layers: venv-tests ## Check that imports only go down
	$(PYTEST) -q tests/meta/test_layers.py

sizes: venv-tests ## Check the lengths of files and functions
	$(PYTEST) -q tests/meta/test_sizes.py

check-generated: venv-tests ## Check that man pages and samples are what the tables say
	$(PYTEST) -q tests/meta/test_generated.py

bench: venv-tests ## Measure what sessions cost, here and in other servers (ARGS="--quick"; ARGS=--help lists more)
	@sh tests/bench/packages.sh
	@$(BIN)/python -m tests.bench $(ARGS)

bench-smoke: venv-tests ## Show in a minute that the benchmark works; its figures mean nothing
	@$(BIN)/python -m tests.bench --smoke $(ARGS)

fuzz: venv-tests ## Fuzz every parser that meets foreign octets, each for T seconds (ARGS=--help lists more)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz --seconds $(T) $(ARGS)

faults: venv-tests ## Let 10,000 system calls of deliveries, QUIT, pclean and tools for databases fail, one at a time (ARGS="-n 1000")
	@$(BIN)/python -m tests.faults $(ARGS)

man: venv ## Make the man pages anew from man/src and the tables
	$(BIN)/python scripts/generate.py man

sample: venv ## Make the sample configuration anew from the tables
	$(BIN)/python scripts/generate.py sample

install: venv ## Install below DESTDIR and PREFIX for the interpreter PYTHON (INIT=debian or redhat: init scripts, too)
	@PYTHON="$(PYTHON)" sh scripts/install.sh "$(VENV)" "$(DESTDIR)" "$(PREFIX)" "$(INIT)"

dist: venv-tests ## Make source archive and wheel in dist/
	$(BIN)/python -m build --outdir "$(DIST)" .

deb: ## Make the Debian package in dist/, on Debian; root gets what it is built with
	@sh scripts/deb.sh "$(DIST)"

clean: ## Remove what was built; ./run and .venv too
	rm -rf build dist run $(VENV) *.egg-info .pytest_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
