# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images: from any raw or qcow2 file to what a virtual machine boots.

All that is read of a disk is read from qcow2, in which it ends up anyway: so
a stream needs no copy beside its result.  The file systems are read here, not
by tools: those want a raw disk, several times as large as a packed qcow2.
"""
