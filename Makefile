# SPDX-License-Identifier: GPL-3.0-or-later

# The parts of make e2e: the oldest and the newest Debusine that Debian has, and
# machines that others have set up; and what the pages say, from nothing to a tested
# package.
E2E := sid trixie machines-of-others trips
# Debian's Python modules are needed, even if another python3 is first on PATH.
PYTHON := PYTHONPATH=virt:executor /usr/bin/python3
SCRIPTS := $(shell git grep --files-with-matches --extended-regexp "^#!/bin/(ba)?sh|^# shellcheck shell=" -- ':!*.py')

help:
	@echo 'make demo    import a Debian image and run autopkgtest in it'
	@echo 'make shell   open a shell with the Incus of the demo'
	@echo 'make check   run the linters, then all tests'
	@echo 'make lint    run ruff, mypy and shellcheck'
	@echo 'make unit    run the fast tests: they need no root, Incus or network'
	@echo 'make test    run the tests only'
	@echo 'make check-restricted  run the contract tests as a user without rights'
	@echo 'make check-remote  run the contract tests against a remote, over TLS'
	@echo 'make check-cluster  run the contract tests in a cluster of two real members; SUITE='
	@echo 'make check-images  import images in the shapes of other people, and use them'
	@echo 'make check-disks  import disks in the shapes of other people, and boot them'
	@echo 'make check-sid  run the tests on another Debian; TESTS= arguments of pytest'
	@echo 'make e2e     run tasks of real Debusine servers; takes half an hour'
	@echo 'make e2e-trixie-backports  the same in a third Debian; a quarter of an hour'
	@echo 'make trips   run the commands of the pages in a fresh machine; SUITE= its Debian,'
	@echo '             TRIPS= some of: laptop ci sbuild worker farm checkout'
	@echo 'make e2e-debci  run a test by the packaged debci; make e2e-ci: CI jobs, sbuild'
	@echo 'make e2e-cluster  test clusters of two and three real members; SUITE= their Debian'
	@echo 'make e2e-compare  time a task with our executor and with that of Debusine'
	@echo 'make package-check  build and install the packages on each Debian release'
	@echo 'make fuzz    try the parsers with randomly changed files; FUZZ_CASES= files for each'
	@echo 'make soak    kill processes at random moments; takes an hour or two'
	@echo 'make check-vm  test virtual machines, in an emulated machine; takes hours'
	@echo 'make e2e-vm  run tasks of Debusine in virtual machines, in an emulated machine'
	@echo 'make bench   measure the speed, and that of other programs; BENCH= its arguments'
	@echo 'make bench-quick  in three minutes: has something become slower?'
	@echo 'make bench-remote  measure a remote beside the same Incus as a local one'
	@echo 'make bench-guest  measure in a guest of SUITE, or sid; BENCH= its arguments'
	@echo 'make bench-scale  measure with many images and instances; SCALE= its arguments'
	@echo 'make deb     build the Debian packages in the parent folder'
	@echo 'make format  format the Python files with ruff'
	@echo 'make clean   remove what these targets have left on this machine'

demo:
	tests/bootstrap.sh demo
	$(PYTHON) -m demo

shell:
	tests/bootstrap.sh demo
	$(PYTHON) -m demo --shell

check: lint test

lint: linters
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	shellcheck $(SCRIPTS)

unit:
	$(PYTHON) -m pytest --numprocesses=auto -m "not slow" tests/unit

# Tests that share an Incus run one after the other. The two parts have an Incus
# each, and wait for guests most of the time.
test: packages
	$(PYTHON) -m pytest --numprocesses=auto tests/unit
	$(MAKE) --jobs=2 --output-sync=target test-contract test-integration

test-contract:
	$(PYTHON) -m pytest --durations=10 tests/contract tests/faults

test-integration:
	$(PYTHON) -m pytest --durations=10 tests/integration

# As a user who is in the group incus alone. Left out are upstream's instances,
# what takes root or an admin of Incus on the tests' own side, and images that
# this software has not imported: nothing in those keeps udev out.
FOR_ADMINS = upstream or get_in or without_the_profile or only_root_reads \
	or test_remote or twenty or plain_image or profile_that_is_missing
RESTRICTED = tests/contract/instance tests/contract/virt_server \
	tests/integration/test_exec.py tests/integration/test_executor.py \
	tests/integration/test_login.py tests/integration/test_worker.py
check-restricted: packages
	$(PYTHON) -m tests.support.images bookworm
	$(PYTHON) -m tests.support.restricted /usr/bin/python3 -m pytest \
		-p no:cacheprovider -k "not ($(FOR_ADMINS))" $(RESTRICTED)

