# SPDX-License-Identifier: GPL-3.0-or-later
"""What is added to an image."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from incus_testbed import errors
from incus_testbed.customise import customisation, last_file
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts, Service
from incus_testbed.system.survey import Survey
from incus_testbed.system.tree import parents
from incus_testbed.system.unit_file import Install

PRESENT = Service(present=True)
ENABLED = Service(present=True, enabled=True)
NETWORKD_WANTED = (
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
)
NETWORKING = "etc/systemd/system/networking.service.d/zz-incus-testbed.conf"
HOST0 = "etc/systemd/network/80-container-host0.network"
STUB = "../run/systemd/resolve/stub-resolv.conf"
RESOLV_UNIT = "etc/systemd/system/incus-testbed-resolv.service"

MINBASE = Facts(
    architecture="amd64",
    systemd_version=252,
    networkd=PRESENT,
    units={
        "systemd-networkd.service": Install(
            wanted_by=("multi-user.target",),
            alias=("dbus-org.freedesktop.network1.service",),
            also=(
                "systemd-networkd.socket",
                "systemd-network-generator.service",
            ),
        ),
        "systemd-networkd.socket": Install(wanted_by=("sockets.target",)),
        "systemd-resolved.service": Install(wanted_by=("sysinit.target",)),
    },
    directories=frozenset({"etc", "etc/systemd", "etc/systemd/system"}),
)
WITH_IFUPDOWN = replace(MINBASE, ifupdown=True, dhcp_client=True)
SYSVINIT = replace(
    WITH_IFUPDOWN, init="sysvinit", systemd_version=None, networkd=Service()
)


def added(facts: Facts, **options: Any) -> dict[str, Entry]:
    """Return what is added, without directories."""
    return {
        entry.path: entry
        for entry in customisation.entries(facts, **options)
        if entry.kind != "directory"
    }


def text(entry: Entry) -> str:
    assert entry.content is not None
    return entry.content.decode()


def test_minbase() -> None:
    """No more than networkd, the generator and a way to name servers."""
    assert sorted(added(MINBASE)) == [
        "etc/resolv.conf",
        "etc/systemd/system-generators/lxc",
        "etc/systemd/system/dbus-org.freedesktop.network1.service",
        RESOLV_UNIT,
        "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
        "etc/systemd/system/network-online.target.wants/"
        "incus-testbed-resolv.service",
        "etc/systemd/system/sockets.target.wants/systemd-networkd.socket",
        "etc/systemd/system/systemd-networkd.service.wants/"
        "incus-testbed-resolv.service",
        "usr/local/lib/incus-testbed/resolv-conf",
    ]


def test_networkd_is_enabled_as_the_specification_has_it() -> None:
    link = added(MINBASE)[NETWORKD_WANTED]
    assert link.kind == "symlink"
    assert link.target == "/lib/systemd/system/systemd-networkd.service"


def test_the_generator_is_executable() -> None:
    entry = added(MINBASE)[last_file.GENERATOR]
    assert entry.mode == 0o755
    assert text(entry).startswith("#!/bin/sh\n")


def test_an_admins_generator() -> None:
    entry = added(MINBASE, generator=b"#!/bin/true\n")[last_file.GENERATOR]
    assert entry.content == b"#!/bin/true\n"
    assert entry.mode == 0o755


def test_directories_come_first_and_only_where_missing() -> None:
    seen = set(MINBASE.directories)
    for entry in customisation.entries(MINBASE):
        assert set(parents(entry.path)) <= seen
        assert entry.path not in seen
        seen.add(entry.path)


def test_resolved_is_enabled_and_asked() -> None:
    entries = added(replace(MINBASE, resolved=PRESENT))
    assert (
        "etc/systemd/system/sysinit.target.wants/systemd-resolved.service"
        in entries
    )
    assert entries["etc/resolv.conf"].target == STUB
    assert RESOLV_UNIT not in entries


def test_what_is_enabled_already_stays_as_it_is() -> None:
    facts = replace(
        MINBASE, networkd=ENABLED, resolved=ENABLED, resolver="resolved"
    )
    assert list(added(facts)) == [last_file.GENERATOR]


@pytest.mark.parametrize(
    ("changes", "replaced"),
    [
        ({"resolver": "file"}, True),
        ({"resolver": "resolved"}, True),  # a link to what is not there
        ({"resolver": "resolvconf"}, True),
        ({"resolver": "resolvconf", "resolvconf": True}, False),
        ({"resolver": "file", "resolvconf": True}, False),
        ({"resolver": "networkmanager"}, True),
        (
            {"resolver": "networkmanager", "network_manager": ENABLED},
            False,
        ),
        ({"resolver": "file", "network_manager": ENABLED}, False),
        ({"resolver": "other"}, False),
    ],
)
def test_a_builders_resolv_conf_goes(
    changes: dict[str, Any], replaced: bool
) -> None:
    entries = added(replace(MINBASE, **changes))
    assert ("etc/resolv.conf" in entries) == replaced
    if replaced:
        assert "nameserver" not in text(entries["etc/resolv.conf"])


def test_the_mark_is_one_the_script_knows() -> None:
    entries = added(MINBASE)
    mark = text(entries["etc/resolv.conf"]).strip()
    assert mark in text(entries["usr/local/lib/incus-testbed/resolv-conf"])


def test_networkmanager_keeps_its_say() -> None:
    entries = added(replace(WITH_IFUPDOWN, network_manager=ENABLED))
    assert list(entries) == [HOST0, last_file.GENERATOR]


def test_networkmanager_leaves_our_nic_to_networkd() -> None:
    entries = added(replace(MINBASE, networkd=ENABLED, network_manager=ENABLED))
    conf = text(entries["etc/NetworkManager/conf.d/zz-incus-testbed.conf"])
    assert "unmanaged-devices=interface-name:host0" in conf


def test_networkmanager_that_is_off_is_no_network() -> None:
    assert NETWORKD_WANTED in added(replace(MINBASE, network_manager=PRESENT))


def test_dhcpcd_gives_way() -> None:
    entries = added(replace(MINBASE, dhcpcd=ENABLED))
    assert entries["etc/systemd/system/dhcpcd.service"].target == "/dev/null"


def test_ifupdown_set_up_for_our_nic_keeps_its_say() -> None:
    entries = added(
        replace(
            WITH_IFUPDOWN, interfaces="auto lo host0\niface host0 inet dhcp\n"
        )
    )
    assert list(entries) == [HOST0, last_file.GENERATOR]


def test_networkd_that_netplan_starts_leaves_the_nic_to_its_owner() -> None:
    entries = added(replace(MINBASE, network_manager=ENABLED))
    assert entries[HOST0].target == "/dev/null"
    assert HOST0 not in added(MINBASE)


def test_ifupdown_for_a_nic_that_is_not_there() -> None:
    """Networkd takes ours; ifupdown skips the other, and brings up lo."""
    entries = added(
        replace(WITH_IFUPDOWN, interfaces="auto lo eth0 enp1s0 br0\n")
    )
    assert NETWORKD_WANTED in entries
    assert "etc/network/interfaces" not in entries
    assert text(entries[NETWORKING]) == (
        "# Added by incus-testbed\n[Service]\nExecStart=\nExecStart=/sbin/ifup"
        " -a --read-environment --exclude=enp1s0 --exclude=eth0\n"
    )


def test_cloud_init_leaves_the_nic_alone_and_asks_no_cloud() -> None:
    path = "etc/cloud/cloud.cfg.d/zz-incus-testbed.cfg"
    assert path not in added(MINBASE)
    config = yaml.safe_load(
        text(added(replace(MINBASE, cloud_init=True))[path])
    )
    assert config["network"] == {"config": "disabled"}
    assert config["datasource_list"] == ["NoCloud", "None"]
    assert config["apt"] == {"preserve_sources_list": True}


def test_never_two_dhcp_clients() -> None:
    entries = added(
        replace(WITH_IFUPDOWN, networkd=ENABLED, interfaces="auto host0\n")
    )
    assert "--exclude=host0\n" in text(entries[NETWORKING])


@pytest.mark.parametrize(
    "facts", [replace(WITH_IFUPDOWN, networkd=Service()), SYSVINIT]
)
def test_ifupdown_alone(facts: Facts) -> None:
    entries = added(facts)
    assert NETWORKD_WANTED not in entries
    assert text(entries["etc/network/interfaces"]) == (
        "auto lo\niface lo inet loopback\n\n# Added by incus-testbed\n"
        "auto host0\niface host0 inet dhcp\n"
    )
    assert RESOLV_UNIT not in entries
    assert not {"etc/default/networking", NETWORKING} & entries.keys()


def test_what_ifupdown_has_stays() -> None:
    entries = added(
        replace(
            SYSVINIT,
            interfaces="source x\nauto eth0",
            interfaces_file="source x\nauto eth0",
            ifupdown_defaults="VERBOSE=yes\n",
        )
    )
    assert text(entries["etc/network/interfaces"]).startswith(
        "source x\nauto eth0\n\n#"
    )
    assert text(entries["etc/default/networking"]) == (
        'VERBOSE=yes\n\n# Added by incus-testbed\nEXCLUDE_INTERFACES="eth0"\n'
    )
    assert NETWORKING not in entries


def test_sysvinit_stops_when_asked_and_has_no_terminals() -> None:
    inittab = (
        "id:2:initdefault:\n"
        "pf::powerwait:/etc/init.d/powerfail start\n"
        "1:2345:respawn:/sbin/getty --noclear 38400 tty1\n"
        "#T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n"
        "c:2345:respawn:/sbin/getty 38400 console\n"
    )
    entries = added(replace(SYSVINIT, inittab=inittab))
    assert last_file.GENERATOR not in entries
    assert text(entries["etc/inittab"]) == (
        "id:2:initdefault:\n"
        "#T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n"
        "c:2345:respawn:/sbin/getty 38400 console\n"
        "pf::powerwait:/sbin/shutdown -h now\n"
    )


@pytest.mark.parametrize(
    "facts",
    [
        replace(MINBASE, networkd=Service()),
        replace(MINBASE, networkd=Service(), ifupdown=True),
        replace(SYSVINIT, dhcp_client=False),
        replace(SYSVINIT, ifupdown=False),
        replace(SYSVINIT, networkd=ENABLED, ifupdown=False),
    ],
)
def test_no_way_to_a_network(facts: Facts) -> None:
    with pytest.raises(errors.BadImage) as caught:
        customisation.check(facts)
    assert "ifupdown" in caught.value.resolution


def test_systemd_too_old_for_cgroup2() -> None:
    with pytest.raises(errors.BadImage, match="systemd 215 is too old"):
        customisation.check(replace(MINBASE, systemd_version=215))
    customisation.check(replace(MINBASE, systemd_version=232))
    customisation.check(replace(SYSVINIT, systemd_version=215))


@pytest.mark.parametrize("init", ["systemd", "sysvinit"])
@pytest.mark.parametrize("networkd", [Service(), PRESENT, ENABLED])
@pytest.mark.parametrize("manager", [Service(), ENABLED])
@pytest.mark.parametrize("resolved", [Service(), PRESENT])
def test_every_directory_is_one_the_survey_knows(
    init: Any, networkd: Service, manager: Service, resolved: Service
) -> None:
    """Else one that the image has would get another mode."""
    survey = Survey(directories=customisation.DIRECTORIES)
    facts = replace(
        WITH_IFUPDOWN,
        init=init,
        networkd=networkd,
        network_manager=manager,
        resolved=resolved,
        dhcpcd=ENABLED,
        cloud_init=True,
        interfaces="auto eth0\n",
    )
    wanted = {
        directory
        for entry in customisation.entries(facts)
        for directory in parents(entry.path)
    }
    for path in ("var/lib/dpkg/status", "sbin/init"):
        survey.visit(
            Entry(
                path=path,
                kind="file",
                content=b"Package: dpkg\nArchitecture: amd64\n",
            )
        )
    for directory in sorted(wanted):
        survey.visit(Entry(path=directory, kind="directory"))
    assert wanted <= survey.facts().directories
