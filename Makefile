# The commands for people who try Spyglass and for people who change it. `make help` lists them.
#
# Everything works from a fresh clone on Debian 12 or 13, as root or with sudo. What is missing is
# installed and named, once. In the clone only .venv and dist are made. Debian roots for building
# and testing are kept outside of it, in $(ROOTS_CACHE), because they outlive a clone.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

APP ?=
BIND ?= 0.0.0.0:4222
RELEASE ?= trixie
RELEASES ?= bookworm trixie
TESTS ?= tests
# How many processes share out the tests, three for a core: they wait more than they compute. Each
# may boot a machine, which needs some 100 MiB.
PROCESSES ?= 6
# How long some tests take (tests/README.md).
EDGE ?=
RELOADS ?=
PYTHON ?= python3
ROOTS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/spyglass

# Other servers, and Spyglass as its users get it: not in .venv, because an editable install takes
# longer to wake.
BENCH ?= $(ROOTS_CACHE)/bench
ROUNDS ?= 30

# The fuzzer exists for some versions of Python only, and the tests do not need it: so it has an
# environment of its own, too.
FUZZ ?= $(ROOTS_CACHE)/fuzz
SECONDS ?= 600
TARGETS ?= reader proxies frames worker
CRASHES ?= $(ROOTS_CACHE)/crashes

MINUTES ?= 30
SEED ?=
KEEP ?=

# What a release is built with (packaging/release/requirements.txt), which key signs it and where it will be served.
RELEASING ?= $(ROOTS_CACHE)/release
KEY ?=
UNSIGNED ?=
URL ?=

# Booting and building need root. sudo resets the environment, so it is set again.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
AS_ROOT = $(SUDO) env ROOTS_CACHE='$(ROOTS_CACHE)' RELEASES='$(RELEASES)' PYTHON='$(CURDIR)/.venv/bin/python' PYTHONDONTWRITEBYTECODE=1 $(EDGE:%=EDGE=%) $(RELOADS:%=RELOADS=%)

# Each that can be run; pyenv has commands for versions that cannot.
PYTHONS ?= $(or $(shell for each in 3.11 3.12 3.13 3.14; do python$$each -c '' 2>/dev/null && echo python$$each; done),$(PYTHON))

# What the tests run on: pure, or compiled (tests/conftest.py).
ENGINE ?= pure
PYTEST = .venv/bin/python -m pytest -p no:cacheprovider --numprocesses $(PROCESSES)
COMPILED := $(if $(filter compiled,$(ENGINE)),engine)

# systemd-python is compiled. A python3 that is not Debian's brings venv and headers along.
RUN_PACKAGES := gcc libc6-dev libsystemd-dev pkg-config \
    $(if $(filter-out /usr/bin/%,$(shell command -v $(PYTHON))),,python3 python3-dev python3-venv)
ROOT_PACKAGES := mmdebstrap debian-archive-keyring
# Programs that tests run: those of tests/unit, and the database of tests/process. Of postgresql and
# prometheus only the programs are used, for servers of the tests' own; Debian may start others.
QUICK_PACKAGES := bash-completion chromium-headless-shell git man-db mandoc prometheus zsh
PROGRAM_PACKAGES := $(QUICK_PACKAGES) postgresql
RELEASE_PACKAGES := $(ROOT_PACKAGES) apt-utils git gnupg gpgv
TEST_PACKAGES := $(RELEASE_PACKAGES) systemd-container $(PROGRAM_PACKAGES)
BENCH_PACKAGES := libev-dev wrk
# A compiler for the small program that is woken, and what counts the calls of systemd.
SYSTEMD_PACKAGES := $(TEST_PACKAGES) gcc libc6-dev strace

# What pip and apt say matters only when they fail.
QUIETLY := packaging/quietly

