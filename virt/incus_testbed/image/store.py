# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in Incus by alias: imported whole or not at all, listed, removed."""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from incus_testbed import errors, lock
from incus_testbed.client import IMAGE_LIMIT, Incus
from incus_testbed.guest import customisation
from incus_testbed.guest import machine as guest_machine
from incus_testbed.image import (
    architecture,
    description,
    labels,
    placement,
    profiles,
    scratch,
)
from incus_testbed.image.budget import Budget
from incus_testbed.image.convert import convert
from incus_testbed.image.entry import Entry
from incus_testbed.image.facts import Facts
from incus_testbed.image.labels import Labels
from incus_testbed.image.machine import Machine
from incus_testbed.image.source import Readable, Source
from incus_testbed.owner import Owner
from incus_testbed.records import Image

log = logging.getLogger(__name__)

#: How often a name is tried that another's image had, and then did not.
_NAMINGS = 5


class Store:
    """The images of one Incus project."""

    def __init__(self, incus: Incus) -> None:
        """Keep images through this client."""
        self._incus = incus

    def find(self, alias: str) -> Image | None:
        """Return the image of an alias, whoever imported it."""
        for image in self._incus.images():
            if alias in image.aliases:
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
        count of source bytes read.  ``generator`` replaces the systemd
        generator that is put in.

        An evictable image that is added as one that is not, is so no longer.

        :raises errors.BadImage: the source can't become an image
        :raises errors.AlreadyExists: the alias is taken by something else
        """
        check_alias(alias)
        label = label or Labels()
        with self._locked(alias):
            if present := self.find(alias):
                sha256 = sha256 or _digest(source, progress)
                self._reuse(present, alias, sha256, label)
                return False
            self._remove_unfinished(alias)
            fingerprint, sha256 = self._import(
                source,
                alias,
                sha256=sha256,
                label=label,
                generator=generator,
                progress=progress,
            )
            with contextlib.ExitStack() as undo:
                undo.callback(self._incus.delete_image, fingerprint)
                other = self._name(fingerprint, alias)
                if not other:
                    undo.pop_all()
                    return True
            self._reuse(other, alias, sha256, label)
            return False

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
    def _locked(self, alias: str) -> Iterator[None]:
        where = f"{self._incus.remote or ''}:{self._incus.project or ''}"
        with lock.held(
            f"image {alias} of {where}",
            timeout=IMAGE_LIMIT,
            on_wait=lambda: log.warning(
                "another process imports %s: waiting for it", alias
            ),
        ):
            yield

    def _remove_unfinished(self, alias: str) -> None:
        """Remove what a process that was killed had imported, not named.

        Only the holder of the alias's lock gets here, so this process's own
        is not in work either; another user's is spared while its owner lives.
        """
        for image in self._incus.images():
            owner = labels.unfinished_by(image)
            if (
                owner
                and labels.alias(image) == alias
                and (
                    owner == Owner.current()
                    or owner.is_gone(local=self._incus.is_local())
                )
            ):
                with contextlib.suppress(errors.NotFound):
                    self._incus.delete_image(image.fingerprint)

    def _import(
        self,
        source: Readable,
        alias: str,
        *,
        sha256: str | None,
        label: Labels,
        generator: bytes | None,
        progress: Callable[[int], None] | None,
    ) -> tuple[str, str]:
        """Import an image without a name.

        Returns its fingerprint and the SHA-256 of its source.
        """
        date = int(time.time())
        budget = Budget.from_environment()
        place = placement.place(self._incus)
        supported = self._incus.server()["environment"]["architectures"]

        def additions(facts: Facts) -> list[Entry]:
            architecture.check(facts.architecture, label, supported)
            customisation.check(facts)
            return customisation.entries(facts, generator=generator)

        def admit(machine: Machine) -> None:
            name = architecture.of(machine.facts, machine, label)
            architecture.check(name, label, supported)
            _tell(alias, machine)

        with scratch.file() as rootfs, scratch.file() as metadata:
            conversion = convert(
                source,
                rootfs,
                additions=additions,
                admit=admit,
                fits_pool=place.check_tree,
                fits_machine=place.check_disk,
                date=date,
                progress=progress,
                budget=budget,
            )
            _check_whole(conversion.sha256, sha256)
            conversion.rootfs.flush()
            metadata.write(
                description.metadata_tar(
                    conversion,
                    alias,
                    label,
                    profile=profiles.chosen(self._incus),
                    date=date,
                )
            )
            metadata.flush()
            fingerprint = self._incus.import_image(
                scratch.path(metadata), scratch.path(conversion.rootfs)
            )
            return fingerprint, conversion.sha256

    def _name(self, fingerprint: str, alias: str) -> Image | None:
        """Finish an image: the name comes last, so that it stands for all.

        Returns the image that has the name, if another user's process was
        first: the lock holds off this user's only.
        """
        (image,) = (
            image
            for image in self._incus.images()
            if image.fingerprint == fingerprint
        )
        self._incus.set_image_profiles(
            image, profiles.of(image, profiles.chosen(self._incus))
        )
        for _ in range(_NAMINGS):
            with contextlib.suppress(errors.AlreadyExists):
                self._incus.create_alias(alias, fingerprint)
                return None
            if other := self.find(alias):
                return other
        raise errors.AlreadyExists(
            f"The alias {alias} comes and goes",
            details="Others import it and remove it at the same time.",
            resolution="Try again.",
        )


def _tell(alias: str, machine: Machine) -> None:
    """Log what was found on a disk, and what will be done about it."""
    if machine.facts is None:
        log.warning(
            "the disk's root file system can't be read here: %s is taken to"
            " start Incus' agent, and to set up its network",
            alias,
        )
    elif machine.facts.machine_ids:
        log.warning(
            "the disk holds the id of one machine (/%s): all instances of %s"
            " share it, and may be given the same address. Empty that file in"
            " the disk, and import it again",
            ", /".join(machine.facts.machine_ids),
            alias,
        )
    found = guest_machine.properties(machine)
    log.info(
        "%s: %s",
        alias,
        " ".join(f"{key}={found[key]}" for key in sorted(found)),
    )


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


def _check_whole(sha256: str, expected: str | None) -> None:
    if expected not in {None, sha256}:
        raise errors.BadImage(
            "The file is not what was announced",
            details=f"Its SHA-256 is {sha256}, not {expected}.",
            resolution="Fetch it anew.",
        )


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
