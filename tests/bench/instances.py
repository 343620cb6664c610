# SPDX-License-Identifier: GPL-3.0-or-later
"""An instance's life by way of Debusine's interface.

The floor is the bare incus commands, and systemd's own word that it has
booted.  Debusine's executor comes on two pools: the same as ours, and a
directory, which is what its documentation sets up.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any, Protocol

from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus
from tests.bench import process
from tests.bench.sample import (
    DEBUSINE,
    DEBUSINE_DIR,
    FLOOR,
    OURS,
    Sample,
    timed,
    turns,
)
from tests.support.sandbox import Sandbox

IMAGE = "artifact/1"
MANY = 1000
_FILE = "/root/big"


class Life(Protocol):
    """What is measured; all paths in the guest are below /root."""

    def start(self) -> None: ...
    def run(self, count: int) -> None: ...
    def push(self, tree: Path) -> None: ...
    def push_file(self, file: Path) -> None: ...
    def pull_file(self, file: Path) -> None: ...
    def remove_file(self) -> None: ...
    def restart(self) -> None: ...
    def stop(self) -> None: ...
    def remove(self) -> None: ...


class _Interface:
    """Debusine's interface, ours or its own behind it."""

    def __init__(self, module: str) -> None:
        made: Any = import_module(module).IncusInstance
        self._instance = made(IMAGE)

    def start(self) -> None:
        self._instance.start()

    def run(self, count: int) -> None:
        for _ in range(count):
            self._instance.run(["true"], run_as_root=True, check=True)

    def push(self, tree: Path) -> None:
        self._instance.directory_push(
            tree, PurePath("/root"), user="root", group="root"
        )

    def push_file(self, file: Path) -> None:
        self._instance.file_push(
            file, PurePath(_FILE), user="root", group="root"
        )

    def pull_file(self, file: Path) -> None:
        self._instance.file_pull(PurePath(_FILE), file)

    def remove_file(self) -> None:
        self._instance.run(["rm", _FILE], run_as_root=True, check=True)

    def restart(self) -> None:
        self._instance.restart()

    def stop(self) -> None:
        self._instance.stop()

    def remove(self) -> None:
        """Do nothing: it is ephemeral."""


class Bare:
    """The incus command."""

    def __init__(self, name: str = "") -> None:
        self._name = name or f"bench-{secrets.token_hex(4)}"

    def start(self) -> None:
        # The image's own profile, also where the image has none.
        profile = f"--profile={profiles.USUAL}"
        process.do("incus", "launch", profile, IMAGE, self._name)
        self._wait()

    def run(self, count: int) -> None:
        for _ in range(count):
            process.do("incus", "exec", self._name, "--", "true")

    def push(self, tree: Path) -> None:
        process.do(
            *("sh", "-c"),
            'tar -c -C "$0" . | incus exec "$1" -- sh -c'
            ' "mkdir /root/tree; tar -x -C /root/tree"',
            *(tree, self._name),
        )

    def push_file(self, file: Path) -> None:
        process.do("incus", "file", "push", file, f"{self._name}{_FILE}")

    def pull_file(self, file: Path) -> None:
        process.do("incus", "file", "pull", f"{self._name}{_FILE}", file)

    def remove_file(self) -> None:
        process.do("incus", "exec", self._name, "--", "rm", "-f", _FILE)

    def restart(self) -> None:
        process.do("incus", "restart", self._name)
        self._wait()

    def stop(self) -> None:
        process.do("incus", "stop", self._name)

    def remove(self) -> None:
        process.do("incus", "delete", "--force", self._name)

    def _wait(self) -> None:
        """Wait for systemd, which is "offline" until its bus is up."""
        loop = (
            "until s=$(systemctl is-system-running --wait 2>/dev/null);"
            ' test "$s" = running || test "$s" = degraded; do sleep 0.02; done'
        )
        process.do("incus", "exec", self._name, "--", "sh", "-c", loop)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Somebody's way, in a project."""

    name: str
    project: str

    def life(self) -> Life:
        """Return an instance that is not there yet."""
        if self.name == FLOOR:
            return Bare()
        return _Interface(
            "debusine_incus.instance"
            if self.name == OURS
            else "debusine.tasks.executors.incus"
        )


def measured(
    sandbox: Sandbox, tarball: Path, folder: Path, rounds: int
) -> Iterator[Sample]:
    """Live so many lives, in turns."""
    tree = folder / "tree"
    small_files(tree)
    with directory_project(sandbox) as project:
        contenders = [
            Contender(name=name, project=sandbox.project)
            for name in (OURS, FLOOR, DEBUSINE)
        ]
        contenders.append(Contender(name=DEBUSINE_DIR, project=project))
        for number, contender in turns(contenders, rounds):
            with in_project(contender.project):
                import_system(tarball)
                yield from _life(contender, tree, first=number == 0)


def small_files(tree: Path) -> None:
    """Make a directory of many small files."""
    tree.mkdir()
    for number in range(MANY):
        (tree / str(number)).write_bytes(os.urandom(2_000))


@contextlib.contextmanager
def directory_project(sandbox: Sandbox) -> Iterator[str]:
    """Have the same once more, on a pool that is a directory."""
    other = Sandbox.of(f"{os.getpid()}d")
    name = other.names.pool
    other.create_project()
    try:
        Incus(project="default").run("storage", "create", name, "dir")
        there = Incus(project=other.project)
        there.run(
            *("profile", "create", "debusine"),
            stdin=_profile(sandbox, name).encode(),
        )
        yield other.project
    finally:
        other.remove()


def _profile(sandbox: Sandbox, pool: str) -> str:
    profile = Incus(project=sandbox.project).profile("debusine")
    profile["devices"]["root"]["pool"] = pool
    kept = {key: profile[key] for key in ("config", "description", "devices")}
    return json.dumps(kept)  # which is YAML


@contextlib.contextmanager
def in_project(name: str) -> Iterator[None]:
    """Use a project in the block."""
    before = os.environ["INCUS_PROJECT"]
    os.environ["INCUS_PROJECT"] = name
    try:
        yield
    finally:
        os.environ["INCUS_PROJECT"] = before


def import_system(tarball: Path) -> None:
    """Have IMAGE, from which no instance was launched yet."""
    subprocess.run(
        ["incus", "image", "delete", IMAGE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    process.do(
        *(sys.executable, "-m", "incus_testbed", "import", tarball),
        *("--alias", IMAGE),
    )


def _life(contender: Contender, tree: Path, *, first: bool) -> Iterator[Sample]:
    name = contender.name
    life = contender.life()
    yield timed("first launch to ready", name, life.start)
    life.stop()
    life.remove()
    life = contender.life()
    yield timed("later launch to ready", name, life.start)
    yield timed("one command", name, lambda: life.run(1))
    if first:
        yield timed(f"{MANY} commands", name, lambda: life.run(MANY))
    yield timed(f"{MANY} small files in", name, lambda: life.push(tree))
    yield timed("restart", name, life.restart)
    yield timed("stop, and nothing left", name, lambda: _end(life))


def _end(life: Life) -> None:
    life.stop()
    life.remove()
