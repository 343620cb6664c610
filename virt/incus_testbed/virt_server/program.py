# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the virt server as a program."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from incus_testbed import errors
from incus_testbed.cli import network, output
from incus_testbed.incus.client import Incus
from incus_testbed.virt_server import interruption, protocol
from incus_testbed.virt_server.arguments import parser
from incus_testbed.virt_server.interruption import Interrupted
from incus_testbed.virt_server.testbed import Testbed


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Serve one run of autopkgtest over standard input and output."""
    arguments = parser().parse_args(argv)
    output.configure(2 if arguments.debug else 0)
    incus = Incus(project=arguments.project, remote=arguments.remote)
    _keep_to(incus)
    testbed = Testbed(
        incus,
        arguments.image,
        name=arguments.name,
        delete_existing=arguments.delete_existing,
        network=network.is_wanted(arguments),
        arguments=arguments.launch_arguments,
    )
    protocol.call(testbed, debug=arguments.debug)
    interrupted = None
    try:
        protocol.greet()
        interruption.catch()
        protocol.serve()
    except Interrupted as caught:
        interrupted = caught
    finally:
        # VirtSubproc cleans up an open testbed, but not one being opened.
        interruption.ignore()
        try:
            testbed.remove()
        except errors.TestbedError as failure:
            output.error(failure)
    if interrupted:
        interrupted.die()
    sys.exit(0)


def _keep_to(incus: Incus) -> None:
    """Keep the current remote and project, also for processes started here.

    The user may switch to others while the testbed is in use.
    """
    choice = incus.choice()
    os.environ["INCUS_REMOTE"] = choice.remote
    os.environ["INCUS_PROJECT"] = choice.project
