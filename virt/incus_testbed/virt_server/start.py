# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the virt server: first the process for its commands, then the rest.

That process is a copy of this one, from before the rest is imported.
"""

from typing import NoReturn

from incus_testbed.virt_server.forkserver import Forkserver


def main() -> NoReturn:
    """Serve one run of autopkgtest over standard input and output."""
    forkserver = Forkserver()
    from incus_testbed.virt_server import program  # noqa: PLC0415

    program.main(forkserver=forkserver)
