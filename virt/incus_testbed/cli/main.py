# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the incus-testbed command."""

import argparse
import importlib
from collections.abc import Sequence

from incus_testbed.cli import arguments as command_line
from incus_testbed.cli import completion, exit_status, output, place

#: Where the function of each command is.  The others are not imported: all
#: together take twice as long as what run needs.
_FUNCTIONS = {
    "build": ("build", "build"),
    "doctor": ("machine", "doctor"),
    "gc": ("gc", "gc"),
    "images": ("listing", "images"),
    "import": ("image", "add"),
    "refresh": ("refresh", "refresh"),
    "remove": ("image", "remove"),
    "run": ("instance", "run"),
    "setup": ("machine", "setup"),
    "shell": ("instance", "shell"),
    "status": ("listing", "status"),
}


def main(
    argv: Sequence[str] | None = None,
    parser: argparse.ArgumentParser | None = None,
) -> int:
    """Run a command line and return its exit status."""
    parser = parser or command_line.parser()
    completion.answer(parser)
    parsed = parser.parse_args(argv)
    output.configure(parsed.verbose, program=parser.prog)
    return exit_status.status(
        lambda: _run(parsed),
        failure_status=parsed.failure_status,
        program=parser.prog,
    )


def build() -> int:
    """Run autopkgtest-build-incus-testbed and return its exit status."""
    return main(parser=command_line.builder())


def _run(parsed: argparse.Namespace) -> int:
    module, function = _FUNCTIONS[parsed.function]
    commands = importlib.import_module(f"incus_testbed.cli.{module}")
    status: int = getattr(commands, function)(place.client(parsed), parsed)
    return status
