# SPDX-License-Identifier: GPL-3.0-or-later
"""The server: its projects, networks, pools and profiles."""

import json
from typing import Any

from incus_testbed import errors
from incus_testbed.incus.connection import Connection
from incus_testbed.incus.exec.api import quoted


class Server(Connection):
    """What a server has beside images and instances."""

    def remotes(self) -> dict[str, bool]:
        """Return the names of the user's remotes, and which run instances.

        The others are servers of images alone.  No server is asked.
        """
        listed = json.loads(self.run("remote", "list", "--format=json"))
        return {
            name: remote["Protocol"] == "incus" and not remote["Public"]
            for name, remote in listed.items()
        }

    def server(self) -> dict[str, Any]:
        """Return the server's own description: GET /1.0."""
        server: dict[str, Any] = self.get("")
        return server

    def resources(self) -> dict[str, Any]:
        """Return what the server's machine has: GET /1.0/resources."""
        resources: dict[str, Any] = self.get("resources")
        return resources

    def metrics(self) -> str:
        """Return what the project's instances use, in Prometheus' format."""
        project = quoted(self.current_project())
        path = f"/1.0/metrics?project={project}"
        return self.run("query", self.target(path)).decode()

    def projects(self) -> list[str]:
        """Return the names of the projects that this user may see."""
        return [project["name"] for project in self._list("projects")]

    def project_config(self) -> dict[str, str]:
        """Return the configuration of the project that this is aimed at.

        :raises errors.NotFound: there is no such project
        """
        config: dict[str, str] = self.get(
            f"projects/{quoted(self.current_project())}"
        )["config"]
        return config

    def certificates(self) -> list[dict[str, Any]]:
        """Return the certificates that the server trusts."""
        return self._list("certificates")

    def networks(self) -> list[dict[str, Any]]:
        """Return the networks, managed or not."""
        return self._list("networks")

    def network_addresses(self, name: str) -> list[str]:
        """Return the addresses that an interface of the server has now.

        There are none if the interface does not exist any more.
        """
        try:
            state = self.get(f"networks/{quoted(name)}/state")
        except errors.NotFound:
            return []
        return [each["address"] for each in state["addresses"] or ()]

    def network_acl(self, name: str) -> dict[str, Any]:
        """Return a network ACL: its config, egress and ingress.

        :raises errors.NotFound: there is none of that name
        """
        acl: dict[str, Any] = self.get(f"network-acls/{quoted(name)}")
        return acl

    def warnings(self) -> list[dict[str, Any]]:
        """Return what the server warns of, also what is over.

        Warnings about the whole server are in no project, so that the query
        must not name one.
        """
        path = self.target("/1.0/warnings?recursion=1")
        return json.loads(self.run("query", path)) or []

    def pools(self) -> list[dict[str, Any]]:
        """Return the storage pools."""
        return self._list("storage-pools")

    def pool_space(self, name: str) -> tuple[int, int] | None:
        """Return how many bytes a storage pool has, and how many are free.

        None if it has no limit.

        :raises errors.NotFound: there is none of that name
        :raises errors.CommandFailed: that depends on the cluster's member
        """
        space = self.get(f"storage-pools/{quoted(name)}/resources")["space"]
        total = space.get("total")
        return (total, total - space["used"]) if total else None

    def profile(self, name: str) -> dict[str, Any]:
        """Return a profile's config, devices and description.

        :raises errors.NotFound: there is none of that name
        """
        try:
            profile: dict[str, Any] = self.get(f"profiles/{quoted(name)}")
        except errors.NotFound:
            raise errors.NotFound(f"There is no profile {name}") from None
        return profile
