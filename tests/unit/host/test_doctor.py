# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found of a host that is not as it should be."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from incus_testbed import errors
from incus_testbed.host import card, doctor, limits, local, pool, vm
from tests.support.fake_incus import FakeIncus


def _finding(incus: FakeIncus, requirement: str) -> doctor.Finding:
    return next(
        report.finding
        for report in doctor.doctor(incus)
        if report.requirement == requirement
    )


def test_no_server_leaves_the_rest_unchecked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    incus = FakeIncus()

    def refuse() -> None:
        raise errors.DaemonDown("nobody there")

    monkeypatch.setattr(incus, "server", refuse)

    assert _finding(incus, "Incus server").advice
    unknown = _finding(incus, "network debusinebr0")
    assert unknown.state is doctor.State.UNKNOWN
    with pytest.raises(errors.Unsupported, match="nobody there"):
        list(doctor.setup(incus))


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("5.21.1", doctor.State.FAILED),
        ("6.0.2", doctor.State.WARNING),
        ("6.0.4", doctor.State.GOOD),
        ("6.0", doctor.State.WARNING),
        ("7.0.2", doctor.State.GOOD),
    ],
)
def test_server_version(version: str, state: doctor.State) -> None:
    incus = FakeIncus()
    incus.version = version

    assert _finding(incus, "Incus server").state is state


def test_a_pool_that_copies_is_a_warning_with_a_way_out() -> None:
    incus = FakeIncus()
    incus.run("storage", "create", "default", "dir")

    finding = _finding(incus, "storage pool default")

    assert finding.state is doctor.State.WARNING
    assert "--pool" in finding.advice


