# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in the shapes of other people's boot, with one owner of their NIC.

`make check` takes a few of them; EVERY_IMAGE=1, which `make check-images` sets,
takes all.  With WRITE_TABLES=1 the table in docs/howto/other-images.md is
written from what was measured.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.bootstrap import apt
from incus_testbed.image import metadata
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from tests.contract.virt_server.server import Server
from tests.integration.conftest import Cli
from tests.support import table, tiny_system
from tests.support.shapes import SHAPES

PAGE = Path(__file__).resolve().parents[2] / "docs/howto/other-images.md"

#: Another init, and cloud-init: what fast tests can't show.
_QUICK = ("images:devuan", "cloud.debian.org")
_CHOSEN = [
    name for name in SHAPES if name in _QUICK or os.environ.get("EVERY_IMAGE")
]

#: Prints who takes care of host0, and how many default routes there are.
_LOOK = r"""
index=$(cat /sys/class/net/host0/ifindex)
has() { grep --quiet --no-messages "$@"; }
if has "^ADMIN_STATE=conf" "/run/systemd/netif/links/$index"; then
    echo owner=networkd
fi
if has "^connection-uuid=" "/run/NetworkManager/devices/$index"; then
    echo owner=NetworkManager
fi
if has "^host0" /run/network/ifstate; then echo owner=ifupdown; fi
for process in /proc/[0-9]*; do
    case $(cat "$process/comm" 2>/dev/null) in
    dhclient | dhcpcd | udhcpc) echo client=yes ;;
    esac
done
while read -r _ destination _ _ _ _ _ mask _; do
    if [ "$destination$mask" = 0000000000000000 ]; then echo route=yes; fi
done </proc/net/route
if [ -d /run/systemd/system ]; then
    echo "state=$(systemctl is-system-running)"
    echo "init=systemd $(dpkg-query -Wf '${Version}' systemd)"
else
    echo state=running
    echo "init=sysvinit $(dpkg-query -Wf '${Version}' sysvinit-core)"
fi
if [ -x /usr/bin/cloud-init ]; then echo "cloud=$(cloud-init status)"; fi
if [ -e /var/lib/seeded ]; then echo seeded=yes; fi
"""

_CLOUD_INIT_DONE = ["status: done"]

_ROWS: list[list[str]] = []


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    headings = (
        "| image like | architecture | init | the card's owner | cloud-init"
        " | normal user | state | after reboot |"
    )
    if len(_ROWS) == len(SHAPES):
        table.publish(PAGE, "images", headings, _ROWS)


@pytest.fixture(params=_CHOSEN)
def shape(request: pytest.FixtureRequest) -> str:
    """Return the name of a shape."""
    name: str = request.param
    return name


@pytest.fixture
def alias(incus: Incus, cli: Cli, shape: str) -> Iterator[str]:
    """Import an image of a shape, as a user does."""
    name = f"test/{re.sub('[^a-z0-9]+', '-', shape.lower())}"
    cli.output("import", str(SHAPES[shape].tarball()), f"--alias={name}")
    yield name
    Store(incus).remove(name)


def _looked(server: Server) -> dict[str, list[str]]:
    """Return what a testbed says of itself; it has to be as it should."""
    found: dict[str, list[str]] = {}
    for line in server.output("sh", "-c", _LOOK).splitlines():
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    assert found["state"] == ["running"], found
    assert len(found["owner"]) == 1, found
    assert len(found["route"]) == 1, found
    # ifupdown starts a client; the others have their own
    assert ("client" in found) == (found["owner"] == ["ifupdown"]), found
    return found


