# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep Debusine's system images in Incus, and nowhere else.

An image is identified by the SHA-256 of the artifact's file, which the server
tells.  So if two Debusine servers use one Incus, artifacts with the same number
can't be confused.
"""

import logging
import time
from collections.abc import Callable

from debusine.client.debusine import Debusine
from debusine.client.models import ArtifactResponse
from debusine.tasks.executors.base import (
    ExecutorImageCategory,
    ImageImportError,
)

from debusine_incus import current_task
from debusine_incus.download import Download
from debusine_incus.system_image import SystemImage
from incus_testbed import errors
from incus_testbed.cleanup import eviction
from incus_testbed.image import alias as names
from incus_testbed.image import properties
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from incus_testbed.image.stream import scratch
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.limits import settings
from incus_testbed.ownership import lease
from incus_testbed.ownership.lease import Lease

log = logging.getLogger(__name__)

#: Environment variables that limit the evictable images: a count, and bytes.
KEEP = "DEBUSINE_INCUS_KEEP_IMAGES"
MAX_BYTES = "DEBUSINE_INCUS_MAX_IMAGE_BYTES"

#: Seconds to wait while others use an image whose alias is needed.
PATIENCE = 300.0
_POLL = 1.0
_TRIES = 10

#: Image property that Debusine's own executor sets.
_UPSTREAM = "debusine_artifact_id"


class ImageCache:
    """Images of artifacts from one Debusine server."""

    def __init__(
        self,
        debusine_api: Debusine,
        image_category: ExecutorImageCategory | None,
        workspace: str | None = None,
        *,
        incus: Incus | None = None,
    ) -> None:
        """Use this server, and look for artifacts in a workspace.

        Without a category, every kind of artifact that can become an image is
        accepted.  Debusine 0.11 does not support a workspace here: leave it
        out.
        """
        self._api = debusine_api
        self._category = image_category
        self._workspace = workspace
        self._incus = incus or Incus()

    def artifact(self, artifact_id: int) -> ArtifactResponse:
        """Ask the server for the data of an artifact.

        :raises ValueError: it is of another category
        """
        place = {"workspace": self._workspace} if self._workspace else {}
        artifact = self._api.artifact_get(artifact_id, **place)
        wanted = [self._category] if self._category else ExecutorImageCategory
        categories = [category.value for category in wanted]
        if artifact.category not in categories:
            raise ValueError(
                f"Artifact {artifact_id} is a {artifact.category}, not a"
                f" {' or '.join(categories)}"
            )
        return artifact

    def download(self, artifact: ArtifactResponse) -> str:
        """Import an artifact's image into Incus; return its alias.

        The image stays until garbage.relinquish() or the end of this process.
        Then the least recently used images are removed, until the limits from
        the environment are kept.

        :raises ImageImportError: it can't be downloaded or become an image
        """
        try:
            keep = settings.number(KEEP, 10)
            max_bytes = settings.number(MAX_BYTES, 10 << 30)
            self.obtain(artifact, evictable=True)
        except errors.TestbedError as error:
            raise ImageImportError(str(error)) from error
        try:
            eviction.evict(self._incus, keep=keep, max_bytes=max_bytes)
        except errors.TestbedError as error:
            # The needed image is there, so this is not a failure.
            log.warning("old images could not be removed: %s", error)
        return names.of_artifact(artifact.id)

    @staticmethod
    def clean_up(artifact_id: int) -> None:
        """Remove an artifact's image, if it may go and is not in use."""
        incus = Incus()
        image = Store(incus).find(names.of_artifact(artifact_id))
        if image:
            eviction.remove_unused(incus, image, properties.is_evictable)

    def obtain(
        self,
        artifact: ArtifactResponse,
        *,
        evictable: bool,
        progress: Callable[[int], None] | None = None,
    ) -> Lease:
        """Import an artifact's image into Incus and keep it there.

        ``progress`` is called with the number of bytes downloaded.

        :raises errors.TestbedError: it can't be downloaded or become an image
        """
        wanted = SystemImage(artifact)
        for _ in range(_TRIES):
            self._make_way(wanted)
            try:
                self._add(wanted, wanted.label(evictable=evictable), progress)
            except errors.AlreadyExists:
                continue  # another server's artifact was faster
            try:
                held = lease.take(self._incus, wanted.alias)
            except errors.NotFound:
                continue  # another process has removed it already
            if properties.source(held.image) == wanted.sha256:
                return held
            held.release()
        raise errors.Busy(
            f"{wanted.alias} was replaced or removed {_TRIES} times",
            resolution=_SEPARATION,
        )

    def _add(
        self,
        wanted: SystemImage,
        label: Labels,
        progress: Callable[[int], None] | None,
    ) -> None:
        """Import an image if it is missing; make room if necessary."""

        def tell(size: int) -> None:
            current_task.check()
            if progress:
                progress(size)

        for last in (False, True):
            try:
                with Download(
                    wanted.url, size=wanted.size, token=self._api.token
                ) as source:
                    Store(self._incus).add(
                        source,
                        wanted.alias,
                        sha256=wanted.sha256,
                        label=label,
                        progress=tell,
                    )
            except errors.NoSpace as error:
                if last or not self._make_room(wanted, error):
                    raise
            else:
                return

    def _make_room(self, wanted: SystemImage, error: errors.NoSpace) -> bool:
        """Remove all unused images; tell whether another attempt makes sense.

        If that can't make enough room, nothing is removed: an image that is
        too large must not cause the loss of the others.
        """
        lacking = max(error.lacking, wanted.size - scratch.room())
        gain = sum(map(properties.disk_use, eviction.evictable(self._incus)))
        if lacking > gain:
            return False
        return bool(eviction.evict(self._incus, keep=0, max_bytes=0))

    def _make_way(self, wanted: SystemImage) -> None:
        """Remove an image that has the alias and was made from another file.

        :raises errors.AlreadyExists: it must not be removed
        :raises errors.Busy: others are still using it
        """
        name = wanted.alias
        deadline = None
        while True:
            current_task.check()
            image = Store(self._incus).find(name)
            source = image and properties.source(image)
            if image is None or source == wanted.sha256:
                return
            if not _may_be_replaced(image):
                raise errors.AlreadyExists(
                    f"The alias {name} is taken by an image that is not this"
                    " artifact's",
                    details=f"It was made from a file with SHA-256 {source}."
                    if source
                    else "It was not imported by incus-testbed.",
                    resolution=f"{_SEPARATION}\nOr remove that image:"
                    f" {properties.removal(image)} {name}",
                )
            if eviction.remove_unused(self._incus, image, _may_be_replaced):
                return
            if deadline is None:
                deadline = time.monotonic() + PATIENCE
                log.warning(
                    "%s names another artifact's image, which is in use:"
                    " waiting",
                    name,
                )
            if time.monotonic() > deadline:
                raise errors.Busy(
                    f"The alias {name} is taken by another server's image,"
                    f" which was in use for the last {PATIENCE:.0f} s",
                    resolution=_SEPARATION,
                )
            time.sleep(_POLL)


_SEPARATION = (
    "Give each Debusine server its own Incus project. As the user of its"
    " worker: incus project create NAME; incus project switch NAME;"
    " incus-testbed setup"
)


def _may_be_replaced(image: Image) -> bool:
    """Tell whether a worker imported an image from a Debusine server."""
    is_upstreams = _UPSTREAM in image.properties
    return properties.is_evictable(image) or (
        is_upstreams and not properties.is_ours(image)
    )
