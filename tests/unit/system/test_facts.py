# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from an archive."""

import pytest

from incus_testbed import errors
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts
from incus_testbed.system.survey import Survey
from incus_testbed.system.unit_file import Install

STATUS = """\
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.22.6

Package: systemd
Status: install ok installed
Architecture: amd64
Version: 257.13-1~deb13u1
Description: a manager
 .
 Package: dpkg
"""

NETWORKD = """\
[Unit]
Description=Network

[Install]
WantedBy=multi-user.target
Also=systemd-networkd.socket
Alias=dbus-org.freedesktop.network1.service

# why
Also=systemd-networkd-wait-online.service
"""

MINIMAL = {
    "usr/lib/systemd/systemd": "ELF",
    "usr/sbin/init": "-> ../lib/systemd/systemd",
    "lib": "-> usr/lib",
    "sbin": "-> usr/sbin",
    "var/lib/dpkg/status": STATUS,
    "etc/os-release": "-> ../usr/lib/os-release",
    "usr/lib/os-release": 'ID=debian\nVERSION_CODENAME="trixie"\n',
    "usr/lib/systemd/system/systemd-networkd.service": NETWORKD,
}


def entry(path: str, text: str) -> Entry:
    """Make an entry of a text, ``-> target`` or ``=> target`` (hard)."""
    if text.startswith("-> "):
        return Entry(path=path, kind="symlink", target=text[3:])
    if text.startswith("=> "):
        return Entry(path=path, kind="hardlink", target=text[3:])
    if text == "/":
        return Entry(path=path, kind="directory", mode=0o755)
    return Entry(path=path, kind="file", content=text.encode())


def facts(*without: str) -> Facts:
    """Survey the minimal image without some paths."""
    return surveyed({k: v for k, v in MINIMAL.items() if k not in without})


def surveyed(members: dict[str, str]) -> Facts:
    survey = Survey()
    for path, text in members.items():
        survey.visit(entry(path, text))
    return survey.facts()


def test_a_merged_usr_image() -> None:
    found = facts()
    assert found.architecture == "amd64"
    assert (found.vendor, found.codename) == ("debian", "trixie")
    assert found.init == "systemd"
    assert found.systemd_version == 257
    assert found.networkd.present
    assert not found.networkd.enabled
    assert not found.resolved.present
    assert not found.ifupdown
    assert found.resolver == "file"


def test_an_image_with_a_lib_of_its_own() -> None:
    found = surveyed(
        {
            "lib/systemd/systemd": "ELF",
            "sbin/init": "-> /lib/systemd/systemd",
            "var/lib/dpkg/status": STATUS.replace("257.13-1", "1:247.3-7"),
            "lib/systemd/system/systemd-networkd.service": NETWORKD,
            "lib/systemd/system/systemd-resolved.service": "[Unit]\n",
        }
    )
    assert found.init == "systemd"
    assert found.systemd_version == 247
    assert found.networkd.present
    assert found.resolved.present


def test_links_are_followed_whatever_the_order() -> None:
    """A link may come after what it leads to, or before."""
    assert surveyed(dict(reversed(MINIMAL.items()))) == facts()


def test_hard_links_are_followed() -> None:
    found = surveyed(
        MINIMAL | {"etc/os-release": "=> usr/lib/os-release"},
    )
    assert found.codename == "trixie"


def test_a_link_to_itself_ends() -> None:
    with pytest.raises(errors.BadImage, match="no init"):
        surveyed(MINIMAL | {"usr/sbin": "-> ../sbin"})


@pytest.mark.parametrize(
    "missing", ["usr/sbin/init", "usr/lib/systemd/systemd"]
)
def test_no_init(missing: str) -> None:
    with pytest.raises(errors.BadImage) as caught:
        facts(missing)
    assert "no init" in caught.value.brief
    assert "systemd-sysv" in caught.value.resolution


def test_exported_image() -> None:
    with pytest.raises(errors.BadImage) as caught:
        surveyed({"metadata.yaml": "architecture: x86_64", "rootfs": "/"})
    assert "an image of Incus" in caught.value.brief
    assert "incus image import" in caught.value.resolution


