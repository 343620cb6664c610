# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines of programs that read what strangers made.

Such a program gets the files that its caller has opened for it.  Bubblewrap
takes everything else from it: it sees /usr and our own modules, read-only, and
no other file, process or network, so neither Incus nor a token.  It needs no
root, and works on Debian 12 to 14 as it is: setpriv of Debian 12 knows no
Landlock, which up to Linux 6.18 does not keep a process from a socket anyway,
and systemd sandboxes a user's services only where that user has a session.

Where the kernel gives this user no namespaces, the program runs without: then
only the limits that it sets itself hold it.
"""

import functools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from incus_testbed import errors
from incus_testbed.process import programs

#: Seconds for an empty sandbox.
_LIMIT = 10.0

#: What the loader reads, and where Debian's alternatives are.
_ETC = ("/etc/ld.so.cache", "/etc/alternatives")

#: What a system with merged /usr has as links.
_TOP = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")

#: In place of bubblewrap: nothing gains rights, and dies with this process.
_PLAIN = ("setpriv", "--no-new-privs", "--pdeathsig=KILL")


def python(code: str, *arguments: str) -> list[str]:
    """Return the command line that runs Python code with our modules.

    Neither the environment nor the current folder changes what is imported.
    """
    paths = _import_paths()
    return [
        *_confined(paths),
        *(sys.executable, "-I", "-S", "-c"),
        f"import sys; sys.path[:] = {paths!r}; {code}",
        *arguments,
    ]


def obstacle() -> str | None:
    """Say what keeps programs from being confined here; None if nothing."""
    try:
        done = programs.run([*_bubblewrap(()), "true"], timeout=_LIMIT)
    except errors.TestbedError as error:
        return error.brief
    return done.stderr.strip() or "bwrap failed" if done.status else None


@functools.cache
def _works() -> bool:
    return obstacle() is None


def _confined(paths: Iterable[str]) -> Sequence[str]:
    return [*_bubblewrap(paths)] if _works() else _PLAIN


def _bubblewrap(paths: Iterable[str]) -> Iterator[str]:
    yield from ("bwrap", "--unshare-all", "--die-with-parent", "--new-session")
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


def _import_paths() -> list[str]:
    """Return where modules are, that there are, by their absolute paths."""
    return [path for path in sys.path if path and Path(path).is_absolute()]
