# SPDX-License-Identifier: GPL-3.0-or-later
"""The system on a disk, as far as it matters to who starts it."""

from dataclasses import dataclass

from incus_testbed.image.facts import Facts


@dataclass(frozen=True, kw_only=True)
class BootLoader:
    """Debian's names of the architectures it is for, and whether it starts
    where secure boot is on.
    """  # noqa: D205

    architectures: frozenset[str]
    signed: bool


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A disk's system.

    ``size`` is the disk's, in bytes.  ``facts`` are None where its root file
    system is none that can be read here; then the rest but for the boot
    loader is taken to be as it should.  ``agent``: it starts Incus' agent by
    itself.  ``has_9p``: each of its kernels can read what Incus shares.
    ``network``: something configures a NIC in a virtual machine.
    """

    size: int
    boot_loader: BootLoader
    facts: Facts | None = None
    agent: bool = True
    has_9p: bool = True
    network: bool = True
