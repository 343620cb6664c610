# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the product's main job, with the commands that a user would type.

    python3 -m demo           import a Debian, run autopkgtest in it
    python3 -m demo --shell   a shell with the same Incus
    python3 -m demo --remove  remove what these have kept

Where a private Incus is started, it is stopped at the end; its images stay
for the next time.
"""

import argparse
import contextlib
import json
import os
import platform
import shlex
import signal
import sys
from pathlib import Path

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from tests.support import daemon, images

#: What the demo makes is apart from what else is in that Incus.
PROJECT = "debusine-demo"
#: A private Incus' bridge is apart from that of other Incus on the machine.
PRIVATE_NETWORK = "dbsndemo0"

ALIAS = "artifact/1"
PACKAGE = "tests/packages/hello-testbed"

_ROOT = Path(__file__).resolve().parents[1]
_TESTBED = ("/usr/bin/python3", "-m", "incus_testbed")
_NEXT = f"""
What to try next:

  make demo                     again: the image is reused
  make shell                    a shell with this Incus, and in it:
    {shlex.join(_TESTBED)} shell {ALIAS}
    {shlex.join(_TESTBED)} run {ALIAS} -- cat /etc/os-release
    {shlex.join(_TESTBED)} images
    autopkgtest {PACKAGE} -- incus-testbed {ALIAS}
  make clean                    remove all of it
"""


class CommandFailedError(Exception):
    """A command of the demo failed; it has said why."""


def prepare(incus: daemon.Daemon) -> None:
    """Aim this process at the demo's project of this Incus; set that up."""
    virt = _ROOT / "virt"
    os.chdir(_ROOT)
    os.environ.update(
        incus.environment,
        INCUS_PROJECT=PROJECT,
        PATH=f"{virt}:{os.environ['PATH']}",
        PYTHONPATH=str(virt),
    )
    projects = json.loads(Incus().run("project", "list", "--format=json"))
    if not any(project["name"] == PROJECT for project in projects):
        _run("incus", "project", "create", PROJECT)
    network = [f"--network={PRIVATE_NETWORK}"] if incus.private else []
    _run(*_TESTBED, "setup", *network)


def demo() -> int:
    """Run the demo in a prepared process; give autopkgtest's exit status."""
    tarball = images.build(_own_suite())
    if _is_outdated(tarball):
        _run(*_TESTBED, "remove", ALIAS)
    _run(*_TESTBED, "import", str(tarball), "--alias", ALIAS)
    status = _show(
        *("autopkgtest", "--apt-upgrade", PACKAGE),
        *("--", "incus-testbed", ALIAS),
    )
    _say(_NEXT if status == 0 else f"\nautopkgtest ended with {status}.")
    return status


def shell() -> int:
    """Give the user a shell in a prepared process; give its exit status."""
    _say("The demo's Incus runs until you leave this shell.")
    return daemon.run([os.environ.get("SHELL", "/bin/sh")])


def remove() -> int:
    """Remove the demo's project, and what private daemons have left."""
    if daemon.is_running():
        incus = Incus(project="default")
        with contextlib.suppress(errors.NotFound):
            incus.run(
                *("project", "delete", "--force", PROJECT),
                stdin=b"yes\n",
                timeout=300,
            )
    daemon.clear()
    return 0


def _own_suite() -> str:
    """Return the codename of the Debian that this machine runs."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _is_outdated(tarball: Path) -> bool:
    """Tell whether the imported image is older than the tarball."""
    made = tarball.stat().st_mtime
    return any(
        ALIAS in image.aliases and image.uploaded.timestamp() < made
        for image in Incus().images()
    )


def _run(*argv: str) -> None:
    """Show a command line and run it; it has to work."""
    if _show(*argv) != 0:
        raise CommandFailedError


def _show(*argv: str) -> int:
    """Show a command line and run it; give its status."""
    shown = shlex.join(argv).replace(shlex.join(_TESTBED), "incus-testbed")
    _say(f"$ {shown}")
    return daemon.run(argv)


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run the command line; give its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m demo")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--shell", action="store_true")
    instead.add_argument("--remove", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    try:
        if arguments.remove:
            return remove()
        with daemon.running(keep="demo") as incus:
            prepare(incus)
            return shell() if arguments.shell else demo()
    except CommandFailedError:
        return 1
    except (
        daemon.DaemonError,
        images.ImageError,
        errors.TestbedError,
    ) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
