# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert a raw or qcow2 disk image to qcow2, and read what it holds.

Every reader here reads qcow2, because the result is qcow2 anyway: a stream
then needs no second copy.  The file systems are read by our own code, because
the usual tools (debugfs, mtools, sfdisk) need a raw disk, which is several
times as large as a compressed qcow2 image.

Each reader says which library of Debian it was compared with.  Figures are of
Debian 12, with 2,000 disks of tests/fuzz each, of which the readers here took
none for longer than a second.  python3-tsk, which reads ext4, FAT and GPT,
took 10 s and more for 3 of them, with no more reads than a sound disk needs,
so that our limit on reads does not end it.
"""
