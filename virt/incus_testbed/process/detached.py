# SPDX-License-Identifier: GPL-3.0-or-later
"""Let go of all that a copy of a process shares with the process it is of."""

import os


def let_go(stdin: int | None = None) -> None:
    """Leave the folder and the open files of that process.

    Output goes nowhere; input comes from ``stdin``, or from nowhere.
    """
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere if stdin is None else stdin, 0)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
