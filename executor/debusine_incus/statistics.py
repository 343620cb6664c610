# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what instances use, in a separate thread.

Debusine asks for it in its worker's event loop, which must not wait for Incus.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields

import psutil
from debusine.tasks.executors.base import ExecutorStatistics
from prometheus_client.parser import text_string_to_metric_families

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import OWNER_KEY
from incus_testbed.ownership.owner import Owner

log = logging.getLogger(__name__)

#: Seconds between two measurements; and seconds without a question after which
#: they stop.
_INTERVAL = 3.0
_PATIENCE = 60.0

#: Incus's metrics.  Each is summed over an instance's devices but loopback.
_DISK_FREE = "incus_filesystem_avail_bytes"
_DISK = "incus_filesystem_size_bytes"
_MEMORY_FREE = "incus_memory_MemFree_bytes"
_MEMORY = "incus_memory_MemTotal_bytes"
_RECEIVED = "incus_network_receive_bytes"
_SENT = "incus_network_transmit_bytes"
_CPUS = "incus_cpu_effective_total"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The fields of ExecutorStatistics in all Debusine versions.

    ``cpu_count`` is a number of CPUs, all others are in bytes.
    """

    disk_space: int | None = None
    memory: int | None = None
    network_received: int | None = None
    network_sent: int | None = None
    available_disk_space: int | None = None
    available_memory: int | None = None
    cpu_count: int | None = None

    def most(self, other: "Usage") -> "Usage":
        """Return the larger value of each field."""
        pairs = {
            field.name: (getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        }
        return Usage(
            **{
                name: max(
                    (value for value in pair if value is not None),
                    default=None,
                )
                for name, pair in pairs.items()
            }
        )

    def statistics(self) -> ExecutorStatistics:
        """Return the values for which this Debusine has a field."""
        statistics = ExecutorStatistics()
        for field in fields(self):
            if hasattr(statistics, field.name):
                setattr(statistics, field.name, getattr(self, field.name))
        return statistics


class Monitor:
    """The peak use of instances that this process and its children own.

    It measures one kind of instances: container or virtual-machine.
    """

    def __init__(self, incus: Incus, *, kind: str) -> None:
        """Use this client; the first question starts the measurements."""
        self._incus = incus
        self._kind = kind
        self._peaks: dict[str, Usage] = {}
        self._foreign: set[str] = set()
        self._asked = 0.0
        self._thread: threading.Thread | None = None

    def peak(self, name: str | None) -> Usage:
        """Return the peak use of an instance so far, without waiting.

        Without a name, it is that of the instances that children of this
        process, such as autopkgtest's virt server, have launched.  The first
        call returns nothing: it starts the measurements.
        """
        self._asked = time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._watch, name="incus-statistics", daemon=True
            )
            self._thread.start()
        names = [name] if name else sorted(self._foreign)
        result = Usage()
        for each in names:
            result = result.most(self._peaks.get(each, Usage()))
        return result

    def forget_ended(self) -> None:
        """Forget instances that have ended: they belonged to another task.

        These are instances that are gone, and those whose owner is gone,
        because they are being removed.  If Incus does not answer, nothing is
        forgotten.
        """
        try:
            alive = self._alive()
        except (errors.TestbedError, psutil.Error) as error:
            log.debug("can't find out which instances have ended: %s", error)
            return
        self._peaks = {
            name: peak for name, peak in self._peaks.items() if name in alive
        }
        self._foreign = {name for name in self._foreign if name in alive}

    def _watch(self) -> None:
        while time.monotonic() - self._asked < _PATIENCE:
            try:
                self._look()
            except (errors.TestbedError, psutil.Error) as error:
                log.debug("no statistics: %s", error)
            time.sleep(_INTERVAL)

    def _look(self) -> None:
        alive = self._alive()
        known = _usages(self._incus.metrics())
        for name, foreign in alive.items():
            self._peaks[name] = self._peaks.get(name, Usage()).most(
                known.get(name, Usage())
            )
            if foreign:
                self._foreign.add(name)

    def _alive(self) -> dict[str, bool]:
        """Return the instances, and for each whether a child launched it."""
        children = {
            child.pid for child in psutil.Process().children(recursive=True)
        }
        owners = {
            record.name: Owner.parse(record.config.get(OWNER_KEY, ""))
            for record in self._incus.instances()
            if record.kind == self._kind
        }
        return {
            name: owner.pid in children
            for name, owner in owners.items()
            if owner and owner.pid in children | {os.getpid()}
        }


def _usages(metrics: str) -> dict[str, Usage]:
    """Return what each instance uses, by name."""
    values: dict[str, dict[str, int]] = {}
    for family, instance, value in _samples(metrics):
        of_instance = values.setdefault(instance, {})
        of_instance[family] = of_instance.get(family, 0) + value
    return {name: _usage(found) for name, found in values.items()}


def _samples(metrics: str) -> Iterator[tuple[str, str, int]]:
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            instance = sample.labels.get("name")
            if instance and sample.labels.get("device") != "lo":
                yield family.name, instance, int(sample.value)


def _usage(found: dict[str, int]) -> Usage:
    return Usage(
        disk_space=_difference(found, _DISK, _DISK_FREE),
        memory=_difference(found, _MEMORY, _MEMORY_FREE),
        network_received=found.get(_RECEIVED),
        network_sent=found.get(_SENT),
        available_disk_space=found.get(_DISK),
        available_memory=found.get(_MEMORY),
        cpu_count=found.get(_CPUS),
    )


def _difference(found: dict[str, int], whole: str, free: str) -> int | None:
    if whole in found and free in found:
        return found[whole] - found[free]
    return None
