# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the Incus server is that the incus command would talk to.

The rules are those of Incus 6.0 to 7.0, read in its source: shared/cliconfig/
(the client's configuration) and client/connection.go (the socket).
"""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Where the daemon's socket is, the first that is there, else the last.
DIRECTORIES = (Path("/run/incus"), Path("/var/lib/incus"))

_LOCAL = "local"
_DEFAULT_PROJECT = "default"
_NAME = "unix.socket"
_USER_NAME = "unix.socket.user"

#: The package exec as a program.  The rest of incus_testbed is left out: it
#: takes longer to import than most commands take to run.  It is read anew each
#: time, and after an upgrade a worker of the older version goes on using it:
#: where it is, and what its options mean, stays.
_SESSION = (
    sys.executable,
    "-I",
    "-S",
    "-c",
    f"import sys; sys.path.append({str(Path(__file__).parent)!r});"
    " from exec import program; program.main()",
)


@dataclass(frozen=True)
class Endpoint:
    """A server on this machine: its socket, and the project to use."""

    socket: str
    project: str

    def exec_argv(
        self,
        name: str,
        command: Sequence[str],
        *,
        program: Sequence[str] = (),
        first: int | None = None,
    ) -> list[str]:
        """Return the command line of a session, which says what it does."""
        return [
            *(program or _SESSION),
            f"--socket={self.socket}",
            f"--project={self.project}",
            *([] if first is None else [f"--first={first}"]),
            name,
            *command,
        ]


@dataclass(frozen=True)
class Choice:
    """What the incus command would talk to: a remote, and a project there.

    ``socket`` is the server's where it is on this machine.
    """

    remote: str
    project: str
    socket: str | None


def choose(
    environment: Mapping[str, str],
    *,
    remote: str | None = None,
    project: str | None = None,
) -> Choice:
    """Return what the incus command would use in an environment.

    Without ``remote`` or ``project`` it is the one that the user has chosen,
    in the environment or in the configuration of the incus command.
    """
    configuration = _configuration(environment)
    name = (
        remote
        or environment.get("INCUS_REMOTE")
        or configuration.get("default-remote")
        or _LOCAL
    )
    known = _remote(configuration, name)
    # The local one's address is not the user's to change.
    address = "unix://" if name == _LOCAL else str(known.get("addr", ""))
    scheme, _, path = address.partition(":")
    socket, usual_project = None, _DEFAULT_PROJECT
    if scheme == "unix" and "," not in path:
        socket, usual_project = _socket(environment, path.removeprefix("//"))
    configured = known.get("project")
    if configured == _DEFAULT_PROJECT:  # which the client does not insist on
        configured = None
    return Choice(
        remote=name,
        project=project
        or environment.get("INCUS_PROJECT")
        or configured
        or usual_project,
        socket=socket,
    )


def find(
    environment: Mapping[str, str],
    *,
    remote: str | None = None,
    project: str | None = None,
) -> Endpoint | None:
    """Return where the chosen server is; None if it is not on this machine."""
    choice = choose(environment, remote=remote, project=project)
    if choice.socket is None:
        return None
    return Endpoint(choice.socket, choice.project)


def user_socket(environment: Mapping[str, str]) -> Path:
    """Return where incus-user's socket is on this machine, if it runs."""
    return _directory(environment) / _USER_NAME


def is_users(socket: str) -> bool:
    """Tell whether a socket is incus-user's, and not the daemon's own."""
    return Path(socket).name == _USER_NAME


def _socket(environment: Mapping[str, str], path: str) -> tuple[str, str]:
    """Return the daemon's socket, and the project to expect there."""
    path = path or environment.get("INCUS_SOCKET", "")
    if path:
        return path, _DEFAULT_PROJECT
    directory = _directory(environment)
    socket, restricted = directory / _NAME, directory / _USER_NAME
    if not os.access(socket, os.W_OK) and os.access(restricted, os.W_OK):
        # incus-user gives each user a project of their own.
        return str(restricted), f"user-{os.geteuid()}"
    return str(socket), _DEFAULT_PROJECT


def _directory(environment: Mapping[str, str]) -> Path:
    if chosen := environment.get("INCUS_DIR"):
        return Path(chosen)
    for directory in DIRECTORIES[:-1]:
        if os.path.lexists(directory / _NAME):
            return directory
    return DIRECTORIES[-1]


def _configuration(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the client's configuration; empty if there is none to read."""
    for directory in _configuration_directories(environment):
        try:
            text = (directory / "config.yml").read_bytes()
        except OSError:
            continue
        # Here, because most have no such file, and everything starts slower.
        import yaml  # noqa: PLC0415

        with contextlib.suppress(yaml.YAMLError):
            document = yaml.safe_load(text)
            if isinstance(document, dict):
                return document
    return {}


def _configuration_directories(environment: Mapping[str, str]) -> list[Path]:
    if chosen := environment.get("INCUS_CONF"):
        return [Path(chosen)]
    home = environment.get("HOME") or str(Path.home())
    bases = [Path(home, ".config")]
    if base := environment.get("XDG_CONFIG_HOME"):  # from Incus 7.0 on
        bases.insert(0, Path(base))
    return [base / "incus" for base in bases]


def _remote(configuration: Mapping[str, Any], name: str) -> dict[str, Any]:
    remotes = configuration.get("remotes")
    remote = remotes.get(name) if isinstance(remotes, dict) else None
    return remote if isinstance(remote, dict) else {}
