# SPDX-License-Identifier: GPL-3.0-or-later
"""Configure a virtual machine: on its disk, or at its launch by credentials.

A credential (systemd.io/CREDENTIALS) adds the unit that starts Incus' agent if
the image has none, and the network configuration if the image has none.  If the
image has one machine id for all, another has each machine ask for an address in
the name of its card.  The image's disk is not changed then.  Properties of the
image tell which it needs.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from incus_testbed import errors
from incus_testbed.customise import overlay, units
from incus_testbed.system.entry import Entry

if TYPE_CHECKING:
    from incus_testbed.system.disk import DiskSystem
    from incus_testbed.system.facts import Facts

#: Our image properties.
AGENT = "incus-testbed.agent"
NETWORK = "incus-testbed.network"
LEASE = "incus-testbed.lease"
SYSTEMD = "incus-testbed.systemd"
DISK_SIZE = "incus-testbed.disk-size"
#: The name of a root file system that could not be read.
FILE_SYSTEM = "incus-testbed.file-system"
# Incus' own image properties.
_SECURE_BOOT = "requirements.secureboot"
#: Of images that can get the agent in no other way than by its drive.
CDROM = "requirements.cdrom_agent"
#: The properties of these that a virtual machine's image may have.
KEYS = frozenset(
    {AGENT, NETWORK, LEASE, SYSTEMD, DISK_SIZE}
    | {FILE_SYSTEM, _SECURE_BOOT, CDROM}
)
#: What starts the agent: units in the image, credentials, or, as nothing can be
#: seen of it, something that is hoped to be there.
IMAGE, CREDENTIALS, ASSUMED = "image", "credentials", "assumed"

#: The first systemd that accepts lines for tmpfiles.d as a credential, and the
#: first that accepts units and network configuration.
_FIRST_TMPFILES = 252
_FIRST_UNITS = 256

_SERVICE = "incus-agent.service"
_NETWORK = "zz-incus-testbed.network"
_CREDENTIAL = "smbios11.io.systemd.credential.binary:"
#: systemd-networkd else derives what a DHCP server knows it by from the
#: machine id (networkd.conf(5)).
_BY_CARD = """\
[DHCPv4]
DUIDType=link-layer
[DHCPv6]
DUIDType=link-layer
"""
_RUN_UNITS = "/run/systemd/system"
_PORT = r"dev-virtio\x2dports-org.linuxcontainers.incus.device"


def properties(disk: "DiskSystem") -> dict[str, str]:
    """Return the properties of a virtual machine's image.

    :raises errors.BadImage: nothing would start Incus' agent in the machine
    """
    if not disk.facts:
        return {
            DISK_SIZE: str(disk.size),
            AGENT: ASSUMED,
            FILE_SYSTEM: disk.file_system,
            **_firmware(disk),
        }
    version = disk.facts.systemd_version
    if not disk.agent and (version is None or version < _FIRST_TMPFILES):
        raise errors.BadImage(
            "Nothing in the disk starts Incus' agent",
            details=f"Credentials can make systemd {_FIRST_TMPFILES} or later"
            f" start it; the disk's systemd is {version or 'missing'}.",
            resolution="Add the package incus-agent to the system, or the"
            " units of distrobuilder's generator incus-agent; or make a new"
            " disk by 'incus-testbed build SUITE --vm'.",
        )
    return {
        DISK_SIZE: str(disk.size),
        AGENT: IMAGE if disk.agent else CREDENTIALS,
        **({} if version is None else {SYSTEMD: str(version)}),
        **({} if disk.network else {NETWORK: CREDENTIALS}),
        **({LEASE: CREDENTIALS} if _lease_needs_help(disk, disk.facts) else {}),
        **({} if disk.has_9p else {CDROM: "true"}),
        **_firmware(disk),
    }


def _lease_needs_help(disk: "DiskSystem", facts: "Facts") -> bool:
    """Tell whether machines share an address, and a credential can help."""
    by_networkd = facts.networkd.enabled or not disk.network
    version = facts.systemd_version or 0
    return bool(facts.machine_ids) and by_networkd and version >= _FIRST_UNITS


def _firmware(disk: "DiskSystem") -> dict[str, str]:
    return {} if disk.boot_loader.signed else {_SECURE_BOOT: "false"}


def entries() -> list[Entry]:
    """Return what starts the agent and sets up the network from the disk.

    A system that is made for Incus has them, and needs no credentials.
    """
    return [
        overlay.entry(_SERVICE, f"etc/systemd/system/{_SERVICE}"),
        units.wanted(_PORT, _SERVICE),
        overlay.entry(_NETWORK, f"etc/systemd/network/{_NETWORK}"),
    ]


def configuration(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration that an instance of an image needs.

    ``properties`` are those of the image.  Credentials need Incus's API
    extension instance_smbios11.
    """
    credentials = dict(_credentials(properties))
    return {
        **{
            f"{_CREDENTIAL}{name}": base64.b64encode(text.encode()).decode()
            for name, text in credentials.items()
        },
        **(
            {"security.secureboot": "false"}
            if properties.get(_SECURE_BOOT) == "false"
            else {}
        ),
    }


