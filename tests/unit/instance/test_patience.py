# SPDX-License-Identifier: GPL-3.0-or-later
"""An instance has the more time to boot, the slower its host is."""

from pathlib import Path
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance import patience


class Hosted(Incus):
    """An Incus on this machine, or on another with such resources."""

    def __init__(self, resources: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.described = resources
        self.asked = 0

    def is_local(self) -> bool:
        return self.described is None

    def resources(self, *, member: str = "") -> dict[str, Any]:
        del member
        self.asked += 1
        if not self.described:
            raise errors.Denied("not for you")
        return self.described


def _resources(
    cpu: str = "AMD EPYC", product: str = "", load: float = 0, total: int = 4
) -> dict[str, Any]:
    return {
        "cpu": {"total": total, "sockets": [{"name": cpu}]},
        "system": {"product": product},
        "load": {"Average1Min": load},
    }


def _detecting(
    monkeypatch: pytest.MonkeyPatch, directory: Path, said: str, load: float = 0
) -> None:
    """Have a machine of QEMU's, its systemd detect something, and a load."""
    vendor = directory / "sys_vendor"
    vendor.write_text("QEMU\n")
    monkeypatch.setattr(patience, "_VENDOR", vendor)
    program = directory / "systemd-detect-virt"
    status = 1 if said == "none" else 0
    program.write_text(f"#!/bin/sh\necho {said}\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0, 0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(patience.LIMIT_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("said", "load", "factor"),
    [
        ("none", 0.5, 1),
        ("kvm", 4, 1),
        ("kvm", 8, 2),
        ("kvm", 400, 3),
        ("qemu", 0, 3),
    ],
)
def test_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    said: str,
    load: float,
    factor: float,
) -> None:
    _detecting(monkeypatch, tmp_path, said, load)
    incus = Hosted()
    assert patience.limit(incus, vm=False) == 120 * factor
    assert patience.limit(incus, vm=True) == 600 * factor
    assert not incus.asked


def test_without_systemd(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _detecting(monkeypatch, tmp_path, "qemu")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert patience.limit(Hosted(), vm=True) == 600


def test_a_machine_of_others_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _detecting(monkeypatch, tmp_path, "qemu")
    (tmp_path / "sys_vendor").write_text("Dell Inc.\n")
    assert patience.limit(Hosted(), vm=True) == 600
    (tmp_path / "sys_vendor").unlink()
    assert patience.limit(Hosted(), vm=True) == 600


@pytest.mark.parametrize(
    ("resources", "factor"),
    [
        (_resources(), 1),
        (_resources(load=6), 1.5),
        (_resources(cpu="QEMU TCG CPU version 2.5+"), 3),
        (_resources(product="QEMU Virtual Machine"), 3),
        (_resources(product="KVM Virtual Machine"), 1),
        # As an older Incus, or one on a machine without DMI, answers.
        ({"cpu": {"total": 4, "sockets": None}, "system": None}, 1),
        ({}, 1),
    ],
)
def test_on_a_remote(resources: dict[str, Any], factor: float) -> None:
    assert patience.limit(Hosted(resources), vm=True) == 600 * factor


def test_remote_is_not_asked_for_a_container() -> None:
    incus = Hosted(_resources(load=100))
    assert patience.limit(incus, vm=False) == 120
    assert not incus.asked


def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    incus = Hosted(_resources(load=100))
    monkeypatch.setenv(patience.LIMIT_VARIABLE, "1200")
    assert patience.limit(incus, vm=True) == 1200
    assert patience.limit(incus, vm=False) == 1200
    assert not incus.asked
    monkeypatch.setenv(patience.LIMIT_VARIABLE, "soon")
    with pytest.raises(errors.Unsupported, match="soon"):
        patience.limit(incus, vm=True)
