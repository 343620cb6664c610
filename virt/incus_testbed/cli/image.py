# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that add and remove an image: import and remove."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from incus_testbed import errors
from incus_testbed.cli import output
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus

#: Bytes of a systemd generator: it is a program that writes a few links.
_LARGEST_GENERATOR = 1 << 20


def add(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run import; return its exit status."""
    label = Labels(
        artifact_id=arguments.artifact_id,
        codename=arguments.codename,
        vendor=arguments.vendor,
        architecture=arguments.architecture,
        description=arguments.description,
    )
    generator = None
    if arguments.generator:
        with _opened(arguments.generator) as file:
            generator = file.read(_LARGEST_GENERATOR + 1)
        if len(generator) > _LARGEST_GENERATOR:
            raise errors.TestbedError(
                f"The generator {arguments.generator} has more than 1 MiB"
            )
    with (
        _opened(arguments.file) as source,
        output.progress(
            f"Importing {arguments.alias}", output.size_of(source)
        ) as update,
    ):
        imported = Store(incus).add(
            source,
            arguments.alias,
            label=label,
            generator=generator,
            progress=update,
        )
    output.say(
        f"{arguments.alias} is imported"
        if imported
        else f"{arguments.alias} is already an image of this file"
    )
    return 0


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """Open a file that the user named; - is standard input."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise errors.NotFound(
            f"{name or repr(name)} can't be read: {error.strerror}"
        ) from error
    with file:
        yield file


def remove(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run remove; return its exit status."""
    Store(incus).remove(arguments.alias)
    return 0
