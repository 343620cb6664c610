# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of real incusd, each in a guest of its own, on one bridge."""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from incus_testbed.host import doctor
from incus_testbed.image import profiles
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.e2e import guest, packages
from tests.e2e.guest import Guest
from tests.support import images

#: Names of the members.  The first makes the cluster, and runs our commands.
NAMES = ("one", "two", "three")
#: The members' Debian, whose Incus is tested.
_SUITE = os.environ.get("SUITE_OF_CLUSTER", "trixie")
#: What runs testbeds, and our tests.
_PACKAGES = (
    *("autopkgtest", "btrfs-progs", "bubblewrap", "bzip2", "dnsmasq-base"),
    *("git", "incus", "iproute2", "mmdebstrap", "nftables", "procps"),
    *("python3-argcomplete", "python3-debian", "python3-debusine"),
    *("python3-hypothesis", "python3-pytest", "python3-responses"),
    *("python3-rich", "python3-sh", "python3-yaml", "uidmap", "xz-utils"),
    *("debian-archive-keyring", "dpkg-dev", "e2fsprogs", "qemu-utils", "zstd"),
)
#: Members have to reach each other, which testbeds may not.
_NEIGHBOURLY = (
    f"--profile={profiles.USUAL}",
    "--device=eth0,security.port_isolation=false",
)
_PORT = 8443
#: Its name in a guest.
_CARD = "host0"
#: Seconds for a member to connect to another that is back: some heartbeats.
_HEARTBEATS = 90
_RENAME = 'echo "$0" >/etc/hostname; hostname "$0"'
_CHECKOUT = "/root/checkout"
_ON_PATH = f"PATH={_CHECKOUT}/virt:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHONPATH = f"PYTHONPATH={_CHECKOUT}/virt:{_CHECKOUT}/executor:{_CHECKOUT}"


