# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine with a stock kernel, systemd and AppArmor that runs Incus' VMs.

    python3 -m tests.vm [--fresh] -- COMMAND...

runs COMMAND in this checkout, in that machine.  It is a Debian guest of QEMU
in pure emulation, with an AMD processor whose virtualisation is emulated too;
so it needs no KVM, and time.
"""
