# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image has a launch take along."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.customise import vm
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.instance.plan import Plan
from incus_testbed.system.architecture import Supported


def _image(kind: str, **properties: str) -> Image:
    return Image(
        fingerprint="f" * 64,
        aliases=("a",),
        claims={},
        properties=properties,
        profiles=("debusine",),
        kind=kind,
        architecture="x86_64",
        size=1,
        created=datetime.now(UTC),
        uploaded=datetime.now(UTC),
        last_used=None,
    )


class _Incus(Incus):
    """Has one image, or none."""

    def __init__(self, image: Image | None) -> None:
        super().__init__()
        self._image = image

    def profile(self, name: str) -> dict[str, Any]:
        """Return one with two cards and a disk."""
        assert name in {"debusine", "default"}
        card = {"type": "nic", "network": "bridge"}
        disk = {"type": "disk", "path": "/"}
        return {"devices": {"eth0": card, "second": card, "root": disk}}

    def image(self, name: str) -> Image:
        if self._image is None:
            raise errors.NotFound(f"no image {name}")
        return self._image


def _plan(kind: str, **properties: str) -> Plan:
    return Plan.of(_Incus(_image(kind, **properties)), "a", ())


def test_a_container_takes_nothing() -> None:
    plan = _plan("container", **{"requirements.secureboot": "false"})
    assert plan == Plan(vm=False)


def test_a_vm_without_a_signed_boot_loader() -> None:
    plan = _plan("virtual-machine", **{"requirements.secureboot": "false"})
    assert plan.vm
    assert plan.config == {"security.secureboot": "false"}
    assert plan.devices == {}


def test_a_vm_that_is_told_how_to_start_the_agent() -> None:
    plan = _plan(
        "virtual-machine",
        **{
            "incus-testbed.agent": "credentials",
            "incus-testbed.systemd": "257",
        },
    )
    assert any("incus-agent.service" in key for key in plan.config)
    assert all(key.startswith("smbios11.") for key in plan.config)


def test_a_vm_that_takes_the_agent_from_a_cdrom() -> None:
    plan = _plan("virtual-machine", **{"requirements.cdrom_agent": "true"})
    assert plan.devices == {"agent": {"type": "disk", "source": "agent:config"}}


@pytest.mark.parametrize("vm", [True, False])
def test_an_image_of_another_server(vm: bool) -> None:
    arguments = ["--vm"] if vm else []
    plan = Plan.of(_Incus(None), "images:debian/12", arguments)
    assert plan == Plan(vm=vm)


def test_profiles_of_images() -> None:
    assert profiles.of(_image("container"), "debusine") == ["debusine"]
    assert profiles.of(_image("virtual-machine"), "debusine") == [
        "debusine",
        "debusine-vm",
    ]
    assert profiles.of(_image("virtual-machine"), "other") == [
        "other",
        "other-vm",
    ]


_NO_CARDS = {"eth0": {"type": "none"}, "second": {"type": "none"}}


def test_without_a_network_the_cards_are_left_out() -> None:
    container = _Incus(_image("container"))
    assert Plan.of(container, "a", (), network=False) == Plan(
        vm=False, devices=_NO_CARDS
    )
    machine = _Incus(_image("virtual-machine", **{vm.CDROM: "true"}))
    devices = Plan.of(machine, "a", (), network=False).devices
    assert devices.keys() == {*_NO_CARDS, "agent"}
    elsewhere = Plan.of(_Incus(None), "other:a", (), network=False)
    assert elsewhere.devices == _NO_CARDS


@pytest.mark.parametrize(
    "argument",
    ["-p", "-pother", "-ep", "--profile", "--profile=x", "-n", "--network=x"],
)
def test_nothing_can_bring_a_card_back(argument: str) -> None:
    with pytest.raises(errors.Unsupported, match="network card"):
        Plan.of(
            _Incus(_image("container")), "a", ("-q", argument), network=False
        )


@pytest.mark.parametrize(
    "argument", ["--no-profiles", "--vm", "-climits.cpu=1", "--config=a=n"]
)
def test_other_arguments_go_with_no_network(argument: str) -> None:
    Plan.of(_Incus(_image("container")), "a", (argument,), network=False)


def _refusal(kind: str, architecture: str) -> errors.Unsupported:
    incus = _OnAmd64()
    image = dataclasses.replace(_image(kind), architecture=architecture)
    plan = Plan.of(_Incus(image), "a", ())
    with pytest.raises(errors.Unsupported) as caught:
        plan.check_architecture(incus, "a")
    return caught.value


class _OnAmd64(Incus):
    def supported(self) -> Supported:
        return Supported(containers=["x86_64", "i686"], machines=["x86_64"])


def test_a_container_of_arm64_on_amd64() -> None:
    refusal = _refusal("container", "aarch64")
    assert refusal.brief == (
        "The image a is for arm64, which this server can't run"
    )
    assert refusal.details == "It runs x86_64, i686."
    assert "an Incus server of arm64: use such a" in refusal.resolution


def test_a_vm_of_arm64_on_amd64() -> None:
    refusal = _refusal("virtual-machine", "aarch64")
    assert refusal.details == "Its virtual machines are x86_64."


def test_an_architecture_that_is_not_to_blame() -> None:
    Plan.of(_Incus(_image("container")), "a", ()).check_architecture(
        _OnAmd64(), "a"
    )
    Plan(vm=True).check_architecture(_OnAmd64(), "a")
