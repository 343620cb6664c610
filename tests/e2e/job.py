# SPDX-License-Identifier: GPL-3.0-or-later
"""A container without an init, as a CI job gets it from a Docker runner."""

import contextlib
import ipaddress
from collections.abc import Iterator

from incus_testbed.host.doctor import Names
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.e2e.guest import NESTING, Guest
from tests.support import images

#: What is process 1 there.
_SLEEP = "--config=raw.lxc=lxc.init.cmd = /usr/bin/sleep infinity"
#: Which of the network's addresses it has.
_HOST = 77

#: What the runner would do: nothing in the container asks for an address.
_CONNECT = """
ip link set host0 up
ip address add $1 dev host0
ip route add default via $2
rm -f /etc/resolv.conf
echo "nameserver $2" >/etc/resolv.conf
chmod 644 /etc/resolv.conf  # apt reads it as a user of its own
"""


@contextlib.contextmanager
def running(incus: Incus, suite: str, names: Names) -> Iterator[Guest]:
    """Have such a container of a Debian, on that network of this Incus."""
    path = images.build(suite, ("iproute2",))
    alias = f"e2e/job-{path.name.partition('.')[0]}"
    with path.open("rb") as tarball:
        Store(incus).add(tarball, alias)
    said = incus.run("network", "get", names.network, "ipv4.address")
    gateway = ipaddress.IPv4Interface(said.decode().strip())
    address = gateway.network[_HOST]
    arguments = (
        *NESTING,
        _SLEEP,
        f"--profile={names.profile}",  # in which incus looks for the device
        f"--device=eth0,ipv4.address={address}",
    )
    with Instance.launch(
        incus, alias, purpose="a CI job", arguments=arguments
    ) as instance:
        guest = Guest(incus, instance)
        guest.run(
            *("sh", "-euc", _CONNECT, "connect"),
            *(f"{address}/{gateway.network.prefixlen}", str(gateway.ip)),
        )
        yield guest
