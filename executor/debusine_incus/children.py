# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the programs of a task use the same Incus as the worker.

Debusine's worker imports an image.  It starts autopkgtest or sbuild, and these
launch testbeds of that image.  Up to Debusine 0.14.9 these programs inherit
the worker's environment.  From 0.14.10 on they get PATH and the variables in
section [Environment] of config.ini (BaseExternalTask._cmd_env), but not the
variables that are set for the worker's unit.

The virt server's command line can name a remote and a project.  Where they are,
only the environment can tell: then the two environments must be alike.
"""

import logging
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debusine.worker.config import ConfigHandler

from incus_testbed.incus import location
from incus_testbed.incus.exec.address import TlsAddress

log = logging.getLogger(__name__)

_SECTION = "[Environment]"
#: Prefix of the variables of incus and of this software.
_PREFIX = "INCUS_"
_CONFIGURATION = "INCUS_CONF"
_ON_COMMAND_LINE = {"INCUS_REMOTE", "INCUS_PROJECT"}


def obstacle(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return why programs of tasks can't use the Incus of the worker.

    Returns None if a remote and a project mean the same to them.
    """
    theirs = _environment(environment)
    if theirs is None:
        return None
    lost = {
        name: value
        for name, value in environment.items()
        if name.startswith(_PREFIX) and theirs.get(name) != value
    }
    remedy = (
        f"Put this below {_SECTION} in {_configuration()}, and restart the"
        f" worker: {'; '.join(f'{key} = {lost[key]}' for key in sorted(lost))}"
    )
    ours = location.choose(environment)
    other = location.choose(theirs, remote=ours.remote, project=ours.project)
    # Only the incus command may know where a remote is.
    is_lost = _CONFIGURATION in lost and ours.remote != "local"
    if ours != other or is_lost:
        return (
            f"autopkgtest and sbuild would use {_shown(other)}, but the worker"
            f" uses {_shown(ours)}. {remedy}"
        )
    if lost.keys() - _ON_COMMAND_LINE:
        log.warning(
            "autopkgtest and sbuild do not get all variables of the worker. %s",
            remedy,
        )
    return None


def options(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the options with which a virt server uses the worker's Incus.

    They are the remote and the project, unless the virt server finds the same
    ones without them.
    """
    theirs = _environment(environment)
    if theirs is None:
        return []
    ours, other = location.choose(environment), location.choose(theirs)
    wanted = {"remote": ours.remote, "project": ours.project}
    return [
        f"--{name}={value}"
        for name, value in wanted.items()
        if value != getattr(other, name)
    ]


def _environment(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment of tasks' programs; None if it is the worker's.

    If no configuration can be read, this process is not a worker: also None.
    """
    path = _configuration()
    if not hasattr(ConfigHandler, "environment") or not os.access(
        path, os.R_OK
    ):
        return None
    handler: Any = ConfigHandler(directories=[str(path.parent)])
    return {
        "HOME": pwd.getpwuid(os.geteuid()).pw_dir,
        "PATH": environment.get("PATH", ""),
        **handler.environment,
    }


def _configuration() -> Path:
    """Return the path of the worker's configuration file; it may not exist."""
    folders = [Path(folder) for folder in ConfigHandler.default_directories]
    present = [folder for folder in folders if folder.is_dir()]
    return [*present, folders[-1]][0] / "config.ini"


def _shown(choice: location.Choice) -> str:
    where = choice.address or choice.remote
    key = f" by {where.key}" if isinstance(where, TlsAddress) else ""
    return f"the project {choice.project} of {where}{key}"
