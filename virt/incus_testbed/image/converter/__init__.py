# SPDX-License-Identifier: GPL-3.0-or-later
"""A conversion in a process of its own, which has the two files and no more.

The file that is converted was made by somebody unknown, and Python, xz, zstd
and QEMU read it.  Should one of them be taken over, it finds no network, no
Incus, no token, and no file but the one it was given and the one it writes.
"""
