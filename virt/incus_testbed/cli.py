# SPDX-License-Identifier: GPL-3.0-or-later
"""The incus-testbed command: arguments in, printing and exit status out."""

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO, NoReturn

from incus_testbed import __version__, collect, errors, host, reporting
from incus_testbed.client import Image, Incus
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from incus_testbed.instance import Instance

#: Exit status of 'run' and 'shell' for failures of our own; the command's own
#: statuses pass through.
_OWN_FAILURE = 125


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    arguments = parser().parse_args(argv)
    reporting.configure(arguments.verbose)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    incus = Incus(project=arguments.project, remote=arguments.remote)
    try:
        status: int = arguments.function(incus, arguments)
        sys.stdout.flush()
    except errors.TestbedError as failure:
        reporting.error(failure)
        return int(arguments.failure_status)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader has left; Python must not complain of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through all context managers, which clean up."""
    del frame
    raise SystemExit(128 + number)


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
        reporting.progress(
            f"Importing {arguments.alias}", reporting.size_of(source)
        ) as update,
    ):
        imported = Store(incus).add(
            source,
            arguments.alias,
            label=label,
            generator=generator,
            progress=update,
        )
    print(
        f"{arguments.alias} is imported"
        if imported
        else f"{arguments.alias} holds an image of this file already"
    )
    return 0


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """Open a file of the user's; - is standard input."""
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
    if arguments.format == "json":
        print(json.dumps([_image_facts(image) for image in images], indent=2))
        return 0
    reporting.table(
        ("ALIAS", "SYSTEM", "ARCHITECTURE", "SIZE", "IMPORTED", "LAST USED"),
        [
            (
                " ".join(image.aliases),
                f"{image.properties.get('os')}"
                f" {image.properties.get('release')}",
                image.architecture,
                f"{image.size / 1e6:.0f} MB",
                f"{image.uploaded:%Y-%m-%d %H:%M}",
                f"{image.last_used:%Y-%m-%d %H:%M}"
                if image.last_used
                else "never",
            )
            for image in images
        ],
    )
    return 0


def _image_facts(image: Image) -> dict[str, object]:
    return {
        "aliases": list(image.aliases),
        "fingerprint": image.fingerprint,
        "architecture": image.architecture,
        "type": image.kind,
        "size": image.size,
        "uploaded": image.uploaded.isoformat(),
        "last_used": image.last_used.isoformat() if image.last_used else None,
        "profiles": list(image.profiles),
        "properties": dict(image.properties),
    }


def _remove(incus: Incus, arguments: argparse.Namespace) -> int:
    Store(incus).remove(arguments.alias)
    return 0


# -- instances


def _run(incus: Incus, arguments: argparse.Namespace) -> int:
    with _launched(incus, arguments, "run") as instance:
        return instance.exec(arguments.command).returncode


def _shell(incus: Incus, arguments: argparse.Namespace) -> int:
    with _launched(incus, arguments, "shell") as instance:
        shell = instance.probe()["shell"]
        return instance.exec([shell, "-l"], interactive=True).returncode


@contextlib.contextmanager
def _launched(
    incus: Incus, arguments: argparse.Namespace, purpose: str
) -> Iterator[Instance]:
    with Instance.launch(
        incus,
        arguments.alias,
        purpose=purpose,
        arguments=arguments.launch_argument,
    ) as instance:
        instance.wait_ready()
        yield instance


def _gc(incus: Incus, arguments: argparse.Namespace) -> int:
    act = collect.find if arguments.dry_run else collect.collect
    garbage = act(incus)
    verb = "would be removed" if arguments.dry_run else "removed"
    for record in garbage.instances:
        print(f"instance {record.name}: {verb}")
    for image in garbage.images:
        print(f"unfinished image {image.fingerprint[:12]}: {verb}")
    return 0


# -- this machine


def _setup(incus: Incus, arguments: argparse.Namespace) -> int:
    done = False
    for argv in host.setup(incus, _names(arguments), dry_run=arguments.dry_run):
        print(f"$ {shlex.join(argv)}", flush=True)
        done = True
    if not done:
        print("Everything is there: nothing to do.")
    return 0


def _doctor(incus: Incus, arguments: argparse.Namespace) -> int:
    reports = host.doctor(incus, _names(arguments))
    reporting.table(
        ("", "REQUIREMENT", "FOUND"),
        [
            (report.finding.state.value, report.requirement, detail)
            for report in reports
            for detail in [report.finding.detail]
        ],
    )
    for report in reports:
        if report.remedies:
            print(f"\n{report.requirement}:")
            for remedy in report.remedies:
                print(f"  {remedy}")
    failed = any(
        report.finding.state is host.State.FAILED for report in reports
    )
    return 1 if failed else 0


