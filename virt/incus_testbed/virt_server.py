# SPDX-License-Identifier: GPL-3.0-or-later
"""autopkgtest's virtualisation server on Incus.

autopkgtest's own VirtSubproc speaks the protocol of
/usr/share/doc/autopkgtest/README.virtualisation-server; this module supplies
the hooks that it calls.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from incus_testbed import errors, removal, reporting
from incus_testbed.client import Incus
from incus_testbed.guest import script
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store, content_alias
from incus_testbed.instance import Instance

sys.path.insert(0, "/usr/share/autopkgtest/lib")
try:
    import adtlog
    import VirtSubproc
except ImportError:
    sys.exit(
        "autopkgtest-virt-incus-testbed: autopkgtest is not installed\n"
        "  Install it: apt install autopkgtest"
    )

log = logging.getLogger(__name__)

#: autopkgtest takes 255 for a failure of the server, so a test's becomes 253.
_TESTBED_FAILURE = 255
_STATUS_FOR_255 = 253
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class Interrupted(BaseException):
    """A signal told this process to end."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number


class Testbed:
    """The hooks: one instance at a time, of one image."""

    __test__ = False  # pytest: not a test class

    def __init__(
        self,
        incus: Incus,
        image: str,
        *,
        name: str | None = None,
        delete_existing: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        """Use an image's alias, or a tarball's path; nothing starts yet."""
        self._incus = incus
        self._image = image
        self._name = name
        self._delete_existing = delete_existing
        self._arguments = arguments
        self._imported = ""
        self._instance: Instance | None = None
        self._normal_user = ""

    def hook_capabilities(self) -> list[str]:
        """Return what the testbed can do."""
        machine = self._instance is not None and self._instance.is_machine
        capabilities = [
            "isolation-machine" if machine else "isolation-container",
            "reboot",
            "revert",
            "revert-full-system",
            "root-on-testbed",
        ]
        if self._normal_user:
            capabilities.append(f"suggested-normal-user={self._normal_user}")
        return capabilities

    def hook_open(self) -> None:
        """Launch the instance and wait until tests can run in it."""
        with _bombing():
            if self._name and self._delete_existing:
                Instance(self._incus, self._name).delete()
            self._instance = self._launched()
            try:
                self._instance.wait_ready()
                guest = self._instance.probe()
            except BaseException:
                self.remove()
                raise
            self._normal_user = guest["user"]
            VirtSubproc.auxverb = self._instance.exec_argv(
                [],
                shell=guest["shell"],
                status_for_255=_STATUS_FOR_255,
                failure_status=_TESTBED_FAILURE,
            )

    def hook_downtmp(self, path: str | None) -> str:
        """Make the scratch directory, again at ``path`` after a revert."""
        downtmp: str = VirtSubproc.downtmp_mktemp(
            self.hook_capabilities(), path, None
        )
        return downtmp

    def hook_revert(self) -> None:
        """Give back the testbed as it was when it was opened."""
        with _bombing():
            self._let_go()
        self.hook_open()

    def hook_cleanup(self) -> None:
        """Have the instance removed."""
        with _bombing():
            self._let_go()

    def hook_prepare_reboot(self) -> dict[str, str]:
        """Return what hook_wait_reboot needs to know of the current boot."""
        with _bombing():
            return {"boot": self._open_instance().probe()["boot"]}

    def reboot(self) -> None:
        """Have the guest reboot, in place of VirtSubproc's three seconds' nap.

        VirtSubproc calls this between the two hooks that are beside it.
        """
        with _bombing():
            self._open_instance().reboot()

    def hook_wait_reboot(self, *, boot: str) -> None:
        """Wait until the instance runs and is ready in another boot."""
        with _bombing():
            self._open_instance().wait_reboot(boot)

    def hook_shell(self, directory: str, *environment: str) -> None:
        """Give whoever is at the terminal a shell in the testbed."""
        with _bombing():
            instance = self._open_instance()
            terminal = os.environ.get("TERM", "dumb")
            command = script.command(
                "shell.sh", directory, f"TERM={terminal}", *environment
            )
            try:
                with Path("/dev/tty").open("r+b", buffering=0) as tty:
                    instance.exec(
                        command,
                        interactive=True,
                        stdin=tty,
                        stdout=tty,
                        stderr=tty,
                    )
            except (OSError, ValueError) as error:
                adtlog.error(f"There can be no shell: {error}")

    def hook_debug_fail(self) -> str:
        """Return what helps to find out why the testbed failed."""
        return self._open_instance().evidence() if self._instance else ""

    def _open_instance(self) -> Instance:
        if self._instance is None:
            raise errors.NotRunning("The testbed is not open")
        return self._instance

    def _launched(self) -> Instance:
        """Launch an instance; of a file, import it first.

        An image of a file may be removed for space before it is launched.
        """
        path = Path(self._image)
        if not path.is_file():
            return self._launched_of(self._image)
        self._imported = self._imported or self._import(path)
        try:
            return self._launched_of(self._imported)
        except errors.NotFound:
            log.info("%s is gone again", self._imported)
            return self._launched_of(self._import(path))

    def _launched_of(self, alias: str) -> Instance:
        return Instance.launch(
            self._incus,
            alias,
            purpose="autopkgtest",
            name=self._name,
            arguments=self._arguments,
        )

    def _import(self, path: Path) -> str:
        """Import a tarball, if need be; return the image's alias."""
        try:
            file = path.open("rb")
        except OSError as error:
            raise errors.NotFound(
                f"{path} can't be read: {error.strerror}"
            ) from error
        with file as source:
            alias = content_alias(source)
            size = reporting.size_of(source)
            with reporting.progress(f"Importing {path.name}", size) as update:
                Store(self._incus).add(
                    source,
                    alias,
                    label=Labels(evictable=True),
                    progress=update,
                )
        return alias

    def _let_go(self) -> None:
        """Have the instance removed, without waiting if nothing needs to."""
        if self._name or not self._instance:
            self.remove()  # the name is wanted again
            return
        removal.start(self._incus, self._instance.name)
        self._instance = None

    def remove(self) -> None:
        """Remove the instance, if there is one, before this returns."""
        if self._instance:
            self._instance.delete()
            self._instance = None


class _bombing:  # noqa: N801 - reads as a statement
    """Report this software's errors the way the protocol wants it."""

    def __enter__(self) -> None:
        """Do nothing yet."""

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        """Turn an error into autopkgtest's."""
        if isinstance(error, errors.TestbedError):
            VirtSubproc.bomb(str(error))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Serve one autopkgtest over standard input and output."""
    arguments = parser().parse_args(argv)
    reporting.configure(2 if arguments.debug else 0)
    if arguments.debug:
        adtlog.verbosity = 2
    testbed = Testbed(
        Incus(project=arguments.project, remote=arguments.remote),
        arguments.image,
        name=arguments.name,
        delete_existing=arguments.delete_existing,
        arguments=arguments.launch_arguments,
    )
    _serve_by_virtsubproc(testbed)
    interruption = None
    try:
        VirtSubproc.ok()
        catch_signals()
        VirtSubproc.mainloop()
    except Interrupted as caught:
        interruption = caught
    finally:
        # VirtSubproc cleans up an open testbed, but not one being opened.
        _ignore_signals()
        try:
            testbed.remove()
        except errors.TestbedError as failure:
            reporting.error(failure)
    if interruption:
        signal.signal(interruption.number, signal.SIG_DFL)
        os.kill(os.getpid(), interruption.number)
    sys.exit(0)


def _serve_by_virtsubproc(testbed: Testbed) -> None:
    """Have VirtSubproc call the testbed, but for what is done better here."""
    VirtSubproc.progname = "autopkgtest-virt-incus-testbed"
    VirtSubproc.caller = testbed
    # It would let go of signals before it has closed a testbed.
    VirtSubproc.signal_list = []
    VirtSubproc.reboot_testbed = testbed.reboot
    VirtSubproc.copyupdown_internal = _copying_or_failing(
        VirtSubproc.copyupdown_internal
    )


def _copying_or_failing(
    copy: Callable[[str, list[str], bool], None],
) -> Callable[[str, list[str], bool], None]:
    """Have a path that can't be used fail the copy, not the server."""

    def copy_or_fail(command: str, paths: list[str], up: bool) -> None:
        try:
            copy(command, paths, up)
        except (OSError, ValueError) as error:
            adtlog.error(f"{command} failed: {error}")
            raise VirtSubproc.FailedCmd(["copy-failed"]) from error

    return copy_or_fail


def catch_signals() -> None:
    """Have signals raise Interrupted, so that nothing is left half-way."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    _ignore_signals()
    raise Interrupted(number)


def _ignore_signals() -> None:
    """Let nothing interrupt what follows: cleaning up."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, options as in virt-incus."""
    result = argparse.ArgumentParser(
        prog="autopkgtest-virt-incus-testbed",
        description="autopkgtest virtualisation server on Incus",
        epilog="Use it as: autopkgtest PACKAGE -- incus-testbed IMAGE",
    )
    result.add_argument(
        "-d", "--debug", action="store_true", help="say what is done"
    )
    result.add_argument(
        "-r", "--remote", help="use this remote (see: incus remote list)"
    )
    result.add_argument(
        "-p", "--project", help="use this project (see: incus project list)"
    )
    result.add_argument("--vm", action="store_true", help=argparse.SUPPRESS)
    result.add_argument("--name", help="name of the instance")
    result.add_argument(
        "--delete-existing",
        action="store_true",
        help="with --name: remove an instance that has the name",
    )
    result.add_argument(
        "image",
        help="an image's alias, such as artifact/42, or the path of a system"
        " tarball, which is imported first",
    )
    result.add_argument(
        "launch_arguments",
        metavar="...",
        nargs=argparse.REMAINDER,
        help="the rest goes to 'incus launch'",
    )
    return result
