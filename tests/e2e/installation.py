# SPDX-License-Identifier: GPL-3.0-or-later
"""All of Debusine in a guest whose worker Debusine's own script has set up."""

import contextlib
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from incus_testbed.incus.client import Incus
from tests.e2e import debusine, guest, packages
from tests.e2e.debusine import Debusine
from tests.e2e.guest import Guest
from tests.e2e.worker import FILES, PACKAGES, Worker
from tests.support import images

_PACKAGES = packages.ROOT / "tests" / "packages"
_HARMLESS, _HOSTILE = "hello-testbed", "hostile"
SCRIPTS = Path(__file__).with_name("guest")

#: Debusine itself.  Its database can't be made before there is a server for
#: it: dbconfig is told not to try.
_DEBUSINE = (
    *("debusine-client", "debusine-server", "debusine-worker"),
    *("dbconfig-no-thanks", "nginx-light", "postgresql", "redis-server"),
)
#: What our packages need, the programs of its tasks, and dpkg-dev, for the
#: source package.
_WORKER = (
    *("autopkgtest", "btrfs-progs", "bubblewrap", "dnsmasq-base", "dpkg-dev"),
    *("incus", "nftables", "python3-argcomplete", "python3-debian"),
    *("python3-rich", "python3-sh", "sbuild", "xz-utils", "zstd"),
)

DEBIAN_PACKAGES = (*_DEBUSINE, *_WORKER)

#: What Debusine's tasks expect in an environment; systemd-resolved is for its
#: own executor, which has no other name resolution.
_ENVIRONMENT = ("dpkg-dev", "systemd-resolved")
#: What it does without: that executor takes a second for 3 MB.
_NOT_IN_ENVIRONMENT = (
    *("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*"),
    "/usr/share/man/*",
)


@dataclass(frozen=True)
class Generation:
    """A generation of Debusine, and the Debian that has it."""

    suite: str
    #: Debusine's version.
    debusine: tuple[int, ...]

    def on(self, architecture: str) -> dict[str, str]:
        """Return task data for an instance of an architecture."""
        if self.debusine < (0, 12):
            return {"host_architecture": architecture}
        return {"build_architecture": architecture}

    @property
    def components(self) -> dict[str, Any]:
        """What an environment's data says of the archive's components."""
        return {} if self.debusine < (0, 12) else {"components": ["main"]}

    @property
    def children_inherit(self) -> bool:
        """Tell whether the worker's children get its environment."""
        return self.debusine < (0, 14, 10)


GENERATIONS = (
    Generation("trixie", (0, 11, 3)),
    Generation("trixie-backports", (0, 16, 2)),
    Generation("sid", (0, 16, 2)),
)


@dataclass(frozen=True)
class Installation:
    """A Debusine to make work requests to; its artifacts come at need."""

    generation: Generation
    guest: Guest
    debusine: Debusine
    worker: Worker

    def set_up(self, *options: str, project: str = "default") -> str:
        """Run the command that makes what testbeds need; return its output."""
        return self.guest.run(
            *("env", f"INCUS_PROJECT={project}"),
            *("incus-testbed", "setup", *options),
        )

    def task(self, **data: Any) -> dict[str, Any]:
        """Return task data for a task in an instance."""
        return {
            "backend": "incus-lxc",
            "environment": self.environment,
            **data,
        }

    @property
    def architecture(self) -> dict[str, Any]:
        """Task data for a task whose instance is of an architecture."""
        return self.generation.on(_architecture())

    @cached_property
    def environment(self) -> int:
        """A small system of the same Debian: an artifact."""
        codename = images.codename(self.generation.suite)
        with TemporaryDirectory() as scratch:
            tarball = Path(scratch, "system.tar.xz")
            system = images.build(
                codename, _ENVIRONMENT, without=_NOT_IN_ENVIRONMENT
            )
            _repack(system, tarball)
            self.guest.push(tarball, "/root")
        return self.debusine.create_artifact(
            "debian:system-tarball",
            {
                "filename": tarball.name,
                "vendor": "debian",
                "codename": codename,
                "mirror": images.debian().main.uri,
                "variant": "minbase",
                "pkglist": {},
                "architecture": _architecture(),
                "with_dev": False,
                "with_init": True,
                **self.generation.components,
            },
            f"/root/{tarball.name}",
        )

    @cached_property
    def source(self) -> int:
        """The source package hello-testbed: an artifact."""
        return self._source(_HARMLESS, "1")

    @cached_property
    def newer_source(self) -> int:
        """The same with a higher version."""
        return self._source(_HARMLESS, "2")

    @cached_property
    def hostile_source(self) -> int:
        """The source package whose tests mean harm: an artifact."""
        return self._source(_HOSTILE, "1")

    def _source(self, package: str, version: str) -> int:
        tree = f"{FILES}/{package}"
        dsc = self.guest.run(f"{FILES}/guest/source.sh", tree, version)
        return self.debusine.import_source(dsc.strip())


@contextlib.contextmanager
def installed(incus: Incus, generation: Generation) -> Iterator[Installation]:
    """Have a Debusine whose worker offers the backend incus-lxc.

    It runs Debusine's own executor; our packages lie beside it.
    """
    with guest.running(incus, generation.suite, DEBIAN_PACKAGES) as machine:
        _quieten(machine)
        _put_packages(incus, generation.suite, machine)
        for package in (_HARMLESS, _HOSTILE):
            machine.push(_PACKAGES / package, FILES)
        machine.push(SCRIPTS, FILES)
        token = machine.run(f"{FILES}/guest/server.sh", debusine.NAME)
        machine.run(f"{FILES}/guest/worker.sh", debusine.NAME)
        worker = Worker(machine)
        worker.wait_until_offering()
        yield Installation(
            generation,
            machine,
            Debusine(machine, token.strip()),
            worker,
        )


def _put_packages(incus: Incus, suite: str, machine: Guest) -> None:
    """Build our packages, and copy them to where its worker takes them from."""
    with TemporaryDirectory() as scratch:
        for file in packages.debs(incus, suite, Path(scratch)):
            machine.push(file, PACKAGES)


def _quieten(machine: Guest) -> None:
    """Keep what runs by the clock from running in the middle of a test."""
    machine.run("systemctl", "stop", "*.timer", "--all")


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def _repack(tarball: Path, target: Path) -> None:
    """Pack a tarball as Debusine's own tasks do."""
    with (
        subprocess.Popen(
            ["zstd", "-dc", tarball], stdout=subprocess.PIPE
        ) as unpacked,
        target.open("wb") as packed,
    ):
        subprocess.run(
            ["xz", "-T0", "-2"],
            stdin=unpacked.stdout,
            stdout=packed,
            check=True,
        )
