# SPDX-License-Identifier: GPL-3.0-or-later
"""What instances used, as Debusine is told."""

import dataclasses
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from debusine_incus.statistics import Monitor, Usage, statistics
from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import InstanceRecord
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.ownership.owner import Owner

_METRICS = """\
# HELP incus_filesystem_avail_bytes The number of available space in bytes.
# TYPE incus_filesystem_avail_bytes gauge
incus_filesystem_avail_bytes{device="/dev/x",mountpoint="/",name="a"} 6e+06
# HELP incus_filesystem_size_bytes The size of the filesystem in bytes.
# TYPE incus_filesystem_size_bytes gauge
incus_filesystem_size_bytes{device="/dev/x",mountpoint="/",name="a"} 1e+07
# HELP incus_memory_MemFree_bytes The amount of free memory.
# TYPE incus_memory_MemFree_bytes gauge
incus_memory_MemFree_bytes{name="a",project="default",type="container"} 700
incus_memory_MemFree_bytes{name="b",project="default",type="container"} 1
# HELP incus_memory_MemTotal_bytes The amount of used memory.
# TYPE incus_memory_MemTotal_bytes gauge
incus_memory_MemTotal_bytes{name="a",project="default",type="container"} 1000
incus_memory_MemTotal_bytes{name="b",project="default",type="container"} 1000
# HELP incus_network_receive_bytes_total The amount of received bytes.
# TYPE incus_network_receive_bytes_total counter
incus_network_receive_bytes_total{device="lo",name="a"} 5
incus_network_receive_bytes_total{device="host0",name="a"} 70
incus_network_receive_bytes_total{device="host1",name="a"} 8
"""


class _Server(Incus):
    """An Incus with one instance, unless told otherwise, of a given owner."""

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.owner = owner
        self.kinds = {"a": "container"}
        self.text = _METRICS
        self.looks = 0
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def metrics(self) -> str:
        assert self.gate.wait(60)
        self.looks += 1
        return self.text

    def instance(self, name: str) -> InstanceRecord:
        self.asked.append(name)
        if name not in self.kinds:
            raise errors.NotFound(f"There is no instance {name}")
        return InstanceRecord(
            name=name,
            kind=self.kinds[name],
            status="Running",
            config={OWNER_KEY: str(self.owner)},
            ephemeral=True,
            created=datetime.now(UTC),
        )


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Watch often, and not beyond the test."""
    monkeypatch.setattr("debusine_incus.statistics._INTERVAL", 0.02)
    yield
    monkeypatch.setattr("debusine_incus.statistics._PATIENCE", 0)
    _wait_for_the_end()


def _wait_for_the_end() -> None:
    for thread in threading.enumerate():
        if thread.name == "incus-statistics":
            thread.join(60)
            assert not thread.is_alive()


def _watched(monitor: Monitor, server: _Server, name: str | None) -> Usage:
    monitor.peak(name)
    looks = server.looks
    deadline = time.monotonic() + 60
    while server.looks < looks + 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return monitor.peak(name)


def test_an_instance_of_this_process() -> None:
    server = _Server(Owner.current())
    assert _watched(_monitor(server), server, "a") == {
        "disk_space": 4_000_000,
        "available_disk_space": 10_000_000,
        "memory": 300,
        "available_memory": 1000,
        "network_received": 78,
    }


class _Clock:
    """A clock that moves when one sleeps, or takes time for something."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class _SlowServer(_Server):
    """Takes some seconds for an answer."""

    def __init__(self, clock: _Clock, seconds: float) -> None:
        super().__init__(Owner.current())
        self.clock, self.seconds = clock, seconds

    def metrics(self) -> str:
        self.clock.now += self.seconds
        return super().metrics()


