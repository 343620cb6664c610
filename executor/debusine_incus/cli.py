# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the debusine-incus command: parse, pull, print, return a status."""

import argparse
import shlex
import sys
from collections.abc import Sequence

try:
    from debusine.client.debusine import Debusine
    from debusine.client.models import ArtifactResponse, WorkRequestResponse
except ImportError as error:
    sys.exit(
        f"debusine-incus: Debusine's client can't be used: {error}\n"
        "  Install it: apt install debusine-client"
    )

from debusine_incus import arguments as command_line
from debusine_incus import server
from debusine_incus.arguments import PROGRAM
from debusine_incus.images import ImageCache
from debusine_incus.system_image import SystemImage
from incus_testbed import errors
from incus_testbed.cli import completion, exit_status, output, place


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    parser = command_line.parser()
    completion.answer(parser)
    parsed = parser.parse_args(argv)
    output.configure(
        parsed.verbose,
        program=PROGRAM,
        packages=("incus_testbed", "debusine_incus"),
    )
    return exit_status.status(lambda: _pull(parsed), program=PROGRAM)


def _pull(arguments: argparse.Namespace) -> int:
    api = server.connect(arguments.server)
    number, workspace = arguments.artifact, arguments.workspace
    if workspace and not server.knows_workspaces(api):
        raise errors.Unsupported(
            "This version of Debusine always looks in all workspaces",
            resolution="Leave out --workspace.",
        )
    if arguments.work_request is not None:
        with server.asked_for(f"work request {arguments.work_request}", api):
            request = api.work_request_get(arguments.work_request)
        number = _environment(request)
        if server.knows_workspaces(api):
            workspace = workspace or request.workspace
    cache = ImageCache(
        api,
        None,
        workspace,
        incus=place.client(arguments),
    )
    artifact = _artifact(api, cache, number)
    image = SystemImage(artifact)
    with output.progress(f"Downloading {image.alias}", image.size) as update:
        cache.obtain(artifact, evictable=False, progress=update).release()
    print(f"{image.alias} is ready. To test in it:")
    print(
        "  autopkgtest -U PACKAGE -- incus-testbed"
        f" {_place(arguments)}{image.alias}"
    )
    return 0


def _place(arguments: argparse.Namespace) -> str:
    """Return the options that make the virt server use the same Incus."""
    return "".join(
        f"--{name}={shlex.quote(value)} "
        for name in ("remote", "project")
        if (value := getattr(arguments, name))
    )


def _environment(request: WorkRequestResponse) -> int:
    """Return the number of the artifact that a work request ran in."""
    found = (request.dynamic_task_data or {}).get("environment_id")
    if found is None:
        raise errors.NotFound(
            f"Work request {request.id} ({request.task_type}"
            f" {request.task_name}, {request.status}) has no environment",
            resolution="A task has one once it has started. For a workflow,"
            " give one of its tasks.",
        )
    return int(found)


def _artifact(
    api: Debusine, cache: ImageCache, number: int
) -> ArtifactResponse:
    with server.asked_for(f"artifact {number}", api):
        try:
            return cache.artifact(number)
        except ValueError as error:
            raise errors.BadImage(
                str(error),
                resolution="'debusine-incus pull --work-request ID' finds the"
                " image of a work request.",
            ) from error
