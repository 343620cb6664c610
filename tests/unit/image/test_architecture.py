# SPDX-License-Identifier: GPL-3.0-or-later
"""An image for another architecture is refused, with where it could run."""

import pytest

from incus_testbed import errors
from incus_testbed.image import architecture
from incus_testbed.image.labels import Labels
from incus_testbed.incus.records import Member
from incus_testbed.system.architecture import Supported, debian_name
from tests.support.fake_incus import FakeIncus

_AMD64 = Supported(containers=["x86_64", "i686"], machines=["x86_64"])
_ARM64 = Supported(containers=["aarch64", "armv7l"], machines=["aarch64"])


def _refusal(
    name: str, server: Supported, *, vm: bool = False
) -> errors.BadImage:
    with pytest.raises(errors.BadImage) as caught:
        architecture.check(name, Labels(), server, vm=vm)
    return caught.value


@pytest.mark.parametrize(
    ("name", "server", "vm"),
    [
        ("amd64", _AMD64, True),
        ("arm64", _ARM64, True),
        ("i386", _AMD64, False),
        ("armhf", _ARM64, False),
    ],
)
def test_what_the_server_runs(name: str, server: Supported, vm: bool) -> None:
    architecture.check(name, Labels(), server, vm=vm)


def test_a_disk_of_arm64_on_amd64() -> None:
    refusal = _refusal("arm64", _AMD64, vm=True)
    assert (
        refusal.brief == "The image is for arm64, which this server can't run"
    )
    assert refusal.details == "Its virtual machines are x86_64."
    assert "an Incus server of arm64: incus-testbed --remote=" in (
        refusal.resolution
    )


def test_a_tarball_of_arm64_on_amd64() -> None:
    refusal = _refusal("arm64", _AMD64)
    assert refusal.details == "It runs x86_64, i686."
    assert "an Incus server of arm64:" in refusal.resolution


def test_a_container_of_32_bits_runs_on_a_wider_processor() -> None:
    assert "of i386 or amd64:" in _refusal("i386", _ARM64).resolution


@pytest.mark.parametrize(
    ("name", "server", "wider"),
    [("i386", _AMD64, "amd64"), ("armhf", _ARM64, "arm64")],
)
def test_incus_has_no_virtual_machine_of_32_bits(
    name: str, server: Supported, wider: str
) -> None:
    refusal = _refusal(name, server, vm=True)
    assert refusal.brief == f"Incus has no virtual machines of {name}"
    assert f"a disk of {wider}" in refusal.resolution
    assert "container" in refusal.resolution


def test_names_of_incus_in_debian() -> None:
    assert debian_name("aarch64") == "arm64"
    assert debian_name("armv8l") == "armv8l"


class _Mixed(FakeIncus):
    """Is a cluster with one member of arm64."""

    def __init__(self) -> None:
        super().__init__()
        self.become_cluster()
        self.machines.architectures = {"two": "aarch64"}


def test_a_cluster_runs_what_its_members_run() -> None:
    supported = _Mixed().supported()
    assert supported.containers == ("x86_64", "i686", "aarch64")
    assert supported.machines == ("x86_64", "aarch64")


class _ForAdmins(_Mixed):
    def members(self) -> list[Member]:
        raise errors.Restricted("not for you")


def test_who_may_not_know_the_members() -> None:
    assert _ForAdmins().supported().machines == ("x86_64",)
