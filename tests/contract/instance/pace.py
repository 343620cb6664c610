# SPDX-License-Identifier: GPL-3.0-or-later
"""How long things may take: longer where all is emulated."""

from tests.vm import guests

#: What seconds meant for a machine of metal are multiplied by.
PACE = 10 if guests.are_here() else 1
