# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the server and what a project has, for tables and for programs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from incus_testbed import errors
from incus_testbed.cleanup import garbage, hosts, inventory
from incus_testbed.cli.images import (
    IMAGE_HEADINGS,
    Facts,
    image_facts,
    image_rows,
)
from incus_testbed.host import doctor
from incus_testbed.image import profiles, properties, store
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image, InstanceRecord
from incus_testbed.instance.creation import CREATED_KEY, OWNER_KEY, PURPOSE_KEY
from incus_testbed.ownership.owner import (
    HOST_ID_LENGTH,
    Judge,
    Owner,
    judge,
)

#: A title, the headings of its columns, and the rows.
Section = tuple[str, tuple[str, ...], list[tuple[str, ...]]]

_TESTBED_HEADINGS = ("TESTBED", "TYPE", "STATE", "PURPOSE", "OWNER", "AGE")
#: For CSV: an image's name is its fingerprint.
DETAIL_HEADINGS = ("KIND", "NAME", "FACT", "VALUE")
_GARBAGE_HEADINGS = ("WHAT GC WOULD REMOVE", "NAME")
_HOST_HEADINGS = ("HOST", "OWNS")
_MEMBER_HEADINGS = ("MEMBER", "STATE", "TESTBEDS")


class Status:
    """The server, its members, and what a project has, now."""

    def __init__(self, incus: Incus, *, everything: bool = False) -> None:
        """Ask the server; of many images and testbeds, for a page of them.

        With ``everything``, for all: see inventory.py for what that takes.

        :raises errors.TestbedError: the server does not answer
        """
        with incus.asking_once():
            self._ask(incus, everything)

    def _ask(self, incus: Incus, everything: bool) -> None:
        environment = incus.environment()
        choice = incus.choice()
        self._server: Facts = {
            "version": environment["server_version"],
            "remote": choice.remote,
            "project": choice.project,
            "drivers": sorted(environment["driver"].split(" | ")),
        }
        is_gone = judge(incus.is_only_here)
        there = inventory.take(incus, is_gone, thorough=everything)
        self._images = store.finished(there.images.read)
        shown = [*inventory.page(incus, there.instances)]
        self._testbeds = [
            _testbed(record, is_gone)
            for record in shown
            if CREATED_KEY in record.config
        ]
        self._pool = _pool(incus, shown)
        #: How many others there are, of any user.
        self._unlisted = {
            "images": there.images.unread,
            "instances": len(there.instances.read + there.instances.unread)
            - len(shown),
        }
        is_whole = not self._unlisted["instances"]
        self._members = _members(incus, self._testbeds if is_whole else None)
        held = garbage.locks(incus)
        found = garbage.among(incus, there.images, there.instances, held)
        self._garbage = [
            {"kind": kind, "name": name} for kind, name in found.pieces()
        ]
        self._host = Owner.current().host_id
        self._others = found.elsewhere

    def facts(self) -> Facts:
        """Return everything as JSON has it."""
        return {
            "host": self._host,
            "server": self._server,
            "pool": self._pool,
            "members": self._members,
            "images": [image_facts(image) for image in self._images],
            "testbeds": self._testbeds,
            "unlisted": self._unlisted,
            "garbage": self._garbage,
            "other_hosts": [
                {"host": host[:HOST_ID_LENGTH], "owns": dict(owned)}
                for host, owned in self._others.items()
            ],
        }

    def sections(self) -> list[Section]:
        """Return everything as tables."""
        now = datetime.now(UTC)
        testbeds = [
            (
                *(str(each[key]) for key in ("name", "type", "status")),
                *(str(each[key]) for key in ("purpose", "owner")),
                _age(now - datetime.fromisoformat(str(each["created"]))),
            )
            for each in self._testbeds
        ]
        pieces = [tuple(each.values()) for each in self._garbage]
        members = [
            tuple("?" if fact is None else str(fact) for fact in each.values())
            for each in self._members
        ]
        others: list[tuple[str, ...]] = [
            (hosts.label(host), hosts.owns(owned))
            for host, owned in self._others.items()
        ]
        return [
            ("", ("", ""), self._overview()),
            ("Members", _MEMBER_HEADINGS, members),
            ("Images", IMAGE_HEADINGS, image_rows(self._images)),
            ("Testbeds", _TESTBED_HEADINGS, testbeds),
            ("Garbage", _GARBAGE_HEADINGS, pieces),
            ("Other hosts", _HOST_HEADINGS, others),
        ]

    def details(self) -> list[tuple[str, ...]]:
        """Return a row for each single fact, below DETAIL_HEADINGS."""
        images = [image_facts(image) for image in self._images]
        return [
            *_details("server", "", self._server),
            *_details("pool", "", self._pool or {}),
            *(
                row
                for member in self._members
                for row in _details("member", str(member["name"]), member)
            ),
            *(
                row
                for image in images
                for row in _details("image", str(image["fingerprint"]), image)
            ),
            *(
                row
                for testbed in self._testbeds
                for row in _details("testbed", str(testbed["name"]), testbed)
            ),
            *_details("unlisted", "", self._unlisted),
            *(
                ("garbage", each["name"], "kind", each["kind"])
                for each in self._garbage
            ),
            *(
                ("host", host[:HOST_ID_LENGTH], kind, str(number))
                for host, owned in self._others.items()
                for kind, number in owned.items()
            ),
        ]

    def _overview(self) -> list[tuple[str, ...]]:
        server, pool = self._server, self._pool
        place = f"{server['remote']}, project {server['project']}"
        drivers = ", ".join(map(str, server["drivers"]))  # type: ignore[call-overload]
        return [
            ("Incus", f"{server['version']} ({place}), drivers: {drivers}"),
            *([("Storage pool", _space(pool))] if pool else []),
            *(
                [("Images", _total(self._images))]
                if self._images or not self._unlisted["images"]
                else []
            ),
            *(
                ("Not listed", f"{_counted(number, what)}: see --all")
                for what, number in self._unlisted.items()
                if number
            ),
            ("This host", self._host),
        ]