_ID = "0123456789abcdef0123456789abcdef\n"
_SYSTEMD_ID, _D_BUS_ID = "etc/machine-id", "var/lib/dbus/machine-id"


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({_SYSTEMD_ID: _ID}, (_SYSTEMD_ID,)),
        ({_D_BUS_ID: _ID}, (_D_BUS_ID,)),
        ({_D_BUS_ID: _ID, _SYSTEMD_ID: _ID}, (_SYSTEMD_ID, _D_BUS_ID)),
        (
            {_SYSTEMD_ID: _ID, _D_BUS_ID: "-> /etc/machine-id"},
            (_SYSTEMD_ID,),
        ),
        # Each boot, or the first one, makes an id.
        ({}, ()),
        ({_SYSTEMD_ID: ""}, ()),
        ({_SYSTEMD_ID: "\n"}, ()),
        ({_SYSTEMD_ID: "uninitialized\n"}, ()),
        # Incus would write to wherever a link leads, on the host too.
        ({_SYSTEMD_ID: "-> /run/id", "run/id": _ID}, ()),
        ({"run/id": _ID, _SYSTEMD_ID: "=> run/id"}, ()),
        ({"etc": "-> /srv", "srv/machine-id": _ID, _SYSTEMD_ID: _ID}, ()),
        ({"var/lib": "-> x", _D_BUS_ID: _ID}, ()),
        ({_SYSTEMD_ID: _ID, "a": "-> etc", "a/machine-id": "-> /x"}, ()),
        ({_SYSTEMD_ID: "/"}, ()),
    ],
)
def test_machine_ids(members: dict[str, str], found: tuple[str, ...]) -> None:
    assert surveyed(MINIMAL | members).machine_ids == found


def test_machine_id_is_replaced_by_what_comes_later() -> None:
    survey = Survey()
    for path, text in MINIMAL.items():
        survey.visit(entry(path, text))
    for text in (_ID, "-> /elsewhere"):
        survey.visit(entry(_SYSTEMD_ID, text))
    assert survey.facts().machine_ids == ()


def test_no_machine_id_without_systemd() -> None:
    members = MINIMAL | {
        "usr/sbin/init": "ELF",
        "etc/inittab": "",
        _SYSTEMD_ID: _ID,
    }
    assert surveyed(members).machine_ids == ()


def test_sysvinit() -> None:
    found = surveyed(
        MINIMAL | {"usr/sbin/init": "ELF", "etc/inittab": "id:2:initdefault:\n"}
    )
    assert found.init == "sysvinit"
    assert found.inittab == "id:2:initdefault:\n"


def test_another_init() -> None:
    found = surveyed(MINIMAL | {"usr/sbin/init": "-> ../bin/tini"})
    assert found.init == "other"


@pytest.mark.parametrize(
    "status", ["", STATUS.replace("amd64", "all"), "Package: hello\n"]
)
def test_unknown_architecture(status: str) -> None:
    with pytest.raises(errors.BadImage, match="architecture is unknown"):
        surveyed(MINIMAL | {"var/lib/dpkg/status": status})


def test_a_removed_package_does_not_count() -> None:
    status = STATUS.replace(
        "Package: systemd\nStatus: install ok installed",
        "Package: systemd\nStatus: deinstall ok config-files",
    )
    assert (
        surveyed(MINIMAL | {"var/lib/dpkg/status": status}).systemd_version
        is None
    )


def test_records_in_a_directory() -> None:
    members = MINIMAL | {
        "var/lib/dpkg/status.d/base-files": "Package: base-files\n"
        "Version: 13\nArchitecture: arm64\n",
        "var/lib/dpkg/status.d/base-files.md5sums": "0 etc/motd\n",
    }
    del members["var/lib/dpkg/status"]
    assert surveyed(members).architecture == "arm64"


def test_the_later_of_two_members_counts() -> None:
    survey = Survey()
    for path, text in MINIMAL.items():
        survey.visit(entry(path, text))
    survey.visit(
        entry("var/lib/dpkg/status", STATUS.replace("257.13", "258.1"))
    )
    assert survey.facts().systemd_version == 258


