# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the programs' messages, errors and progress on standard error."""

import contextlib
import csv
import json
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from incus_testbed import errors
from incus_testbed.errors import printable
from incus_testbed.instance import console as guest_console

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

    Verbosity -1: only errors; 0: also warnings; 1: also what is done, and the
    consoles of guests that boot; 2: also every command that is run.
    """
    levels = (logging.WARNING, logging.INFO, logging.DEBUG, logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(f"{program}: %(message)s"))
    for package in packages:
        logger = logging.getLogger(package)
        logger.addHandler(handler)
        logger.setLevel(levels[min(verbosity, 2)])
    guest_console.log.setLevel(logging.NOTSET)  # the level of its package


def say(text: str) -> None:
    """Print on standard output that something is done, unless it is quiet."""
    if not _is_quiet():
        print(text)


def _is_quiet() -> bool:
    return not logging.getLogger("incus_testbed").isEnabledFor(logging.WARNING)


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

    Yields the function to call with the count so far, or None if this is quiet,
    standard error is not a terminal, or rich is not installed.
    """
    if _is_quiet() or not sys.stderr.isatty():
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


#: Formats for programs that show all facts.
DOCUMENTS = ("json", "yaml")
#: Formats of a list.
FORMATS = ("table", *DOCUMENTS, "csv")


def document(form: str, facts: object) -> None:
    """Print facts in one of DOCUMENTS on standard output."""
    if form == "json":
        print(json.dumps(facts, indent=2))
        return
    import yaml  # noqa: PLC0415 - most runs do not need it

    print(yaml.safe_dump(facts, sort_keys=False), end="")


def rows(
    form: str,
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    title: str = "",
) -> None:
    """Print rows as a table or as CSV; ``title`` is for a table."""
    if form == "csv":
        safe = [[printable(cell) for cell in row] for row in cells]
        csv.writer(sys.stdout, lineterminator="\n").writerows([headings, *safe])
        return
    if title:
        print(f"{title}:")
    table(headings, cells)


def clear() -> None:
    """Clear the screen, if standard output is a terminal."""
    if sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns on standard output; make the cells safe.

    On a terminal rich lays them out, so that long cells are wrapped.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and _rich_table(headings, rows):
        return
    widths = [
        max(len(row[column]) for row in (headings, *rows))
        for column in range(len(headings))
    ]
    for row in (headings, *rows) if any(headings) else rows:
        cells = (
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        )
        print("  ".join(cells).rstrip())


def _rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Print a table by rich, which heeds NO_COLOR; False without rich."""
    try:
        # Here, because it takes a while to import and is seldom needed.
        from rich import console, text  # noqa: PLC0415
        from rich import table as tables  # noqa: PLC0415
    except ImportError:
        return False
    table = tables.Table(
        box=None,
        show_header=any(headings),
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # As Text, because rich would take [...] in a string for markup.
        table.add_row(*map(text.Text, row))
    console.Console().print(table)
    return True
