# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the incus-testbed command and print its results."""

import argparse
import contextlib
import functools
import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from incus_testbed import errors
from incus_testbed.cli import arguments as command_line
from incus_testbed.cli import build as build_command
from incus_testbed.cli import (
    completion,
    exit_status,
    gc,
    machine,
    max_age,
    network,
    output,
    place,
    refresh,
)
from incus_testbed.cli.images import (
    IMAGE_HEADINGS,
    image_facts,
    image_rows,
)
from incus_testbed.cli.status import DETAIL_HEADINGS, Status
from incus_testbed.image.properties import Labels
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

log = logging.getLogger(__name__)

#: Seconds between two looks of 'status --watch'.
_WATCH_PAUSE = 2.0


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
        lambda: _FUNCTIONS[parsed.function](place.client(parsed), parsed),
        failure_status=parsed.failure_status,
        program=parser.prog,
    )


def build() -> int:
    """Run autopkgtest-build-incus-testbed and return its exit status."""
    return main(parser=command_line.builder())


# -- images


def _import(incus: Incus, arguments: argparse.Namespace) -> int:
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
            generator = file.read()
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
            f"{name} can't be read: {error.strerror}"
        ) from error
    with file:
        yield file


def _images(incus: Incus, arguments: argparse.Namespace) -> int:
    images = Store(incus).images()
    if arguments.format in output.DOCUMENTS:
        facts = [image_facts(image) for image in images]
        output.document(arguments.format, facts)
    else:
        rows = image_rows(images)
        output.rows(arguments.format, IMAGE_HEADINGS, rows)
    if not images and arguments.format == "table":
        log.warning("there are no images; make one: incus-testbed build sid")
    return 0


def _status(incus: Incus, arguments: argparse.Namespace) -> int:
    look = functools.partial(Status, incus, everything=arguments.all)
    if not arguments.watch:
        _print_status(look(), arguments.format)
        return 0
    while True:
        status = look()
        output.clear()
        _print_status(status, arguments.format)
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


def _remove(incus: Incus, arguments: argparse.Namespace) -> int:
    Store(incus).remove(arguments.alias)
    return 0


# -- instances


def _run(incus: Incus, arguments: argparse.Namespace) -> int:
    command = arguments.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise errors.TestbedError(
            "There is no command to run",
            resolution=f"incus-testbed run {arguments.alias} -- COMMAND ...",
        )
    with _launched(incus, arguments, "run") as instance:
        return instance.guest.exec(command).returncode


def _shell(incus: Incus, arguments: argparse.Namespace) -> int:
    with _launched(incus, arguments, "shell") as instance:
        shell = instance.probe()["shell"]
        # With a terminal in the guest, a shell would not see the input's end.
        return instance.guest.exec(
            [shell, "-l"], interactive=sys.stdin.isatty()
        ).returncode


@contextlib.contextmanager
def _launched(
    incus: Incus, arguments: argparse.Namespace, purpose: str
) -> Iterator[Instance]:
    max_age.ensure(incus, arguments.alias, arguments.max_age)
    instance = Instance.launch(
        incus,
        arguments.alias,
        purpose=purpose,
        ephemeral=not arguments.keep,
        network=network.is_wanted(arguments),
        arguments=arguments.launch_argument,
    )
    try:
        instance.wait_ready()
        yield instance
    finally:
        if arguments.keep:
            _keep(incus, instance)
        else:
            instance.delete()


def _keep(incus: Incus, instance: Instance) -> None:
    """Keep an instance, and tell how to use and remove it."""
    instance.keep()
    target = incus.target(instance.name)
    shell = incus.argv("exec", target, "--", "su", "-")
    removal = incus.argv("delete", "--force", target)
    log.warning(
        "%s is kept\n  A shell in it: %s\n  Remove it: %s",
        instance.name,
        shlex.join(shell),
        shlex.join(removal),
    )


_FUNCTIONS: dict[str, Callable[[Incus, argparse.Namespace], int]] = {
    "build": build_command.build,
    "import": _import,
    "refresh": refresh.refresh,
    "images": _images,
    "status": _status,
    "remove": _remove,
    "run": _run,
    "shell": _shell,
    "gc": gc.gc,
    "setup": machine.setup,
    "doctor": machine.doctor,
}
