# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxies that an instance's apt uses."""

import socket

from incus_testbed.refresh import upgrade
from tests.support.fake_incus import FakeIncus
from tests.unit.bootstrap.conftest import Machine


def test_without_a_proxy(machine: Machine) -> None:
    del machine
    assert upgrade.proxies(FakeIncus.set_up()) == {}


def test_a_proxy_on_loopback_is_reached_at_the_bridge(machine: Machine) -> None:
    incus = FakeIncus.set_up()
    bridge = incus.objects["network"]["bridge"]["config"]
    bridge["ipv4.address"] = "127.0.0.2/24"
    with socket.create_server(("127.0.0.2", 0)) as listening:
        port = listening.getsockname()[1]
        machine.write(
            "settings", f"Acquire::http::Proxy http://127.0.0.1:{port}\n"
        )

        found = upgrade.proxies(incus)

    assert found == {"http": f"http://127.0.0.2:{port}"}


def test_a_password_does_not_get_into_a_guest(machine: Machine) -> None:
    url = "http://me:secret@proxy.example:3142"
    machine.write("settings", f"Acquire::http::Proxy {url}\n")

    assert upgrade.proxies(FakeIncus.set_up()) == {}


def test_a_machine_that_is_no_debian(machine: Machine) -> None:
    machine.write("targets", "")
    machine.write("settings", "Acquire::http::Proxy http://proxy.example\n")

    assert upgrade.proxies(FakeIncus.set_up()) == {}
