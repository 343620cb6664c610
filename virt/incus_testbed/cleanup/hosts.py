# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines own something, and which of them an admin means."""

from collections import Counter
from collections.abc import Iterable, Mapping

from incus_testbed import errors
from incus_testbed.ownership.owner import HOST_ID_LENGTH, Owner


def label(host: str) -> str:
    """Return how people are told of a host whose processes can't be judged."""
    name = host[:HOST_ID_LENGTH]
    if host == Owner.current().host:
        return f"{name} (this one, before its last boot)"
    return name


def owns(pieces: Mapping[str, int]) -> str:
    """Say in words how many pieces of each kind a host owns."""
    return ", ".join(
        f"{number} {kind}{'s' if number > 1 else ''}"
        for kind, number in pieces.items()
    )


def together(
    found: Iterable[Mapping[str, Counter[str]]],
) -> dict[str, Counter[str]]:
    """Return what hosts own in several projects."""
    result: dict[str, Counter[str]] = {}
    for hosts in found:
        for host, pieces in hosts.items():
            result.setdefault(host, Counter()).update(pieces)
    return result


def resolved(host_id: str, hosts: Iterable[str]) -> str:
    """Return the host of an id: this one, or one of the hosts that are given.

    :raises errors.NotFound: it is none of them
    :raises errors.TestbedError: it is several of them
    """
    known = sorted({*hosts, Owner.current().host})
    match [host for host in known if host.startswith(host_id)]:
        case [host]:
            return host
        case []:
            ids = " ".join(host[:HOST_ID_LENGTH] for host in known)
            raise errors.NotFound(
                f"There is nothing here of a host {host_id}",
                details=f"The hosts are: {ids}",
                resolution="'incus-testbed status' says what each owns.",
            )
        case several:
            raise errors.TestbedError(
                f"{host_id} is the id of more than one host",
                details=f"They are: {' '.join(several)}",
                resolution="Give more characters of the one that you mean.",
            )