# All clients reach a private Incus as a remote, over TLS.  Left out are tests
# whose Incus has to be a socket.
AT_SOCKETS = test_remote[ or test_remote_in or keeps_to_the_project \
	or without_a_daemon or daemon_does_not_answer
REMOTE = tests/contract/instance tests/contract/virt_server \
	tests/integration/test_exec.py tests/integration/test_executor.py \
	tests/integration/test_login.py tests/integration/test_secrets.py
check-remote: packages
	SHORT_COMMANDS=1000 $(PYTHON) -m tests.support.remote \
		/usr/bin/python3 -m pytest --durations=10 \
		-k "not ($(AT_SOCKETS))" $(REMOTE)

# On the first of two members, each a guest with an Incus of its own.  Left out are
# upstream's instances, of which make test says what they do; a test for which the
# guests would need sbuild; and one that starts twenty testbeds at once: the two
# members share this machine, where a start then takes longer than LXC waits.
check-cluster: packages
	$(PYTHON) -m tests.cluster.suites --durations=10 \
		-k "not upstream and not sbuild and not twenty" \
		tests/contract/instance tests/contract/virt_server

# make test takes two of these shapes.
check-images: packages
	EVERY_IMAGE=1 $(PYTHON) -m pytest -rP tests/integration/test_other_images.py

# One at a time: each boots in an emulated machine.
check-disks: packages
	tests/bootstrap.sh disks
	CI=true $(PYTHON) -m pytest -rP $(if $(DISKS),-k "$(DISKS)") tests/e2e/test_other_disks.py

# In another Debian release, with the Incus and autopkgtest that it has.
check-%: packages
	$(PYTHON) -m tests.e2e.check $* $(TESTS)

# Here a missing Incus is a failure too.
# Two at a time, because each waits for services, apt and guests most of the time.
e2e: linters
	$(MAKE) --jobs=2 --output-sync=target $(E2E:%=e2e-%)

e2e-machines-of-others:
	CI=true $(PYTHON) -m pytest tests/e2e/test_machines_of_others.py

e2e-trixie e2e-trixie-backports e2e-sid:
	CI=true $(PYTHON) -m pytest --durations=5 -k "debusine-$(@:e2e-%=%)-worker" \
		tests/e2e/test_debusine.py

e2e-trips:
	$(PYTHON) -m tests.trips trixie laptop ci

SUITE_OF_TRIPS = $(or $(SUITE),trixie)
trips: packages
	$(PYTHON) -m tests.trips --transcript trips-$(SUITE_OF_TRIPS).txt \
		$(SUITE_OF_TRIPS) $(TRIPS)
e2e-debci: E2E_HOWTO = debci
e2e-ci: E2E_HOWTO = runner_and_sbuild or privileged_container
e2e-debci e2e-ci: linters
	CI=true $(PYTHON) -m pytest --durations=5 -k "$(E2E_HOWTO)" \
		tests/e2e/test_howto.py

# Each member is a guest of SUITE, with the Incus that this has.
e2e-cluster check-cluster: export SUITE_OF_CLUSTER = $(or $(SUITE),trixie)
e2e-cluster: linters
	CI=true $(PYTHON) -m pytest --durations=5 tests/cluster

package-check: linters
	CI=true $(PYTHON) -m pytest -rP $(SUITE:%=-k '[%]') \
		tests/e2e/test_packages.py

# Upstream's instances are not tested: they need other images.
check-vm: packages
	CI=true $(PYTHON) -m pytest -rP tests/e2e/test_built_disks.py
	tests/bootstrap.sh vm
	$(PYTHON) -m tests.vm -- tests/vm/suites.sh

# The worker is in the emulated machine, the server in a container of this one.
e2e-vm: linters
	tests/bootstrap.sh vm
	CI=true $(PYTHON) -m pytest -rP -k "debusine-$(or $(SUITE),trixie)-worker" \
		tests/e2e/test_emulated.py

e2e-compare: linters
	$(PYTHON) -m tests.e2e.compare

FUZZ_CASES = 100000
fuzz: packages
	$(PYTHON) -m tests.fuzz --cases $(FUZZ_CASES) $(FUZZ)

soak: linters
	$(PYTHON) -m tests.faults.soak

bench:
	tests/bootstrap.sh bench
	$(PYTHON) -m tests.support.daemon run -- /usr/bin/python3 -m tests.bench $(BENCH)

bench-quick:
	tests/bootstrap.sh bench
	$(PYTHON) -m tests.support.daemon run -- /usr/bin/python3 -m tests.bench.quick

bench-remote:
	tests/bootstrap.sh bench
	$(PYTHON) -m tests.support.daemon run -- /usr/bin/python3 -m tests.bench.remote

# In another Debian, with the Incus and autopkgtest that it has.
bench-guest:
	tests/bootstrap.sh bench
	$(PYTHON) -m tests.bench.guest $(or $(SUITE),sid) $(BENCH)

bench-scale:
	tests/bootstrap.sh bench
	$(PYTHON) -m tests.support.daemon run -- /usr/bin/python3 -m tests.bench.scale $(SCALE)

bench-members:
	tests/bootstrap.sh bench
	$(PYTHON) -m tests.support.daemon run -- /usr/bin/python3 -m tests.bench.members $(MEMBERS)

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
	-$(PYTHON) -m demo --remove
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/debusine-incus"

.PHONY: help demo shell check check-cluster check-disks check-images check-restricted check-vm lint unit test test-contract test-integration e2e $(E2E:%=e2e-%) e2e-trixie-backports e2e-ci e2e-cluster e2e-compare e2e-debci e2e-vm fuzz soak bench bench-guest bench-members bench-quick bench-remote bench-scale deb package-check trips format packages linters clean