def _credentials(properties: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    agent = properties.get(AGENT) == CREDENTIALS
    network = properties.get(NETWORK) == CREDENTIALS
    version = int(properties.get(SYSTEMD, 0))
    if properties.get(LEASE) == CREDENTIALS:
        yield "network.conf.zz-incus-testbed", _BY_CARD
        # The unit of systemd 257 is not given what its program can use.
        yield (
            "systemd.unit-dropin.systemd-network-generator.service",
            "[Service]\nImportCredential=network.conf.*\n",
        )
    if version >= _FIRST_UNITS:
        yield from _units(agent=agent, network=network)
    elif version >= _FIRST_TMPFILES and (agent or network):
        lines = _lines(agent=agent, network=network)
        yield "tmpfiles.extra", "".join(f"{line}\n" for line in lines)


def _units(*, agent: bool, network: bool) -> Iterator[tuple[str, str]]:
    wanted = []
    if agent:
        yield f"systemd.extra-unit.{_SERVICE}", _text(_SERVICE)
        wanted.append(_SERVICE)
    if network:
        name = _NETWORK.removesuffix(".network")
        yield f"network.network.{name}", _text(_NETWORK)
        wanted.append("systemd-networkd.service")
    if wanted:
        yield (
            "systemd.unit-dropin.multi-user.target",
            f"[Unit]\nWants={' '.join(wanted)}\n",
        )


def _lines(*, agent: bool, network: bool) -> Iterator[str]:
    """Yield lines for tmpfiles.d(5).

    When tmpfiles runs, multi-user.target can't get another Wants= any more.
    So the unit of the agent's port wants the agent: the lines remove the port
    and add it again, and then systemd starts the units that the port wants.
    """
    if network:
        yield _file(f"/run/systemd/network/{_NETWORK}", _text(_NETWORK))
        # systemd-networkd may have started before this file existed.
        yield _file(
            f"{_RUN_UNITS}/{_SERVICE}.d/network.conf",
            "[Service]\nExecStartPre=-networkctl reload\n",
        )
    if agent:
        wants = _escaped(f"{_RUN_UNITS}/{_PORT}.wants")
        yield _file(f"{_RUN_UNITS}/{_SERVICE}", _text(_SERVICE))
        yield f"L {wants}/{_SERVICE} - - - - ../{_SERVICE}"
        # The patterns differ, because two equal paths would count as one line.
        # tmpfiles handles them after all files.
        yield "w /sys/class/virtio-ports/vport*/uevent - - - - remove"
        yield "w /sys/class/virtio-ports/vport*p*/uevent - - - - add"


def _file(path: str, text: str) -> str:
    return f"f {path} - - - - {_escaped(text)}"


def _escaped(text: str) -> str:
    for character, escape in (("\\", r"\\"), ("\n", r"\n"), ("%", "%%")):
        text = text.replace(character, escape)
    return text


def _text(name: str) -> str:
    """Return a file of the overlay without its comments."""
    lines = overlay.content(name).decode().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))
