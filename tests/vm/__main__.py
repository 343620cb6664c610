# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the machine for virtual machines."""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.integration import test_nesting
from tests.integration.test_releases import SYSTEMS
from tests.support import daemon, images
from tests.vm import disks, machine
from tests.vm.machine import Machine

#: Suites of which the machine has tarballs, with packages.
_SYSTEMS = [
    *((suite, packages) for suite, packages, _ in SYSTEMS),
    test_nesting.SYSTEM,
]

_CHECKOUT = Path(__file__).resolve().parents[2]
_REMOTE_CHECKOUT = "/root/checkout"


def run(command: Sequence[str]) -> int:
    """Run a command of this checkout in the machine; return its status."""
    host = disks.host([images.build(*each) for each in _SYSTEMS])
    state = set_up(host)
    with tempfile.TemporaryDirectory(prefix="vm-host-") as scratch:
        overlay = Path(scratch, "disk.qcow2")
        machine.make_overlay(overlay, state / "disk.qcow2", "qcow2")
        began = time.monotonic()
        with machine.running(host, overlay, state=state / "state") as running:
            images.say(
                f"the machine runs after {time.monotonic() - began:.0f} s"
            )
            set_clock(running)
            _copy_checkout(running)
            return running.run(
                *("env", f"--chdir={_REMOTE_CHECKOUT}", "CI=true", *command),
                timeout=None,
            ).returncode


def set_up(host: disks.Bootable) -> Path:
    """Return the state of the machine once it has booted and runs Incus.

    The directory holds ``disk.qcow2`` and ``state``.
    """
    built = str(host.disk.stat().st_mtime_ns)
    return disks.kept(
        "state", [str(host.directory), built], lambda made: _set_up(host, made)
    )


def _set_up(host: disks.Bootable, directory: Path) -> None:
    images.say("booting the machine for the first time")
    overlay = directory / "disk.qcow2"
    machine.make_overlay(overlay, host.disk, "raw")
    with machine.running(host, overlay) as running:
        running.ask("systemctl", "is-system-running", "--wait", timeout=600)
        running.ask("incus", "admin", "waitready", "--timeout=600", timeout=600)
        drivers = running.ask("sh", "-c", "incus info | grep ' driver:'")
        if "qemu" not in drivers:
            said = running.ask("incus", "warning", "list")
            raise machine.MachineError(
                f"Incus runs no virtual machines in the machine:\n{said}"
            )
        # A smaller state, and one that needs nothing of the old disk.
        running.ask("sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches")
        running.save(directory / "state")


def set_clock(running: Machine) -> None:
    """Tell the machine what time it is: it thinks that no time has passed."""
    running.ask("date", "--set", f"@{time.time():.0f}")


def _copy_checkout(running: Machine) -> None:
    """Copy what git knows of, or would if it were asked to."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=_CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    with tempfile.TemporaryFile() as archive:
        subprocess.run(
            ["tar", "--create", "--null", "--files-from=-"],
            cwd=_CHECKOUT,
            input=listed,
            stdout=archive,
            check=True,
        )
        archive.seek(0)
        running.run("mkdir", _REMOTE_CHECKOUT)
        running.run(
            *("tar", "--extract", f"--directory={_REMOTE_CHECKOUT}"),
            stdin=archive,
        )


def main() -> int:
    """Run the command line; give its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    try:
        return run(arguments.command)
    except (images.ImageError, disks.DiskError, machine.MachineError) as error:
        images.say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
