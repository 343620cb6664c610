# SPDX-License-Identifier: GPL-3.0-or-later
"""Import, list and remove images in Incus by alias."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from incus_testbed import errors
from incus_testbed.image import alias as names
from incus_testbed.image import properties
from incus_testbed.image.importing import Import, check_replaceable
from incus_testbed.image.labels import Labels
from incus_testbed.image.stream.source import Readable, Source
from incus_testbed.incus.client import Incus
from incus_testbed.incus.connection import IMAGE_LIMIT
from incus_testbed.incus.records import Image
from incus_testbed.ownership import lock, shared_lock


class Store:
    """The images of one Incus project."""

    def __init__(self, incus: Incus) -> None:
        """Use the project of this client."""
        self._incus = incus

    def find(self, alias: str) -> Image | None:
        """Return the image of an alias, no matter who imported it."""
        with contextlib.suppress(errors.NotFound):
            image = self._incus.named(alias)
            if alias in image.aliases:  # it could be a claim
                return image
        return None

    def found(self, alias: str) -> Image:
        """Return the image of an alias.

        :raises errors.NotFound: there is none
        """
        image = self.find(alias)
        if image is None:
            raise errors.NotFound(
                f"There is no image {alias}",
                resolution="'incus-testbed images' lists the images.",
            )
        return image

    def images(self) -> list[Image]:
        """Return the images that this software imported, by first alias."""
        return finished(self._incus.images())

    def remove(self, alias: str) -> None:
        """Remove the image of an alias.

        :raises errors.NotFound: there is none
        :raises errors.Denied: this software did not import it
        """
        image = self.found(alias)
        if not properties.is_ours(image):
            raise errors.Denied(
                f"{alias} was not imported by incus-testbed",
                resolution="If nobody needs it:"
                f" {properties.removal(image)} {alias}",
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
        replace: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> bool:
        """Import a tarball or disk under an alias.

        A system tarball becomes an image for containers, a disk becomes one
        for virtual machines; the content decides.

        Returns whether the import was needed.  False means that the alias
        already names an image of the same source, perhaps because another
        process imported it while this one waited.  ``sha256`` (hexadecimal) is
        the expected checksum; if it is given, the source is read only if the
        import is needed.  ``progress`` is called several times a second with
        the number of source bytes read; an exception that it raises ends the
        import.  ``generator`` replaces the systemd generator that is added.

        If the image exists and is evictable, and the label is not, the image
        is no longer evictable.

        With ``replace``, an image of the alias is replaced when the new one is
        complete; instances of the old one go on.

        :raises errors.BadImage: the source can't become an image
        :raises errors.AlreadyExists: the alias names another image
        :raises errors.Denied: this software did not import what is to be
            replaced
        :raises ValueError: it is to be evictable, and its alias can't be
        """
        names.check(alias)
        label = label or Labels()
        if label.evictable and not names.is_of_file(alias):
            raise ValueError(f"{alias} does not tell what can make it again")
        with self._alone(
            alias,
            lambda present: replace or present is None,
            IMAGE_LIMIT,
            progress,
        ) as present:
            if present and replace:
                check_replaceable(present, alias)
            elif present:
                sha256 = sha256 or _digest(source, progress)
                self._reuse(present, alias, sha256, label)
                return False
            new = Import(self._incus, alias, label, generator, replace=replace)
            sha256, other = new.run(source, sha256, progress)
            # A lock does not exclude everybody.
            if other:
                self._reuse(other, alias, sha256, label)
            return other is None

    def renew(
        self,
        alias: str,
        is_due: Callable[[Image], bool],
        successor: Callable[[Image], AbstractContextManager[Readable]],
        *,
        timeout: float,
        progress: Callable[[int], None] | None = None,
    ) -> bool:
        """Replace an image, if it is due, by one that is made of it.

        Returns whether it was due; perhaps it no longer is after another
        process has worked on it, which ``timeout`` seconds are for.
        ``successor`` opens the system of the new image, a tarball.  The image's
        labels stay; but what an artifact was is no artifact any more.

        :raises errors.NotFound: there is no such image
        :raises errors.Denied: this software did not import it
        """
        with self._alone(
            alias,
            lambda present: present is not None and is_due(present),
            timeout,
            progress,
        ) as present:
            image = present or self.found(alias)
            check_replaceable(image, alias)
            if not is_due(image):
                return False
            label = properties.labels(image)
            with successor(image) as source:
                new = Import(self._incus, alias, label, replace=True)
                new.run(source, progress=progress)
        return True

    @contextlib.contextmanager
    def _alone(
        self,
        alias: str,
        has_work: Callable[[Image | None], bool],
        timeout: float,
        progress: Callable[[int], None] | None,
    ) -> Iterator[Image | None]:
        """Keep other processes from changing an alias's image; give the image.

        Those are this user's on this machine, and if ``has_work`` says that the
        image is to be changed, all of other machines that use the server.
        """
        where = self._incus.target(self._incus.current_project())
        while_waiting = functools.partial(progress, 0) if progress else None
        with contextlib.ExitStack() as locks:
            locks.enter_context(
                lock.held(
                    f"image {alias} of {where}",
                    timeout=timeout,
                    while_waiting=while_waiting,
                )
            )
            present = self.find(alias)
            if has_work(present) and not self._incus.is_only_here():
                locks.enter_context(
                    shared_lock.held(
                        self._incus,
                        # Projects can share their profiles.
                        f"image {alias} of {self._incus.current_project()}",
                        timeout=timeout,
                        is_needless=lambda: not has_work(self.find(alias)),
                        while_waiting=while_waiting,
                    )
                )
                present = self.find(alias)
            yield present

    def check_replaceable(self, alias: str) -> None:
        """Check that ``add`` can give an alias to a new image.

        :raises errors.BadImage: it can't be an alias
        :raises errors.Denied: this software did not import its image
        """
        names.check(alias)
        if image := self.find(alias):
            check_replaceable(image, alias)

    def _reuse(
        self, present: Image, alias: str, sha256: str, label: Labels
    ) -> None:
        """Use the existing image.

        :raises errors.AlreadyExists: it was made from another file
        """
        if properties.source(present) != sha256:
            what = (
                "an image made from another file"
                if properties.is_ours(present)
                else "an image that incus-testbed did not import"
            )
            raise errors.AlreadyExists(
                f"The alias {alias} is taken by {what}",
                resolution="Choose another alias, or remove that image:"
                f" {properties.removal(present)} {alias}",
            )
        if properties.is_evictable(present) and not label.evictable:
            self._incus.unset_image_property(
                present.fingerprint, properties.EVICTABLE
            )


def finished(images: Iterable[Image]) -> list[Image]:
    """Return those that this software imported, by first alias."""
    ours = (each for each in images if properties.is_ours(each))
    return sorted(filter(_aliases, ours), key=_aliases)


def _aliases(image: Image) -> tuple[str, ...]:
    return image.aliases


def content_alias(source: BinaryIO) -> str:
    """Return an alias made from a file's content; rewind the file."""
    digest = _digest(source, None)
    source.seek(0)
    return names.of_content(digest)


def _digest(source: Readable, progress: Callable[[int], None] | None) -> str:
    given = Source(source, progress)
    given.drain()
    return given.sha256
