# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the command lines of programs that read the files of strangers.

Such a program can use the files that its caller has opened for it.  In the
sandbox of bubblewrap it sees /usr and our own modules, which are read-only.  It
reaches no other file, no process and no network, so neither Incus nor a token.

Bubblewrap needs no root and no set-up on Debian 12, 13 and sid.  The setpriv of
Debian 12 does not know Landlock; up to Linux 6.18, Landlock does not keep a
process from connecting to a socket.  systemd can sandbox a user's programs only
if that user has a session.

If the kernel does not let this user make namespaces, the program runs without
a sandbox.  Then only the limits hold that it sets for itself.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from incus_testbed import errors
from incus_testbed.process import programs

#: Seconds for an empty sandbox.
_LIMIT = 10.0

#: The cache of the dynamic loader, and Debian's alternatives.
_ETC = ("/etc/ld.so.cache", "/etc/alternatives")

#: On a system with merged /usr these are links.
_TOP = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")

#: Without bubblewrap: the program gains no rights, and ends with this process.
_PLAIN = ("setpriv", "--no-new-privs", "--pdeathsig=KILL")


def python(code: str, *arguments: str) -> list[str]:
    """Return the command line that runs Python code with our modules.

    Neither the environment nor the current folder changes what is imported.
    """
    paths = [path for path in sys.path if path and Path(path).is_absolute()]
    return [
        *_prefix(paths),
        *(sys.executable, "-I", "-S", "-c"),
        f"import sys; sys.path[:] = {paths!r}; {code}",
        *arguments,
    ]


def program(*argv: str) -> list[str]:
    """Return the command line that runs a program of /usr."""
    return [*_prefix(()), *argv]


def obstacle() -> str | None:
    """Return why no sandbox works here; None if it works."""
    try:
        # Not by run(): of an import, nothing else would need sh.
        done = programs.call(
            [*_bubblewrap(()), "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT,
            start_new_session=True,
        )
    except errors.TestbedError as error:
        return error.brief
    except subprocess.TimeoutExpired:
        return f"bwrap has not ended within {_LIMIT:g} s"
    if not done.returncode:
        return None
    said: str = done.stderr.decode(errors="replace").strip()
    return said or "bwrap failed"


def _prefix(paths: Iterable[str]) -> Iterable[str]:
    return _bubblewrap(paths) if _works() else _PLAIN


@functools.cache
def _works() -> bool:
    return obstacle() is None


def _bubblewrap(paths: Iterable[str]) -> Iterator[str]:
    yield from ("bwrap", "--unshare-all", "--die-with-parent", "--new-session")
    yield "--as-pid-1"  # the kernel ends all others before it
    yield from ("--cap-drop", "ALL", "--clearenv", "--chdir", "/")
    yield from ("--setenv", "PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
    yield from ("--setenv", "LC_ALL", "C.UTF-8")
    if folder := os.environ.get("TMPDIR"):  # which errors name
        yield from ("--setenv", "TMPDIR", folder)
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _TOP:
        top = Path("/", name)
        if top.is_symlink():
            yield from ("--symlink", str(top.readlink()), str(top))
        elif top.is_dir():
            yield from ("--ro-bind", str(top), str(top))
    for path in [*_ETC, sys.prefix, sys.base_prefix, *paths]:
        if not path.startswith("/usr/") and path != "/usr":
            yield from ("--ro-bind-try", path, path)
    yield from ("--proc", "/proc", "--dev", "/dev")