@pytest.mark.parametrize(
    ("release", "debian_version", "codename"),
    [
        ("VERSION_CODENAME=forky", "", "forky"),
        ('VERSION="8 (jessie)"', "8.11", "jessie"),
        ('PRETTY_NAME="Debian GNU/Linux bookworm/sid"', "", "bookworm"),
        ("ID=debian", "trixie/sid\n", "trixie"),
        ("ID='open quote\nID=debian", "", ""),
        ("", "12.4", ""),
    ],
)
def test_codename(release: str, debian_version: str, codename: str) -> None:
    found = surveyed(
        MINIMAL
        | {
            "usr/lib/os-release": release,
            "etc/debian_version": debian_version,
        }
    )
    assert found.codename == codename


def test_enabled_and_masked() -> None:
    wants = "etc/systemd/system/multi-user.target.wants"
    found = surveyed(
        MINIMAL
        | {
            f"{wants}/systemd-networkd.service": "-> /anywhere",
            "usr/lib/systemd/system/systemd-resolved.service": "[Unit]\n",
            "etc/systemd/system/systemd-resolved.service": "-> /dev/null",
        }
    )
    assert found.networkd.enabled
    assert not found.resolved.present


def test_what_a_unit_says_about_enabling() -> None:
    assert facts().units["systemd-networkd.service"] == Install(
        wanted_by=("multi-user.target",),
        alias=("dbus-org.freedesktop.network1.service",),
        also=(
            "systemd-networkd.socket",
            "systemd-networkd-wait-online.service",
        ),
    )


def test_ifupdown_with_included_files() -> None:
    found = surveyed(
        MINIMAL
        | {
            "usr/sbin/ifup": "ELF",
            "usr/sbin/dhclient": "ELF",
            "etc/network/interfaces": "source interfaces.d/*\n",
            "etc/network/interfaces.d/net": "auto host0\n",
        }
    )
    assert found.ifupdown
    assert found.dhcp_client
    assert found.interfaces_file == "source interfaces.d/*\n"
    assert "auto host0" in found.interfaces


def test_ifupdown_that_includes_nothing() -> None:
    found = surveyed(
        MINIMAL
        | {
            "etc/network/interfaces": "auto lo\n",
            "etc/network/interfaces.d/net": "auto host0\n",
        }
    )
    assert "host0" not in found.interfaces


@pytest.mark.parametrize(
    ("target", "resolver"),
    [
        ("../run/systemd/resolve/stub-resolv.conf", "resolved"),
        ("/usr/lib/systemd/resolv.conf", "resolved"),
        ("../run/resolvconf/resolv.conf", "resolvconf"),
        ("/etc/resolvconf/run/resolv.conf", "resolvconf"),
        ("/run/NetworkManager/resolv.conf", "networkmanager"),
        ("resolv.conf.mine", "other"),
    ],
)
def test_who_owns_resolv_conf(target: str, resolver: str) -> None:
    found = surveyed(MINIMAL | {"etc/resolv.conf": f"-> {target}"})
    assert found.resolver == resolver


def test_cloud_init() -> None:
    assert not facts().cloud_init
    assert surveyed({**MINIMAL, "usr/bin/cloud-init": "#!py"}).cloud_init


def test_resolvectl_by_another_name_is_no_resolvconf() -> None:
    link = {"usr/sbin/resolvconf": "-> ../bin/resolvectl"}
    assert not surveyed(MINIMAL | link).resolvconf
    assert surveyed(MINIMAL | {"usr/sbin/resolvconf": "#!"}).resolvconf


def test_only_small_files_are_read() -> None:
    survey = Survey()
    assert survey.wants_content("var/lib/dpkg/status")
    assert survey.wants_content("usr/lib/os-release")
    assert survey.wants_content("etc/network/interfaces.d/net.conf")
    assert not survey.wants_content("usr/lib/systemd/systemd")
    assert not survey.wants_content("var/lib/dpkg/status-old")
    assert not survey.wants_content("var/lib/dpkg/info/dpkg.list")


def test_memory_is_bounded() -> None:
    survey = Survey()

    def visit_many() -> None:
        for number in range(20_000):
            survey.visit(entry(f"etc/network/interfaces.d/{number}", "x"))

    with pytest.raises(errors.BadImage, match="more configuration files"):
        visit_many()


def test_what_is_not_watched_is_forgotten() -> None:
    survey = Survey()
    for number in range(100_000):
        survey.visit(entry(f"usr/share/doc/{number}", "x"))
    for path, text in MINIMAL.items():
        survey.visit(entry(path, text))
    assert survey.facts() == facts()
