# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the Incus server that the incus command would use.

The rules are those of Incus 6.0 to 7.0, read in its source: shared/cliconfig/
(the client's configuration) and client/connection.go (the socket).
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from incus_testbed.incus import configuration
from incus_testbed.incus import remote as remotes
from incus_testbed.incus.exec.address import Address, UnixAddress

#: Folders of the daemon's socket: the first that has one, otherwise the last.
DIRECTORIES = (Path("/run/incus"), Path("/var/lib/incus"))

#: What incus-user calls a user's project; the user's number follows.
USER_PROJECT = "user-"

#: The folder of the configuration of all users.
_GLOBAL = "/etc/incus"

_LOCAL = "local"
_DEFAULT_PROJECT = "default"
_NAME = "unix.socket"
_USER_NAME = "unix.socket.user"

#: The package exec as a program.  The rest of incus_testbed is left out: it
#: takes longer to import than most commands take to run.  After an upgrade, a
#: worker of the older version starts the newer program: so its place and the
#: meaning of its options must not change.
_SESSION = (
    sys.executable,
    "-I",
    "-S",
    "-c",
    f"import sys; sys.path.append({str(Path(__file__).parent)!r});"
    " from exec import program; program.main()",
)


@dataclass(frozen=True)
class Choice:
    """The remote and the project that the incus command would use.

    ``address`` is where the server's daemon listens; None if only the incus
    command can reach it.
    """

    remote: str
    project: str
    address: Address | None


def session_argv(
    address: Address,
    project: str,
    name: str,
    command: Sequence[str],
    *,
    program: Sequence[str] = (),
) -> list[str]:
    """Return the command line of a session, which runs a command."""
    return [
        *(program or _SESSION),
        *address.options(),
        f"--project={project}",
        name,
        *command,
    ]


def choose(
    environment: Mapping[str, str],
    *,
    remote: str | None = None,
    project: str | None = None,
) -> Choice:
    """Return the server that the incus command would use in an environment.

    Without ``remote`` or ``project``, the user has chosen them in the
    environment or in the configuration of the incus command.
    """
    folder, chosen = _configuration(environment)
    name = (
        remote
        or environment.get("INCUS_REMOTE")
        or chosen.get("default-remote")
        or _LOCAL
    )
    known, servers = _remote(chosen, name), folder
    if not known and name != _LOCAL:
        servers = Path(environment.get("INCUS_GLOBAL_CONF") or _GLOBAL)
        known = _remote(configuration.read(servers) or {}, name)
    # A user can't change the address of the local one.
    url = "unix://" if name == _LOCAL else str(known.get("addr", ""))
    scheme, _, path = url.partition(":")
    address: Address | None
    if scheme == "unix" and "," not in path:
        address, usual_project = _socket(environment, path.removeprefix("//"))
    else:
        address = remotes.address(name, known, (folder, servers), environment)
        usual_project = _DEFAULT_PROJECT
    configured = known.get("project")
    if configured == _DEFAULT_PROJECT:  # the client ignores it too
        configured = None
    return Choice(
        remote=name,
        project=project
        or environment.get("INCUS_PROJECT")
        or configured
        or usual_project,
        address=address,
    )


def user_socket(environment: Mapping[str, str]) -> Path:
    """Return where incus-user's socket is on this machine, if it runs."""
    return _directory(environment) / _USER_NAME


def is_users(address: Address) -> bool:
    """Tell whether a socket is incus-user's, and not the daemon's own."""
    return (
        isinstance(address, UnixAddress)
        and Path(address.path).name == _USER_NAME
    )


def _socket(
    environment: Mapping[str, str], path: str
) -> tuple[Address | None, str]:
    """Return the daemon's socket, and the project to expect there."""
    path = path or environment.get("INCUS_SOCKET", "")
    if path:
        return UnixAddress(path), _DEFAULT_PROJECT
    directory = _directory(environment)
    socket, restricted = directory / _NAME, directory / _USER_NAME
    if not os.access(socket, os.W_OK) and os.access(restricted, os.W_OK):
        return UnixAddress(str(restricted)), f"{USER_PROJECT}{os.geteuid()}"
    return UnixAddress(str(socket)), _DEFAULT_PROJECT


def _directory(environment: Mapping[str, str]) -> Path:
    if chosen := environment.get("INCUS_DIR"):
        return Path(chosen)
    for directory in DIRECTORIES[:-1]:
        if os.path.lexists(directory / _NAME):
            return directory
    return DIRECTORIES[-1]


def _configuration(
    environment: Mapping[str, str],
) -> tuple[Path, Mapping[str, Any]]:
    """Return the folder of the client's configuration, and what is in it.

    It is empty if there is none to read.
    """
    folders = _configuration_directories(environment)
    for folder in folders:
        if (document := configuration.read(folder)) is not None:
            return folder, document
    return folders[-1], {}


def _configuration_directories(environment: Mapping[str, str]) -> list[Path]:
    if chosen := environment.get("INCUS_CONF"):
        return [Path(chosen)]
    home = environment.get("HOME") or str(Path.home())
    bases = [Path(home, ".config")]
    if base := environment.get("XDG_CONFIG_HOME"):  # from Incus 7.0 on
        bases.insert(0, Path(base))
    return [base / "incus" for base in bases]


def _remote(chosen: Mapping[str, Any], name: str) -> dict[str, Any]:
    remotes = chosen.get("remotes")
    remote = remotes.get(name) if isinstance(remotes, dict) else None
    return remote if isinstance(remote, dict) else {}
