# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace an image by the same system, brought up to date."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from incus_testbed import errors
from incus_testbed.image import alias as names
from incus_testbed.image import properties
from incus_testbed.image.store import Store
from incus_testbed.image.stream.source import Readable
from incus_testbed.incus import records
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.instance.instance import Instance
from incus_testbed.refresh import upgrade
from incus_testbed.refresh.export import exported

log = logging.getLogger(__name__)

_PURPOSE = "refresh"


def refresh(
    incus: Incus,
    alias: str,
    *,
    max_age: timedelta = timedelta(),
    on_step: Callable[[str], None] | None = None,
) -> bool:
    """Bring an image up to date that is older than ``max_age``.

    Returns whether that was needed.  If another process of this user, or of
    another machine, refreshes it meanwhile, this one waits, and need not do
    so.  ``on_step`` is called with a line for each step, and now and then while
    nothing changes; an exception that it raises ends the refresh.

    :raises errors.TestbedError: it can't be refreshed, and has not changed
    """
    names.check(alias)
    if names.is_of_file(alias):
        raise errors.Unsupported(
            f"{alias} is not refreshed: it is named for the file that it was"
            " made from, and stays as that file is",
            resolution="Import the file under another alias, and refresh that:"
            " incus-testbed import FILE --alias=ALIAS",
        )
    store = Store(incus)
    seen = store.found(alias)
    _check(seen, alias)
    latest = datetime.now(UTC) - max_age
    step = "waiting"

    def is_due(image: Image) -> bool:
        # Another image was made since: it is newer than this call.
        is_same = image.fingerprint == seen.fingerprint
        return is_same and image.created < latest

    def tell(words: str) -> None:
        nonlocal step
        step = words
        log.info("%s: %s", alias, words)
        if on_step:
            on_step(words)

    @contextlib.contextmanager
    def successor(image: Image) -> Iterator[Readable]:
        tell("booting")
        with Instance.launch(
            incus, image.fingerprint, purpose=_PURPOSE
        ) as instance:
            instance.wait_ready()
            guest = instance.guest
            upgrade.upgrade(guest, upgrade.proxies(incus), tell)
            upgrade.forget(guest)
            tell("making the image")
            with exported(guest) as system:
                yield system

    try:
        return store.renew(
            alias,
            is_due,
            successor,
            timeout=upgrade.LIMIT,
            progress=lambda _: on_step(step) if on_step else None,
        )
    except errors.TestbedError as error:
        error.resolution = f"{alias} is as it was. {error.resolution}".strip()
        raise


def ensure(
    incus: Incus,
    alias: str,
    max_age: timedelta,
    on_step: Callable[[str], None] | None = None,
) -> None:
    """Refresh an image that is older than ``max_age``, before it is used.

    :raises errors.TestbedError: as refresh(); the older image is not used
        instead, because the caller asked for a newer one
    """
    try:
        refresh(incus, alias, max_age=max_age, on_step=on_step)
    except errors.TestbedError as error:
        error.resolution = (
            f"{error.resolution}\nTo use the image as it is, leave out"
            " --max-age."
        ).strip()
        raise


def _check(image: Image, alias: str) -> None:
    """Refuse an image that would lose something, or can't be read.

    :raises errors.Unsupported: it is a virtual machine's, or has a generator
        of the user
    """
    if image.kind != records.CONTAINER:
        raise errors.Unsupported(
            f"{alias} is not refreshed: it is for virtual machines, whose disk"
            " can't be read while it is in use",
            resolution="Make or import it again under the same alias.",
        )
    if properties.has_own_generator(image):
        raise errors.Unsupported(
            f"{alias} is not refreshed: it was imported with --generator, and"
            " would get the usual generator",
            resolution="Import a newer file in the same way.",
        )