class Member:
    """One machine of the cluster; its guest is what root sees there."""

    def __init__(self, name: str, incus: Incus, instance: Instance) -> None:
        """Represent a machine that is up."""
        self.name = name
        self.guest = Guest(incus, instance)
        self._incus, self._instance = incus, instance
        self.address = self.guest.address

    def ours(self, *argv: str) -> tuple[int, str]:
        """Run a command that may be ours; return its status and all it says."""
        done = self.guest.attempt(
            "env", f"--chdir={_CHECKOUT}", _ON_PATH, _PYTHONPATH, *argv
        )
        return done.returncode, done.stdout

    def watch(self, *argv: str) -> int:
        """Run such a command, which says here what it says."""
        return self.guest.watch(
            "env", f"--chdir={_CHECKOUT}", _ON_PATH, _PYTHONPATH, *argv
        )

    def start_ours(self, *argv: str) -> "subprocess.Popen[str]":
        """Start such a command; its output has its errors, too."""
        command = ("env", f"--chdir={_CHECKOUT}", _ON_PATH, _PYTHONPATH, *argv)
        return subprocess.Popen(
            self._instance.guest.exec_argv(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def testbeds(self) -> dict[str, str]:
        """Return the member of each instance in the cluster, by its name."""
        listed = self.ask("/1.0/instances?recursion=1")
        return {each["name"]: each["location"] for each in listed}

    def has_no_testbeds(self, seconds: float = 90) -> bool:
        """Tell whether there is none soon: some are removed behind our back."""
        deadline = time.monotonic() + seconds
        while self.testbeds():
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
        return True

    def push(self, source: Path, target: str) -> None:
        """Copy a file there."""
        self._instance.guest.files.push(str(source), target)

    def ask(self, path: str) -> Any:
        """Return what its Incus answers to GET."""
        # It prints nothing for an empty list.
        return json.loads(self.guest.run("incus", "query", path) or "[]")

    def kill(self) -> None:
        """Take the machine away, as a power cut does: it says no goodbye.

        The kernel would, for each connection of a process that it ends.
        """
        self.guest.run("ip", "link", "set", _CARD, "down")
        self._incus.kill(self._instance.name)

    def is_running(self) -> bool:
        """Tell whether the machine is switched on."""
        return self._incus.instance(self._instance.name).status == "Running"

    def start(self) -> None:
        """Switch it on again; return when its Incus answers."""
        self._incus.start(self._instance.name)
        self.wait_until_answering()

    def wait_until_answering(self) -> None:
        """Wait until its Incus is part of the cluster."""
        self.guest.run("incus", "admin", "waitready", "--timeout=300")

    def push_checkout(self) -> None:
        """Put what git knows of this tree where our commands are run."""
        with tempfile.TemporaryDirectory() as scratch:
            tarball = Path(scratch, "checkout.tar")
            packages.pack(tarball)
            self.guest.push(tarball, "/root")
        self.guest.run("rm", "-rf", _CHECKOUT)
        self.guest.run("mkdir", _CHECKOUT)
        self.guest.run("tar", "-xf", "/root/checkout.tar", "-C", _CHECKOUT)

    def found(self) -> None:
        """Make a cluster of this machine alone, with nothing in it."""
        address = f"{self.address}:{_PORT}"
        self.guest.run("incus", "config", "set", "core.https_address", address)
        self.guest.run("incus", "cluster", "enable", self.name)

    def join(self, first: "Member") -> None:
        """Join the cluster that ``first`` has made."""
        said = first.guest.run("incus", "cluster", "add", self.name)
        token = said.split()[-1]
        pools = [
            path.rpartition("/")[2] for path in first.ask("/1.0/storage-pools")
        ]
        self._configure(
            {
                "cluster": {
                    "enabled": True,
                    "server_name": self.name,
                    "server_address": f"{self.address}:{_PORT}",
                    "cluster_token": token,
                    "member_config": [
                        {
                            "entity": "storage-pool",
                            "name": pool,
                            "key": "source",
                            "value": f"/var/lib/incus/storage-pools/{pool}",
                        }
                        for pool in pools
                    ],
                }
            }
        )

    def _configure(self, preseed: dict[str, Any]) -> None:
        done = self.guest.attempt(
            *("incus", "admin", "init", "--preseed"), types=json.dumps(preseed)
        )
        assert done.returncode == 0, done.stdout


class Cluster:
    """Members of one cluster, the first of which runs our commands."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Represent a cluster that is formed."""
        self.members = tuple(members)

    @property
    def first(self) -> Member:
        """The member that our commands are run on."""
        return self.members[0]

    def status(self) -> dict[str, str]:
        """Return each member's name, and its status as the first sees it."""
        listed = self.first.ask("/1.0/cluster/members?recursion=1")
        return {each["server_name"]: each["status"] for each in listed}

    def restart(self, name: str) -> None:
        """Switch a member on if it is off; wait until the first reaches it.

        That is up to a heartbeat, 10 s, later than it sees it as online.
        """
        (member,) = (each for each in self.members if each.name == name)
        if not member.is_running():
            member.start()
        self.wait_for(name, "Online")
        asked = ("incus", "query", f"/1.0?target={name}")
        deadline = time.monotonic() + _HEARTBEATS
        while (done := self.first.guest.attempt(*asked)).returncode:
            assert time.monotonic() < deadline, done.stdout
            time.sleep(1)

    def wait_for(self, name: str, status: str, seconds: float = 90) -> None:
        """Wait until the first sees a member in a status."""
        deadline = time.monotonic() + seconds
        while (seen := self.status()[name]) != status:
            assert time.monotonic() < deadline, f"{name} is {seen}"
            time.sleep(1)


@contextlib.contextmanager
def machines(incus: Incus, count: int) -> Iterator[list[Member]]:
    """Have machines with an Incus each, which know nothing of each other."""
    _open_network(incus)
    tarball = images.build(_SUITE, _PACKAGES)
    alias = f"cluster/{tarball.name.partition('.')[0]}"
    with tarball.open("rb") as source:
        Store(incus).add(source, alias)
    with contextlib.ExitStack() as stack:
        members = []
        for name in NAMES[:count]:
            instance = stack.enter_context(
                Instance.launch(
                    incus,
                    alias,
                    purpose="cluster tests",
                    # It is switched off and on.
                    ephemeral=False,
                    arguments=(
                        *guest.NESTING,
                        guest.SUBVOLUMES,
                        *_NEIGHBOURLY,
                    ),
                )
            )
            instance.wait_ready()
            members.append(Member(name, incus, instance))
        for member in members:
            member.guest.run("sh", "-c", _RENAME, member.name)
            member.guest.run("systemctl", "start", "incus.service")
            member.wait_until_answering()
        members[0].push_checkout()
        yield members


def _open_network(incus: Incus) -> None:
    """Take away the network's ACL: on a kernel with br_netfilter it refuses.

    The network is this run's own.
    """
    network = doctor.names_in_use(incus).network
    Incus(project="default").run("network", "unset", network, "security.acls")


@contextlib.contextmanager
def formed(incus: Incus, count: int) -> Iterator[Cluster]:
    """Have a cluster that has neither a network nor a pool yet."""
    with machines(incus, count) as members:
        first, *others = members
        first.found()
        for other in others:
            other.join(first)
        yield Cluster(members)
