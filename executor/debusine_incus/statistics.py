# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what instances use, in a separate thread.

Debusine asks for it in its worker's event loop, which must not wait for Incus.
"""

import itertools
import logging
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import psutil
from debusine.tasks.executors.base import ExecutorStatistics
from prometheus_client.parser import text_string_to_metric_families

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.ownership.owner import Owner

log = logging.getLogger(__name__)

#: Seconds between two measurements, or as many times as long as the last one
#: took: a slow host has other work.
_INTERVAL, _REST = 3.0, 9
#: Seconds without a question after which they stop; none waits longer.
_PATIENCE = 60.0

#: What an instance uses, by the fields that ExecutorStatistics has in any
#: version of Debusine.  ``cpu_count`` is a number of CPUs, the others are in
#: bytes.
Usage: TypeAlias = Mapping[str, int]

#: For each field Incus's metric, and the metric that is subtracted from it.  A
#: metric is summed over an instance's devices but loopback.
_METRICS = {
    "disk_space": (
        "incus_filesystem_size_bytes",
        "incus_filesystem_avail_bytes",
    ),
    "memory": ("incus_memory_MemTotal_bytes", "incus_memory_MemFree_bytes"),
    "network_received": ("incus_network_receive_bytes",),
    "network_sent": ("incus_network_transmit_bytes",),
    "available_disk_space": ("incus_filesystem_size_bytes",),
    "available_memory": ("incus_memory_MemTotal_bytes",),
    "cpu_count": ("incus_cpu_effective_total",),
}


def statistics(usage: Usage) -> ExecutorStatistics:
    """Return the values for which this Debusine has a field."""
    result = ExecutorStatistics()
    for name, value in usage.items():
        if hasattr(result, name):
            setattr(result, name, value)
    return result


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
        self._owners: Mapping[str, Owner | None] = {}
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
        return _most(*(self._peaks.get(each, {}) for each in names))

    def forget_ended(self) -> None:
        """Forget instances that have ended: they belonged to another task.

        These are instances that are gone, and those whose owner is gone,
        because they are being removed.  If Incus does not answer, nothing is
        forgotten.
        """
        try:
            alive = _alive(self._owners_of(self._peaks))
        except (errors.TestbedError, psutil.Error) as error:
            log.debug("can't find out which instances have ended: %s", error)
            return
        self._peaks = {
            name: peak for name, peak in self._peaks.items() if name in alive
        }
        self._foreign = {name for name in self._foreign if name in alive}

    def _watch(self) -> None:
        while (began := time.monotonic()) - self._asked < _PATIENCE:
            try:
                self._look()
            except (errors.TestbedError, psutil.Error) as error:
                log.debug("no statistics: %s", error)
            took = time.monotonic() - began
            time.sleep(min(max(_INTERVAL, took * _REST), _PATIENCE))

    def _look(self) -> None:
        known = _usages(self._incus.metrics())
        self._owners = self._owners_of(known, self._owners)
        for name, foreign in _alive(self._owners).items():
            self._peaks[name] = _most(self._peaks.get(name, {}), known[name])
            if foreign:
                self._foreign.add(name)

    def _owners_of(
        self,
        names: Iterable[str],
        known: Mapping[str, Owner | None] = MappingProxyType({}),
    ) -> Mapping[str, Owner | None]:
        """Return the owners of these instances; Incus is asked for new ones."""
        return {
            name: known[name] if name in known else self._owner(name)
            for name in names
        }

    def _owner(self, name: str) -> Owner | None:
        """Return an instance's owner; None if it is not of our kind."""
        try:
            record = self._incus.instance(name)
        except errors.NotFound:
            return None
        if record.kind != self._kind:
            return None
        return Owner.parse(record.config.get(OWNER_KEY, ""))


def _alive(owners: Mapping[str, Owner | None]) -> dict[str, bool]:
    """Return which instances are ours, and whether a child launched them."""
    children = {
        child.pid for child in psutil.Process().children(recursive=True)
    }
    return {
        name: owner.pid in children
        for name, owner in owners.items()
        if owner and owner.pid in children | {os.getpid()}
    }


def _most(*usages: Usage) -> Usage:
    """Return the largest value of each field."""
    result: dict[str, int] = {}
    for name, value in itertools.chain(*(each.items() for each in usages)):
        result[name] = max(value, result.get(name, value))
    return result


def _usages(text: str) -> dict[str, Usage]:
    """Return what each instance uses, by name."""
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            instance = sample.labels.get("name")
            if instance and sample.labels.get("device") != "lo":
                values[instance][family.name] += int(sample.value)
    return {
        instance: {
            field: found[whole] - sum(found[metric] for metric in free)
            for field, (whole, *free) in _METRICS.items()
            if {whole, *free} <= found.keys()
        }
        for instance, found in values.items()
    }
