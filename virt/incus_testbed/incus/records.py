# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of images and instances, as Incus reports them."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from incus_testbed import errors

#: For an event that has not happened, Incus writes Go's zero time, in year 1.
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

#: Incus' words for the kinds of images and instances, and for a state.
CONTAINER, MACHINE = "container", "virtual-machine"
STOPPED = "Stopped"

#: Where an instance of a server without a cluster is.
_NOWHERE = "none"

#: Aliases that begin with this are not names: ownership/claim.py makes them.
CLAIM = "incus-testbed-claim/"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image as Incus reports it.

    ``size`` is the number of bytes in the image store.  ``claims`` are aliases
    too, with their descriptions.
    """

    fingerprint: str
    aliases: tuple[str, ...]
    claims: Mapping[str, str]
    properties: Mapping[str, str]
    profiles: tuple[str, ...]
    kind: str
    architecture: str
    size: int
    created: datetime
    uploaded: datetime
    last_used: datetime | None


@dataclass(frozen=True, kw_only=True)
class InstanceRecord:
    """An instance as Incus reports it.

    ``kind`` is container or virtual-machine.  ``cards`` are the names of its
    NICs among its devices, ``networks`` their networks, and ``pool`` is that of
    its root disk: also those of its ``profiles``.  ``member`` is the cluster's
    that has it; empty without a cluster.
    """

    name: str
    kind: str
    status: str
    config: Mapping[str, str]
    ephemeral: bool
    created: datetime
    cards: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    pool: str = ""
    profiles: tuple[str, ...] = ()
    member: str = ""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The names of the instances of a project, and its images' fingerprints.

    ``images`` is None if the project has the images of another one.
    """

    instances: tuple[str, ...]
    images: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member of a cluster as Incus reports it.

    ``status`` is Online, Offline, Evacuated or Blocked; ``message`` says more.
    ``host`` is the address, or the name, that the others reach it under.
    ``architecture`` is Incus's name of its processor's.
    """

    name: str
    status: str
    message: str
    host: str
    architecture: str

    @property
    def is_online(self) -> bool:
        """Tell whether it takes new instances."""
        return self.status == "Online"

    @property
    def is_offline(self) -> bool:
        """Tell whether it does not answer the others."""
        return self.status == "Offline"


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Raise an error that says so if a record has not the API's form."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise errors.CommandFailed(
            "The answer of the Incus daemon makes no sense",
            details=f"{type(error).__name__}: {error}",
            resolution="See that the versions of Incus and of this software fit"
            " together.",
        ) from error


@_understood()
def image(record: dict[str, Any]) -> Image:
    """Read the API's record of an image.

    :raises errors.CommandFailed: it has not the API's form
    """
    last_used = datetime.fromisoformat(record["last_used_at"])
    aliases = {
        alias["name"]: alias["description"] for alias in record["aliases"] or ()
    }
    claims = {
        name: text for name, text in aliases.items() if name.startswith(CLAIM)
    }
    return Image(
        fingerprint=record["fingerprint"],
        aliases=tuple(name for name in aliases if name not in claims),
        claims=claims,
        properties=record["properties"] or {},
        profiles=tuple(record.get("profiles") or ()),
        kind=record["type"],
        architecture=record["architecture"],
        size=record["size"],
        created=datetime.fromisoformat(record["created_at"]),
        uploaded=datetime.fromisoformat(record["uploaded_at"]),
        last_used=last_used if last_used > _NEVER else None,
    )


@_understood()
def instance(record: dict[str, Any]) -> InstanceRecord:
    """Read the API's record of an instance.

    :raises errors.CommandFailed: it has not the API's form
    """
    devices = record.get("expanded_devices") or {}
    return InstanceRecord(
        name=record["name"],
        kind=record["type"],
        status=record["status"],
        config=record["config"] or {},
        ephemeral=record["ephemeral"],
        created=datetime.fromisoformat(record["created_at"]),
        cards=tuple(
            name
            for name, device in devices.items()
            if device.get("type") == "nic"
        ),
        networks=tuple(
            device["network"]
            for device in devices.values()
            if "network" in device
        ),
        pool="".join(
            device["pool"]
            for device in devices.values()
            if device.get("path") == "/" and "pool" in device
        ),
        profiles=tuple(record.get("profiles") or ()),
        member=_member_of(record),
    )


def _member_of(record: Mapping[str, Any]) -> str:
    place = str(record.get("location", _NOWHERE))
    return "" if place == _NOWHERE else place


@_understood()
def member(record: dict[str, Any]) -> Member:
    """Read the API's record of a member of a cluster.

    :raises errors.CommandFailed: it has not the API's form
    """
    return Member(
        name=record["server_name"],
        status=record["status"],
        message=record["message"],
        host=urlsplit(record["url"]).hostname or "",
        architecture=record["architecture"],
    )


@_understood()
def names(path: str, urls: Iterable[str]) -> list[str]:
    """Return the names of objects that the API lists by URL, below /1.0/path.

    :raises errors.CommandFailed: they have not the API's form
    """
    place = f"/1.0/{path}/"
    found = [unquote(urlsplit(url).path) for url in urls]
    if not all(each.startswith(place) for each in found):
        raise ValueError(f"not below {place}")
    return [each.removeprefix(place) for each in found]


@_understood()
def targets(aliases: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return the fingerprints that the API's records of aliases name.

    :raises errors.CommandFailed: they have not the API's form
    """
    return {alias["name"]: alias["target"] for alias in aliases}


@_understood()
def contents(project: dict[str, Any]) -> Contents:
    """Read the API's record of a project.

    :raises errors.CommandFailed: it has not the API's form
    """
    paths = [urlsplit(url).path for url in project["used_by"] or ()]

    def below(kind: str) -> tuple[str, ...]:
        place = f"/1.0/{kind}/"
        return tuple(
            unquote(path.removeprefix(place))
            for path in paths
            if path.startswith(place)
        )

    has_images = project["config"].get("features.images") != "false"
    return Contents(
        instances=below("instances"),
        images=below("images") if has_images else None,
    )


@_understood()
def at_work_on(operations: Mapping[str, Any] | None) -> set[str]:
    """Return the names of the instances that Incus is working on.

    ``operations`` are those that the API lists, by their status.

    A command that runs in an instance is an operation too, but of another
    class.  Operations that have ended are listed for some seconds.

    :raises errors.CommandFailed: they have not the API's form
    """
    return {
        named_by(path)
        for operation in itertools.chain(*(operations or {}).values())
        if operation["class"] == "task" and operation["status"] == "Running"
        for path in (operation["resources"] or {}).get("instances", ())
    }


def named_by(url: str) -> str:
    """Return the name of what the API gives the address of."""
    return unquote(urlsplit(url).path.rpartition("/")[2])
