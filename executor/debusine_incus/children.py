# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the programs of a task use the Incus that the worker uses.

Debusine's worker imports an image, and autopkgtest or sbuild, which it starts,
launch testbeds of it.  Up to Debusine 0.14.9 these programs inherit the
worker's environment.  From 0.14.10 on they get PATH and what config.ini has in
its section [Environment] (BaseExternalTask._cmd_env), so that what is set for
the worker's unit does not reach them.
"""

import logging
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debusine.worker.config import ConfigHandler

from incus_testbed import endpoint

log = logging.getLogger(__name__)

_SECTION = "[Environment]"
#: Variables of incus, and of this software.
_PREFIX = "INCUS_"


def obstacle(environment: Mapping[str, str] = os.environ) -> str | None:
    """Say why programs of tasks would use another Incus than the worker.

    None where they use the same remote, project and socket.
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
    ours, other = endpoint.choose(environment), endpoint.choose(theirs)
    if ours != other:
        return (
            f"autopkgtest and sbuild would use {_shown(other)}, and the worker"
            f" {_shown(ours)}. {remedy}"
        )
    if lost:
        log.warning("autopkgtest and sbuild do not get these. %s", remedy)
    return None


def _environment(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return what programs of tasks get; None if all that the worker has.

    Without a configuration to read, this process is not a worker.
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
    """Return the worker's configuration file, there or not."""
    folders = [Path(folder) for folder in ConfigHandler.default_directories]
    present = [folder for folder in folders if folder.is_dir()]
    return [*present, folders[-1]][0] / "config.ini"


def _shown(choice: endpoint.Choice) -> str:
    where = choice.socket or choice.remote
    return f"the project {choice.project} of {where}"
