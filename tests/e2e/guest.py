# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole Debian machine to install things on, in the Incus under test."""

import contextlib
import ipaddress
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from incus_testbed import errors
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.support import images

#: What an Incus needs in the container that it is in.
NESTING = (
    "--config=security.nesting=true",
    "--config=security.privileged=true",
)
#: It may make subvolumes of btrfs, so that its Incus can have a pool that
#: clones, as on a machine of its own.  Incus ignores an empty value, so this
#: denies another call instead of those that the profile denies.
SUBVOLUMES = "--config=security.syscalls.deny=kexec_load errno 38"
#: Seconds for one command; it only keeps a hanging one from hanging the run.
_LIMIT = 1800


class Guest:
    """A running machine, as its root sees it."""

    def __init__(self, incus: Incus, instance: Instance) -> None:
        """Use an instance that is ready."""
        self._incus = incus
        self._instance = instance

    @property
    def address(self) -> str:
        """The IPv4 address under which this machine reaches it."""
        said = self._incus.run(
            *("list", f"name=^{self._instance.name}$"),
            *("--format=csv", "--columns=4"),
        )
        on_host0 = next(
            line for line in said.decode().splitlines() if "host0" in line
        )
        return str(ipaddress.IPv4Address(on_host0.strip('"').split()[0]))

    def run(self, *argv: str) -> str:
        """Run a command to its end; return what it prints.

        :raises errors.CommandFailed: its status is not 0; details hold what
            it said
        """
        done: subprocess.CompletedProcess[str] = self._instance.guest.exec(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT,
        )
        if done.returncode != 0:
            raise errors.CommandFailed(
                f"{argv} ended with status {done.returncode} in the guest",
                details=f"{done.stdout}\n{done.stderr}",
            )
        return done.stdout

    def attempt(
        self, *argv: str, types: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that gets input; its output has its errors, too."""
        done: subprocess.CompletedProcess[str] = self._instance.guest.exec(
            argv,
            input=types,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_LIMIT,
        )
        return done

    def watch(self, *argv: str) -> int:
        """Run a command that says here what it says; return its status."""
        return self._instance.guest.exec(
            argv, stdin=subprocess.DEVNULL
        ).returncode

    def push(self, source: Path, directory: str) -> None:
        """Copy a file or a tree into a directory of the guest, as root's."""
        target = f"{directory}/{source.name}"
        self.run("mkdir", "-p", directory)
        if source.is_dir():
            self._instance.guest.files.push_tree(str(source), directory)
        else:
            self._instance.guest.files.push(
                str(source), target, mode=source.stat().st_mode & 0o777
            )

    def pull(self, source: str, directory: Path) -> Path:
        """Copy a file of the guest into a directory; return its path there."""
        target = directory / Path(source).name
        self._instance.guest.files.pull(source, str(target))
        return target

    def instances(self, where: str = "--all-projects") -> list[str]:
        """Return the names of the instances in the guest's own Incus."""
        listed = self.run("incus", "list", where, "--format=json")
        return [instance["name"] for instance in json.loads(listed)]


@contextlib.contextmanager
def running(
    incus: Incus, suite: str, packages: Sequence[str]
) -> Iterator[Guest]:
    """Have a guest that runs a Debian with these packages."""
    path = images.build(suite, packages)
    alias = f"e2e/{path.name.partition('.')[0]}"
    with path.open("rb") as tarball:
        Store(incus).add(tarball, alias)
    with Instance.launch(
        incus,
        alias,
        purpose="end-to-end tests",
        arguments=(*NESTING, SUBVOLUMES),
    ) as instance:
        instance.wait_ready()
        yield Guest(incus, instance)
