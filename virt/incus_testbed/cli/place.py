# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the server and the project that a command line names.

The remote comes from the image's name (farm:trixie), from --remote, from
INCUS_REMOTE, or from the configuration of the incus command, in this order.
"""

import argparse
import os

from incus_testbed import errors
from incus_testbed.incus.client import Incus


def client(arguments: argparse.Namespace, attribute: str = "alias") -> Incus:
    """Return the client for a command line, and take the remote off its image.

    ``attribute`` is that of the image's name, if there is one.  A name such as
    images:debian/13 stays as it is: that server has only images, and 'incus
    launch' copies from it.

    :raises errors.TestbedError: the remote is unknown, can't run testbeds, or
        is another than that of --remote
    """
    image = getattr(arguments, attribute, None) or ""
    prefix, alias = split(image)
    option = (arguments.remote or "").rstrip(":")
    named = option or os.environ.get("INCUS_REMOTE", "")
    if not prefix and not named:
        return Incus(project=arguments.project)
    runs_testbeds = Incus().remotes()
    for name in filter(None, (prefix, named)):
        _check_known(name, list(runs_testbeds))
    if prefix and runs_testbeds[prefix]:
        if option not in {"", prefix}:
            raise errors.TestbedError(
                f"--remote={option} and {image} name two servers",
                resolution="Leave one of them out.",
            )
        if not alias:
            raise errors.TestbedError(
                f"{image} names no image", resolution=f"Use {image}ALIAS"
            )
        setattr(arguments, attribute, alias)
        return Incus(project=arguments.project, remote=prefix)
    if named and not runs_testbeds[named]:
        raise errors.Unsupported(
            f"The remote {named} has only images: no testbed can run there",
            resolution="Name another one. See: incus remote list",
        )
    return Incus(project=arguments.project, remote=arguments.remote)


def split(name: str) -> tuple[str, str]:
    """Return the remote in an image's name, or "", and the alias.

    It is what is before the first colon, as in the incus command.  A path has
    a slash there.
    """
    remote, colon, alias = name.partition(":")
    return (remote, alias) if colon and "/" not in remote else ("", name)


def _check_known(name: str, known: list[str]) -> None:
    if name not in known:
        raise errors.NotFound(
            f"There is no remote {name}",
            resolution=f"There are: {', '.join(sorted(known))}."
            f" Add it: incus remote add {name} TOKEN",
        )
