# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's executors for the backends incus-lxc and incus-vm.

Importing this module registers them: that is how Debusine's base class takes
note of an executor, and the last of a backend wins.
"""

import logging
import shutil
import threading
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
from debusine_incus.statistics import Monitor
from incus_testbed import host
from incus_testbed.client import Incus

if TYPE_CHECKING:
    from debusine.client.models import ArtifactResponse

log = logging.getLogger(__name__)

#: autopkgtest's name for the virt server, and the program that stands for it.
_VIRT_SERVER = "incus-testbed"
_VIRT_SERVER_PROGRAM = f"autopkgtest-virt-{_VIRT_SERVER}"
#: Seconds for finding out whether a backend works here.
_CHECK_LIMIT = 30.0


class IncusExecutor:
    """What containers and virtual machines have in common."""

    backend_name: str
    image_category: ClassVar[ExecutorImageCategory]
    #: Incus's name of what runs such instances.
    driver: ClassVar[str]

    _monitor: ClassVar[Monitor]

    def __init__(
        self,
        debusine_api: Debusine,
        system_image_id: int,
        workspace: str | None = None,
        working_directory: Path | None = None,
    ) -> None:
        """Look the image's artifact up; the last two are from 0.12 on.

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
        """Tell whether this user can run instances on this machine, now.

        The log says what is in the way.  Never raises, and takes half a
        minute at most.
        """
        reasons = [f"no answer within {_CHECK_LIMIT:.0f} s"]

        def check() -> None:
            try:
                reasons[:] = cls._obstacles()
            except Exception as error:
                log.exception("checking for %s failed", cls.backend_name)
                reasons[:] = [str(error)]

        thread = threading.Thread(target=check, daemon=True)
        thread.start()
        thread.join(_CHECK_LIMIT)
        for reason in reasons:
            log.info("%s is not available: %s", cls.backend_name, reason)
        if not reasons:
            log.info("%s is available, by debusine_incus", cls.backend_name)
        return not reasons

    @classmethod
    def _obstacles(cls) -> list[str]:
        if shutil.which(_VIRT_SERVER_PROGRAM) is None:
            return [f"{_VIRT_SERVER_PROGRAM} is not on PATH"]
        if reason := children.obstacle():
            return [reason]
        return host.obstacles(Incus(), driver=cls.driver)

    def download_image(self) -> str:
        """Have Incus hold the image, and keep it; return its alias.

        :raises ImageImportError: that can't be done; says why
        """
        return self._images.download(self.system_image)

    def image_name(self) -> str:
        """Return the alias of the image: artifact/ID."""
        return f"artifact/{self.system_image.id}"

    def create(self) -> IncusInstance:
        """Return a new instance of the image, not started yet."""
        return IncusInstance(self.image_name())

    def autopkgtest_virt_server(self) -> str:
        """Return autopkgtest's name for our virt server.

        Debusine 0.11 passes it to sbuild, too, which takes it for that of a
        program: there it is the program's path, as autopkgtest takes it.
        """
        if self._sbuild_starts_by_name:
            return shutil.which(_VIRT_SERVER_PROGRAM) or _VIRT_SERVER
        return _VIRT_SERVER

    def autopkgtest_virt_args(self) -> list[str]:
        """Return the virt server's arguments: the image's alias."""
        return [self.image_name()]

    @classmethod
    def clean_up_image(cls, artifact_id: int) -> None:
        """Remove an artifact's image, unless it is in use or somebody's own."""
        ImageCache.clean_up(artifact_id)

    @classmethod
    def get_statistics(
        cls, instance: InstanceInterface | None
    ) -> ExecutorStatistics:
        """Return at once the most that was used so far.

        Without an instance it is what the virt servers have launched for
        autopkgtest and sbuild.
        """
        name = instance.name if isinstance(instance, IncusInstance) else None
        return cls._monitor.peak(name).statistics()


class IncusLXCExecutor(
    IncusExecutor, ExecutorInterface, backend_name=BackendType.INCUS_LXC
):
    """Containers, of system tarballs."""

    image_category = ExecutorImageCategory.TARBALL
    driver = "lxc"
    _monitor = Monitor(Incus(), kind="container")


class IncusVMExecutor(
    IncusExecutor, ExecutorInterface, backend_name=BackendType.INCUS_VM
):
    """Virtual machines, of system images."""

    image_category = ExecutorImageCategory.IMAGE
    driver = "qemu"
    _monitor = Monitor(Incus(), kind="virtual-machine")
