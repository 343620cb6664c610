# SPDX-License-Identifier: GPL-3.0-or-later
"""Documented commands that no trip runs: who runs them, or why nobody does."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Runner:
    """A function of a test file with the command in it.

    ``values`` are what it has in place of words of the command.
    """

    file: str
    function: str
    values: Mapping[str, str] = field(default_factory=dict)


_DEBUSINE = "tests/e2e/test_debusine.py"

TESTED = {
    "debusine-incus pull 42": Runner(
        _DEBUSINE, "test_developer_pulls_an_environment", {"42": "environment"}
    ),
    "debusine-incus pull --work-request 1234": Runner(
        _DEBUSINE, "test_developer_pulls_an_environment", {"1234": "request"}
    ),
    "journalctl --unit=debusine-worker --grep=incus-": Runner(
        _DEBUSINE, "test_worker_says_what_it_offers"
    ),
    "autopkgtest ../debusine-incus_*.changes -- incus-testbed IMAGE"
    " -c security.nesting=true -c security.privileged=true": Runner(
        "tests/e2e/test_packages.py",
        "test_own_tests",
        {"../debusine-incus_*.changes": "changes", "IMAGE": "images"},
    ),
}

#: Sections whose commands another test takes from the page, and runs: a place
#: as in pages.Block, and the test.
READ: dict[str, Runner] = {}

#: Not run, and why.
NOT_RUN = {
    "make check": "CI runs it: .ci/run",
    'make bench BENCH="--rounds 5 --json figures.json --plot figures.svg"': (
        "takes an hour"
    ),
    "echo net.ipv4.ip_forward=1 >/etc/sysctl.d/60-incus-testbed-docker.conf": (
        "takes effect at the next boot of a machine with Docker"
    ),
}
