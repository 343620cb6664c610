# SPDX-License-Identifier: GPL-3.0-or-later
"""Define what must be known of the system on a disk to start it."""

from dataclasses import dataclass

from incus_testbed.system.facts import Facts


@dataclass(frozen=True, kw_only=True)
class BootLoader:
    """A disk's boot loaders.

    ``architectures`` are Debian's names.  ``signed``: they start with secure
    boot enabled.
    """

    architectures: frozenset[str]
    signed: bool


@dataclass(frozen=True, kw_only=True)
class DiskSystem:
    """A disk's system.

    ``size`` is the disk's, in bytes.  ``facts`` is None if its root file
    system can't be read here; then ``file_system`` is its name, such as xfs,
    or "unknown", and ``agent``, ``has_9p`` and ``network`` are assumed to be
    true.  ``agent``: the system starts Incus' agent by itself.
    ``has_9p``: each of its kernels can read the files that Incus shares.
    ``network``: the system configures a virtual machine's NIC.
    """

    size: int
    boot_loader: BootLoader
    facts: Facts | None = None
    file_system: str = ""
    agent: bool = True
    has_9p: bool = True
    network: bool = True
