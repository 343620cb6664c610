# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an image of a Debian suite: from nothing to an alias."""

import dataclasses
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from incus_testbed import errors
from incus_testbed.bootstrap import (
    apt,
    bridge,
    disk,
    mmdebstrap,
    proxy,
    recipe,
    vm,
)
from incus_testbed.bootstrap.apt import Debian, Source
from incus_testbed.bootstrap.request import Request
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from incus_testbed.image.stream.source import Readable
from incus_testbed.incus.client import Incus
from incus_testbed.system import architecture

log = logging.getLogger(__name__)


def build(
    incus: Incus,
    request: Request,
    on_step: Callable[[str], None] | None = None,
) -> None:
    """Make the image, and have it replace that of the same alias.

    The old image stays until the new one is complete.  mmdebstrap's tarball
    is imported while it is made, or becomes a disk, which is imported then.
    ``on_step`` is called with a line for each step; an exception that it
    raises ends the build.

    :raises errors.TestbedError: it can't be made, and nothing has changed
    """
    store = Store(incus)
    store.check_replaceable(request.name)
    _check_architecture(incus, request.architecture)
    debian = apt.at(request.mirror) if request.mirror else apt.debian()
    if request.sources:
        debian = dataclasses.replace(debian, has_sources=True)
    address = bridge.address(incus)
    debian = _for_guests(debian, address)
    mmdebstrap.check()
    if request.vm:
        disk.check()
    proxies = proxy.of_mirrors(debian.mirrors, os.environ)
    arguments = [
        # Incus has said that this machine runs programs of the architecture.
        *(["--skip=check/qemu"] if incus.is_local() else []),
        *recipe.arguments(
            request,
            debian,
            apt.settings(),
            proxy.all_for_guests(proxies, address),
        ),
    ]
    variables = {f"{scheme}_proxy": url for scheme, url in proxies.items()}
    sources = recipe.sources(request, debian)

    def running(*more: str) -> AbstractContextManager[mmdebstrap.Bootstrap]:
        return mmdebstrap.running([*more, *arguments], sources, variables)

    def add(
        source: Readable, progress: Callable[[int], None] | None = None
    ) -> None:
        store.add(
            source,
            request.name,
            # The system itself calls sid by the name of the next release.
            label=Labels(codename=request.release)
            if request.is_rolling
            else None,
            replace=True,
            progress=progress,
        )

    say = _Steps(on_step)
    if request.vm:
        kind = vm.of(request.architecture)
        with disk.made(kind, running, say) as image:
            say("importing the disk")
            add(image)
    else:
        with running() as bootstrap:
            add(bootstrap, lambda _: say(bootstrap.step()))


class _Steps:
    """Tells of each step once."""

    def __init__(self, on_step: Callable[[str], None] | None) -> None:
        self._on_step = on_step
        self._last = ""

    def __call__(self, step: str) -> None:
        if step != self._last:
            self._last = step
            log.info("%s", step)
            if self._on_step:
                self._on_step(step)


def _check_architecture(incus: Incus, name: str) -> None:
    supported = incus.server()["environment"]["architectures"]
    if architecture.incus_name(name) not in supported:
        raise errors.Unsupported(
            f"This server can't run {name}",
            details=f"It runs {', '.join(supported)}.",
        )


def _for_guests(debian: Debian, address: str | None) -> Debian:
    """Return a Debian with URLs that guests can use too.

    :raises errors.Unsupported: a mirror is on this machine's loopback only
    """
    security = debian.security and _reachable(debian.security, address)
    main = _reachable(debian.main, address)
    return dataclasses.replace(debian, main=main, security=security)


def _reachable(source: Source, address: str | None) -> Source:
    if not proxy.is_loopback(source.uri):
        return source
    uri = proxy.at_bridge(source.uri, address)
    if uri is None:
        raise errors.Unsupported(
            f"The mirror {source.uri} answers on this machine only",
            details="Guests would reach it at"
            f" {address or 'an address that is unknown'}.",
            resolution="Have it listen on all addresses, or use another:"
            " --mirror=URL",
        )
    return dataclasses.replace(source, uri=uri)
