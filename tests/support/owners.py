# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that own something: alive, gone, or not to be judged from here."""

import dataclasses

from incus_testbed.ownership.owner import Owner

#: This process.
MINE = Owner.current()
#: A process that had this one's pid.
GONE = dataclasses.replace(MINE, started=1)
REBOOTED = dataclasses.replace(MINE, boot="an-earlier-boot")
ON_ANOTHER_MACHINE = dataclasses.replace(REBOOTED, host="0" * 32)
IN_ANOTHER_CONTAINER = dataclasses.replace(GONE, pid_namespace=1)
