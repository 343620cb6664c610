# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that show what there is: images and status."""

import argparse
import functools
import logging
import time

from incus_testbed.cli import output
from incus_testbed.cli.images import (
    IMAGE_HEADINGS,
    image_facts,
    image_rows,
)
from incus_testbed.cli.status import DETAIL_HEADINGS, Status
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus

log = logging.getLogger(__name__)

#: Seconds between two looks of 'status --watch'.
_WATCH_PAUSE = 2.0


def images(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run images; return its exit status."""
    found = Store(incus).images()
    if arguments.format in output.DOCUMENTS:
        facts = [image_facts(image) for image in found]
        output.document(arguments.format, facts)
    else:
        rows = image_rows(found)
        output.rows(arguments.format, IMAGE_HEADINGS, rows)
    if not found and arguments.format == "table":
        log.warning("there are no images; make one: incus-testbed build sid")
    return 0


def status(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run status; return its exit status."""
    look = functools.partial(Status, incus, everything=arguments.all)
    if not arguments.watch:
        _print_status(look(), arguments.format)
        return 0
    while True:
        seen = look()
        output.clear()
        _print_status(seen, arguments.format)
        time.sleep(_WATCH_PAUSE)


def _print_status(status: Status, form: str) -> None:
    if form in output.DOCUMENTS:
        output.document(form, status.facts())
        return
    if form == "csv":
        output.rows(form, DETAIL_HEADINGS, status.details())
        return
    for number, (title, headings, rows) in enumerate(status.sections()):
        if rows:
            print("\n" if number else "", end="")
            output.rows(form, headings, rows, title=title)
