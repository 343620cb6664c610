# SPDX-License-Identifier: GPL-3.0-or-later
"""No two testbeds are one machine to others, whatever their image holds."""

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

_ALIAS = "test/real-machine"
_ID = "0123456789abcdef0123456789abcdef"
_SYSTEMD, _D_BUS = "etc/machine-id", "var/lib/dbus/machine-id"
_WITH_D_BUS = "trixie", ("iputils-ping", "perl", "dbus")

#: Who the guest is, to systemd, to D-Bus and to the DHCP server.
_ASK = """
cat /etc/machine-id
if [ -x /usr/bin/dbus-uuidgen ]; then dbus-uuidgen --get; else echo; fi
hostname -I
systemctl is-system-running || :
"""


@pytest.fixture
def import_real_machine(
    incus: Incus, system_tarball: Callable[..., Path], tmp_path: Path
) -> Iterator[Callable[..., None]]:
    """Give what imports a suite's tarball with files of one machine."""
    store = Store(incus)

    def import_(suite: str, *packages: str, **files: str) -> None:
        tarball = tmp_path / "system.tar"
        packed = system_tarball(suite, *packages)
        subprocess.run(["zstd", "-qd", packed, "-o", tarball], check=True)
        with tarfile.open(tarball, "a") as tar:
            for path, text in files.items():
                member = tarfile.TarInfo(path)
                member.mode = 0o444
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        with tarball.open("rb") as source:
            store.add(source, _ALIAS)

    yield import_
    if store.find(_ALIAS):
        store.remove(_ALIAS)


def _identity(instance: Instance) -> tuple[str, str, str]:
    """Return a guest's machine-id, that of its D-Bus, and its addresses."""
    instance.wait_ready()
    done = instance.guest.exec(
        ["sh", "-c", _ASK], capture_output=True, text=True, timeout=60
    )
    system, d_bus, addresses, state = done.stdout.splitlines()
    assert state == "running"
    return system, d_bus, addresses


@pytest.mark.parametrize(
    ("suite", "packages", "files"),
    [
        # systemd takes over D-Bus' where its own is empty.
        ("bookworm", (), {_D_BUS: _ID + "\n"}),
        (*_WITH_D_BUS, {_SYSTEMD: _ID + "\n", _D_BUS: _ID + "\n"}),
    ],
    ids=["d-bus", "both"],
)
def test_each_launch_is_a_machine_of_its_own(
    import_real_machine: Callable[..., None],
    incus: Incus,
    suite: str,
    packages: tuple[str, ...],
    files: dict[str, str],
) -> None:
    import_real_machine(suite, *packages, **files)
    with ExitStack() as stack:
        made = [
            stack.enter_context(Instance.launch(incus, _ALIAS, purpose="test"))
            for _ in range(2)
        ]
        found = [_identity(instance) for instance in made]
    systems, d_buses, addresses = zip(*found, strict=True)
    assert len({_ID, *systems}) == 3
    assert len(set(addresses)) == 2
    if packages:
        assert d_buses == systems


def test_each_copy_is_a_machine_of_its_own(
    import_real_machine: Callable[..., None], incus: Incus
) -> None:
    import_real_machine("bookworm", **{_SYSTEMD: _ID + "\n"})
    with ExitStack() as stack:
        instance = stack.enter_context(
            Instance.launch(incus, _ALIAS, purpose="test", ephemeral=False)
        )
        copy = stack.enter_context(Instance(incus, f"{instance.name}-copy"))
        first = _identity(instance)
        instance.stop()
        incus.run("copy", instance.name, copy.name, timeout=300)
        for each in (instance, copy):
            incus.start(each.name)
        assert _identity(instance) == first, "after a restart"
        second = _identity(copy)
    assert len({_ID, first[0], second[0]}) == 3
    assert first[2] != second[2]
