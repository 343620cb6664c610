# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in Incus by alias: imported whole or not at all, listed, removed."""

import contextlib
import errno
import hashlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from incus_testbed import errors, guest, lock
from incus_testbed.client import IMAGE_LIMIT, Image, Incus
from incus_testbed.image import metadata
from incus_testbed.image.convert import Conversion, convert
from incus_testbed.image.entry import Entry
from incus_testbed.image.facts import Facts
from incus_testbed.owner import Owner

log = logging.getLogger(__name__)

#: The profile that instances of an imported image get (SPEC.md).
PROFILE = "debusine"
#: Image properties: which alias it was made for, by whom, and from what.
ALIAS_PROPERTY = "incus-testbed.alias"
OWNER_PROPERTY = "incus-testbed.owner"
SOURCE_PROPERTY = "incus-testbed.source"

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the caller knows of an image; None is read from the image.

    ``architecture`` is Debian's name.  They name and describe; what an image
    needs is decided by what it holds.
    """

    artifact_id: str | None = None
    codename: str | None = None
    vendor: str | None = None
    architecture: str | None = None
    description: str | None = None


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
                if ALIAS_PROPERTY in image.properties and image.aliases
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
        if ALIAS_PROPERTY not in image.properties:
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
        source: BinaryIO,
        alias: str,
        *,
        labels: Labels | None = None,
        generator: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> bool:
        """Import a system tarball under an alias; tell if that was needed.

        False means that the alias holds an image of this very source already,
        perhaps because another process imported it while this one waited.
        ``progress`` is called with the count of source bytes read.
        ``generator`` replaces the systemd generator that is put in.

        :raises errors.BadImage: the source can't become an image
        :raises errors.AlreadyExists: the alias is taken by something else
        """
        check_alias(alias)
        with self._locked(alias):
            present = self.find(alias)
            if present:
                self._check_same(present, alias, _digest(source, progress))
                return False
            self._remove_unfinished(alias)
            self._import(source, alias, labels or Labels(), generator, progress)
            return True

    @contextlib.contextmanager
    def _locked(self, alias: str) -> Iterator[None]:
        where = f"{self._incus.remote or ''}:{self._incus.project or ''}"
        with lock.held(
            f"image {alias} of {where}",
            timeout=IMAGE_LIMIT,
            on_wait=lambda: log.info(
                "Another process imports %s: waiting for it", alias
            ),
        ):
            yield

    def _check_same(self, image: Image, alias: str, digest: str) -> None:
        source = image.properties.get(SOURCE_PROPERTY)
        if source != f"sha256:{digest}":
            what = (
                "an image made from another file"
                if source
                else "an image that incus-testbed did not import"
            )
            raise errors.AlreadyExists(
                f"The alias {alias} is taken by {what}",
                resolution="Choose another alias, or remove that image: "
                + (
                    f"incus-testbed remove {alias}"
                    if source
                    else f"incus image delete {alias}"
                ),
            )

    def _remove_unfinished(self, alias: str) -> None:
        """Remove what a process that was killed had imported, not named.

        Only the holder of the alias's lock gets here, so none is in work by
        this user; another user's is spared while its process lives.
        """
        for image in self._incus.images():
            if (
                not image.aliases
                and image.properties.get(ALIAS_PROPERTY) == alias
                and is_abandoned(image.properties)
            ):
                with contextlib.suppress(errors.NotFound):
                    self._incus.delete_image(image.fingerprint)

    def _import(
        self,
        source: BinaryIO,
        alias: str,
        labels: Labels,
        generator: str | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        date = int(time.time())
        architectures = self._incus.server()["environment"]["architectures"]

        def additions(facts: Facts) -> list[Entry]:
            _check_architecture(facts, labels, architectures)
            return guest.customisation(facts, generator=generator)

        with _unnamed_file() as rootfs, _unnamed_file() as description:
            conversion = _converted(source, rootfs, additions, date, progress)
            description.write(_metadata(conversion, alias, labels, date))
            description.flush()
            fingerprint = self._incus.import_image(
                _path(description), _path(rootfs)
            )
        try:
            self._name(fingerprint, alias)
        except BaseException:
            self._incus.delete_image(fingerprint)
            raise

    def _name(self, fingerprint: str, alias: str) -> None:
        """Finish an image: the name comes last, so that it stands for all."""
        image = next(
            image
            for image in self._incus.images()
            if image.fingerprint == fingerprint
        )
        self._incus.set_image_profiles(image, [PROFILE])
        self._incus.create_alias(alias, fingerprint)


def check_alias(alias: str) -> None:
    """Refuse what Incus would take for something else than an alias.

    :raises errors.BadImage: it isn't a name such as artifact/42
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w./+~-]*", alias):
        raise errors.BadImage(
            f"{alias!r} can't be an alias",
            resolution="Give one such as artifact/42: letters, digits and"
            " any of . / + ~ _ -",
        )


