# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that a virt server was given."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from incus_testbed import errors
from incus_testbed.cli import max_age, output
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

log = logging.getLogger(__name__)


class Image:
    """An image by its alias, or by the path of its file."""

    def __init__(
        self, incus: Incus, word: str, max_age: timedelta | None
    ) -> None:
        """Remember it; one that is older is refreshed before it is used."""
        self._incus = incus
        self._word = word
        self._max_age = max_age
        self._imported = ""

    def launched(self, launch: Callable[[str], Instance]) -> Instance:
        """Return what ``launch`` makes of an alias; import a file first.

        The image of a file may be removed, to free space, before it is
        launched; then the file is imported again.
        """
        path = Path(self._word)
        if not self._is_path():
            # Once: a testbed reverts to what it was.
            max_age.ensure(self._incus, self._word, self._max_age)
            self._max_age = None
            return launch(self._word)
        if self._max_age is not None:
            raise errors.Unsupported(
                f"{path} is a file, which is not refreshed",
                resolution="Import it, and use its alias: incus-testbed import"
                f" {path} --alias=ALIAS",
            )
        self._imported = self._imported or self._import(path)
        try:
            return launch(self._imported)
        except errors.NotFound:
            log.info("%s was removed meanwhile", self._imported)
            return launch(self._import(path))

    def _is_path(self) -> bool:
        """Tell whether the image is given as a file.

        If a file and an alias have the same name, the name means the alias.
        """
        if not Path(self._word).is_file():
            return False
        if self._word.startswith(("/", "./", "../")) or self._imported:
            return True
        try:
            self._incus.image(self._word)
        except errors.NotFound:
            return True
        return False

    def _import(self, path: Path) -> str:
        """Import a tarball or disk, if necessary; return the image's alias."""
        # Imported here: most testbeds use an alias, and start faster so.
        from incus_testbed.image.labels import Labels  # noqa: PLC0415
        from incus_testbed.image.store import Store, content_alias  # noqa: PLC0415

        try:
            file = path.open("rb")
        except OSError as error:
            raise errors.NotFound(
                f"{path} can't be read: {error.strerror}"
            ) from error
        with file as source:
            alias = content_alias(source)
            size = output.size_of(source)
            with output.progress(f"Importing {path.name}", size) as update:
                Store(self._incus).add(
                    source,
                    alias,
                    label=Labels(evictable=True),
                    progress=update,
                )
        return alias
