# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what mmdebstrap is told: sources, packages, settings and a user."""

import shlex
from collections.abc import Iterator
from pathlib import PurePath

from incus_testbed.bootstrap import vm
from incus_testbed.bootstrap.apt import Debian
from incus_testbed.bootstrap.request import Request

#: The name that autopkgtest-build-qemu gives the normal user.
_USER = "user"

#: An init and logind, which many tests need, and what every test installs.
#: The variant apt has no mount, without which sid's systemd fails.
_PACKAGES = (
    "ca-certificates",
    "dbus",
    "dpkg-dev",
    "libpam-systemd",
    "mount",
    "passwd",
    "systemd-sysv",
)

#: As in the images that autopkgtest makes (setup-testbed): a mirror may fail
#: for a moment, and nothing else may use apt while a test does.
_SETTINGS = (
    'Acquire::Languages "none"',
    'Acquire::Retries "3"',
    'APT::Periodic::Enable "0"',
    'APT::Update::Error-Mode "any"',
)

#: mmdebstrap copies these two from this machine.  A link is the image's own.
ANONYMOUS = (
    'test -L "$1/etc/resolv.conf" || rm -f "$1/etc/resolv.conf"',
    'rm -f "$1/etc/hostname"',
)


def sources(request: Request, debian: Debian) -> str:
    """Return the image's deb822 sources."""
    suites = [request.release]
    if debian.has_updates and not request.is_rolling:
        suites.append(f"{request.release}-updates")
    if request.has_backports:
        suites.append(request.suite)
    components = request.components or debian.components
    stanzas = [debian.main.stanza(suites, components, debian.types)]
    if debian.security and not request.is_rolling:
        security = [f"{request.release}-security"]
        stanzas.append(
            debian.security.stanza(security, components, debian.types)
        )
    return "\n".join(stanzas)


def arguments(
    request: Request,
    debian: Debian,
    settings: list[str],
    proxies: dict[str, str],
) -> Iterator[str]:
    """Yield mmdebstrap's options, and the suite.

    ``settings`` are lines of apt.conf(5), ``proxies`` the guests' by scheme.
    """
    yield f"--variant={request.variant}"
    yield f"--architectures={request.architecture}"
    yield f"--include={','.join([*_PACKAGES, *request.include])}"
    yield "--dpkgopt=force-unsafe-io"
    yield "--skip=check/signed-by"  # the sources say it, or need not
    # autopkgtest installs from them, unless it is told to update them.
    yield "--skip=cleanup/apt/lists"
    yield from (f"--aptopt={each}" for each in (*_SETTINGS, *settings))
    for scheme, url in proxies.items():
        yield f'--aptopt=Acquire::{scheme}::Proxy "{url}"'
    if request.has_backports:
        yield f"--aptopt={preference(request.suite)}"
    yield from key_hooks(debian)
    yield from (f"--customize-hook={hook}" for hook in ANONYMOUS)
    yield (
        '--customize-hook=chroot "$1" useradd --shell /bin/bash'
        f" --create-home --home-dir /home/{_USER} {_USER}"
    )
    if request.vm:
        yield from vm.of(request.architecture).options()
    yield request.release


def preference(suite: str) -> str:
    """Return what makes apt prefer backports, which it does not by itself."""
    return f'APT::Default-Release "{suite}";'


def key_hooks(debian: Debian) -> Iterator[str]:
    """Yield what brings the keys into the image that Debian does not have."""
    keys = [*debian.main.keys()]
    if debian.security:
        keys += debian.security.keys()
    for key in dict.fromkeys(keys):
        folder = shlex.quote(str(PurePath(key).parent))
        yield f'--customize-hook=mkdir -p "$1"{folder}'
        yield f"--customize-hook=upload {shlex.quote(key)} {shlex.quote(key)}"
