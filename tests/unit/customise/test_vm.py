# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual machine is told when it is launched."""

import base64
import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.customise import vm
from incus_testbed.system.disk import BootLoader, DiskSystem
from incus_testbed.system.facts import Facts, Service

KEY = "smbios11.io.systemd.credential.binary:"
MODERN = DiskSystem(
    size=1 << 30,
    boot_loader=BootLoader(architectures=frozenset({"amd64"}), signed=True),
    facts=Facts(architecture="amd64", systemd_version=257, units={}),
)
#: What QEMU, firmware and systemd have been seen to pass on, with room.
MOST_BYTES = 8192


def credentials(found: DiskSystem) -> dict[str, str]:
    told = vm.configuration(vm.properties(found))
    assert sum(map(len, told.values())) < MOST_BYTES
    return {
        key.removeprefix(KEY): base64.b64decode(value).decode()
        for key, value in told.items()
        if key.startswith(KEY)
    }


def of(version: int, *, agent: bool = True, network: bool = True) -> DiskSystem:
    assert MODERN.facts
    facts = dataclasses.replace(MODERN.facts, systemd_version=version)
    return dataclasses.replace(
        MODERN, facts=facts, agent=agent, network=network
    )


def test_an_image_that_needs_nothing_is_told_nothing() -> None:
    assert vm.configuration(vm.properties(MODERN)) == {}
    assert vm.configuration({}) == {}


def test_no_secure_boot_without_a_signature() -> None:
    loader = dataclasses.replace(MODERN.boot_loader, signed=False)
    properties = vm.properties(dataclasses.replace(MODERN, boot_loader=loader))
    assert properties["requirements.secureboot"] == "false"
    told = vm.configuration(properties)
    assert told == {"security.secureboot": "false"}


def test_a_kernel_without_9p_needs_a_cd() -> None:
    properties = vm.properties(dataclasses.replace(MODERN, has_9p=False))
    assert properties["requirements.cdrom_agent"] == "true"


@pytest.mark.parametrize("version", [256, 257, 262])
def test_units(version: int) -> None:
    found = credentials(of(version, agent=False, network=False))
    assert set(found) == {
        "systemd.extra-unit.incus-agent.service",
        "systemd.unit-dropin.multi-user.target",
        "network.network.zz-incus-testbed",
    }
    assert (
        "incus-agent.service" in found["systemd.unit-dropin.multi-user.target"]
    )


@pytest.mark.parametrize(
    ("version", "ids", "networkd", "network", "told"),
    [
        (256, True, True, True, True),
        (256, True, False, False, True),  # networkd comes by a credential
        (255, True, True, True, False),  # it takes no such credential
        (256, False, True, True, False),
        (256, True, False, True, False),  # another program asks
    ],
)
def test_a_shared_machine_id_is_not_what_leases_go_by(
    version: int, ids: bool, networkd: bool, network: bool, told: bool
) -> None:
    found = of(version, network=network)
    assert found.facts
    facts = dataclasses.replace(
        found.facts,
        machine_ids=("etc/machine-id",) if ids else (),
        networkd=Service(present=True, enabled=networkd),
    )
    given = credentials(dataclasses.replace(found, facts=facts))
    text = given.get("network.conf.zz-incus-testbed", "")
    assert ("DUIDType=link-layer" in text) == told


@pytest.mark.skipif(
    not shutil.which("systemd-tmpfiles"), reason="systemd is not installed"
)
@pytest.mark.parametrize("version", [252, 255])
def test_files(version: int, tmp_path: Path) -> None:
    found = credentials(of(version, agent=False, network=False))
    assert set(found) == {"tmpfiles.extra"}
    lines = [
        line
        for line in found["tmpfiles.extra"].splitlines()
        if not line.startswith("w ")
    ]
    configuration = tmp_path / "extra.conf"
    configuration.write_text("\n".join(lines) + "\n")
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={root}", configuration],
        check=True,
    )
    units = root / "run/systemd/system"
    service = (units / "incus-agent.service").read_text()
    overlay = Path(vm.__file__).parent / "overlay"
    assert service == "".join(
        line
        for line in (overlay / "incus-agent.service").open()
        if not line.startswith("#")
    )
    (wants,) = units.glob("*.device.wants")
    assert wants.name == (
        r"dev-virtio\x2dports-org.linuxcontainers.incus.device.wants"
    )
    assert (wants / "incus-agent.service").read_text() == service
    assert (root / "run/systemd/network/zz-incus-testbed.network").exists()


@pytest.mark.parametrize("version", [247, 251])
def test_no_way_to_start_the_agent(version: int) -> None:
    with pytest.raises(errors.BadImage) as caught:
        vm.properties(of(version, agent=False))
    assert str(version) in caught.value.details
    assert "incus-agent" in caught.value.resolution
    assert vm.properties(of(version))[vm.AGENT] == "image"


def test_nothing_is_told_to_a_system_that_was_not_read() -> None:
    unread = DiskSystem(
        size=1 << 30, boot_loader=MODERN.boot_loader, file_system="xfs"
    )
    properties = vm.properties(unread)
    assert properties == {
        vm.DISK_SIZE: str(1 << 30),
        vm.AGENT: "assumed",
        vm.FILE_SYSTEM: "xfs",
    }
    assert properties.keys() <= vm.KEYS
    assert vm.configuration(properties) == {}
