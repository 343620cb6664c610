# SPDX-License-Identifier: GPL-3.0-or-later
"""How long each step of a testbed's life takes, beside what else there is.

All contenders work on the same machine, in the same Incus, with the same image
and in turns.  One of them is the floor: the bare commands that nobody can do
without.
"""
