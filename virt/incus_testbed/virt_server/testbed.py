# SPDX-License-Identifier: GPL-3.0-or-later
"""The hooks that autopkgtest calls, and the instance that they use."""

import logging
import os
import shlex
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from incus_testbed import errors
from incus_testbed.cleanup import background
from incus_testbed.incus.client import Incus
from incus_testbed.instance import scripts
from incus_testbed.instance.instance import Instance
from incus_testbed.virt_server import command, protocol
from incus_testbed.virt_server.image import Image

if TYPE_CHECKING:
    from incus_testbed.refresh.warm import SetUp

log = logging.getLogger(__name__)

#: What an instance is for.
_PURPOSE = "autopkgtest"
_BASE = "warm base of autopkgtest"
#: autopkgtest skips a test by what the testbed can do.  It does not tell us
#: what the tests need.
_CONTAINER = (
    "%s is a container: autopkgtest skips tests that need isolation-machine;"
    " an image of 'incus-testbed build --vm' or of a disk runs them"
)


class Testbed:
    """The hooks for one image; they have one instance at a time."""

    __test__ = False  # pytest: not a test class

    def __init__(
        self,
        incus: Incus,
        image: str,
        *,
        name: str | None = None,
        delete_existing: bool = False,
        network: bool = True,
        max_age: timedelta | None = None,
        set_up: "SetUp | None" = None,
        forkserver: str = "",
        arguments: Sequence[str] = (),
    ) -> None:
        """Remember the image, an alias or a path of a file; start nothing.

        If it is older than ``max_age``, it is refreshed before it is used.
        ``set_up`` is done once: all testbeds are then copies of the result.
        ``forkserver`` is the name of the one that commands run in.
        """
        self._incus = incus
        self._image = Image(incus, image, max_age)
        self._name = name
        self._delete_existing = delete_existing
        self._network = network
        self._set_up = set_up
        self._base: Instance | None = None
        self._arguments = arguments
        self._instance: Instance | None = None
        self._suspects: background.Suspects = None
        self._normal_user = ""
        self._forkserver = forkserver

    def hook_capabilities(self) -> list[str]:
        """Return what the testbed can do."""
        vm = self._instance is not None and self._instance.guest.vm
        capabilities = [
            "isolation-machine" if vm else "isolation-container",
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
        with protocol.bombing():
            if self._name and self._delete_existing:
                Instance(self._incus, self._name).delete()
            self._instance = (
                self._copied(self._set_up) if self._set_up else self._launched()
            )
            try:
                # The guest boots meanwhile, so this question costs no time.
                self._suspects = background.suspects(
                    self._incus, self._instance.name
                )
                ready = self._instance.wait_ready()
            except BaseException:
                self.remove()
                raise
            if not self._instance.guest.vm:
                log.info(_CONTAINER, self._instance.name)
            self._normal_user = ready.user
            protocol.run_commands_by(
                self._instance.guest.exec_argv(
                    [], program=command.program(self._forkserver)
                )
            )

    def hook_downtmp(self, path: str | None) -> str:
        """Make the scratch directory; after a revert, at the old ``path``."""
        with protocol.bombing():
            return self._open_instance().guest.make_scratch(path or "")

    def hook_revert(self) -> None:
        """Bring the testbed back to the state in which it was opened."""
        with protocol.bombing():
            self._let_go()
        self.hook_open()

    def hook_cleanup(self) -> None:
        """Have the instance removed."""
        with protocol.bombing():
            self._let_go()
            self.remove()

    def hook_prepare_reboot(self) -> dict[str, str]:
        """Return the current boot id, which hook_wait_reboot needs."""
        with protocol.bombing():
            return {"boot": self._open_instance().probe()["boot"]}

    def reboot(self) -> None:
        """Reboot the guest; VirtSubproc would also wait for three seconds.

        VirtSubproc calls this between hook_prepare_reboot and hook_wait_reboot.
        """
        with protocol.bombing():
            self._open_instance().reboot()

    def check_member(self) -> None:
        """Check what a failed copy may be due to, as Guest.check_member()."""
        if self._instance:
            self._instance.guest.check_member()

    def hook_wait_reboot(self, *, boot: str) -> None:
        """Wait until the instance runs and is ready in another boot."""
        with protocol.bombing():
            self._open_instance().wait_reboot(boot)

    def hook_shell(self, directory: str, *environment: str) -> None:
        """Open a shell in the testbed for the user at the terminal."""
        with protocol.bombing():
            guest = self._open_instance().guest
            key = os.urandom(8).hex()
            guest.leave_settings(
                key,
                "".join(
                    f"export {shlex.quote(setting)}\n"
                    for setting in environment
                ).encode(),
            )
            terminal = os.environ.get("TERM", "dumb")
            shell = scripts.command("shell.sh", directory, terminal, key)
            try:
                with Path("/dev/tty").open("r+b", buffering=0) as tty:
                    guest.exec(
                        shell,
                        interactive=True,
                        stdin=tty,
                        stdout=tty,
                        stderr=tty,
                    )
            except (OSError, ValueError) as error:
                protocol.complain(f"A shell can't be opened: {error}")

    def hook_debug_fail(self) -> str:
        """Return information that helps to find out why the testbed failed."""
        return self._open_instance().evidence() if self._instance else ""

    def _open_instance(self) -> Instance:
        if self._instance is None:
            raise errors.NotRunning("The testbed is not open")
        return self._instance

    def _copied(self, set_up: "SetUp") -> Instance:
        """Make a copy of the warm base, which is set up at the first time."""
        # Imported here: most testbeds have none, and start faster so.
        from incus_testbed.refresh import warm  # noqa: PLC0415

        if self._base is None:
            self._base = self._launched(purpose=_BASE)
            warm.prepare(self._incus, self._base, set_up)
        return self._base.copy(purpose=_PURPOSE, name=self._name)

    def _launched(self, purpose: str = _PURPOSE) -> Instance:
        return self._image.launched(partial(self._launch, purpose=purpose))

    def _launch(self, alias: str, *, purpose: str) -> Instance:
        is_base = purpose == _BASE
        return Instance.launch(
            self._incus,
            alias,
            purpose=purpose,
            name=None if is_base else self._name,
            ephemeral=not is_base,
            network=self._network,
            arguments=self._arguments,
        )

    def _let_go(self) -> None:
        """Have the instance removed, and wait for that only if necessary."""
        if self._name or not self._instance:
            # The name has to be free for the next instance.
            self._remove_instance()
            return
        background.start(self._incus, self._instance.name, self._suspects)
        self._instance = None

    def remove(self) -> None:
        """Remove the instance, and the warm base, before this returns."""
        self._remove_instance()
        if self._base:
            _delete(self._base)
            self._base = None

    def _remove_instance(self) -> None:
        if self._instance:
            _delete(self._instance)
            self._instance = None


def _delete(instance: Instance) -> None:
    """Delete it; if its member of the cluster is down, leave it to gc."""
    try:
        instance.delete()
    except errors.MemberDown as error:
        log.warning("%s is left to gc: %s", instance.name, error.brief)
