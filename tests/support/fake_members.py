# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of a fake Incus that is a cluster."""

from collections.abc import Mapping, Sequence
from typing import Any

from incus_testbed import errors


class Members:
    """The members by name; false without a cluster."""

    def __init__(self, names: Sequence[str]) -> None:
        """Have members that are all online and alike."""
        self.statuses = dict.fromkeys(names, "Online")
        self._hosts = {
            name: f"203.0.113.{number}" for number, name in enumerate(names, 1)
        }
        #: Free bytes, and bytes of memory, of members that differ.
        self.free: dict[str, int] = {}
        self.memory: dict[str, int] = {}
        #: Incus's names of the architectures of members that differ.
        self.architectures: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Tell whether there is a cluster."""
        return bool(self.statuses)

    def named(self, member: str) -> dict[str, Any]:
        """Return what a member says of its place; the first by no name."""
        if not self.statuses and not member:
            return {"server_clustered": False, "server_name": "machine"}
        name = member or next(iter(self.statuses))
        if name not in self.statuses:
            raise errors.NotFound("Cluster member not found")
        self.check_answering(name)
        return {"server_clustered": True, "server_name": name}

    def check_answering(self, name: str) -> None:
        """Refuse what a member would have to do that is offline."""
        if self.statuses.get(name) == "Offline":
            raise errors.MemberDown(f"Unable to connect to: {name}")

    def listed(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return what a list says of an instance: little, if it is away."""
        if self.statuses.get(instance["location"]) != "Offline":
            return instance
        return {
            **{key: instance[key] for key in ("name", "type", "location")},
            "status": "Error",
            "config": None,
            "profiles": None,
            "ephemeral": False,
            "created_at": "0001-01-01T00:00:00Z",
        }

    def records(self) -> list[dict[str, Any]]:
        """Return the members as the API describes them."""
        return [
            {
                "server_name": name,
                "status": status,
                "message": f"is {status}",
                "url": f"https://{self._hosts[name]}:8443",
                "architecture": self.architectures.get(name, "x86_64"),
            }
            for name, status in self.statuses.items()
        ]

    def check_creation(self, pieces: Mapping[str, Any], target: str) -> None:
        """Refuse to make a piece twice, or a whole that lacks pieces."""
        present = pieces.get("locations", [])
        if pieces["status"] != "Pending":
            raise errors.AlreadyExists("It already exists")
        if target:
            self.named(target)
            if target in present:
                raise errors.AlreadyExists("It is already defined on member")
            return
        if missing := self.statuses.keys() - present:
            raise errors.CommandFailed(
                f"Network not defined on nodes: {' '.join(missing)}"
                if present
                else "Network not pending on any node (use --target <node>"
                " first)"
            )
        for name in self.statuses:
            self.named(name)


def target_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the member that a command line names, and the other words."""
    option = "--target="
    targets = [word for word in words if word.startswith(option)]
    return (
        targets[0].removeprefix(option) if targets else "",
        [word for word in words if word not in targets],
    )
