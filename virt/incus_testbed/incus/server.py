# SPDX-License-Identifier: GPL-3.0-or-later
"""The server: its projects, networks, pools and profiles."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from incus_testbed import errors
from incus_testbed.incus import phrases, records
from incus_testbed.incus.connection import Connection
from incus_testbed.incus.exec.api import quoted
from incus_testbed.incus.members import Watch
from incus_testbed.incus.records import Contents, Member
from incus_testbed.system.architecture import Supported


class Server(Connection):
    """What a server has beside images and instances.

    In a cluster, ``member`` is the name of the member that is asked; without
    it, that is the one which answers this client.
    """

    def __init__(
        self, *, project: str | None = None, remote: str | None = None
    ) -> None:
        """Aim at a project and remote; None means the user's choice."""
        super().__init__(project=project, remote=remote)
        self._environments: dict[object, dict[str, Any]] = {}

    def environment(self) -> dict[str, Any]:
        """Return what the server says of its machine and itself.

        It is asked once for each server that the client is aimed at.  What an
        admin changes meanwhile, such as a cluster, the next client sees.
        """
        choice = self.choice()
        where = (choice.remote, choice.address)
        if where not in self._environments:
            self._environments[where] = self.server()["environment"]
        return self._environments[where]

    def is_only_here(self) -> bool:
        """Tell whether the server is this machine alone.

        A remote is another machine, and a cluster is several: other machines
        make and remove things there, too.
        """
        return self.is_local() and not self.is_clustered()

    def is_clustered(self) -> bool:
        """Tell whether the server is a member of a cluster."""
        return bool(self.environment().get("server_clustered"))

    def watch(self, name: str, verb: str) -> Watch:
        """Return what tells whether a member went down with the work.

        That is ``verb``, about the instance ``name``.
        """
        return Watch(
            *(self._asked, self.environment),
            name,
            asked=f"incus {verb} {name}",
            remote=self._far(),
        )

    def remotes(self) -> dict[str, bool]:
        """Return the names of the user's remotes, and which run instances.

        The others are servers of images alone.  No server is asked.
        """
        listed = json.loads(self.run("remote", "list", "--format=json"))
        return {
            name: remote["Protocol"] == "incus" and not remote["Public"]
            for name, remote in listed.items()
        }

    def server(self, *, member: str = "") -> dict[str, Any]:
        """Return the server's own description: GET /1.0.

        :raises errors.Denied: it does not trust this client
        """
        server: dict[str, Any] = self.get(_of(member, ""))
        if server.get("auth") == "untrusted":  # it says little then
            asked = "GET /1.0"
            raise phrases.STRANGER.error("auth: untrusted", asked, self._far())
        return server

    def members(self) -> list[Member]:
        """Return the members of the server's cluster; none without one.

        :raises errors.Restricted: they are not for this user to know
        """
        if not self.is_clustered():
            return []
        return [
            records.member(record) for record in self._list("cluster/members")
        ]

    def supported(self) -> Supported:
        """Return what the server runs, or what its members run together.

        Incus puts an instance on a member of its image's architecture.  A user
        who may not know the members gets those of the one that is asked.
        """
        environment = self.environment()
        containers = environment["architectures"]
        machines = [environment["kernel_architecture"]]
        with contextlib.suppress(errors.Restricted):
            machines += [each.architecture for each in self.members()]
        return Supported(
            containers=tuple(dict.fromkeys([*containers, *machines])),
            machines=tuple(dict.fromkeys(machines)),
        )

    def resources(self, *, member: str = "") -> dict[str, Any]:
        """Return what the server's machine has: GET /1.0/resources."""
        resources: dict[str, Any] = self.get(_of(member, "resources"))
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
        config: dict[str, str] = self._own_project()["config"]
        return config

    def contents(self) -> Contents:
        """Return what the project that this is aimed at has, by name.

        Incus takes 15 ms for a thousand instances and 500 images.

        :raises errors.NotFound: there is no such project
        """
        return records.contents(self._own_project())

    def _own_project(self) -> dict[str, Any]:
        project: dict[str, Any] = self.get(
            f"projects/{quoted(self.current_project())}"
        )
        return project

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

    def pool_space(
        self, name: str, *, member: str = ""
    ) -> tuple[int, int] | None:
        """Return how many bytes a storage pool has, and how many are free.

        None if it has no limit.

        :raises errors.NotFound: there is none of that name
        """
        path = f"storage-pools/{quoted(name)}/resources"
        space = self.get(_of(member, path))["space"]
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

    def profiles(self) -> list[str]:
        """Return the names of the project's profiles."""
        paths: list[str] = self.get("profiles") or []
        return [records.named_by(path) for path in paths]

    def create_profile(
        self, name: str, *, config: Mapping[str, str], description: str
    ) -> None:
        """Make a profile without devices.

        :raises errors.AlreadyExists: the name is taken
        """
        # It reads YAML, which includes JSON.
        document = {"config": dict(config), "description": description}
        self.run(
            *("profile", "create", self.target(name)),
            stdin=json.dumps(document).encode(),
        )

    def set_profile_keys(self, name: str, config: Mapping[str, str]) -> None:
        """Change some keys of a profile's configuration.

        :raises errors.NotFound: there is none of that name
        """
        settings = [f"{key}={value}" for key, value in config.items()]
        self.run("profile", "set", self.target(name), *settings)

    def delete_profile(self, name: str) -> None:
        """Remove a profile that no instance has.

        :raises errors.NotFound: there is none of that name
        """
        self.run("profile", "delete", self.target(name))


def _of(member: str, path: str) -> str:
    """Return the path at which a member of the cluster is asked."""
    return f"{path}?target={quoted(member)}" if member else path
