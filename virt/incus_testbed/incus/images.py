# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of a project, and their aliases."""

import contextlib
import logging
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from incus_testbed import errors
from incus_testbed.incus import records
from incus_testbed.incus.connection import (
    IMAGE_LIMIT,
    INSTANCE_LIMIT,
    Connection,
)
from incus_testbed.incus.exec.api import quoted
from incus_testbed.incus.records import Image
from incus_testbed.incus.transport import Direct

log = logging.getLogger(__name__)

#: Attempts to read an image while its alias moves.
_TRIES = 10


class Images(Connection):
    """A method for each verb."""

    def images(self) -> list[Image]:
        """Return all images of the project.

        Incus takes a millisecond for each, and as long for their fingerprints
        alone; contents() has those sooner.
        """
        return [records.image(record) for record in self._list("images")]

    def alias_names(self) -> list[str]:
        """Return the aliases of all images, and claims on them."""
        return self._names("images/aliases")

    def alias_targets(self) -> dict[str, str]:
        """Return the fingerprints of the images that aliases name, by alias.

        Claims are among them.  Incus takes 0.3 ms for each alias.
        """
        return records.targets(self._list("images/aliases"))

    def named(self, alias: str) -> Image:
        """Return the image that an alias names.

        Incus is asked for the alias, then for its image.  It reads an image
        and all aliases of it at one moment, so that the record shows whether
        the alias has moved to another image meanwhile.  Then it is asked again.

        :raises errors.NotFound: there is no such alias
        :raises errors.Busy: it named another image at each attempt
        """
        _check(alias)
        for _ in range(_TRIES):
            try:
                target = self.get(_alias(alias))["target"]
            except errors.NotFound:
                raise errors.NotFound(f"There is no image {alias}") from None
            with contextlib.suppress(errors.NotFound):
                image = records.image(self.get(f"images/{quoted(target)}"))
                if alias in {*image.aliases, *image.claims}:
                    return image
        raise errors.Busy(f"The image {alias} is replaced again and again")

    def image(self, name: str) -> Image:
        """Return the image that an alias or a fingerprint stands for.

        :raises errors.NotFound: there is none
        """
        _check(name)
        word = quoted(name)
        try:
            word = self.get(_alias(name))["target"]
        except errors.NotFound:
            log.debug("%s is not an alias", name)
        return records.image(self.get(f"images/{word}"))

    def import_image(self, metadata: str, rootfs: str) -> str:
        """Import a split image from two files; return its fingerprint.

        A daemon on this machine gets them without the incus command, which
        takes 30 ms to start, and more time than the daemon for a small image.

        :raises errors.AlreadyExists: an image of this very content is there
        """
        transport = self._transport()
        if self.is_local() and isinstance(transport, Direct):
            log.debug("as incus image import %s %s", metadata, rootfs)
            with (
                Path(metadata).open("rb") as first,
                Path(rootfs).open("rb") as second,
            ):
                try:
                    return transport.import_image(
                        first, second, timeout=IMAGE_LIMIT
                    )
                except errors.MemberDown as failure:
                    raise self.naming_member(failure) from failure
        where = [self.target()] if self.remote else []
        words = ("image", "import", metadata, rootfs, *where)
        said = self.run(*words, timeout=IMAGE_LIMIT).decode()
        fingerprint = re.search(r"[0-9a-f]{64}", said)
        if not fingerprint:
            raise errors.CommandFailed(
                "incus imported an image but did not name it", details=said
            )
        return fingerprint[0]

    def check_unpacks(self, archive: str) -> None:
        """Have the server unpack a tarball that is no image; nothing is made.

        Incus itself unpacks what holds an image's metadata, with the programs
        that also unpack its root, and refuses it if there is no metadata.

        :raises errors.MissingProgram: the server lacks the program
        """
        where = [self.target()] if self.remote else []
        # Another version of Incus may refuse it in other words.
        with contextlib.suppress(errors.BadImage, errors.CommandFailed):
            self.run("image", "import", archive, *where)

    def set_image_profiles(self, image: Image, profiles: Sequence[str]) -> None:
        """Have launches of this image use these profiles by default.

        Incus 6.0 and 7.0 do not read profiles from an image's metadata; they
        are a setting of the imported image.
        """
        self.change(
            "PUT",
            f"images/{quoted(image.fingerprint)}",
            {"properties": dict(image.properties), "profiles": list(profiles)},
        )

    def unset_image_property(self, fingerprint: str, key: str) -> None:
        """Remove a property of an image, if it has it."""
        self.run("image", "unset-property", self.target(fingerprint), key)

    def create_alias(
        self, alias: str, fingerprint: str, *, description: str = ""
    ) -> None:
        """Give an image a name.

        :raises errors.AlreadyExists: the name is taken
        :raises errors.NotFound: there is no such image
        """
        self.change(
            "POST",
            "images/aliases",
            {"name": alias, "target": fingerprint, "description": description},
        )

    def move_alias(self, alias: str, fingerprint: str) -> None:
        """Have a name that is taken name another image, in one step.

        The incus command itself can only take it away and give it again.

        :raises errors.NotFound: there is no such name, or no such image
        """
        self.change("PUT", _alias(alias), {"target": fingerprint})

    def delete_alias(self, alias: str) -> None:
        """Take a name away; the image stays.

        :raises errors.NotFound: there is no such name
        """
        self.change("DELETE", _alias(alias))

    def unpacked(self, pool: str, fingerprint: str, member: str) -> datetime:
        """Return when Incus began to unpack an image into a pool.

        :raises errors.NotFound: it has not done so
        """
        volume = self.get(_volume(pool, fingerprint, member))
        return datetime.fromisoformat(volume["created_at"])

    def delete_unpacked(self, pool: str, fingerprint: str, member: str) -> None:
        """Have Incus unpack an image once more, before the next instance.

        :raises errors.NotFound: it would do so anyway
        :raises errors.Denied: this user may not
        """
        self.change("DELETE", _volume(pool, fingerprint, member))

    def delete_image(self, fingerprint: str) -> None:
        """Remove an image with all its names.

        :raises errors.NotFound: it is not there
        """
        self.run(
            "image",
            "delete",
            self.target(fingerprint),
            timeout=INSTANCE_LIMIT,
        )


def _volume(pool: str, fingerprint: str, member: str) -> str:
    where = f"?target={quoted(member)}" if member else ""
    name = f"{quoted(pool)}/volumes/image/{quoted(fingerprint)}"
    return f"storage-pools/{name}{where}"


def _check(name: str) -> None:
    """Refuse the empty name, whose URL would be that of the list."""
    if not name:
        raise errors.NotFound("No image has an empty name")


def _alias(name: str) -> str:
    return f"images/aliases/{quoted(name)}"
