# SPDX-License-Identifier: GPL-3.0-or-later
"""An Incus that may be killed, and operations to cut short on it."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.host.doctor import Names
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from tests.faults.crash import Crash, Kill, crash, whole
from tests.faults.operation import Operation, operations
from tests.faults.resources import Resources
from tests.faults.workspace import Workspace
from tests.support.daemon import Daemon, private
from tests.support.sandbox import sandbox

_VIRT = Path(__file__).resolve().parents[2] / "virt"
_IMAGE = "faults/image"
_IMPORTED = "faults/imported"
#: Seconds that Incus and its pool may take to clear up.
_REST = 60


@dataclass(frozen=True, kw_only=True)
class PrivateIncus:
    """Operations, and the seconds that each takes when left alone.

    Instances are of ``image``, ``imported`` is what the first one imports.
    """

    daemon: Daemon
    names: Names
    workspace: Workspace
    image: str
    imported: str
    operations: tuple[Operation, ...]
    seconds: dict[str, float]

    def crash(
        self, operation: Operation, *, moment: float, kill: Kill
    ) -> Crash:
        """Cut an operation short and look around."""
        self.clear()
        return crash(self.workspace, operation, moment=moment, kill=kill)

    @property
    def importing(self) -> Sequence[str]:
        """The words after incus-testbed that import."""
        return self.operations[0].argv[3:]

    def kill_daemon(self, _: int) -> None:
        """Kill incusd, whatever process uses it."""
        self.daemon.kill()

    def clear(self) -> None:
        """Have the next import import."""
        with contextlib.suppress(errors.NotFound):
            Store(self.workspace.incus).remove(self.imported)

    def resources(self) -> Resources:
        """Count what there is."""
        return Resources.take(self.daemon, self.names.pool)

    def grown(self, before: Resources) -> list[str]:
        """Say what there is more of, once all had time to go away."""
        deadline = time.monotonic() + _REST
        while grown := before.grown(self.resources()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        return grown


@contextlib.contextmanager
def private_incus(tarball: Path, folder: Path) -> Iterator[PrivateIncus]:
    """Have an Incus of our own, as the environment's default."""
    with private() as daemon, pytest.MonkeyPatch.context() as patch:
        patch.delenv("INCUS_PROJECT", raising=False)
        for name, value in daemon.environment.items():
            patch.setenv(name, value)
        with sandbox(f"f{os.getpid()}") as mine:
            patch.setenv("INCUS_PROJECT", mine.project)
            patch.setenv("PATH", str(_VIRT), prepend=os.pathsep)
            patch.setenv("PYTHONPATH", str(_VIRT), prepend=os.pathsep)
            yield _prepared(daemon, mine.names, tarball, folder)


def _prepared(
    daemon: Daemon, names: Names, tarball: Path, folder: Path
) -> PrivateIncus:
    """Import the image, and take the time of each operation."""
    with tarball.open("rb") as source:
        Store(Incus()).add(source, _IMAGE)
    result = PrivateIncus(
        daemon=daemon,
        names=names,
        workspace=Workspace.make(
            Incus(), folder, frozenset({_IMAGE, _IMPORTED})
        ),
        image=_IMAGE,
        imported=_IMPORTED,
        operations=operations(
            tarball=tarball, imported=_IMPORTED, image=_IMAGE, folder=folder
        ),
        seconds={},
    )
    for operation in result.operations:
        result.clear()
        done = whole(result.workspace, operation)
        result.seconds[operation.name] = done.seconds
    return result