def test_shape(alias: str, shape: str, cli: Cli) -> None:
    server = Server(alias)
    server.ask("open")
    found = _looked(server)
    assert found.get("cloud", _CLOUD_INIT_DONE) == _CLOUD_INIT_DONE
    assert ("seeded" in found) == any("seed" in x for x in SHAPES[shape].files)
    name = server.output("cat", "/etc/hostname")
    assert name.startswith("testbed-")
    user = [
        word.partition("=")[2]
        for word in server.ask("capabilities")
        if word.startswith("suggested-normal-user=")
    ]
    boot = server.boot()
    server.ask("reboot")
    assert server.boot() != boot
    again = _looked(server)
    assert again == found
    architecture = server.output("dpkg", "--print-architecture")
    assert architecture == (SHAPES[shape].architecture or architecture)
    server.ask("close")
    end = server.quit()
    assert "degraded" not in end.said

    shell = cli.start(
        *("shell", alias),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said, error = shell.communicate("echo at=$PWD; exit 7\n", timeout=120)
    assert shell.returncode == 7, error
    assert "at=/root" in said
    _ROWS.append(
        [
            shape,
            architecture,
            found["init"][0],
            found["owner"][0],
            "done" if "cloud" in found else "",
            *(user or [""]),
            *found["state"],
            *again["state"],
        ]
    )


def test_image_that_is_used_without_an_import(
    incus: Incus, cli: Cli, tmp_path: Path
) -> None:
    """Its card is eth0; the profile's is host0, unless the launch says so."""
    alias = "test/not-imported"
    head = tmp_path / "metadata.tar"
    head.write_bytes(
        metadata.metadata_tar(
            architecture=apt.architecture(),
            creation_date=int(time.time()),
            profile="default",
            description="devuan",
            vendor="devuan",
            codename="excalibur",
            artifact_id="",
        )
    )
    system = SHAPES["images:devuan"].tarball()
    incus.run("image", "import", str(head), str(system), f"--alias={alias}")
    profile = "--launch-argument=--profile=debusine"
    try:
        bare = cli.run("run", alias, "--", "true")
        assert "--profile=debusine" in bare.stderr
        hasty = Cli({**cli.environment, "INCUS_TESTBED_BOOT_LIMIT": "8"})
        offline = hasty.run("run", profile, alias, "--", "true")
        assert offline.returncode == 125
        hint = re.search(r"--device=\w+,name=eth0", offline.stderr)
        assert hint, offline.stderr
        device = f"--launch-argument={hint[0]}"
        assert cli.output("run", profile, device, alias, "--", "true") == ""
    finally:
        incus.run("image", "delete", alias)


def test_image_of_another_architecture(
    incus: Incus, cli: Cli, tmp_path: Path
) -> None:
    """Incus has it, and refuses to launch it: where it could run is said."""
    alias = "test/foreign"
    foreign = "s390x"
    head, rootfs = tmp_path / "metadata.tar", tmp_path / "rootfs.tar"
    head.write_bytes(
        metadata.metadata_tar(
            architecture=foreign,
            creation_date=int(time.time()),
            profile="debusine",
            description="foreign",
            vendor="debian",
            codename="trixie",
            artifact_id="",
        )
    )
    rootfs.write_bytes(tiny_system.tarball())
    incus.run("image", "import", str(head), str(rootfs), f"--alias={alias}")
    try:
        profile = "--launch-argument=--profile=debusine"
        done = cli.run("run", profile, alias, "--", "true")
    finally:
        incus.run("image", "delete", alias)
    assert done.returncode == 125
    assert f"is for {foreign}, which this server can't run" in done.stderr
    assert f"an Incus server of {foreign}" in done.stderr
    assert "--remote=NAME" in done.stderr


def test_squashfs(cli: Cli, tmp_path: Path) -> None:
    """What images.linuxcontainers.org has becomes a tarball on the way."""
    rootfs, alias = tmp_path / "rootfs.squashfs", "test/squashfs"
    system = tiny_system.tarball()
    subprocess.run(["tar2sqfs", "-q", rootfs], input=system, check=True)
    refused = cli.run("import", str(rootfs), f"--alias={alias}")
    assert "sqfs2tar FILE | incus-testbed import -" in refused.stderr
    with subprocess.Popen(
        ["sqfs2tar", rootfs], stdout=subprocess.PIPE
    ) as tarball:
        said = cli.start(
            "import", "-", f"--alias={alias}", stdin=tarball.stdout
        )
        assert said.wait() == 0
    cli.output("remove", alias)
