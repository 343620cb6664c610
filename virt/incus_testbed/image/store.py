# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in Incus by alias: imported whole or not at all, listed, removed."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from incus_testbed import errors, lock
from incus_testbed.client import IMAGE_LIMIT, Incus
from incus_testbed.image import labels
from incus_testbed.image.importing import Import
from incus_testbed.image.labels import Labels
from incus_testbed.image.source import Readable, Source
from incus_testbed.records import Image

log = logging.getLogger(__name__)


class Store:
    """The images of one Incus project."""

    def __init__(self, incus: Incus) -> None:
        """Keep images through this client."""
        self._incus = incus

    def find(self, alias: str) -> Image | None:
        """Return the image of an alias, whoever imported it."""
        with contextlib.suppress(errors.NotFound):
            image = self._incus.image(alias)
            if alias in image.aliases:  # and it is no fingerprint
                return image
        return None

    def images(self) -> list[Image]:
        """Return the images that this software imported, by first alias."""
        return sorted(
            (
                image
                for image in self._incus.images()
                if labels.is_ours(image) and image.aliases
            ),
            key=lambda image: image.aliases,
        )

    def remove(self, alias: str) -> None:
        """Remove the image of an alias.

        :raises errors.NotFound: there is none
        :raises errors.Denied: this software did not import it
        """
        image = self.find(alias)
        if image is None:
            raise errors.NotFound(
                f"There is no image {alias}",
                resolution="'incus-testbed images' lists the images there are.",
            )
        if not labels.is_ours(image):
            raise errors.Denied(
                f"{alias} was not imported by incus-testbed",
                resolution=f"If it can go: incus image delete {alias}",
            )
        if len(image.aliases) > 1:
            self._incus.delete_alias(alias)
        else:
            self._incus.delete_image(image.fingerprint)

    def add(
        self,
        source: Readable,
        alias: str,
        *,
        sha256: str | None = None,
        label: Labels | None = None,
        generator: bytes | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> bool:
        """Import a tarball or disk under an alias; tell if that was needed.

        A system tarball becomes an image of containers, a disk one of virtual
        machines: what it is is seen by its content.

        False means that the alias holds an image of this very source already,
        perhaps because another process imported it while this one waited.
        ``sha256`` (hexadecimal) is what the source has to have; given that,
        it is read only if it is needed.  ``progress`` is called with the
        count of source bytes read, several times a second; what it raises
        ends the import.  ``generator`` replaces the systemd
        generator that is put in.

        An evictable image that is added as one that is not, is so no longer.

        :raises errors.BadImage: the source can't become an image
        :raises errors.AlreadyExists: the alias is taken by something else
        """
        check_alias(alias)
        label = label or Labels()
        with self._locked(alias, progress):
            if present := self.find(alias):
                sha256 = sha256 or _digest(source, progress)
                self._reuse(present, alias, sha256, label)
                return False
            new = Import(self._incus, alias, label, generator)
            sha256, other = new.run(source, sha256, progress)
            # The lock holds off this user's other processes only.
            if other:
                self._reuse(other, alias, sha256, label)
            return other is None

    def _reuse(
        self, present: Image, alias: str, sha256: str, label: Labels
    ) -> None:
        """Take the image that is there, if it is the right one."""
        _check_same(present, alias, sha256)
        if labels.is_evictable(present) and not label.evictable:
            self._incus.unset_image_property(
                present.fingerprint, labels.EVICTABLE
            )

    @contextlib.contextmanager
    def _locked(
        self, alias: str, progress: Callable[[int], None] | None
    ) -> Iterator[None]:
        where = f"{self._incus.remote or ''}:{self._incus.project or ''}"
        with lock.held(
            f"image {alias} of {where}",
            timeout=IMAGE_LIMIT,
            on_wait=lambda: log.warning(
                "another process imports %s: waiting for it", alias
            ),
            while_waiting=progress and (lambda: progress(0)),
        ):
            yield


def check_alias(alias: str) -> None:
    """Refuse what Incus would take for something else than an alias.

    Incus 7.0 takes fewer characters than 6.0 did.

    :raises errors.BadImage: it isn't a name such as artifact/42
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w./~-]*", alias, re.ASCII):
        raise errors.BadImage(
            f"{alias!r} can't be an alias",
            resolution="Give one such as artifact/42: letters, digits and"
            " any of . / ~ _ -",
        )


def content_alias(source: BinaryIO) -> str:
    """Return the alias that a file gets for its content; rewinds it."""
    digest = _digest(source, None)
    source.seek(0)
    return f"tarball/{digest[:16]}"


def _check_same(image: Image, alias: str, digest: str) -> None:
    if labels.source(image) == digest:
        return
    ours = labels.is_ours(image)
    what = (
        "an image made from another file"
        if ours
        else "an image that incus-testbed did not import"
    )
    removal = "incus-testbed remove" if ours else "incus image delete"
    raise errors.AlreadyExists(
        f"The alias {alias} is taken by {what}",
        resolution="Choose another alias, or remove that image:"
        f" {removal} {alias}",
    )


def _digest(source: Readable, progress: Callable[[int], None] | None) -> str:
    given = Source(source, progress)
    given.drain()
    return given.sha256
