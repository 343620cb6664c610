# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the programs' messages, errors and progress on standard error."""

import contextlib
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from incus_testbed import errors
from incus_testbed.errors import printable

#: The command that prints, unless another is given.
PROGRAM = "incus-testbed"


class _Formatter(logging.Formatter):
    """Makes messages safe that contain text of images and guests."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, safe for a terminal."""
        return printable(super().format(record), kept="\n\t")


def configure(
    verbosity: int,
    *,
    program: str = PROGRAM,
    packages: Sequence[str] = ("incus_testbed",),
) -> None:
    """Send packages' log messages to standard error.

    Verbosity 0: warnings; 1: also what is done; 2: also every command that is
    run.
    """
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(f"{program}: %(message)s"))
    for package in packages:
        logger = logging.getLogger(package)
        logger.addHandler(handler)
        logger.setLevel(levels[min(verbosity, 2)])


def error(failure: errors.TestbedError, *, program: str = PROGRAM) -> None:
    """Print an error: what happened, the detail, what to do next."""
    print(f"{program}: {failure.brief}", file=sys.stderr)
    for part in (failure.details, failure.resolution):
        for line in part.splitlines():
            print(f"  {line}", file=sys.stderr)


@contextlib.contextmanager
def progress(
    what: str, total: int | None
) -> Iterator[Callable[[int], None] | None]:
    """Show how many of ``total`` bytes are done, if stderr is a terminal.

    Yields the function to call with the count so far, or None where standard
    error is not a terminal or rich is not installed.
    """
    if not sys.stderr.isatty():
        yield None
        return
    try:
        # Here, because it takes a while to import and is seldom needed.
        from rich import console  # noqa: PLC0415
        from rich import progress as bars  # noqa: PLC0415
    except ImportError:
        yield None
        return

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(
        *columns, console=console.Console(stderr=True), transient=True
    ) as display:
        task = display.add_task(what, total=total)
        yield lambda done: display.update(task, completed=done)


@contextlib.contextmanager
def steps(what: str) -> Iterator[Callable[[str], None] | None]:
    """Show what is being done and its present step, as progress() does."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich import console, markup  # noqa: PLC0415
    except ImportError:
        yield None
        return

    terminal = console.Console(stderr=True)
    with terminal.status(markup.escape(what)) as display:
        yield lambda step: display.update(
            markup.escape(f"{what}: {printable(step)}")
        )


def size_of(file: BinaryIO) -> int | None:
    """Return the size of an open file, or None if it is a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns on standard output; make the cells safe."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max(len(row[column]) for row in (headings, *rows))
        for column in range(len(headings))
    ]
    for row in (headings, *rows):
        cells = (
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        )
        print("  ".join(cells).rstrip())
