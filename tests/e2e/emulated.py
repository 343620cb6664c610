# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debusine whose worker is in the emulated machine of tests/vm.

The server is in a container on this machine.  The worker's machine has an Incus
that runs virtual machines; it reaches the server through QEMU, as any program
of this machine would.
"""

import contextlib
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from incus_testbed.incus.client import Incus
from tests.e2e import debusine, guest, installation, packages
from tests.e2e.debusine import Debusine
from tests.e2e.guest import Guest
from tests.e2e.installation import Generation
from tests.e2e.worker import FILES, PACKAGES, SECRETS, TOKEN, UNIT, Worker
from tests.support import images
from tests.vm import disks, guests, machine
from tests.vm.__main__ import set_clock, set_up
from tests.vm.machine import Machine

#: Seconds for one command in the machine, and for one work request in it.
_COMMAND_LIMIT = 900
_REQUEST_LIMIT = 3600
#: Seconds until a worker that was started has begun with a work request.
_PATIENCE = 120

_BACKEND = "incus-vm"
_PACKAGE = "hello-testbed"


class EmulatedHost:
    """The machine that the worker is in, as its root sees it."""

    def __init__(self, running: Machine) -> None:
        """Use a machine that answers."""
        self._machine = running

    def run(self, *argv: str) -> str:
        """Run a command to its end; return what it prints.

        :raises machine.MachineError: its status is not 0
        """
        return self._machine.ask(*argv, timeout=_COMMAND_LIMIT)

    def push(self, source: Path, directory: str) -> None:
        """Copy a file into a directory, as root's."""
        target = shlex.quote(f"{directory}/{source.name}")
        self.run("mkdir", "-p", directory)
        with source.open("rb") as file:
            done = self._machine.run(
                *("sh", "-c", f"cat >{target}"),
                stdin=file,
                timeout=_COMMAND_LIMIT,
            )
        if done.returncode:
            raise machine.MachineError(f"{source} could not be copied")


@dataclass(frozen=True)
class Site:
    """A Debusine to make work requests to; its artifacts come at need."""

    generation: Generation
    server: Guest
    host: EmulatedHost
    debusine: Debusine
    worker: Worker

    def task(self, **data: Any) -> dict[str, Any]:
        """Return task data for a task in a virtual machine."""
        return {"backend": _BACKEND, "environment": self.image, **data}

    def instances(self) -> list[str]:
        """Return the names of the instances in the machine's Incus."""
        said = self.host.run(
            *("incus", "list", "--all-projects", "--format=csv", "--columns=n")
        )
        return said.split()

    @cached_property
    def image(self) -> int:
        """A system that boots quickly in emulation: an artifact.

        Its apt knows no mirror: it would read lists for half an hour.
        """
        with TemporaryDirectory() as scratch:
            disk = Path(scratch, "system.qcow2")
            raw = disks.without_mirror(Path(scratch))
            subprocess.run(
                ["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True
            )
            size = raw.stat().st_size
            self.server.push(disk, "/root")
        return self.debusine.create_artifact(
            "debian:system-image",
            {
                "filename": disk.name,
                "vendor": "debian",
                "codename": disks.SUITE,
                "mirror": images.debian().main.uri,
                "variant": "apt",
                "pkglist": {},
                "architecture": "amd64",
                "with_dev": True,
                "with_init": True,
                "image_format": "qcow2",
                "filesystem": "ext4",
                "size": size,
                "boot_mechanism": "efi",
                **self.generation.components,
            },
            f"/root/{disk.name}",
        )

    @cached_property
    def source(self) -> int:
        """The source package hello-testbed: an artifact."""
        dsc = self.server.run(
            f"{FILES}/guest/source.sh", f"{FILES}/{_PACKAGE}", "1"
        )
        return self.debusine.import_source(dsc.strip())


@contextlib.contextmanager
def installed(incus: Incus, generation: Generation) -> Iterator[Site]:
    """Have a Debusine whose worker offers the backend incus-vm, by ours."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            guest.running(incus, generation.suite, installation.DEBIAN_PACKAGES)
        )
        token = _set_up_server(server)
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        built = packages.debs(incus, generation.suite, scratch)
        host = EmulatedHost(stack.enter_context(_host(generation)))
        worker = Worker(host, server)
        _set_up_worker(host, server, built)
        worker.wait_until_offering(_BACKEND, limit=_COMMAND_LIMIT)
        yield Site(
            generation,
            server,
            host,
            Debusine(
                server,
                token,
                worker=host,
                limit=_REQUEST_LIMIT,
                patience=_PATIENCE,
            ),
            worker,
        )


@contextlib.contextmanager
def _host(generation: Generation) -> Iterator[Machine]:
    """Have the machine, with Debusine's worker that is not configured."""
    host = disks.host(suite=generation.suite, packages=["debusine-worker"])
    state = set_up(host)
    with TemporaryDirectory(prefix="vm-host-") as scratch:
        overlay = Path(scratch, "disk.qcow2")
        machine.make_overlay(overlay, state / "disk.qcow2", "qcow2")
        with machine.running(host, overlay, state=state / "state") as running:
            set_clock(running)
            yield running


def _set_up_server(server: Guest) -> str:
    """Set the server up; return an administrator's token."""
    server.push(packages.ROOT / "tests" / "packages" / _PACKAGE, FILES)
    server.push(installation.SCRIPTS, FILES)
    return server.run(f"{FILES}/guest/server.sh", debusine.NAME).strip()


def _set_up_worker(
    host: EmulatedHost, server: Guest, built: list[Path]
) -> None:
    """Set the worker up as docs/howto/worker.md says, and let it in.

    Its user is in the group incus-admin, since a restricted project forbids
    what makes virtual machines boot here.
    """
    for file in built:
        host.push(file, PACKAGES)
    host.run(
        *("sh", "-euc"),
        "export DEBIAN_FRONTEND=noninteractive\n"
        f"apt-get -qy install {PACKAGES}/*.deb\n"
        f"echo '{server.address} {debusine.NAME}' >>/etc/hosts\n"
        f"adduser {UNIT} incus-admin\n"
        "incus-testbed setup\n"
        f"incus profile set debusine-vm {shlex.join(guests.settings())}\n"
        "incus profile device set debusine-vm root size=4GiB\n"
        # The machine has no time for what runs by the clock.
        "systemctl stop '*.timer' --all\n"
        f"printf '[General]\\napi-url = http://{debusine.NAME}/api\\n'"
        f" >{SECRETS}/config.ini\n"
        f"systemctl restart {UNIT}\n"
        f"timeout 300 sh -c 'until test -s {TOKEN}; do sleep 1; done'",
    )
    server.run(f"{FILES}/guest/enable.sh")
