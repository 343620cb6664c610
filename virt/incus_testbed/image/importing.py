# SPDX-License-Identifier: GPL-3.0-or-later
"""Import one file: convert it, give it to Incus, and name the image."""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from typing import IO

from incus_testbed import errors
from incus_testbed.customise import last_file, vm
from incus_testbed.image import alias as names
from incus_testbed.image import metadata, profiles, storage, unpacking
from incus_testbed.image import properties as image_properties
from incus_testbed.image.converter import converter
from incus_testbed.image.converter.answer import Result
from incus_testbed.image.converter.order import Order
from incus_testbed.image.description import Description
from incus_testbed.image.disk import qcow2
from incus_testbed.image.labels import Labels
from incus_testbed.image.stream import compression, scratch
from incus_testbed.image.stream.source import Readable, Source
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.limits.budget import Budget
from incus_testbed.ownership import claim, holdings
from incus_testbed.ownership.owner import judge

log = logging.getLogger(__name__)

#: Attempts to create an alias that another image keeps taking and losing.
_NAMINGS = 5


class Import:
    """The import of one image under an alias.

    The alias is still free, or with ``replace`` it may name an image of ours,
    which is removed.  The caller of ``run`` must hold the alias's lock.
    """

    def __init__(
        self,
        incus: Incus,
        alias: str,
        label: Labels,
        generator: bytes | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Prepare to import into the project of this client."""
        self._incus = incus
        self._alias = alias
        self._label = label
        self._generator = generator
        self._replace = replace
        self._date = int(time.time())
        self._profile = profiles.chosen(incus)

    def run(
        self,
        source: Readable,
        sha256: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[str, Image | None]:
        """Import a source completely or not at all.

        Returns the SHA-256 of the source.  If another user's process was
        faster, also returns the image that has the alias; then nothing was
        imported.

        :raises errors.BadImage: it can't become an image, or its SHA-256 is
            not ``sha256``
        """
        given = Source(source)
        with (
            scratch.file() as rootfs,
            scratch.file() as spare,
            converter.started(given, rootfs, spare) as process,
        ):
            order = self._order(given.total)
            result = process.convert(order, progress)
            if sha256 not in {None, result.sha256}:
                raise errors.BadImage(
                    "Checksum mismatch",
                    details=f"The file's SHA-256 is {result.sha256}, not"
                    f" {sha256}.",
                    resolution="Download it again.",
                )
            _tell(self._alias, result.description)
            file = given.on_disk if result.is_source else None
            check_form(file or rootfs, result.description, order.form)
            # Without a name; its fingerprint identifies it.
            with scratch.file() as text:
                text.write(self._metadata(result))
                text.flush()
                holdings.note(holdings.Kind.IMPORT, self._alias)
                fingerprint = self._incus.import_image(
                    scratch.path(text), scratch.path(file or rootfs)
                )
        with contextlib.ExitStack() as undo:
            undo.callback(self._incus.delete_image, fingerprint)
            other = self._register(fingerprint)
            if not other:
                undo.pop_all()
        holdings.forget(holdings.Kind.IMPORT, self._alias)
        return result.sha256, other

    def _order(self, size: int) -> Order:
        environment = self._incus.environment()
        return Order(
            label=self._label,
            supported=self._incus.supported(),
            place=storage.place(self._incus, self._profile),
            budget=Budget.from_environment(),
            date=self._date,
            size=size,
            generator=self._generator,
            form=unpacking.form(self._incus, environment).program,
        )

    def _metadata(self, result: Result) -> bytes:
        label, found = self._label, result.description
        vendor = label.vendor or found.vendor
        codename = label.codename or found.codename
        words = filter(None, (vendor, codename, found.architecture))
        return metadata.metadata_tar(
            architecture=found.architecture,
            creation_date=self._date,
            profile=self._profile,
            description=label.description
            or f"{' '.join(words)} ({self._alias})",
            vendor=vendor,
            codename=codename,
            artifact_id=label.artifact_id or names.artifact(self._alias),
            properties={
                **image_properties.properties(
                    self._alias,
                    source=result.sha256,
                    date=self._date,
                    evictable=label.evictable,
                    unpacked=result.unpacked_size,
                    own_generator=self._generator is not None,
                ),
                **last_file.properties(found.last_file, self._date),
                **(found.vm or {}),
            },
            # In a virtual machine the agent would empty them too late.
            emptied=found.machine_ids if found.vm is None else (),
        )

    def _register(self, fingerprint: str) -> Image | None:
        """Set the image's profiles, then its name, so that a name is complete.

        Returns the image that has the name, if another has it.
        """
        image = self._incus.image(fingerprint)
        self._incus.set_image_profiles(image, profiles.of(image, self._profile))
        for _ in range(_NAMINGS):
            with contextlib.suppress(errors.AlreadyExists):
                self._incus.create_alias(self._alias, fingerprint)
                return None
            with contextlib.suppress(errors.NotFound):
                other = self._incus.image(self._alias)
                if self._replace:
                    self._take_over(other, fingerprint)
                    return None
                return other
        raise errors.AlreadyExists(
            f"The alias {self._alias} appears and disappears again and again",
            details="Other processes import and remove it at the same time.",
            resolution="Try again.",
        )

    def _take_over(self, old: Image, fingerprint: str) -> None:
        """Give our image the name of another one, which is then removed.

        An old image with one more name stays.  If this process is killed in
        between, gc removes the old one, and also if a process has a lease on
        it, when that has ended, or if a member of the cluster is down.
        """
        check_replaceable(old, self._alias)
        self._incus.move_alias(self._alias, fingerprint)
        with contextlib.suppress(errors.NotFound):
            left = self._incus.image(old.fingerprint)
            if not left.aliases and not self._is_leased(left):
                self._remove(left)

    def _remove(self, old: Image) -> None:
        """Remove it, or leave it to gc: the new image has the name already."""
        try:
            self._incus.delete_image(old.fingerprint)
        except errors.MemberDown as error:
            log.warning("the old image is left to gc: %s", error.brief)

    def _is_leased(self, image: Image) -> bool:
        is_gone = judge(self._incus.is_only_here)
        return claim.stands(image, claim.Kind.USE, is_gone)


def check_replaceable(image: Image, alias: str) -> None:
    """Refuse to replace an image of somebody else.

    :raises errors.Denied: this software did not import it
    """
    if not image_properties.is_ours(image):
        raise errors.Denied(
            f"{alias} was not imported by incus-testbed",
            resolution="Choose another alias, or if nobody needs it: incus"
            f" image delete {alias}",
        )


def check_form(rootfs: IO[bytes], found: Description, form: str) -> None:
    """Refuse a file that Incus would not read as the image that it should be.

    ``form`` is that of the order.  The server reads a disk as root, and any
    other file that the disk names.  The source may have taken over the
    converting process to make such a disk.
    """
    head = os.pread(rootfs.fileno(), qcow2.HEADER, 0)
    if found.vm is None:
        fits = head.startswith(compression.FORMS[form].magic)
    else:
        fits = head.startswith(qcow2.MAGIC) and qcow2.header(head).plain
    if not fits:
        raise errors.BadImage(
            "The file made the converting process write something else than"
            " an image",
            resolution="Do not use this file unless you know who made it.",
        )


def _tell(alias: str, found: Description) -> None:
    """Log what was found on a disk, and what will be done about it."""
    if found.vm is None:
        return
    if name := found.vm.get(vm.FILE_SYSTEM):
        log.warning(
            "the disk's root file system (%s) can't be read here, so nothing"
            " is added: a testbed of %s starts only if the system itself starts"
            " Incus' agent, as with the package incus-agent, and sets up its"
            " network. A disk with ext4 needs neither",
            name,
            alias,
        )
    elif found.machine_ids and vm.LEASE not in found.vm:
        log.warning(
            "the disk holds a fixed machine id (/%s): all instances of %s"
            " share it, and may get the same address. Empty that file in the"
            " disk, and import it again",
            ", /".join(found.machine_ids),
            alias,
        )
    properties = sorted(found.vm.items())
    log.info("%s: %s", alias, " ".join(map("=".join, properties)))
