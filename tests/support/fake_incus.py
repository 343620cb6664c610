# SPDX-License-Identifier: GPL-3.0-or-later
"""An Incus server in memory, behind the same command lines.

It knows networks, their ACLs, pools, profiles, images and instances; what runs
in an instance it does not know.  tests/contract runs its suites on it and on a
real Incus (test_host.py, test_incus_client.py).
"""

import copy
import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self
from urllib.parse import quote, unquote

from incus_testbed import errors
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus
from incus_testbed.incus.connection import REQUEST_LIMIT
from tests.support import fake_members
from tests.support.fake_images import Images
from tests.support.fake_instances import Devices, Instances

_REMOTES = {
    "local": {"Protocol": "incus", "Public": False},
    "images": {"Protocol": "simplestreams", "Public": True},
}
_OF_INSTANCES = ("launch", "init", "copy", "start", "stop", "delete", "config")


class FakeIncus(Incus):
    """A client whose server is itself."""

    def __init__(
        self,
        *,
        drivers: Sequence[str] = ("dir", "btrfs"),
        members: Sequence[str] = (),
    ) -> None:
        """Have a server with these storage drivers and nothing set up.

        With ``members`` it is a cluster, of which the first answers.
        """
        super().__init__()
        self.machines = fake_members.Members(members)
        self.version = "6.0.4"
        self.firewall = "nftables"
        self.drivers = drivers
        self.settings: dict[str, str] = {}
        self.total = self.free = 1 << 40
        #: The types of what the server warns of.
        self.alarms: list[str] = []
        self.objects: dict[str, dict[str, dict[str, Any]]] = {
            "network": {"eth0": _object("eth0", type="physical")},
            "storage": {},
            "profile": {"default": _profile("default")},
            "acl": {},
        }
        self.objects["network"]["eth0"]["managed"] = False
        self._images = Images(self.objects["profile"].__contains__)
        self._instances = Instances(
            self._images, self._devices_of, members[0] if members else "none"
        )
        #: The clients of all projects, by the project's name.
        self._clients = {"default": self}

    @classmethod
    def set_up(cls) -> Self:
        """Return one that can launch: with a network, a pool, the profile."""
        incus = cls()
        incus.run("network", "create", "bridge")
        incus.run("storage", "create", "pool", "dir")
        for profile in (
            profiles.USUAL,
            profiles.for_vms(profiles.USUAL),
        ):
            incus.run("profile", "create", profile)
        device = ("profile", "device", "add", profiles.USUAL)
        incus.run(*device, "eth0", "nic", "network=bridge", "name=host0")
        incus.run(*device, "root", "disk", "pool=pool", "path=/")
        return incus

    def aimed(
        self, *, project: str | None = None, remote: str | None = None
    ) -> "FakeIncus":
        """Return a client of the same server, as Incus() would."""
        assert remote is None
        return self._clients[project or "default"]

    def become_cluster(self) -> None:
        """Be two machines from now on."""
        self.machines = fake_members.Members(["one", "two"])

    def is_local(self) -> bool:
        """Be on this machine."""
        return True

    def is_direct(self) -> bool:
        """Be reached without the incus command."""
        return True

    def short_file(self, name: str, path: str) -> None:
        """Have a command asked for a file."""

    def modified(self, name: str, path: str) -> None:
        """Not know it, as behind a remote that is not reached directly."""

    def server(self, *, member: str = "") -> dict[str, Any]:
        """Return what a server says of itself."""
        return {
            "auth": "trusted",
            "environment": {
                **self.machines.named(member),
                "architectures": ["x86_64", "i686"],
                "kernel_architecture": "x86_64",
                "server_version": self.version,
                "driver": "lxc",
                "firewall": self.firewall,
                "storage_supported_drivers": [
                    {"Name": driver} for driver in self.drivers
                ],
            },
        }

    def pool_space(self, name: str, *, member: str = "") -> tuple[int, int]:
        """Return the same of every pool, but for members that have less."""
        del name
        self.machines.named(member)
        return self.total, self.machines.free.get(member, self.free)

    def current_project(self) -> str:
        """Return the name of the project that this is aimed at."""
        return self.project or "default"

    def project_config(self) -> dict[str, str]:
        """Return that project's configuration."""
        return self.settings

    def resources(self, *, member: str = "") -> dict[str, Any]:
        """Return what the server's machine has."""
        self.machines.named(member)
        memory = self.machines.memory.get(member, 12 << 30)
        return {"cpu": {"total": 16}, "memory": {"total": memory}}

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Answer with the objects of a kind, or the one that is named."""
        if path == "profiles" and not recursion:
            names = self.objects["profile"]
            return [f"/1.0/profiles/{quote(name)}?project=p" for name in names]
        place, _, query = path.partition("?filter=")
        place, _, member = place.partition("?target=")
        if member:
            self.machines.named(unquote(member))
        kind, _, rest = place.partition("/")
        name = unquote(rest)
        answers: dict[str, Callable[[], Any]] = {
            "": self.server,
            "cluster": self.machines.records,
            "images": lambda: self._images.get(name),
            "instances": lambda: self._instance(name),
            "operations": self._instances.operations,
            "projects": lambda: self._projects(name),
            "networks": lambda: self._network(name),
            "network-acls": lambda: self._acl(name),
            "storage-pools": lambda: [*self.objects["storage"].values()],
            "profiles": lambda: self._profile(name),
        }
        answer = copy.deepcopy(answers[kind]())
        if query:
            answer = _filtered(answer, unquote(query))
        if not recursion and isinstance(answer, list):
            return [_url(place, each) for each in answer]
        return answer

    def working_on(self, name: str) -> AbstractContextManager[None]:
        """Have an operation on an instance meanwhile."""
        return self._instances.being_stopped(name)

    def _instance(self, name: str) -> Any:
        """Return all instances, or one: its member answers for it."""
        found = self._instances.get(name)
        if not name:
            return [self.machines.listed(each) for each in found]
        self.machines.check_answering(found["location"])
        return found

    def _projects(self, name: str) -> Any:
        """Return the names of all projects, or what is in this one."""
        if not name:
            return [{"name": each} for each in self._clients]
        if name != self.current_project():
            return self._clients[name]._projects(name)
        kinds = {
            "images": self._images.get,
            "instances": self._instances.get,
        }
        return {
            "config": self.settings,
            "used_by": [
                f"{_url(kind, each)}?project=p"
                for kind, listed in kinds.items()
                for each in listed("")
            ],
        }

    def _network(self, path: str) -> Any:
        """Return all networks, or the state of one: its address."""
        networks = self.objects["network"]
        if not path:
            return [*networks.values()]
        name = path.removesuffix("/state")
        if name not in networks:
            raise errors.NotFound("Network not found")
        address = networks[name]["config"].get("ipv4.address", "none")
        return {
            "addresses": []
            if address == "none"
            else [{"address": address.partition("/")[0]}]
        }

    def change(self, method: str, path: str, document: object = None) -> None:
        """Change an image, or an alias."""
        kind, _, rest = path.partition("/")
        assert kind == "images"
        self._images.change(method, rest, json.loads(json.dumps(document)))

    def operate(
        self, method: str, path: str, document: object, **_: object
    ) -> None:
        """Make, change or remove an instance."""
        self._instances.operate(method, path, document)

    def import_image(self, metadata: str, rootfs: str) -> str:
        """Do it as the incus command would."""
        said = self.run("image", "import", metadata, rootfs)
        return said.split()[-1].decode()

    def run(
        self,
        *words: str,
        stdin: bytes = b"",
        timeout: float = REQUEST_LIMIT,
        doubt: object = None,
    ) -> bytes:
        """Do what the incus command would."""
        del timeout, doubt
        kind, verb, *rest = words
        if kind == "image":
            return self._images.run(verb, *rest)
        if kind in _OF_INSTANCES:
            return self._instances.run(*words, stdin=stdin)
        if kind == "query":
            return self._query(*words[1:])
        if (kind, verb) == ("remote", "list"):
            return json.dumps(_REMOTES).encode()
        if (kind, verb) == ("network", "acl"):
            kind, (verb, *rest) = "acl", rest
        self._change(kind, verb, *rest)
        if (kind, verb) == ("profile", "create") and stdin:
            self._profile(rest[0]).update(json.loads(stdin))
        return b""

    def _change(self, kind: str, verb: str, *rest: str) -> None:
        """Make, remove or configure one of the objects."""
        if kind == "project":
            self._project(verb, *rest)
        elif verb == "create":
            self._create(kind, *rest)
        elif (kind, verb) == ("profile", "delete"):
            del self.objects[kind][self._profile(rest[0])["name"]]
        elif verb == "delete":
            del self.objects[kind][rest[0]]
        elif kind == "network" and verb == "unset":
            self.objects[kind][rest[0]]["config"].pop(rest[1], None)
        elif kind == "network":
            self._set_network(*rest)
        elif verb == "set":
            self._profile(rest[0])["config"].update(_settings(rest[1:]))
        else:
            verb, profile, *words = rest
            self._device(self._profile(profile)["devices"], verb, *words)

    def _query(self, *words: str) -> bytes:
        """Do what incus query would."""
        match words:
            case ["/1.0/warnings?recursion=1"]:
                found = [
                    {"type": alarm, "status": "new"} for alarm in self.alarms
                ]
                return json.dumps(found).encode()
            case ["--request=PUT", data, path] if "/network-acls/" in path:
                name = path.rpartition("/")[2].partition("?")[0]
                self._acl(name).update(json.loads(data.removeprefix("--data=")))
                return b""
        raise NotImplementedError(f"incus query {words}")

    def _acl(self, name: str) -> dict[str, Any]:
        try:
            return self.objects["acl"][name]
        except KeyError:
            raise errors.NotFound("Network ACL not found") from None

    def _set_network(self, name: str, *settings: str) -> None:
        new = _settings(settings)
        for acl in filter(None, new.get("security.acls", "").split(",")):
            self._acl(acl)
        self.objects["network"][name]["config"].update(new)

    def _project(self, verb: str, name: str, *settings: str) -> None:
        """Configure a project, or make one, with networks and pools of all."""
        if verb == "set":
            self._clients[name].settings.update(_settings(settings))
            return
        made = FakeIncus(drivers=self.drivers)
        made.project = name
        for kind in ("network", "storage", "acl"):
            made.objects[kind] = self.objects[kind]
        self._clients[name] = made
        made._clients = self._clients

    def _create(self, kind: str, name: str, *rest: str) -> None:
        if kind in {"network", "storage"} and self.machines:
            self._create_on_members(kind, name, *rest)
            return
        if name in self.objects[kind]:
            raise errors.AlreadyExists(f"{kind} {name} already exists")
        self._make(kind, name, *rest)

    def _create_on_members(self, kind: str, name: str, *rest: str) -> None:
        """Make a piece for one member or, once all have one, the whole."""
        target, words = fake_members.target_of(rest)
        pieces = self.objects[kind].get(name, {"status": "Pending"})
        self.machines.check_creation(pieces, target)
        self._make(kind, name, *words)
        made = self.objects[kind][name]
        locations = pieces.get("locations", [])
        made["locations"] = [*locations, *([target] if target else [])]
        made["status"] = "Pending" if target else "Created"

    def _make(self, kind: str, name: str, *rest: str) -> None:
        if kind == "network":
            made = _object(name, type="bridge", config=_settings(rest))
            made["managed"] = True
        elif kind == "storage":
            driver, *settings = rest
            made = _object(name, driver=driver, config=_settings(settings))
            made["used_by"] = []
        elif kind == "acl":
            made = {"name": name, "config": {}, "egress": [], "ingress": []}
        else:
            made = _profile(name)
        self.objects[kind][name] = made

    def _profile(self, name: str) -> dict[str, Any]:
        try:
            return self.objects["profile"][name]
        except KeyError:
            raise errors.NotFound(f"profile {name} not found") from None

    def _devices_of(self, names: Sequence[str]) -> Devices:
        """Return the devices of some profiles together; the last one wins."""
        return {
            name: device
            for profile in names
            for name, device in self._profile(profile)["devices"].items()
        }

    def _device(
        self,
        devices: dict[str, dict[str, str]],
        verb: str,
        name: str,
        *rest: str,
    ) -> None:
        if verb == "remove":
            del devices[name]
            return
        if verb == "set":
            devices[name].update(_settings(rest))
            return
        kind, *settings = rest
        device = {"type": kind, **_settings(settings)}
        for reference, of in (("network", "network"), ("pool", "storage")):
            if (
                reference in device
                and device[reference] not in self.objects[of]
            ):
                raise errors.NotFound(f"{of} {device[reference]} not found")
        if name in devices:
            raise errors.AlreadyExists("The device already exists")
        devices[name] = device


def _filtered(
    records: list[dict[str, Any]], condition: str
) -> list[dict[str, Any]]:
    """Return the records that a condition on config or properties leaves."""

    def fits(record: dict[str, Any], clause: str) -> bool:
        field, _, pattern = clause.partition(" eq ")
        part, _, key = field.partition(".")
        return bool(re.fullmatch(pattern, (record[part] or {}).get(key, "")))

    clauses = condition.split(" or ")
    return [
        record
        for record in records
        if any(fits(record, clause) for clause in clauses)
    ]


def _url(place: str, record: dict[str, Any]) -> str:
    name = record.get("fingerprint") or record["name"]
    return f"/1.0/{place}/{quote(name, safe='')}"


def _object(name: str, **facts: object) -> dict[str, Any]:
    return {"name": name, "status": "Created", "config": {}, **facts}


def _profile(name: str) -> dict[str, Any]:
    return {"name": name, "config": {}, "devices": {}}


def _settings(words: Sequence[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)