@pytest.mark.parametrize(
    ("seconds", "sleeps"),
    [(0.0, [3.0] * 20), (4.0, [36.0, 36.0]), (30.0, [60.0])],
)
def test_a_slow_host_is_asked_less_often(
    monkeypatch: pytest.MonkeyPatch, seconds: float, sleeps: list[float]
) -> None:
    clock = _Clock()
    monkeypatch.setattr("debusine_incus.statistics.time", clock)
    monkeypatch.setattr("debusine_incus.statistics._INTERVAL", 3.0)
    _monitor(_SlowServer(clock, seconds)).peak("a")
    _wait_for_the_end()
    assert clock.sleeps == sleeps


def _monitor(server: _Server, kind: str = "container") -> Monitor:
    return Monitor(server, kind=kind)


def test_the_most_is_remembered() -> None:
    server = _Server(Owner.current())
    monitor = _monitor(server)
    assert _watched(monitor, server, "a")["memory"] == 300
    server.text = _METRICS.replace(" 700\n", " 900\n")
    assert _watched(monitor, server, "a")["memory"] == 300
    # Another task begins.
    monitor.forget_ended()
    assert monitor.peak("a")["memory"] == 300


def test_what_has_ended_is_remembered_until_another_task_begins() -> None:
    with _child() as child:
        server = _Server(_owned_by(child))
        monitor = _monitor(server)
        assert _watched(monitor, server, None)["memory"] == 300
        server.kinds = {}
        assert _watched(monitor, server, None)["memory"] == 300
        monitor.forget_ended()
        assert monitor.peak(None) == {}


def test_what_is_still_being_removed_has_ended() -> None:
    with _child() as child:
        server = _Server(_owned_by(child))
        monitor = _monitor(server)
        assert _watched(monitor, server, None)["memory"] == 300
        child.communicate()
    monitor.forget_ended()
    assert monitor.peak(None) == {}


def test_nothing_is_forgotten_where_it_is_not_known_what_has_ended() -> None:
    server = _Server(Owner.current())
    monitor = _monitor(server)
    assert _watched(monitor, server, "a")["memory"] == 300

    def instance(name: str) -> InstanceRecord:
        raise errors.DaemonDown(f"{name}?")

    server.instance = instance  # type: ignore[method-assign]
    monitor.forget_ended()
    assert monitor.peak("a")["memory"] == 300


def test_containers_and_virtual_machines_are_apart() -> None:
    with _child() as child:
        server = _Server(_owned_by(child))
        server.kinds = {"a": "container", "b": "virtual-machine"}
        containers = _monitor(server)
        machines = _monitor(server, "virtual-machine")
        assert _watched(containers, server, None)["memory"] == 300
        assert _watched(machines, server, None)["memory"] == 999


def _child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE)


def _owned_by(child: "subprocess.Popen[bytes]") -> Owner:
    return dataclasses.replace(Owner.current(), pid=child.pid)


def test_instances_of_others_do_not_count() -> None:
    server = _Server(dataclasses.replace(Owner.current(), pid=1))
    assert _watched(_monitor(server), server, None) == {}
    assert _watched(_monitor(server), server, "a") == {}


def test_an_instance_is_asked_for_its_owner_once() -> None:
    server = _Server(Owner.current())
    _watched(_monitor(server), server, "a")
    assert sorted(server.asked) == ["a", "b"]


def test_asking_never_waits_for_incus() -> None:
    server = _Server(Owner.current())
    server.gate.clear()
    monitor = _monitor(server)
    before = time.monotonic()
    assert monitor.peak("a") == {}
    assert monitor.peak("a") == {}
    assert time.monotonic() - before < 10
    server.gate.set()


def test_an_incus_that_fails_is_asked_again() -> None:
    server = _Server(Owner.current())
    fine = server.metrics
    fail = True

    def metrics() -> str:
        if fail:
            server.looks += 1
            raise errors.DaemonDown("down")
        return fine()

    server.metrics = metrics  # type: ignore[method-assign]
    monitor = _monitor(server)
    assert _watched(monitor, server, "a") == {}
    fail = False
    assert _watched(monitor, server, "a")["memory"] == 300


def test_statistics_have_what_this_debusine_knows() -> None:
    found = statistics({"memory": 5, "network_sent": 7})
    assert found.memory == 5
    assert getattr(found, "network_sent", 7) == 7
