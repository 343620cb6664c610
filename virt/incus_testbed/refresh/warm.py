# SPDX-License-Identifier: GPL-3.0-or-later
"""A warm base: an instance that is set up once, and then copied."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from incus_testbed.refresh import upgrade

#: Seconds for the commands of the user.
_COMMANDS_LIMIT = 3600.0


@dataclass(frozen=True, kw_only=True)
class SetUp:
    """What is done in a warm base.

    ``upgrade``: it is brought up to date.  ``commands`` are run before that, as
    autopkgtest runs its setup commands: each is a shell script, or names a file
    of this machine with one.
    """

    upgrade: bool = False
    commands: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Tell whether there is something to do."""
        return self.upgrade or bool(self.commands)


def prepare(incus: Incus, base: Instance, wanted: SetUp) -> None:
    """Set up an instance that has been launched, and stop it.

    The output of the commands goes to standard error.

    :raises errors.TestbedError: the set-up failed
    """
    scripts = [_script(each) for each in wanted.commands]
    ready = base.wait_ready()
    proxies = upgrade.proxies(incus) if wanted.upgrade else {}
    if wanted.upgrade and scripts:
        upgrade.run_apt(base.guest, "update", proxies)
    for script in scripts:
        _run(base, script, ready.user)
    if wanted.upgrade:
        upgrade.upgrade(base.guest, proxies)
    upgrade.forget(base.guest)
    base.stop()


def _script(command: str) -> str:
    # pathlib raises an error for a text that is too long for a name.
    if not os.path.isfile(command):  # noqa: PTH113
        return command
    try:
        return Path(command).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.NotFound(f"{command} can't be read: {error}") from error


def _run(base: Instance, script: str, user: str) -> None:
    variables = ["AUTOPKGTEST_IS_SETUP_COMMAND=1"]
    if user:
        variables.append(f"AUTOPKGTEST_NORMAL_USER={user}")
    try:
        done = base.guest.exec(
            ["env", *variables, "sh", "-ec", script],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=_COMMANDS_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise errors.TimedOut(
            f"The warm-up commands took more than {_COMMANDS_LIMIT:.0f} s"
        ) from None
    if done.returncode:
        raise errors.CommandFailed(
            f"The warm-up commands failed with status {done.returncode}"
        )
