# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which files an image needs to run as an Incus guest."""

from collections.abc import Iterator

from incus_testbed import errors
from incus_testbed.customise import last_file, network, overlay, sysvinit
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts
from incus_testbed.system.tree import parents

#: The oldest systemd that knows the unified cgroup hierarchy.
_FIRST_UNIFIED = 231

#: Directories in which entries() creates files.
DIRECTORIES = (
    "etc/NetworkManager/conf.d",
    "etc/cloud/cloud.cfg.d",
    "etc/default",
    "etc/network",
    "etc/systemd/network",
    "etc/systemd/system-generators",
    "etc/systemd/system/network-online.target.wants",
    "etc/systemd/system/networking.service.d",
    "etc/systemd/system/sockets.target.wants",
    "etc/systemd/system/systemd-networkd.service.wants",
    "usr/local/lib/incus-testbed",
)


def entries(facts: Facts, *, generator: bytes | None = None) -> list[Entry]:
    """Return the entries to append to an image's archive, in order.

    Directories come before their files, and only those that the image lacks
    are added.  The last is one of last_file.PATHS, unless the init is unknown.
    ``generator`` is the content of an admin's own generator, which is installed
    in place of ours.

    :raises errors.BadImage: nothing in the image can configure the network
    """
    return list(_with_parents(facts, _table(facts, generator)))


def check(facts: Facts) -> None:
    """Refuse an image that can't boot, or can't reach its network.

    :raises errors.BadImage: tells the reason, and what to add to the image
    """
    version = facts.systemd_version
    if facts.init == "systemd" and version and version < _FIRST_UNIFIED:
        raise errors.BadImage(
            f"The image's systemd {version} is too old for this host's cgroups",
            details=f"It needs cgroup v1; systemd {_FIRST_UNIFIED} was the"
            " first version that runs without it.",
            resolution="Use an image of Debian 9 (stretch) or later.",
        )
    network.configurator(facts)


def _table(facts: Facts, generator: bytes | None) -> Iterator[Entry]:
    yield from network.entries(facts)
    if facts.init == "systemd":
        yield Entry(
            path=last_file.GENERATOR,
            kind="file",
            mode=0o755,
            content=generator or overlay.content("lxc-generator"),
        )
    if facts.init == "sysvinit":
        yield sysvinit.inittab(facts)


def _with_parents(facts: Facts, entries: Iterator[Entry]) -> Iterator[Entry]:
    there = set(facts.directories)
    for entry in entries:
        for path in parents(entry.path):
            if path not in there:
                there.add(path)
                yield Entry(path=path, kind="directory", mode=0o755)
        yield entry
