# SPDX-License-Identifier: GPL-3.0-or-later
"""Every Debian release comes up whole: booted, named, on the network.

With WRITE_TABLES=1 in the environment, docs/reference/releases.md is written
anew from what was measured.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.support import table

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/releases.md"

#: Suite, packages beside systemd-sysv, and what is special about them.
SYSTEMS = [
    ("bullseye", (), "resolved in systemd, not enabled"),
    ("bookworm", (), ""),
    ("bookworm", ("systemd-resolved",), ""),
    ("trixie", (), ""),
    ("trixie", ("systemd-resolved",), ""),
    ("forky", (), ""),
    ("forky", ("systemd-resolved",), ""),
    ("sid", (), ""),
    ("sid", ("systemd-resolved",), ""),
]

_ROWS: dict[tuple[str, tuple[str, ...]], list[str]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    headings = (
        "| release | with | systemd | state | failed units | address | name"
        " resolved by | launch to ready | after reboot |"
    )
    table.publish(PAGE, "releases", headings, [*_ROWS.values()])


def _ask(instance: Instance, script: str) -> str:
    done = instance.guest.exec(
        ["sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


def _address(incus: Incus, name: str) -> str:
    """Return host0's one IPv4 address, as Incus sees it from outside."""
    said = incus.run("list", f"name=^{name}$", "--format=csv", "--columns=4")
    addresses = re.findall(r"([\d.]+) \((\w+)\)", said.decode())
    assert [interface for _, interface in addresses] == ["host0"], said
    return str(addresses[0][0])


def _mirror(instance: Instance) -> str:
    """Return the host that the guest's apt fetches from."""
    sources = _ask(
        instance, "cat /etc/apt/sources.list /etc/apt/sources.list.d/* || :"
    )
    host = re.search(r"https?://([^/:\s]+)", sources)
    assert host, sources
    return host[1]


def _check(incus: Incus, instance: Instance) -> tuple[str, str]:
    """Check a ready guest; return its address and who resolves names."""
    readiness = instance.wait_ready()
    assert readiness.failed_units == ()
    assert readiness.state == "running"
    assert readiness.network == "online"
    assert _ask(instance, "systemctl --failed --no-legend --plain") == ""
    assert _ask(instance, "cat /etc/hostname") == instance.name
    assert _ask(instance, "uname -n") == instance.name
    own = _ask(instance, f"getent ahostsv4 {instance.name}")
    assert own.startswith("127.0.1.1"), own
    assert _ask(instance, f"getent hosts {_mirror(instance)}")
    bridge = re.sub(r"\d+$", "1", address := _address(incus, instance.name))
    servers = _servers(instance, "/etc/resolv.conf")
    if servers == ["127.0.0.53"]:
        servers = _servers(instance, "/run/systemd/resolve/resolv.conf")
        resolver = "resolved"
    else:
        resolver = "the bridge"
    assert servers == [bridge]
    return address, resolver


def _servers(instance: Instance, path: str) -> list[str]:
    return _ask(instance, f"sed -n 's/^nameserver //p' {path}").split()


@pytest.mark.parametrize(
    ("suite", "packages", "remark"),
    SYSTEMS,
    ids=["+".join((suite, *packages)) for suite, packages, _ in SYSTEMS],
)
def test_release(
    incus: Incus,
    image: Callable[..., str],
    suite: str,
    packages: tuple[str, ...],
    remark: str,
) -> None:
    alias = image(suite, *packages)
    with Instance.launch(incus, alias, purpose="warm up"):
        pass  # the pool has unpacked the image now, as for every later launch
    started = time.monotonic()
    with Instance.launch(incus, alias, purpose="test") as instance:
        instance.wait_ready()
        launched = time.monotonic() - started
        address, resolver = _check(incus, instance)
        started = time.monotonic()
        instance.restart()
        rebooted = time.monotonic() - started
        assert _check(incus, instance) == (address, resolver)
        version = _ask(
            instance, "dpkg-query --show --showformat='${Version}' systemd"
        )
    _ROWS[suite, packages] = [
        suite,
        ", ".join(packages) or remark or "minbase",
        version,
        "running",
        "none",
        "IPv4 by DHCP",
        resolver,
        f"{launched:.1f} s",
        f"{rebooted:.1f} s",
    ]