# $(call install,PACKAGES): apt runs only if one of them is missing.
define install
@missing=$$(for package in $(1); do \
    [ "$$(dpkg-query --show --showformat='$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || echo $$package; done); \
if [ -n "$$missing" ]; then \
    echo "Installing Debian packages:" $$missing; \
    $(QUIETLY) $(SUDO) apt-get update && \
    $(QUIETLY) $(SUDO) env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
        apt-get install --yes --no-install-recommends $$missing; \
fi
endef

# $(call pip,ENVIRONMENT) is the pip of a virtual environment, silent unless it fails.
pip = $(QUIETLY) $(1)/bin/pip --disable-pip-version-check

help: ## this list
	@echo "make TARGET [VARIABLE=value]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 20
	@echo "APP, BIND='host:port [v6]:port unix:/path', RELEASE, RELEASES, PYTHON, ROOTS_CACHE=$(ROOTS_CACHE)"
	@echo "TESTS='tests/unit -k word' for make test: what the chosen tests do not need is not built"
	@echo "      -m 'not slow': none of more than 5 s; -m 'not system': no booted machine"
	@echo "PROCESSES=6 that share out the tests; 0: one after the other, in this process"

run: .venv/.run ## serve APP=module:callable (or a welcome page) on BIND=0.0.0.0:4222, asleep until the first visitor
	@.venv/bin/spyglass lookout $(APP) $(addprefix --bind ,$(BIND))

venv: .venv/.run ## .venv with the project and its command

# Only tests/system boots machines. When its tests are chosen in another way, its conftest.py
# builds what is missing.
BOOTING := $(filter tests tests/ tests/system%,$(TESTS))

# These compute more than they wait, and each process collects all of them.
quick: PROCESSES = 3
quick: .venv/.dev quick-packages $(COMPILED) ## check, unit and HTTP tests in a minute: builds no package, boots nothing
	@$(MAKE) check
	@ENGINE=$(ENGINE) $(PYTEST) tests/unit tests/http11 tests/rfc6455

# Pure Python runs all tests, and the compiled engine those of HTTP. The wire cases are sent to it
# too, by the tests of the package, in a machine of each release. ENGINE=compiled runs all on it.
BOTH := $(if $(filter tests tests/,$(TESTS)),$(filter pure,$(ENGINE)))

test: .venv/.dev $(if $(BOOTING),test-packages,program-packages) $(COMPILED) ## check, build the packages, run all tests, those on a real systemd too (ENGINE=compiled)
	@$(MAKE) --jobs=$(words check $(RELEASES)) check $(if $(BOOTING),deb roots) $(if $(BOTH),unoptimised-engine)
	@$(AS_ROOT) ENGINE=$(ENGINE) $(PYTEST) $(TESTS)
ifneq ($(BOTH),)
	@$(AS_ROOT) ENGINE=compiled $(PYTEST) tests/http11 tests/rfc6455
endif

wheels: run-packages ## wheels with the compiled engine in dist/wheels, for PYTHONS='python3.11 python3.12'
	@ROOTS_CACHE='$(ROOTS_CACHE)' packaging/wheels dist/wheels $(PYTHONS)

engine: .venv/.dev ## compile the hot modules for .venv: it runs them from then on, until their source changes
	@.venv/bin/python packaging/engine spyglass/_engine

# Takes half as long, for tests that do not ask how fast it is; `make engine` makes it anew.
unoptimised-engine: .venv/.dev
	@DEB_BUILD_OPTIONS=noopt .venv/bin/python packaging/engine spyglass/_engine

check: .venv/.dev ## ruff, mypy, the import contracts and the prose
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy
	@packaging/quietly .venv/bin/lint-imports --no-cache
	@.venv/bin/python -m pytest -qq -p no:cacheprovider tests/unit/test_prose.py

docs: .venv/.dev ## the documentation as a site, in dist/site (settings.md and commands.md are regenerated first)
	@.venv/bin/python packaging/manual --reference docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs --quiet build --strict
	@echo "dist/site/index.html"

deb: $(RELEASES:%=dist/%/.built) ## Debian packages for RELEASES, in dist

version: .venv/.run ## make spyglass/__init__.py and debian/changelog follow the first heading of CHANGELOG.md
	@.venv/bin/python packaging/release version

release: $(RELEASING)/.made release-packages ## the tagged commit as packages, sdist, wheel and signed APT repository, in dist/release (KEY=fingerprint or file, URL=https://...)
	@ROOTS_CACHE='$(ROOTS_CACHE)' $(RELEASING)/bin/python packaging/release make --key '$(KEY)' $(if $(UNSIGNED),--unsigned) --url '$(URL)' dist/release

shell: dist/$(RELEASE)/.built test-packages ## root's shell in a booted Debian RELEASE=trixie with the package installed
	@$(AS_ROOT) .venv/bin/python tests/system/machine.py $(RELEASE)

recording: .venv/.dev dist/$(RELEASE)/.built test-packages ## the terminal session in the README, typed anew on a booted RELEASE=trixie
	@$(AS_ROOT) .venv/bin/python packaging/recording $(RELEASE) docs/images/session.svg

ROOTS := $(RELEASES:%=roots-%)
roots: $(ROOTS) ## the Debian roots that tests boot
$(ROOTS): roots-%: .venv/.run root-packages
	@for kind in clean tests judges pip; do $(AS_ROOT) packaging/root $$kind $* >/dev/null || exit 1; done

bench-wake: $(BENCH)/.made ## how long a sleeping app's first visitor waits, beside uWSGI, gunicorn, bare Python, and Passenger if it is installed (ROUNDS=30)
	@$(BENCH)/bin/python benchmarks/wake/wake.py --rounds $(ROUNDS)

bench-timeline: $(BENCH)/.made ## what each process has reached in the course of a wake, and when (ROUNDS=30, APP=hello:app, SVG=file)
	@$(BENCH)/bin/python benchmarks/wake/timeline.py --rounds $(ROUNDS) $(APP:%=--app %) $(SVG:%=--svg %)

bench-memory: $(BENCH)/.made ## what an app costs while it is awake, beside uWSGI, gunicorn, granian, and Passenger if it is installed; and a waiting lookout
	@$(BENCH)/bin/python benchmarks/memory/memory.py
	@$(BENCH)/bin/python benchmarks/memory/memory.py --lookout

bench-throughput: $(BENCH)/.made bench-packages ## requests per second, beside bjoern, granian, uWSGI and others (half an hour; ROUNDS=5)
	@$(BENCH)/bin/python benchmarks/throughput/throughput.py --rounds $(if $(filter file,$(origin ROUNDS)),5,$(ROUNDS))

bench-asgi: $(BENCH)/.made bench-packages ## processor time per request of ASGI apps, beside uvicorn, granian, gunicorn and hypercorn; memory (half an hour; ROUNDS=5)
	@$(BENCH)/bin/python benchmarks/asgi/asgi.py --rounds $(if $(filter file,$(origin ROUNDS)),5,$(ROUNDS))

bench-systemd: deb systemd-packages ## how long a wake takes through a real systemd, and what the sandbox costs, on RELEASES (ROUNDS=15)
	@$(AS_ROOT) .venv/bin/python benchmarks/sandbox/wakes.py --rounds $(if $(filter file,$(origin ROUNDS)),15,$(ROUNDS)) $(RELEASES:%=--release %)

fuzz: $(FUZZ)/.made ## generated inputs for SECONDS=600; failures go to CRASHES, new inputs to tests/fuzz/corpus
	@$(FUZZ)/bin/python tests/fuzz/fuzz.py --seconds $(SECONDS) --crashes '$(CRASHES)' $(TARGETS)

soak: dist/$(RELEASE)/.built test-packages ## random disturbances of running apps for MINUTES=30, on a booted RELEASE=trixie (SEED=, KEEP=directory)
	@$(AS_ROOT) .venv/bin/python tests/soak/soak.py --release $(RELEASE) --minutes $(MINUTES) $(SEED:%=--seed %) $(if $(KEEP),--keep '$(KEEP)')

clean: ## remove what was made in the clone
	rm -rf .venv dist build spyglass/_engine .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## and the Debian roots
	$(SUDO) rm -rf '$(ROOTS_CACHE)'/{build,image,clean,tests,judges,pip,wheels}-* '$(ROOTS_CACHE)'/source-* '$(BENCH)' '$(FUZZ)' '$(RELEASING)' '$(CRASHES)'

.PHONY: help run venv quick test engine unoptimised-engine wheels check docs deb version release shell recording roots $(ROOTS) fuzz soak bench-wake bench-timeline bench-memory \
    bench-throughput bench-asgi bench-systemd clean distclean \
    run-packages root-packages quick-packages program-packages test-packages bench-packages systemd-packages release-packages

run-packages:
	$(call install,$(RUN_PACKAGES))
root-packages:
	$(call install,$(ROOT_PACKAGES))
quick-packages:
	$(call install,$(QUICK_PACKAGES))
program-packages:
	$(call install,$(PROGRAM_PACKAGES))
test-packages:
	$(call install,$(TEST_PACKAGES))
systemd-packages:
	$(call install,$(SYSTEMD_PACKAGES))
bench-packages:
	$(call install,$(BENCH_PACKAGES))
release-packages:
	$(call install,$(RELEASE_PACKAGES))

.venv/.run: pyproject.toml | run-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=..."; exit 1; }
	@echo "Making .venv with the project"
	@$(PYTHON) -m venv .venv
	@$(call pip,.venv) install --use-pep517 --editable .
	@touch $@

.venv/.dev: .venv/.run
	@echo "Adding to .venv what the tests need"
	@$(call pip,.venv) install --use-pep517 --editable '.[dev,docs]'
	@touch $@

$(BENCH)/.rivals: benchmarks/rivals.txt | run-packages bench-packages
	@echo "Making $(BENCH) with the servers to compare with"
	@$(PYTHON) -m venv --clear $(BENCH)
	@$(call pip,$(BENCH)) install --requirement benchmarks/rivals.txt
	@touch $@

SOURCES := $(shell find spyglass packaging debian docs tests/http11 tests/process/wire -type f -not -path '*/__pycache__/*' -not -path '*/.*_cache/*' -not -path '*/_engine/*') \
    $(wildcard tests/conftest.py tests/waiting.py tests/process/__init__.py pyproject.toml README.md CHANGELOG.md LICENSE)

dist/%/.built: $(SOURCES) | .venv/.run root-packages
	@echo "Building the package for $*"
	@mkdir -p $(@D)
	@$(AS_ROOT) packaging/deb $* $(@D)
	@touch $@

$(BENCH)/.made: $(SOURCES) $(BENCH)/.rivals
	@$(call pip,$(BENCH)) install .
	@SPYGLASS_COMPILE=1 $(call pip,$(BENCH)) install --force-reinstall --no-deps .
	@$(BENCH)/bin/spyglass --version >/dev/null # makes the bundles of byte code, as the Debian package does when it is configured
	@touch $@

$(RELEASING)/.made: packaging/release/requirements.txt | run-packages
	@echo "Making $(RELEASING) with what builds a release"
	@$(PYTHON) -m venv --clear $(RELEASING)
	@$(call pip,$(RELEASING)) install --require-hashes --no-deps --only-binary :all: --requirement packaging/release/requirements.txt
	@touch $@

$(FUZZ)/.made: pyproject.toml | run-packages
	@echo "Making $(FUZZ) with what fuzzes"
	@$(PYTHON) -m venv --clear $(FUZZ)
	@$(call pip,$(FUZZ)) install --use-pep517 --editable '.[fuzz]'
	@touch $@