def content_alias(source: BinaryIO) -> str:
    """Return the alias that a file gets for its content; rewinds it."""
    digest = _digest(source, None)
    source.seek(0)
    return f"tarball/{digest[:16]}"


def is_abandoned(properties: Mapping[str, str]) -> bool:
    """Tell whether the process that made an image is certain to be gone."""
    owner = Owner.parse(properties.get(OWNER_PROPERTY, ""))
    current = Owner.current()
    return owner is not None and (owner == current or owner.is_gone())


def _check_architecture(
    facts: Facts, labels: Labels, supported: list[str]
) -> None:
    architecture = facts.architecture
    if labels.architecture and labels.architecture != architecture:
        raise errors.BadImage(
            f"The image holds {architecture}, not {labels.architecture}",
            resolution="Leave --architecture out, or take another file.",
        )
    if metadata.incus_architecture(architecture) not in supported:
        raise errors.BadImage(
            f"The image is for {architecture}, which this server can't run",
            details=f"It runs {', '.join(supported)}.",
        )


def _converted(
    source: BinaryIO,
    rootfs: BinaryIO,
    additions: Callable[[Facts], list[Entry]],
    date: int,
    progress: Callable[[int], None] | None,
) -> Conversion:
    conversion = convert(
        source, rootfs, additions=additions, date=date, progress=progress
    )
    rootfs.flush()
    return conversion


def _metadata(
    conversion: Conversion, alias: str, labels: Labels, date: int
) -> bytes:
    facts = conversion.facts
    vendor = labels.vendor or facts.vendor
    codename = labels.codename or facts.codename
    return metadata.metadata_tar(
        architecture=facts.architecture,
        creation_date=date,
        profile=PROFILE,
        description=labels.description
        or f"{vendor} {codename} {facts.architecture} ({alias})",
        vendor=vendor,
        codename=codename,
        artifact_id=labels.artifact_id or alias.removeprefix("artifact/"),
        properties={
            ALIAS_PROPERTY: alias,
            OWNER_PROPERTY: str(Owner.current()),
            SOURCE_PROPERTY: f"sha256:{conversion.sha256}",
        },
    )


def _digest(source: BinaryIO, progress: Callable[[int], None] | None) -> str:
    digest, read = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        read += len(chunk)
        if progress:
            progress(read)
    return digest.hexdigest()


@contextlib.contextmanager
def _unnamed_file() -> Iterator[IO[bytes]]:
    """Yield a file without a name: the kernel removes it, come what may."""
    # Not /tmp, which is often memory.
    folder = Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    except OSError as error:
        raise errors.Denied(
            f"No temporary file can be made in {folder}",
            details=str(error),
            resolution="Set TMPDIR to a folder with space for the image.",
        ) from error
    try:
        with file:
            yield file
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise errors.NoSpace(
            f"{folder} is full",
            resolution="Free space, or set TMPDIR to a folder that has some.",
        ) from error


def _path(file: IO[bytes]) -> str:
    """Return a path by which a child process can open an unnamed file."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"
