#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs, in the machine of tests/vm, what is of use there: each suite whatever
# became of the one before.

set -u
export PYTHONPATH=virt:executor INCUS_TESTBED_BOOT_LIMIT=1800
status=0

suite() {
    /usr/bin/python3 -m pytest -rP "$@" || status=1
}

suite --vm tests/vm
suite --vm -k 'not upstream' tests/contract/instance
# Containers, under AppArmor and on a systemd host's cgroups.
suite tests/integration/test_releases.py tests/integration/test_instance.py \
    tests/integration/test_nesting.py
exit $status
