# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect what tells why a guest has not booted, and what to do about it.

What only this needs is imported in its functions: nearly all guests boot.
"""

import contextlib

from incus_testbed import errors
from incus_testbed.instance import console, scripts
from incus_testbed.instance.guest import SCRIPT_LIMIT, Guest

_CONSOLE_LINES = 25
#: The configuration of an instance has the properties of its image; this one
#: is of images that incus-testbed has imported (image/properties.py).
_IMPORTED = "image.incus-testbed.alias"
#: What to do about a guest that did not come up.
_RESOLUTION = (
    "'incus-testbed doctor' checks whether guests can boot on this machine;"
    " 'incus launch IMAGE' makes an instance that you can examine."
)


def of(guest: Guest) -> str:
    """Return what a guest wrote to its console, and what it reports now."""
    parts = [_console(guest)]
    with contextlib.suppress(errors.TestbedError):
        answer = guest.execute(
            scripts.command("evidence.sh"), timeout=SCRIPT_LIMIT
        )
        parts.append(answer.stdout.decode(errors="replace").strip())
    return "\n".join(filter(None, parts))


def _console(guest: Guest) -> str:
    """Return the end of what a guest wrote to its console."""
    try:
        lines = console.read(guest).splitlines()
    except errors.TestbedError as error:
        return f"(no console log: {error.brief})"
    shown = [line.rstrip() for line in lines if line.strip()]
    return "\n".join(["The end of its console:", *shown[-_CONSOLE_LINES:]])


def _firewalls(guest: Guest) -> str:
    """Return the firewalls that block a guest's DHCP, and how to open them.

    That is a line for each firewall and command.  It is empty if no firewall
    is known to block DHCP.
    """
    from incus_testbed.firewall import obstruction  # noqa: PLC0415

    if not guest.incus.is_local():
        return ""
    try:
        networks = guest.incus.instance(guest.name).networks
    except errors.TestbedError:
        return ""
    lines = [
        line
        for bridge in networks
        if obstruction.is_bridge(bridge)
        for found in obstruction.find(bridge)
        if found.hides_dhcp
        for line in (
            f"The most likely cause: {found.detail}. Run as root:",
            *found.remedy,
        )
    ]
    return "".join(f"{line}\n" for line in lines)


def _foreign(guest: Guest) -> str:
    """Return what to do about a container whose image is not ours, in a line.

    Such an image may configure a card of another name than its profile's.
    """
    try:
        record = guest.incus.instance(guest.name)
    except errors.TestbedError:
        return ""
    if guest.vm or not record.cards or _IMPORTED in record.config:
        return ""
    return (
        "incus-testbed has not imported its image, so the image may set up a"
        " network card of another name. For a card eth0, launch it with"
        f" '--device={record.cards[0]},name=eth0', or import its tarball.\n"
    )


def about_disk(guest: Guest) -> str:
    """Return what to do about a disk of which nothing is known, in a line."""
    from incus_testbed.customise import vm  # noqa: PLC0415

    try:
        config = guest.incus.instance(guest.name).config
    except errors.TestbedError:
        return ""
    name = config.get(f"image.{vm.FILE_SYSTEM}")
    if not name:
        return ""
    return (
        f"The import could not read the {name} of its disk, so nothing may"
        " start Incus' agent there: add the package incus-agent to the system,"
        " or make the disk with ext4.\n"
    )


def about_network(guest: Guest) -> str:
    """Return what to do about a guest without a network, in lines."""
    return f"{_firewalls(guest)}{_foreign(guest)}"


def failure(
    guest: Guest, why: str, details: str = "", *, advice: str = ""
) -> errors.BootFailed:
    """Return the error about a guest that did not come up, with the evidence.

    ``advice`` are lines of what to do first.
    """
    return errors.BootFailed(
        f"{guest.name} did not become ready: {why}",
        details=f"{details}\n{of(guest)}".strip(),
        resolution=f"{advice}{_RESOLUTION}",
    )
