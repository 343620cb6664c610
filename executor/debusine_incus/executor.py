# SPDX-License-Identifier: GPL-3.0-or-later
"""Implement Debusine's executors for the backends incus-lxc and incus-vm.

Importing this module registers them: Debusine's base class registers each
subclass, and uses the last one of a backend.
"""

import logging
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from debusine.client.debusine import Debusine
from debusine.tasks.executors import (
    ExecutorImageCategory,
    ExecutorInterface,
    ExecutorStatistics,
    InstanceInterface,
)
from debusine.tasks.models import BackendType

from debusine_incus import children
from debusine_incus.images import ImageCache
from debusine_incus.instance import IncusInstance
from debusine_incus.statistics import Monitor, statistics
from incus_testbed.host import doctor
from incus_testbed.image import alias
from incus_testbed.incus import records
from incus_testbed.incus.client import Incus
from incus_testbed.instance import patience

if TYPE_CHECKING:
    from debusine.client.models import ArtifactResponse

log = logging.getLogger(__name__)

#: autopkgtest's name for the virt server, and the program of that name.
_VIRT_SERVER = "incus-testbed"
_VIRT_SERVER_PROGRAM = f"autopkgtest-virt-{_VIRT_SERVER}"
#: Seconds for finding out whether a backend works here, on a usual machine.
_CHECK_LIMIT = 30.0
#: Where that took longer than so many seconds, what was found is good for as
#: many times as long.  Debusine's event loop waits for it: the worker would
#: lose its connection, connect again, and be asked again.
_LONG, _GOOD = 10.0, 10


class IncusExecutor:
    """The common part of the executors for containers and virtual machines."""

    backend_name: str
    image_category: ClassVar[ExecutorImageCategory]
    #: Incus's name of the driver for such instances.
    driver: ClassVar[str]

    _monitor: ClassVar[Monitor]
    #: Until when a check need not be repeated, of time.monotonic().
    _good_until: ClassVar[float] = 0.0

    def __init__(
        self,
        debusine_api: Debusine,
        system_image_id: int,
        workspace: str | None = None,
        working_directory: Path | None = None,
    ) -> None:
        """Look up the image's artifact.

        Debusine 0.12 and later pass the last two arguments.

        :raises ValueError: it is not an image for this backend
        """
        self._images = ImageCache(debusine_api, self.image_category, workspace)
        self.system_image: ArtifactResponse = self._images.artifact(
            system_image_id
        )
        self.working_directory = working_directory
        self._sbuild_starts_by_name = workspace is None
        self._monitor.forget_ended()

    @classmethod
    def available(cls) -> bool:
        """Tell whether this user can run instances on this machine now.

        If not, the log tells the reasons.  Never raises, and takes at most
        half a minute; on a slow machine up to three times as long, and then
        it does not find out again for some minutes.
        """
        began = time.monotonic()
        if began < cls._good_until:
            return True
        limit = _CHECK_LIMIT * patience.factor(Incus(), ask=False)
        reasons = [f"no answer within {limit:.0f} s"]

        def check() -> None:
            try:
                reasons[:] = cls._obstacles()
            except Exception as error:
                log.exception("checking for %s failed", cls.backend_name)
                reasons[:] = [str(error)]

        thread = threading.Thread(target=check, daemon=True)
        thread.start()
        thread.join(limit)
        for reason in reasons:
            log.info("%s is not available: %s", cls.backend_name, reason)
        if not reasons:
            log.info("%s is available, by debusine_incus", cls.backend_name)
            took = time.monotonic() - began
            if took > _LONG:
                cls._good_until = began + took * _GOOD
        return not reasons

    @classmethod
    def _obstacles(cls) -> list[str]:
        if shutil.which(_VIRT_SERVER_PROGRAM) is None:
            return [f"{_VIRT_SERVER_PROGRAM} is not on PATH"]
        if reason := children.obstacle():
            return [reason]
        return doctor.obstacles(Incus(), driver=cls.driver)

    def download_image(self) -> str:
        """Download the image into Incus and keep it there; return its alias.

        :raises ImageImportError: this failed; says why
        """
        return self._images.download(self.system_image)

    def image_name(self) -> str:
        """Return the alias of the image: artifact/ID."""
        return alias.of_artifact(self.system_image.id)

    def create(self) -> IncusInstance:
        """Return a new instance of the image, not started yet."""
        return IncusInstance(self.image_name())

    def autopkgtest_virt_server(self) -> str:
        """Return autopkgtest's name for our virt server.

        Debusine 0.11 also passes it to sbuild, which expects the name of a
        program.  There it is the program's path, which autopkgtest accepts too.
        """
        if self._sbuild_starts_by_name:
            return shutil.which(_VIRT_SERVER_PROGRAM) or _VIRT_SERVER
        return _VIRT_SERVER

    def autopkgtest_virt_args(self) -> list[str]:
        """Return the virt server's arguments: the image's alias.

        The remote and project stand before it if the worker's environment has
        chosen them, and the virt server does not get that environment.
        """
        return [*children.options(), self.image_name()]

    @classmethod
    def clean_up_image(cls, artifact_id: int) -> None:
        """Remove an artifact's image if it is evictable and unused."""
        ImageCache.clean_up(artifact_id)

    @classmethod
    def get_statistics(
        cls, instance: InstanceInterface | None
    ) -> ExecutorStatistics:
        """Return the peak use so far, without waiting.

        Without an instance, it is the use of the instances that virt servers
        have launched for autopkgtest and sbuild.
        """
        name = instance.name if isinstance(instance, IncusInstance) else None
        return statistics(cls._monitor.peak(name))


class IncusLXCExecutor(
    IncusExecutor, ExecutorInterface, backend_name=BackendType.INCUS_LXC
):
    """Runs containers that are made from system tarballs."""

    image_category = ExecutorImageCategory.TARBALL
    driver = "lxc"
    _monitor = Monitor(Incus(), kind=records.CONTAINER)


class IncusVMExecutor(
    IncusExecutor, ExecutorInterface, backend_name=BackendType.INCUS_VM
):
    """Runs virtual machines that are made from system images."""

    image_category = ExecutorImageCategory.IMAGE
    driver = "qemu"
    _monitor = Monitor(Incus(), kind=records.MACHINE)
