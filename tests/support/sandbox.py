# SPDX-License-Identifier: GPL-3.0-or-later
"""A project, network and pool of a test run's own, in whatever Incus."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from incus_testbed import errors
from incus_testbed.host import doctor, restricted
from incus_testbed.incus.client import Incus
from incus_testbed.ownership.owner import Owner
from tests.support import inside

_VIRT = Path(__file__).parents[2] / "virt"

#: Project key that says whose it is.
_OWNER = "user.check.owner"
#: How often Incus is asked again while the machine's network cards come and go,
#: and the seconds between: another test suite starts an instance each second.
ATTEMPTS, PAUSE = 40, 0.5


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """What a run of the tests made for itself."""

    project: str
    names: doctor.Names

    @classmethod
    def of(cls, run: str) -> "Sandbox":
        """Return the sandbox of a run, made or not."""
        names = doctor.Names(network=f"chk{run}", pool=f"check-{run}")
        return cls(project=f"check-{run}", names=names)

    def create_project(self) -> None:
        """Make the project.  What a killed process leaves, clear() finds."""
        owner = f"--config={_OWNER}={Owner.current()}"
        Incus(project="default").run("project", "create", self.project, owner)

    def set_up(self) -> None:
        """Make the network, the pool, and the profile in the project."""
        incus = Incus(project=self.project)
        for _ in doctor.setup(incus, self.names):
            pass
        if incus.is_local() and os.geteuid() == 0:
            # What only a process can do that sees the mounts of Incus.
            subprocess.run(
                inside.command(
                    *(sys.executable, "-m", "incus_testbed"),
                    f"--project={self.project}",
                    "setup",
                    f"--pool={self.names.pool}",
                    f"--network={self.names.network}",
                ),
                env={**os.environ, "PYTHONPATH": str(_VIRT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=True,
            )

    def remove(self) -> None:
        """Remove what there is of it, with all that tests made in it."""
        delete("project", self.project, "--force")
        delete("network", self.names.network)
        delete("network acl", f"testbeds-{self.names.network}")
        delete("storage", self.names.pool)


@contextlib.contextmanager
def sandbox(run: str) -> Iterator[Sandbox]:
    """Have a sandbox in the Incus of the environment.

    For a user who may use a restricted project only, it is that project.

    :raises errors.AlreadyExists: the run has one
    """
    if restricted.is_confined(Incus()):
        yield _restricted()
        return
    clear()
    mine = Sandbox.of(run)
    mine.create_project()
    try:
        mine.set_up()
        yield mine
    finally:
        mine.remove()


def _restricted() -> Sandbox:
    project = Incus().current_project()
    here = Sandbox(project=project, names=doctor.names_in_use(Incus()))
    here.set_up()
    return here


def clear() -> None:
    """Remove the sandboxes of runs that are gone."""
    for project in json.loads(
        Incus(project="default").run("project", "list", "--format=json")
    ):
        owner = Owner.parse(project["config"].get(_OWNER, ""))
        if owner and owner.is_gone(only_here=lambda: True):
            Sandbox.of(project["name"].removeprefix("check-")).remove()


def make_network(name: str, *settings: str) -> None:
    """Make a bridge; as with delete(), this may take more than one attempt."""
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            Incus(project="default").run("network", "create", name, *settings)
        except errors.Busy:
            if not attempts_left:
                raise
            time.sleep(PAUSE)
        else:
            return


def delete(kind: str, name: str, *options: str) -> None:
    """Delete an object, if it is there.

    Incus looks at all interfaces of the host when it deletes a bridge and
    fails if one vanishes meanwhile, so this may take more than one attempt.
    """
    for attempts_left in reversed(range(ATTEMPTS)):
        if name not in _names(kind):
            return
        try:
            Incus(project="default").run(
                *(*kind.split(), "delete", name, *options),
                stdin=b"yes\n",
                timeout=300,
            )
        except errors.TestbedError:
            if not attempts_left:
                raise
            time.sleep(PAUSE)


def _names(kind: str) -> list[str]:
    objects = json.loads(
        Incus(project="default").run(*kind.split(), "list", "--format=json")
    )
    return [found["name"] for found in objects]