def _names(arguments: argparse.Namespace) -> host.Names:
    return host.Names(
        network=arguments.network,
        pool=arguments.pool,
        profile=arguments.profile,
    )


# -- the command line


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    result = argparse.ArgumentParser(
        prog="incus-testbed",
        description="Throw-away Debian testbeds in Incus.",
    )
    result.set_defaults(failure_status=1)
    result.add_argument("--version", action="version", version=__version__)
    result.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say what is done; twice: every command that is run",
    )
    result.add_argument("--remote", help="see: incus remote list")
    result.add_argument("--project", help="see: incus project list")
    commands = result.add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    _add_image_commands(commands)
    _add_instance_commands(commands)
    _add_machine_commands(commands)
    return result


_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse's only name


def _add_image_commands(
    commands: "_Commands[argparse.ArgumentParser]",
) -> None:
    command = commands.add_parser(
        "import",
        help="make an image of a system tarball",
        description="Make an Incus image of a Debian system tarball. What is"
        " not given is read from the tarball.",
    )
    command.set_defaults(function=_import)
    command.add_argument(
        "file", metavar="FILE", help="plain, gz, bz2, xz or zst; - is stdin"
    )
    command.add_argument(
        "--alias", required=True, help="name of the image: artifact/ID"
    )
    command.add_argument("--artifact-id", metavar="ID")
    command.add_argument("--codename", help="such as trixie")
    command.add_argument("--vendor", help="such as debian")
    command.add_argument("--architecture", help="such as amd64")
    command.add_argument("--description")
    command.add_argument(
        "--generator",
        metavar="FILE",
        help="put in this systemd generator instead of our own",
    )

    command = commands.add_parser("images", help="list the imported images")
    command.set_defaults(function=_images)
    command.add_argument(
        "-f", "--format", choices=("table", "json"), default="table"
    )

    command = commands.add_parser("remove", help="remove an imported image")
    command.set_defaults(function=_remove)
    command.add_argument("alias", metavar="ALIAS")


def _add_instance_commands(
    commands: "_Commands[argparse.ArgumentParser]",
) -> None:
    command = commands.add_parser(
        "run",
        help="run a command in a throw-away instance",
        description="Run a command, as root, in an instance that is removed"
        " afterwards. The exit status is the command's, or"
        f" {_OWN_FAILURE} if it could not be run.",
    )
    command.set_defaults(function=_run)
    _add_launch_arguments(command)
    command.add_argument("command", metavar="COMMAND", nargs="+")

    command = commands.add_parser(
        "shell", help="open a shell in a throw-away instance"
    )
    command.set_defaults(function=_shell)
    _add_launch_arguments(command)

    command = commands.add_parser(
        "gc",
        help="remove what processes that are gone have left",
        description="Remove instances and unfinished images whose owner, a"
        " process of this machine, is gone. Safe at any time.",
    )
    command.set_defaults(function=_gc)
    command.add_argument(
        "--dry-run", action="store_true", help="say it, don't do it"
    )


def _add_launch_arguments(command: argparse.ArgumentParser) -> None:
    command.set_defaults(failure_status=_OWN_FAILURE)
    command.add_argument(
        "--launch-argument",
        metavar="ARG",
        action="append",
        default=[],
        help="hand this to 'incus launch'; may be repeated",
    )
    command.add_argument("alias", metavar="ALIAS")


def _add_machine_commands(
    commands: "_Commands[argparse.ArgumentParser]",
) -> None:
    setup = commands.add_parser(
        "setup",
        help="make the network, storage pool and profile",
        description="Make what is missing for testbeds: the network, the"
        " storage pool and the profile. Can be run again at any time.",
    )
    setup.set_defaults(function=_setup)
    setup.add_argument(
        "--dry-run", action="store_true", help="print the commands only"
    )
    doctor = commands.add_parser(
        "doctor",
        help="check this machine; changes nothing",
        description="Check what testbeds need, and say what mends what is"
        " amiss. The exit status is 1 if something is.",
    )
    doctor.set_defaults(function=_doctor)
    defaults = host.Names()
    for command in (setup, doctor):
        for name in ("network", "pool", "profile"):
            command.add_argument(
                f"--{name}",
                metavar="NAME",
                default=getattr(defaults, name),
                help="its name (%(default)s)",
            )