def _details(
    kind: str, name: str, facts: Mapping[str, object]
) -> list[tuple[str, ...]]:
    return [(kind, name, key, str(value)) for key, value in facts.items()]


def _pool(incus: Incus, instances: Iterable[InstanceRecord]) -> Facts | None:
    """Return the pool that testbeds use; None if this user can't see it.

    One of the instances may tell.  With the profile itself, Incus lists all
    that use it: 0.1 ms for each.
    """
    profile = profiles.chosen(incus)
    pools = (each.pool for each in instances if each.profiles == (profile,))
    try:
        name = next(pools, "") or doctor.names_in_use(incus).pool
        space = incus.pool_space(name)
    except errors.TestbedError:
        return None
    size, free = space or (None, None)
    return {"name": name, "size": size, "free": free}


def _members(incus: Incus, testbeds: Iterable[Facts] | None) -> list[Facts]:
    """Return the members of the cluster, if this user can see any.

    Without all testbeds it is not known how many are on each.  Of those on one
    that does not answer, Incus says only what they are called.
    """
    try:
        members = incus.members()
    except errors.TestbedError:
        return []
    running = Counter(each["member"] for each in testbeds or ())
    return [
        {
            "name": member.name,
            "status": member.status,
            "testbeds": None
            if testbeds is None or member.is_offline
            else running[member.name],
        }
        for member in members
    ]


def _space(pool: Facts) -> str:
    if pool["size"] is None:
        return f"{pool['name']}, without a limit"
    size, free = (int(str(pool[key])) / 1e9 for key in ("size", "free"))
    return f"{pool['name']}, {free:.1f} GB of {size:.1f} GB are free"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what.removesuffix('s') if number == 1 else what}"


def _total(images: list[Image]) -> str:
    if not images:
        return "none"
    total = sum(map(properties.disk_use, images)) / 1e9
    return f"{len(images)}, which take up to {total:.1f} GB"


def _testbed(record: InstanceRecord, is_gone: Judge) -> Facts:
    config = record.config
    return {
        "name": record.name,
        "type": record.kind,
        "status": record.status,
        "purpose": config.get(PURPOSE_KEY, ""),
        "owner": _owner(config.get(OWNER_KEY), is_gone),
        "member": record.member,
        "created": _time(config.get(CREATED_KEY, ""), record.created),
    }


def _owner(text: str | None, is_gone: Judge) -> str:
    """Say which process owns a testbed, as far as that can be known here."""
    if text is None:
        return "none: kept"
    owner = Owner.parse(text)
    if owner is None:
        return "unknown"
    if is_gone(owner):
        return "has ended"
    if owner.boot == Owner.current().boot:
        return f"process {owner.pid}"
    return f"on host {owner.host_id}"


def _time(text: str, otherwise: datetime) -> str:
    """Return a time that a user of the project may have written."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return otherwise.isoformat()
    return (time if time.tzinfo else otherwise).isoformat()


def _age(time: timedelta) -> str:
    minutes = max(int(time.total_seconds()) // 60, 0)
    hours, days = minutes // 60, minutes // (24 * 60)
    if days:
        return f"{days} days" if days > 1 else "1 day"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
