# SPDX-License-Identifier: GPL-3.0-or-later
"""Meet requirements by the commands that their checks name."""

import time
from collections.abc import Iterator
from shlex import join

from incus_testbed import errors
from incus_testbed.host.requirement import Finding, Requirement, State
from incus_testbed.incus.client import Incus
from incus_testbed.process import programs

_ATTEMPTS = 3
#: Seconds that Incus has until it is no longer disturbed, and between attempts:
#: beside two test suites, which start an instance each second, three attempts
#: in a row were disturbed.
_PATIENCE, _PAUSE = 60.0, 0.5
#: Seconds for one command: making a pool writes a file system.
_COMMAND_LIMIT = 300.0


def apply(
    incus: Incus, need: Requirement, *, dry_run: bool
) -> Iterator[tuple[str, ...]]:
    """Meet a requirement, yielding each command line before it is run.

    ``dry_run`` runs none.

    :raises errors.Unsupported: no command can meet it, or its command did not
        help; says what a person can do
    """
    return _plan(incus, need) if dry_run else _meet(incus, need)


def _plan(incus: Incus, need: Requirement) -> Iterator[tuple[str, ...]]:
    finding = need.check()
    if finding.state is State.FAILED and not finding.fix:
        raise _unmet(need, finding)
    yield from (aimed(incus, argv) for argv in finding.fix)


def _meet(incus: Incus, need: Requirement) -> Iterator[tuple[str, ...]]:
    """Meet a requirement.

    A failure is tried again.  An attempt does not count if it was disturbed:
    when Incus makes a bridge, it reads all of the host's network interfaces,
    and fails if one of them disappears meanwhile because an instance stops.
    """
    finding = need.check()
    failure: errors.TestbedError | None = None
    attempts = 0
    give_up = time.monotonic() + _PATIENCE
    while finding.state is State.FAILED and attempts < _ATTEMPTS:
        try:
            for argv in finding.fix:
                yield aimed(incus, argv)
                _run(incus, argv)
            attempts += 1
        except errors.TestbedError as error:
            failure = error
            if isinstance(error, errors.Busy) and time.monotonic() < give_up:
                time.sleep(_PAUSE)
            else:
                attempts += 1
        finding = need.check()
    if finding.state is State.FAILED:
        if failure and not failure.resolution:
            failure.resolution = finding.advice
        raise failure or _unmet(need, finding)


def aimed(incus: Incus, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command line with this client's remote and project."""
    program, *words = argv
    return tuple(incus.argv(*words)) if program == "incus" else argv


def _run(incus: Incus, argv: tuple[str, ...]) -> None:
    program, *words = argv
    if program == "incus":
        incus.run(*words, timeout=_COMMAND_LIMIT)
        return
    completed = programs.run(argv, timeout=_COMMAND_LIMIT)
    if completed.status != 0:
        raise errors.CommandFailed(
            f"'{join(argv)}' failed",
            details=completed.stderr,
            resolution="Run this as root.",
        )


def _unmet(need: Requirement, finding: Finding) -> errors.Unsupported:
    return errors.Unsupported(
        f"{need.name}: {finding.detail}", resolution=finding.advice
    )
