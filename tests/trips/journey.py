# SPDX-License-Identifier: GPL-3.0-or-later
"""One trip in one machine, step by step, with the time that each takes."""

import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e import packages
from tests.e2e.guest import Guest
from tests.support import images
from tests.trips.trip import Preparation, Step, Trip

_HOME = "/root"
_CHECKOUT = f"{_HOME}/debusine-incus"
_BACKPORTS = packages.ROOT / "tests/e2e/guest/backports.sh"


class Journey:
    """A machine, and what is typed at it."""

    def __init__(
        self, machine: Guest, suite: str, say: Callable[[str], None]
    ) -> None:
        """Use a machine that was just made; ``say`` gets each line."""
        self._machine = machine
        self._suite = suite
        self._say = say

    def prepare(self, built: Path, trip: Trip) -> None:
        """Put a checkout there, and the packages that make deb has made.

        apt does not ask: its user would say yes.
        """
        self._machine.push(_packed(built / "source.tar"), _HOME)
        self._sh(
            f"mkdir {_CHECKOUT}; tar -xf {_HOME}/source.tar -C {_CHECKOUT};"
            " echo 'APT::Get::Assume-Yes \"true\";' >/etc/apt/apt.conf.d/yes"
        )
        for file in built.iterdir():
            if file.suffix in {".deb", ".changes", ".buildinfo"}:
                self._machine.push(file, _HOME)
        if trip.tarball:
            tarball = images.build(images.codename(self._suite))
            self._machine.push(tarball, _HOME)
            self._sh(f"mv {_HOME}/{tarball.name} {_HOME}/system.tar.zst")
        if self._suite != images.codename(self._suite) and not trip.packages:
            self._machine.push(_BACKPORTS, _HOME)
            self._sh(f"{_HOME}/{_BACKPORTS.name}")
        self._sh("apt-get update")

    def make(self, trip: Trip) -> list[str]:
        """Take its steps; return those that did not do what a page says."""
        start = time.monotonic()
        failures = []
        for step in trip.steps:
            if isinstance(step, Preparation):
                self._say(f"# {step.why}")
                self._sh(f"cd {_CHECKOUT}; {step.script}")
            else:
                failed = self._take(step)
                if failed:
                    self._say(self._log())
                failures += failed
        seconds = time.monotonic() - start
        self._say(
            f"== {trip.name}, {self._suite}: {len(trip.commands)} commands"
            f" in {seconds:.0f} s"
        )
        return failures

    def _take(self, step: Step) -> list[str]:
        self._say(f"$ {step.script}")
        start = time.monotonic()
        try:
            done = self._run(step)
        except subprocess.TimeoutExpired as late:
            return [str(late)]
        self._say(done.stdout.rstrip())
        seconds = time.monotonic() - start
        self._say(f"-- {seconds:.1f} s, status {done.returncode}")
        if done.returncode != step.status:
            return [f"{step.script}: status {done.returncode}"]
        if not re.search(step.says, done.stdout):
            return [f"{step.script}: does not say {step.says}"]
        return []

    def _run(self, step: Step) -> subprocess.CompletedProcess[str]:
        script = f"cd {_CHECKOUT}/{step.folder} && {step.script}"
        argv = ["bash", "-c", script]
        if step.user != "root":
            argv = ["runuser", "-l", step.user, "-c", script]
        if step.terminal:
            typed = f"script --quiet --return --command {shlex.quote(script)}"
            argv = ["bash", "-c", f"{typed} /dev/null"]
        return self._machine.attempt(*argv, types=step.types)

    def _log(self) -> str:
        """Return what the machine's Incus has logged last."""
        log = ("journalctl", "--unit=incus", "--lines=20", "--no-pager")
        return self._machine.attempt(*log).stdout

    def _sh(self, script: str) -> None:
        self._machine.run("sh", "-euc", script)


def _packed(target: Path) -> Path:
    packages.pack(target)
    return target
