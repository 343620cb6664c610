# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert a raw or qcow2 disk image to qcow2, and read what it holds.

Every reader here reads qcow2, because the result is qcow2 anyway: a stream
then needs no second copy.  The file systems are read by our own code, because
the usual tools need a raw disk, which is several times as large as a
compressed qcow2 image.
"""
