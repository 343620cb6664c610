# SPDX-License-Identifier: GPL-3.0-or-later
"""Define what must be known of a system to customise it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from incus_testbed.system.unit_file import Install

Init = Literal["systemd", "sysvinit", "other"]

#: The owner of /etc/resolv.conf: nobody ("file": it is a plain file or does not
#: exist), or the program to whose file it is a link.
Resolver = Literal["file", "resolved", "resolvconf", "networkmanager", "other"]

#: systemd copies the id from D-Bus's file if its own is empty (machine-id(5)).
MACHINE_IDS = ("etc/machine-id", "var/lib/dbus/machine-id")
#: Characters of a name that is shown to users.
LONGEST_LABEL = 64


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service in the image; a masked one counts as absent."""

    present: bool = False
    enabled: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts that decide how an image is customised.

    ``vendor`` and ``codename`` are only labels (os-release's ID and
    VERSION_CODENAME, empty where unknown); nothing depends on them.
    ``systemd_version`` is None if dpkg has no record of systemd.
    ``interfaces`` is the text of ifupdown's configuration with all included
    files; ``interfaces_file`` is the text of the main file alone.
    ``machine_ids`` are the files that give each copy of the image the same id;
    they are regular files, and their paths contain no links.
    """

    architecture: str
    vendor: str = ""
    codename: str = ""
    init: Init = "systemd"
    systemd_version: int | None = None
    networkd: Service = Service()
    resolved: Service = Service()
    network_manager: Service = Service()
    dhcpcd: Service = Service()
    ifupdown: bool = False
    ifupdown_defaults: str = ""
    interfaces: str = ""
    interfaces_file: str = ""
    dhcp_client: bool = False
    cloud_init: bool = False
    resolvconf: bool = False
    resolver: Resolver = "file"
    inittab: str = ""
    machine_ids: tuple[str, ...] = ()
    units: Mapping[str, Install]
    directories: frozenset[str] = frozenset()
