# SPDX-License-Identifier: GPL-3.0-or-later
"""Launch, start, stop and delete throw-away instances."""

import logging
from collections.abc import Sequence
from typing import Self

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance import (
    evidence,
    patience,
    readiness,
    removal,
    unpacked,
)
from incus_testbed.instance.creation import OWNER_KEY, Creation
from incus_testbed.instance.guest import Guest
from incus_testbed.instance.plan import Plan
from incus_testbed.ownership import holdings

log = logging.getLogger(__name__)

#: /dev/incus would tell a guest the name of its host, and the instance's user.*
#: keys.  If a member of a cluster is evacuated, moving a testbed to another one
#: would take long and end what runs in it all the same.  Arguments of a launch
#: come later, and can change this.
_SETTINGS = {"security.guestapi": "false", "cluster.evacuate": "stop"}

#: Seconds between asking an instance to stop and killing it.
STOP_GRACE = 30.0


class Instance:
    """One instance; as a context manager, it is deleted at the end."""

    def __init__(
        self,
        incus: Incus,
        name: str,
        *,
        vm: bool = False,
        plan: Plan | None = None,
    ) -> None:
        """Represent an existing instance; ``vm``: it is a virtual machine.

        ``plan`` is that of its launch, if it has not booted yet.
        """
        self._incus = incus
        self._plan = plan
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
        :raises errors.Incomplete: Incus has unpacked its image only in part,
            and does not do better when it is tried again
        :raises errors.Unsupported: ``arguments`` may add a network card that
            it is to be without
        """
        plan = Plan.of(incus, image, arguments, network=network)
        creation = Creation(incus, purpose)

        def launch(name: str) -> None:
            try:
                incus.launch(
                    image,
                    name,
                    config={**_SETTINGS, **plan.config, **creation.keys},
                    ephemeral=ephemeral,
                    devices=plan.devices,
                    arguments=arguments,
                    fingerprint=plan.fingerprint,
                    vm=plan.vm,
                )
            except errors.CommandFailed:
                unpacked.check(incus, name, plan)
                raise

        is_second = False
        while True:
            try:
                made = creation.by(launch, name)
                return cls(incus, made, vm=plan.vm, plan=plan)
            except errors.Incomplete as error:
                if is_second:
                    raise
                log.warning("%s; trying again", error.brief)
                is_second = True
            except errors.NotFound:
                # incus launch asks for the name first, and a new image may
                # take the place of that one just then.
                if not plan.is_outdated(incus, image):
                    raise
                plan = Plan.of(incus, image, arguments, network=network)
            except errors.Unsupported:
                plan.check_architecture(incus, image)
                raise

    def copy(self, *, purpose: str, name: str | None = None) -> Self:
        """Make and start a copy of this stopped instance, as launch() does.

        It has a name, and network addresses, of its own.  In a cluster it is on
        the same member: Incus would choose one, and send the whole disk there.
        """
        incus = self._incus
        creation = Creation(incus, purpose)

        def copy(name: str) -> None:
            incus.copy(
                self.name,
                name,
                config=creation.keys,
                ephemeral=True,
                member=incus.instance(self.name).member,
            )
            incus.start(name)

        return type(self)(incus, creation.by(copy, name), vm=self.guest.vm)

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
        holdings.forget(holdings.Kind.INSTANCE, self.name)

    def wait_ready(self, timeout: float | None = None) -> readiness.Readiness:
        """Wait, inside the guest, until it has booted and has a network.

        The default ``timeout`` is patience.limit(), in seconds.

        :raises errors.BootFailed: it is not ready after that time, or it
            stopped; details hold the end of its console
        :raises errors.Incomplete: it lacks files of its image, which this was
            the first boot of
        """
        plan, self._plan = self._plan, None
        try:
            ready = readiness.wait_ready(self.guest, self._limit(timeout))
        except errors.BootFailed:
            if plan:
                unpacked.check(self._incus, self.name, plan)
            raise
        if plan and plan.last_file and plan.last_file.date not in ready.dates:
            unpacked.check(self._incus, self.name, plan)
        return ready

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
        return timeout or patience.limit(self._incus, vm=self.guest.vm)

    def evidence(self) -> str:
        """Return the end of what the guest wrote to its console."""
        return evidence.of(self.guest)

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
        removal.delete(self._incus, self.name)
