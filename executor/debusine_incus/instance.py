# SPDX-License-Identifier: GPL-3.0-or-later
"""Implement Debusine's instances with those of incus_testbed."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from debusine.tasks.executors.base import (
    ImageNotDownloadedError,
    InstanceInterface,
    InstanceNotRunning,
)

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

#: The purpose that instances are labelled with.
_PURPOSE = "debusine"


class IncusInstance(InstanceInterface):
    """A throw-away instance of an imported image.

    In addition to the interface's contract: if a command or its working
    directory can't be used, ``run`` raises the same exception as
    subprocess.run; ``env`` is added to the environment of the user's login;
    ``cwd`` is relative to /root.  Failures of Incus are errors.TestbedError.
    """

    def __init__(self, image: str) -> None:
        """Represent an instance of the image that is not started yet."""
        super().__init__()
        self._image = image
        self._incus = Incus()
        self._instance: Instance | None = None

    @property
    def name(self) -> str | None:
        """Incus's name of the instance while it is started, otherwise None."""
        return self._instance.name if self._instance else None

    def is_started(self) -> bool:
        """Tell if the instance was started and not stopped."""
        return self._instance is not None

    def do_start(self) -> None:
        """Launch an instance; wait until it has booted and has a network.

        :raises ImageNotDownloadedError: there is no such image
        :raises InstanceNotRunning: it did not become ready; says why
        """
        try:
            instance = Instance.launch(
                self._incus, self._image, purpose=_PURPOSE
            )
        except errors.NotFound as error:
            raise ImageNotDownloadedError(str(error)) from error
        try:
            with _debusine_errors():
                instance.wait_ready()
        except BaseException:
            instance.delete()
            raise
        self._instance = instance

    def do_stop(self) -> None:
        """Shut the instance down, kill it if that fails, and remove it."""
        instance = self._started()
        instance.stop()
        instance.delete()
        self._instance = None
        self._forget_users()

    def do_restart(self) -> None:
        """Reboot the instance and wait until it is ready again."""
        with _debusine_errors():
            self._started().restart()

    def do_file_push(
        self, source: Path, target: PurePath, uid: int, gid: int, mode: int
    ) -> None:
        """Copy a regular file into an existing directory of the instance."""
        with _debusine_errors():
            self._started().guest.files.push(
                str(source), str(target), uid=uid, gid=gid, mode=mode
            )

    def do_file_pull(self, source: PurePath, target: Path) -> None:
        """Copy a regular file out of the instance."""
        with _debusine_errors():
            self._started().guest.files.pull(str(source), str(target))

    def do_directory_push(
        self, source: Path, target: PurePath, uid: int, gid: int
    ) -> None:
        """Copy a directory into a directory of the instance; keep its name."""
        with _debusine_errors():
            self._started().guest.files.push_tree(
                str(source), str(target), uid=uid, gid=gid
            )

    def do_mkdir(
        self, target: PurePath, uid: int, gid: int, mode: int, parents: bool
    ) -> None:
        """Make a directory, and with ``parents`` its missing parents."""
        with _debusine_errors():
            self._started().guest.files.make_directory(
                str(target), uid=uid, gid=gid, mode=mode, parents=parents
            )

    def do_run(  # type: ignore[override]
        self,
        args: list[str],
        run_as_root: bool = False,
        **kwargs: Any,
    ) -> "subprocess.CompletedProcess[Any]":
        """Run a command as root, or as the user that tasks run as."""
        if not run_as_root:
            self.create_user()
        with _debusine_errors():
            return self._started().guest.run(
                args,
                user="root" if run_as_root else self.non_root_user,
                **kwargs,
            )

    def create_user(self, username: str | None = None) -> int:
        """Make a user with a home if there is none; return the uid."""
        name = username or self.non_root_user
        if name in self._uid_map:
            return self._uid_map[name]
        with _debusine_errors():
            self._uid_map[name] = self._started().guest.make_user(name)
        return self._uid_map[name]

    def _run_check_output(self, args: list[str]) -> str:
        """Do as the base class, but without the caller's standard input."""
        output: str = self.run(
            args,
            text=True,
            run_as_root=True,
            stdin=subprocess.DEVNULL,
            check=True,
        ).stdout
        return output

    def _forget_users(self) -> None:
        """Forget all users: the next instance has other ones."""
        self._uid_map = {"root": 0}
        self._gid_map = {"root": 0}

    def _started(self) -> Instance:
        if self._instance is None:
            raise InstanceNotRunning("The instance is not running")
        return self._instance


@contextlib.contextmanager
def _debusine_errors() -> Iterator[None]:
    """Raise Debusine's InstanceNotRunning if the instance does not run."""
    try:
        yield
    except (errors.NotRunning, errors.NotFound, errors.BootFailed) as error:
        raise InstanceNotRunning(str(error)) from error
