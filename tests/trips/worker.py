# SPDX-License-Identifier: GPL-3.0-or-later
"""An admin of a Debusine worker; tests/e2e/test_debusine.py gives it work."""

from tests.trips.needs import WORKER
from tests.trips.trip import Preparation, Step, Trip

WORKER_TRIP = Trip(
    "worker",
    (
        Preparation(
            "a worker that knows a server",
            "cd /etc/debusine/worker; umask 077;"
            " printf '[General]\\napi-url = http://localhost:1/api\\n'"
            " >config.ini;"
            " echo token >token; chown debusine-worker: config.ini token",
        ),
        Step(
            "apt install ../incus-testbed_*.deb ../debusine-worker-incus_*.deb"
        ),
        Step("incus-testbed setup --restricted debusine-worker"),
        Step("runuser -u debusine-worker -- incus-testbed doctor", "user-"),
        Preparation(
            "a pool that copies, as Debusine's script makes one",
            "incus storage create copying dir;"
            " incus-testbed setup --pool copying;"
            " incus-testbed setup --restricted debusine-worker --pool copying;"
            " incus-testbed doctor | grep 'setup --pool'",
        ),
        Step("incus-testbed setup --pool testbeds", "storage create testbeds"),
        Step(
            "incus-testbed setup --restricted debusine-worker --pool testbeds",
            "pool=testbeds",
        ),
        Step("adduser debusine-worker incus-admin"),
        Step("gpasswd --delete debusine-worker incus-admin"),
        Step("systemctl restart debusine-worker"),
        Step("gpasswd --delete debusine-worker incus"),
        Step("incus project create NAME", values={"NAME": "other"}),
        Step("incus project switch NAME", values={"NAME": "other"}),
        Step("incus-testbed setup", "incus profile create debusine"),
        Preparation(
            "a worker that was let in once more: it keeps its pool",
            "incus profile device get debusine root pool"
            " --project=user-$(id -u debusine-worker) | grep testbeds",
        ),
        # Another machine's Incus, which is this machine's.
        Step("incus config set core.https_address=:8443"),
        Step(
            "runuser -u debusine-worker -- incus remote add farm TOKEN",
            values={"TOKEN": "$(incus config trust add worker --quiet)"},
        ),
        Step("runuser -u debusine-worker -- incus remote switch farm"),
    ),
    packages=WORKER,
)
