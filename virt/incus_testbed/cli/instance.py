# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that use a throw-away instance: run and shell."""

import argparse
import contextlib
import logging
import shlex
import sys
from collections.abc import Iterator

from incus_testbed import errors
from incus_testbed.cli import max_age, network
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

log = logging.getLogger(__name__)


def run(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run run; return the exit status of its command."""
    command = arguments.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise errors.TestbedError(
            "There is no command to run",
            resolution=f"incus-testbed run {arguments.alias} -- COMMAND ...",
        )
    with _launched(incus, arguments, "run") as instance:
        return instance.guest.exec(command).returncode


def shell(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run shell; return the exit status of its command."""
    with _launched(incus, arguments, "shell") as instance:
        program = instance.probe()["shell"]
        # With a terminal in the guest, a shell would not see the input's end.
        return instance.guest.exec(
            [program, "-l"], interactive=sys.stdin.isatty()
        ).returncode


@contextlib.contextmanager
def _launched(
    incus: Incus, arguments: argparse.Namespace, purpose: str
) -> Iterator[Instance]:
    max_age.ensure(incus, arguments.alias, arguments.max_age)
    instance = Instance.launch(
        incus,
        arguments.alias,
        purpose=purpose,
        ephemeral=not arguments.keep,
        network=network.is_wanted(arguments),
        arguments=arguments.launch_argument,
    )
    try:
        instance.wait_ready()
        yield instance
    finally:
        if arguments.keep:
            _keep(incus, instance)
        else:
            instance.delete()


def _keep(incus: Incus, instance: Instance) -> None:
    """Keep an instance, and tell how to use and remove it."""
    instance.keep()
    target = incus.target(instance.name)
    entry = incus.argv("exec", target, "--", "su", "-")
    removal = incus.argv("delete", "--force", target)
    log.warning(
        "%s is kept\n  A shell in it: %s\n  Remove it: %s",
        instance.name,
        shlex.join(entry),
        shlex.join(removal),
    )
