# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert a file in a separate process that can reach only its own files.

The author of the file is unknown, and Python, xz, zstd and QEMU read it.  If
the file takes over one of these programs, that program has no network, no
Incus and no token, and no files but the source and those that it writes.
"""
