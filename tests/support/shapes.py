# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems in the shapes that other people give to their images.

They come from Debian's own mirror; what the makers of such images add is added
here.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tests.support import images

#: What images:debian/13 has, and images:devuan.
_NETWORKD_ETH0 = "[Match]\nName=eth0\n\n[Network]\nDHCP=true\n"
_IFUPDOWN_ETH0 = """\
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp

source /etc/network/interfaces.d/*
"""
#: What cloud.debian.org's images have.
NETPLAN = """\
network:
  version: 2
  ethernets:
    all-en:
      match:
        name: en*
      dhcp4: true
    all-eth:
      match:
        name: eth*
      dhcp4: true
"""
#: What the maker of an image has cloud-init do at its end.
_SEED = """\
#cloud-config
hostname: seed
runcmd:
  - sleep 3
  - touch /var/lib/seeded
"""
_DERIVATIVE = """\
PRETTY_NAME="Example OS 7 (Kestrel)"
NAME="Example OS"
ID=example-os
ID_LIKE="debian"
VERSION_ID="7"
VERSION_CODENAME=kestrel
"""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One kind of system: its packages, and files by path."""

    suite: str
    packages: tuple[str, ...] = ()
    init: str = "systemd-sysv"
    architecture: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()

    def tarball(self) -> Path:
        """Return the system as a tarball, made at need."""
        return images.build(
            self.suite,
            self.packages,
            init=self.init,
            architecture=self.architecture,
            hooks=[
                *(f'rm -f "$1"{path}' for path in self.remove),
                *(written(*file) for file in self.files.items()),
                *(f'chroot "$1" systemctl enable {u}' for u in self.enable),
            ],
        )


def written(path: str, text: str) -> str:
    """Return a hook of mmdebstrap that writes a file."""
    folder = PurePath(path).parent
    return (
        f'mkdir -p "$1"{folder}; rm -f "$1"{path};'
        f' printf %s {shlex.quote(text)} >"$1"{path}'
    )


SHAPES = {
    "images:debian/13": Shape(
        suite="trixie",
        packages=("dbus", "systemd-resolved", "iproute2"),
        files={"/etc/systemd/network/eth0.network": _NETWORKD_ETH0},
        enable=("systemd-networkd",),
    ),
    "images:debian/11": Shape(
        suite="bullseye",
        packages=("dbus", "ifupdown", "isc-dhcp-client", "iproute2"),
        files={"/etc/network/interfaces": _IFUPDOWN_ETH0},
    ),
    "cloud.debian.org": Shape(
        suite="trixie",
        packages=(
            *("cloud-init", "netplan.io", "systemd-resolved", "dbus"),
            *("openssh-server", "sudo", "iproute2"),
        ),
        files={"/etc/netplan/90-default.yaml": NETPLAN},
        # cloud-init makes a machine's own
        remove=("/etc/ssh/ssh_host_*",),
    ),
    "cloud-init with ifupdown": Shape(
        suite="bookworm",
        packages=(
            *("cloud-init", "ifupdown", "isc-dhcp-client", "dbus"),
            *("iproute2", "openssh-server", "sudo"),
        ),
        files={
            "/etc/network/interfaces": (
                "source-directory /etc/network/interfaces.d\n"
            ),
            # as in the image of one cloud: no other source is tried
            "/etc/cloud/cloud.cfg.d/90_dpkg.cfg": (
                "datasource_list: [ Ec2, None ]\n"
            ),
            "/var/lib/cloud/seed/nocloud/meta-data": "instance-id: seed\n",
            "/var/lib/cloud/seed/nocloud/user-data": _SEED,
        },
        remove=("/etc/ssh/ssh_host_*",),
    ),
    "images:devuan": Shape(
        suite="trixie",
        init="sysvinit-core",
        packages=(
            *("ifupdown", "isc-dhcp-client", "iproute2", "procps"),
            *("sysv-rc", "initscripts", "orphan-sysvinit-scripts"),
        ),
        files={"/etc/network/interfaces": _IFUPDOWN_ETH0},
    ),
    "NetworkManager": Shape(
        suite="trixie",
        packages=("network-manager", "dbus", "iproute2", "polkitd"),
    ),
    "NetworkManager and netplan": Shape(
        suite="trixie",
        packages=("network-manager", "netplan.io", "dbus", "iproute2"),
        files={"/etc/netplan/90-default.yaml": NETPLAN},
    ),
    "i386": Shape(suite="bookworm", architecture="i386"),
    "derivative": Shape(
        suite="trixie",
        packages=("dbus",),
        files={"/etc/os-release": _DERIVATIVE},
    ),
}