@pytest.fixture
def _usual_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have a machine that can make a pool in a file."""
    monkeypatch.setattr(pool, "_file_system", lambda _: "ext2/ext3")
    monkeypatch.setattr(pool, "_LOOP_CONTROL", tmp_path)
    monkeypatch.setattr(pool, "_free_space", lambda: 40)


def _advice_for_a_pool_that_copies(incus: FakeIncus) -> list[str]:
    incus.run("storage", "create", "default", "dir")
    return _finding(incus, "storage pool default").advice.splitlines()


@pytest.mark.usefixtures("_usual_machine")
def test_a_pool_that_copies_is_left_by_one_command() -> None:
    incus = FakeIncus()

    assert _advice_for_a_pool_that_copies(incus) == [
        "incus-testbed setup --pool testbeds"
    ]


def test_a_pool_that_is_there_is_better_than_a_new_one() -> None:
    incus = FakeIncus()
    incus.run("storage", "create", "fast", "zfs")

    assert _advice_for_a_pool_that_copies(incus) == [
        "incus-testbed setup --pool fast"
    ]


@pytest.mark.usefixtures("_usual_machine")
def test_a_machine_that_can_make_no_pool_in_a_file_needs_a_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "_LOOP_CONTROL", Path("/nonexistent"))

    assert _advice_for_a_pool_that_copies(FakeIncus()) == [
        "incus storage create testbeds btrfs source=/dev/DISK",
        "incus-testbed setup --pool testbeds",
    ]


@pytest.mark.usefixtures("_usual_machine")
def test_users_with_a_project_get_the_better_pool_too() -> None:
    incus = FakeIncus()
    incus.run("project", "create", "user-999")

    (_, theirs) = _advice_for_a_pool_that_copies(incus)

    assert "setup --restricted USER --pool testbeds" in theirs


def test_a_pool_that_is_full_is_a_warning() -> None:
    incus = FakeIncus()
    incus.run("storage", "create", "default", "btrfs")
    incus.free = 100 << 20

    finding = _finding(incus, "storage pool default")

    assert finding.state is doctor.State.WARNING
    assert "0.1 GiB" in finding.detail


def test_without_a_cloning_driver_setup_makes_a_pool_that_copies() -> None:
    incus = FakeIncus(drivers=["dir"])

    list(doctor.setup(incus))

    finding = _finding(incus, "storage pool default")
    assert finding.state is doctor.State.WARNING
    assert "btrfs-progs" in finding.advice


@pytest.mark.parametrize(("free", "size"), [(5, 5), (40, 20), (10_000, 200)])
def test_pool_size_follows_the_disk(free: int, size: int) -> None:
    assert pool.size(free) == size


def test_a_network_without_address_fails() -> None:
    incus = FakeIncus()
    incus.run("network", "create", "debusinebr0", "ipv4.address=none")

    finding = _finding(incus, "network debusinebr0")

    assert finding.state is doctor.State.FAILED
    assert "ipv4.address=" in finding.advice


def test_low_kernel_limits_are_a_warning(tmp_path: Path) -> None:
    for name, value in (
        ("fs/inotify/max_user_instances", "128"),
        ("fs/inotify/max_user_watches", "8192"),
        ("kernel/keys/maxkeys", "2000"),
        ("kernel/keys/maxbytes", "20000"),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")

    finding = local.check_limits(tmp_path)

    assert finding.state is doctor.State.WARNING
    assert "fs.inotify.max_user_instances=1048576" in finding.advice
    assert "fs.inotify.max_user_watches=1048576" in finding.advice
    assert "kernel.keys.maxbytes=2000000" in finding.advice
    assert "maxkeys" not in finding.advice


@pytest.mark.parametrize(
    ("table", "state"),
    [
        ("root:1000000:1000000000\n", doctor.State.GOOD),
        ("0:1000000:65536\n", doctor.State.GOOD),
        ("alice:100000:65536\n", doctor.State.FAILED),
        ("root:1000000:1000\n", doctor.State.FAILED),
        (None, doctor.State.GOOD),
    ],
)
def test_user_ids(
    tmp_path: Path, table: str | None, state: doctor.State
) -> None:
    if table is not None:
        (tmp_path / "subuid").write_text(table)

    finding = local.check_ids(tmp_path)

    assert finding.state is state
    assert ("usermod --add-subuids" in finding.advice) == (
        state is doctor.State.FAILED
    )


#: What a host has for its virtual machines, by its processor.
_OF_ITS_PROCESSOR = {
    "x86_64": (
        "usr/bin/qemu-system-x86_64",
        "usr/lib/x86_64-linux-gnu/qemu/ui-spice-core.so",
        "usr/share/OVMF/OVMF_CODE_4M.fd",
    ),
    "aarch64": (
        "usr/bin/qemu-system-aarch64",
        "usr/lib/aarch64-linux-gnu/qemu/ui-spice-core.so",
        "usr/share/AAVMF/AAVMF_CODE.secboot.fd",
    ),
}


def _machine(root: Path, *absent: str, processor: str = "x86_64") -> Path:
    """Make a file tree of a host that lacks some of what it takes."""
    for name in (
        "dev/kvm",
        "dev/vhost-vsock",
        "usr/bin/chattr",
        "usr/bin/genisoimage",
        "usr/bin/qemu-img",
        "usr/sbin/sgdisk",
        *_OF_ITS_PROCESSOR[processor],
    ):
        if name not in absent:
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
            file.chmod(0o755)
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text("MemTotal:       16000000 kB\n")
    return root


@pytest.mark.parametrize(
    ("absent", "word"),
    [
        ("dev/kvm", "/dev/kvm"),
        ("dev/vhost-vsock", "vhost_vsock"),
        ("usr/bin/chattr", "apt install e2fsprogs"),
        ("usr/bin/qemu-img", "apt install qemu-utils "),
        ("usr/bin/qemu-system-x86_64", "apt install qemu-system-x86 "),
        (
            "usr/lib/x86_64-linux-gnu/qemu/ui-spice-core.so",
            "qemu-system-modules-spice",
        ),
        ("usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    ],
)
def test_what_keeps_virtual_machines_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str, word: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    (obstacle,) = vm.obstacles(_machine(tmp_path, absent))
    assert word in obstacle.what + obstacle.remedy


@pytest.mark.parametrize(
    ("absent", "package"),
    [
        ("usr/bin/qemu-system-aarch64", "qemu-system-arm "),
        ("usr/share/AAVMF/AAVMF_CODE.secboot.fd", "qemu-efi-aarch64 "),
    ],
)
def test_a_host_of_arm64_has_packages_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str, package: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    root = _machine(tmp_path, processor="aarch64")
    assert list(vm.obstacles(root)) == []
    (root / absent).unlink()
    (obstacle,) = vm.obstacles(root)
    assert f"apt install {package}" in obstacle.remedy


def test_a_host_for_virtual_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    root = _machine(tmp_path)
    assert list(vm.obstacles(root)) == []
    (root / "proc/meminfo").write_text("MemTotal:       1000000 kB\n")
    (obstacle,) = vm.obstacles(root)
    assert "memory" in obstacle.what


def test_a_host_without_virtual_machines_is_as_good() -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))

    assert _finding(incus, "virtual machines").state is doctor.State.NOTE
    assert doctor.obstacles(incus, driver="lxc") == []
    (reason,) = doctor.obstacles(incus, driver="qemu")
    assert "virtual machines: not possible here" in reason


@pytest.mark.parametrize(
    ("memory", "processors", "wanted"),
    [
        (2, 1, ("1", "1024MiB")),
        (16, 8, ("4", "4096MiB")),
        (256, 64, ("4", "8192MiB")),
    ],
)
def test_limits_of_virtual_machines(
    memory: int, processors: int, wanted: tuple[str, str]
) -> None:
    found = limits.of_vms(
        {"memory": {"total": memory << 30}, "cpu": {"total": processors}}
    )
    assert (found["limits.cpu"], found["limits.memory"]) == wanted


def test_limits_that_an_admin_has_set_stay() -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))
    name = doctor.Names().vm_profile
    incus.run("profile", "set", name, "limits.memory=3GiB")
    incus.run("profile", "device", "set", name, "root", "size=9GiB")

    assert list(doctor.setup(incus)) == []

    found = incus.profile(name)
    assert found["config"]["limits.memory"] == "3GiB"
    assert found["devices"]["root"]["size"] == "9GiB"


@pytest.mark.parametrize(
    ("memory", "wanted"),
    [(1, "512MiB"), (2, "1024MiB"), (8, "7168MiB"), (256, "229376MiB")],
)
def test_a_testbed_leaves_memory_to_the_machine(
    memory: int, wanted: str
) -> None:
    found = limits.of_containers({"memory": {"total": memory << 30}})

    assert found["limits.memory"] == wanted


def test_limits_that_incus_ignores_are_a_warning() -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))
    assert _finding(incus, "limits").state is doctor.State.GOOD
    incus.alarms = ["Couldn't find the CGroup pids controller"]

    finding = _finding(incus, "limits")

    assert finding.state is doctor.State.WARNING
    assert "limits.processes" in finding.detail
    assert "limits.memory" not in finding.detail


def test_a_pool_that_copies_can_not_limit_a_disk() -> None:
    incus = FakeIncus(drivers=["dir"])

    list(doctor.setup(incus))

    assert "size" not in incus.profile("debusine")["devices"]["root"]


def test_too_few_ids_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "has_ids", lambda count, *_: count <= 65536)
    incus = FakeIncus()

    list(doctor.setup(incus))

    finding = _finding(incus, "ids of testbeds")
    assert finding.state is doctor.State.WARNING
    assert "usermod --add-subuids" in finding.advice
    assert "security.idmap.isolated" not in incus.profile("debusine")["config"]


def test_a_card_that_is_not_on_a_bridge_is_a_note() -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))
    incus.objects["network"]["debusinebr0"]["type"] = "ovn"

    assert _finding(incus, "neighbours").state is doctor.State.NOTE


def test_a_bridge_with_ipv6_needs_one_more_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    switch = tmp_path / "bridge-nf-call-ip6tables"
    switch.write_text("1\n")
    monkeypatch.setattr(card, "_IPV6_SWITCH", switch)
    incus = FakeIncus()
    incus.run("network", "create", "debusinebr0", "ipv6.address=fd12::1/64")
    list(doctor.setup(incus))

    finding = _finding(incus, "neighbours")

    assert finding.state is doctor.State.WARNING
    assert "br_netfilter" in finding.advice
    device = ("profile", "device", "set", "debusine", "eth0")
    incus.run(*device, "security.ipv6_filtering=true")
    assert _finding(incus, "neighbours").state is doctor.State.GOOD
    # Without DHCP, Incus can't choose the address.
    devices = incus.profile("debusine")["devices"]
    assert "security.ipv4_filtering" not in devices["eth0"]


def test_a_setting_that_needs_an_absent_module_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))
    device = ("profile", "device", "set", "debusine", "eth0")
    incus.run(*device, "security.ipv6_filtering=true")
    monkeypatch.setattr(card, "_IPV6_SWITCH", tmp_path / "absent")

    finding = _finding(incus, "neighbours")

    assert finding.state is doctor.State.FAILED
    assert "modprobe br_netfilter" in finding.advice


def test_what_this_user_may_not_ask_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))

    def refuse(_: str) -> None:
        raise errors.Denied("this user is restricted")

    monkeypatch.setattr(incus, "network_acl", refuse)

    state = _finding(incus, "network access").state
    assert state is doctor.State.UNKNOWN
