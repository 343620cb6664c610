# SPDX-License-Identifier: GPL-3.0-or-later

# What make e2e has: Debusine in these Debians, and machines that others set up.
E2E := trixie-backports sid trixie field
# Debian's Python modules are needed, whatever python3 is first on PATH.
PYTHON := PYTHONPATH=virt:executor /usr/bin/python3
SCRIPTS := $(shell git grep --files-with-matches --extended-regexp "^#!/bin/(ba)?sh|^# shellcheck shell=" -- ':!*.py')

help:
	@echo 'make demo    see it work: a Debian image, and autopkgtest in it'
	@echo 'make shell   a shell with the Incus of the demo'
	@echo 'make check   lint, then all tests'
	@echo 'make lint    ruff, mypy, shellcheck'
	@echo 'make unit    the fast tests: without root, Incus or network'
	@echo 'make test    the tests alone'
	@echo 'make check-sid  the tests on another Debian; TESTS= what to hand to pytest'
	@echo 'make e2e     run tasks of real Debusine servers; takes half an hour'
	@echo 'make e2e-compare  time them with the executor of Debusine, too'
	@echo 'make package-check  build the packages on, and put them on, each Debian'
	@echo 'make fuzz    try every parser with files changed at random; FUZZ_CASES= how many each'
	@echo 'make soak    kill everything at any moment, for an hour or two'
	@echo 'make check-vm  run virtual machines, and tests, in a machine for it; takes hours'
	@echo 'make bench   measure it all beside what else there is; BENCH= its arguments'
	@echo 'make deb     build the Debian packages, into ..'
	@echo 'make format  have ruff lay out the Python files'
	@echo 'make clean   remove what these left on this machine'

demo:
	tests/bootstrap.sh demo
	$(PYTHON) -m tests.demo

shell:
	tests/bootstrap.sh demo
	$(PYTHON) -m tests.demo --shell

check: lint test

lint: linters
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	shellcheck $(SCRIPTS)

unit:
	$(PYTHON) -m pytest -m "not slow" tests/unit

test: packages
	$(PYTHON) -m pytest

# In a Debian of another release, with the Incus and autopkgtest that it has.
check-%: packages
	$(PYTHON) -m tests.e2e.check $* $(TESTS)

# Here, having no Incus is a failure too.
# Two at a time, because each waits for long: for services, apt, and guests.
e2e: linters
	$(MAKE) --jobs=2 --output-sync=target $(E2E:%=e2e-%)

e2e-field:
	CI=true $(PYTHON) -m pytest tests/e2e/test_field.py

e2e-trixie e2e-trixie-backports e2e-sid:
	CI=true $(PYTHON) -m pytest --durations=5 -k "debusine-$(@:e2e-%=%)-worker" \
		tests/e2e/test_debusine.py

package-check: linters
	CI=true $(PYTHON) -m pytest -rP $(SUITE:%=-k '[%]') \
		tests/e2e/test_packages.py

# Upstream's instances are not asked: they need other images.
check-vm:
	tests/bootstrap.sh vm
	$(PYTHON) -m tests.vm -- tests/vm/suites.sh

e2e-compare: linters
	$(PYTHON) -m tests.e2e.compare

FUZZ_CASES = 100000
fuzz: packages
	$(PYTHON) -m tests.fuzz --cases $(FUZZ_CASES) $(FUZZ)

soak: linters
	$(PYTHON) -m tests.faults.soak

bench:
	tests/bootstrap.sh bench
	$(PYTHON) -m tests.daemon run -- /usr/bin/python3 -m tests.bench $(BENCH)

deb:
	dpkg-buildpackage -us -uc -b

format: linters
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

packages:
	tests/bootstrap.sh test

linters:
	tests/bootstrap.sh check

clean:
	-$(PYTHON) -m tests.demo --remove
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/debusine-incus"

.PHONY: help demo shell check check-vm lint unit test e2e $(E2E:%=e2e-%) e2e-compare fuzz soak bench deb package-check format packages linters clean
