# SPDX-License-Identifier: GPL-3.0-or-later
"""Launch, start, stop and delete throw-away instances."""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Self

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance import readiness
from incus_testbed.instance.guest import Guest
from incus_testbed.instance.plan import Plan
from incus_testbed.ownership.owner import Owner

log = logging.getLogger(__name__)

#: Keys of an instance's configuration: its owner, time of creation and purpose.
#: Garbage collection reads only the first.
OWNER_KEY = "user.incus-testbed.owner"
CREATED_KEY = "user.incus-testbed.created"
PURPOSE_KEY = "user.incus-testbed.purpose"
#: Identifies one launch, also among those of this process.
_LAUNCH_KEY = "user.incus-testbed.launch"

#: /dev/incus would tell a guest the name of its host, and the instance's user.*
#: keys.  Arguments of a launch come later, and can change this.
_CLOSED = {"security.guestapi": "false"}

#: Seconds between asking an instance to stop and killing it.
STOP_GRACE = 30.0
_NAME_TRIES = 10
#: Attempts, 0.1 s apart, to find the instance of a killed client.
_LATE_TRIES = 5
#: Seconds for Incus to remove an instance that is stopping.
_REMOVAL_LIMIT = 30.0


class Instance:
    """One instance; as a context manager, it is deleted at the end."""

    def __init__(self, incus: Incus, name: str, *, vm: bool = False) -> None:
        """Represent an existing instance; ``vm``: it is a virtual machine."""
        self._incus = incus
        #: The system inside it.
        self.guest = Guest(incus, name, vm)

    @property
    def name(self) -> str:
        """The instance's name, which is also its host name."""
        return self.guest.name

    @classmethod
    def launch(
        cls,
        incus: Incus,
        image: str,
        *,
        purpose: str,
        name: str | None = None,
        ephemeral: bool = True,
        network: bool = True,
        arguments: Sequence[str] = (),
    ) -> Self:
        """Create and start an instance of an image, owned by this process.

        The image decides whether it is a container or a virtual machine.
        Without ``name`` a random one is tried until one is free.  Without
        ``network`` it has no network card.  A launch that fails or is
        interrupted leaves nothing behind.

        :raises errors.NotFound: there is no such image
        :raises errors.AlreadyExists: the given name is taken
        :raises errors.Unsupported: ``arguments`` may add a network card that
            it is to be without
        """
        plan = Plan.of(incus, image, arguments, network=network)
        keys = _keys(purpose)

        def create(name: str) -> None:
            incus.launch(
                image,
                name,
                config={**_CLOSED, **plan.config, **keys},
                ephemeral=ephemeral,
                devices=plan.devices,
                arguments=arguments,
            )

        while True:
            try:
                return cls._created(
                    incus, name, create, keys[_LAUNCH_KEY], vm=plan.vm
                )
            except errors.NotFound:
                # incus launch asks for the name first, and a new image may
                # take the place of that one just then.
                if not plan.is_outdated(incus, image):
                    raise
                plan = Plan.of(incus, image, arguments, network=network)

    def copy(self, *, purpose: str, name: str | None = None) -> Self:
        """Make and start a copy of this stopped instance, as launch() does.

        It has a name, and network addresses, of its own.
        """
        keys = _keys(purpose)

        def create(name: str) -> None:
            self._incus.copy(self.name, name, config=keys, ephemeral=True)
            self._incus.start(name)

        return self._created(
            self._incus, name, create, keys[_LAUNCH_KEY], vm=self.guest.vm
        )

    @classmethod
    def _created(
        cls,
        incus: Incus,
        name: str | None,
        create: Callable[[str], None],
        launch: str,
        *,
        vm: bool,
    ) -> Self:
        """Create an instance of this name, or of a random one that is free."""
        for _ in range(_NAME_TRIES):
            instance = cls(incus, name or _random_name(), vm=vm)
            try:
                create(instance.name)
            except errors.TestbedError as error:
                # Any error may mean that the instance was created, but not
                # started.
                made = instance._discard(launch, error)
                if made or name or not isinstance(error, errors.AlreadyExists):
                    raise
            except BaseException:
                instance._discard(launch)
                raise
            else:
                return instance
        raise errors.AlreadyExists(
            f"{_NAME_TRIES} random instance names were all taken"
        )

    def __enter__(self) -> Self:
        """Return the instance."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the instance."""
        self.delete()

    def keep(self) -> None:
        """Give the instance to the user: no process owns it any more.

        Garbage collection leaves it alone then.
        """
        self._incus.unset_instance_key(self.name, OWNER_KEY)

    def wait_ready(self, timeout: float | None = None) -> readiness.Readiness:
        """Wait, inside the guest, until it has booted and has a network.

        The default ``timeout`` is readiness.limit(), in seconds.

        :raises errors.BootFailed: it is not ready after that time, or it
            stopped; details hold the end of its console
        """
        return readiness.wait_ready(self.guest, self._limit(timeout))

    def probe(self) -> dict[str, str]:
        """Return the guest's shell, boot id and first normal user."""
        return readiness.probe(self.guest)

    def start(self) -> None:
        """Start a stopped instance and wait until it is ready."""
        self._incus.start(self.name)
        self.wait_ready()

    def restart(self) -> None:
        """Reboot the guest and wait until it is ready again."""
        old = self.probe()["boot"]
        self.reboot()
        self.wait_reboot(old)

    def reboot(self) -> None:
        """Ask the guest to reboot, without waiting for it.

        :raises errors.NotRunning: it is not running
        """
        readiness.reboot(self.guest)

    def wait_reboot(self, old: str, timeout: float | None = None) -> None:
        """Wait until the guest has left the boot ``old`` and is ready again.

        :raises errors.BootFailed: it is not ready after ``timeout`` seconds, of
            which the default is that of wait_ready()
        """
        readiness.wait_reboot(self.guest, old, self._limit(timeout))

    def _limit(self, timeout: float | None) -> float:
        return timeout or readiness.limit(vm=self.guest.vm)

    def evidence(self) -> str:
        """Return the end of what the guest wrote to its console."""
        return readiness.evidence(self.guest)

    def stop(self, grace: float = STOP_GRACE) -> None:
        """Ask the guest to shut down; kill it after ``grace`` seconds.

        It is not an error if the instance is stopped or gone.
        """
        try:
            self._incus.stop(self.name, grace=grace)
        except (errors.NotRunning, errors.NotFound):
            return
        except errors.TestbedError as error:
            log.info(
                "%s does not stop (%s): killing it", self.name, error.brief
            )
            try:
                self._incus.kill(self.name)
            except (errors.NotRunning, errors.NotFound):
                return

    def delete(self) -> None:
        """Delete the instance; it is not an error if it is gone."""
        deadline = time.monotonic() + _REMOVAL_LIMIT
        while True:
            try:
                self._incus.delete(self.name)
            except errors.NotFound:
                return
            except (
                errors.Busy,
                errors.NotRunning,
                errors.CommandFailed,
            ) as error:
                # Incus is just removing an ephemeral instance that stops, by
                # itself or because another process stops it.
                log.debug("%s is not removed yet: %s", self.name, error)
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.25)
            else:
                return

    def _discard(
        self, launch: str, error: errors.TestbedError | None = None
    ) -> bool:
        """Delete the instance of a failed launch; tell whether there was one.

        If the client was killed (no error, or TimedOut), the daemon goes on
        creating, so the instance may appear a moment later.  An instance of
        another launch with this name is left alone.  The log of the failed
        start is added to the error.
        """
        killed = error is None or isinstance(error, errors.TimedOut)
        for attempt in range(_LATE_TRIES if killed else 1):
            try:
                time.sleep(0.1 if attempt else 0)
                record = self._incus.instance(self.name)
                if record.config.get(_LAUNCH_KEY) != launch:
                    return False
                if error:
                    self._add_start_log(error)
                self.delete()
            except errors.NotFound:
                continue
            except (errors.DaemonDown, errors.Denied):
                return (
                    False  # the launch most likely failed for the same reason
                )
            except errors.TestbedError as problem:
                log.warning(
                    "%s may be left behind (%s); 'incus-testbed gc' removes"
                    " it once this process has ended",
                    self.name,
                    problem.brief,
                )
            return True
        return False

    def _add_start_log(self, error: errors.TestbedError) -> None:
        """Add LXC's own error messages, which Incus keeps in a log."""
        try:
            said = self._incus.start_log(self.name)
        except errors.TestbedError:
            return
        reasons = [line for line in said.splitlines() if " ERROR " in line]
        error.details = "\n".join([error.details, *reasons[:5]]).strip()


def _keys(purpose: str) -> dict[str, str]:
    """Return the keys of an instance that this process creates now."""
    return {
        OWNER_KEY: str(Owner.current()),
        CREATED_KEY: datetime.now(UTC).isoformat(timespec="seconds"),
        PURPOSE_KEY: purpose,
        _LAUNCH_KEY: secrets.token_hex(8),
    }


def _random_name() -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "testbed-" + "".join(secrets.choice(alphabet) for _ in range(8))
