# SPDX-License-Identifier: GPL-3.0-or-later
"""The incus command: a method for each verb, facts in and facts out.

No policy lives here: nothing is retried, waited for or guessed.  A failure is
raised as one of the errors in errors.py, and the caller decides what it means.

It is one class, because tests put one fake in its place.
"""

import itertools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from incus_testbed import errors
from incus_testbed.incus import location, messages, records
from incus_testbed.incus.exec.api import quoted
from incus_testbed.incus.records import Image, InstanceRecord
from incus_testbed.incus.transport import Query, Socket, Transport
from incus_testbed.process import programs

log = logging.getLogger(__name__)

#: Seconds that a request to the daemon may take where nothing is moved.
REQUEST_LIMIT = 60.0
#: Seconds for what moves or unpacks an image.
IMAGE_LIMIT = 1800.0
#: Seconds for starting, stopping or removing an instance.
INSTANCE_LIMIT = 300.0


class Incus:
    """The incus command, aimed at one project of one server."""

    def __init__(
        self, *, project: str | None = None, remote: str | None = None
    ) -> None:
        """Aim at a project and remote; None means the user's choice."""
        self.project = project
        self.remote = remote.rstrip(":") if remote else None

    def target(self, name: str = "") -> str:
        """Return how the command line names an object of this server."""
        return f"{self.remote}:{name}" if self.remote else name

    def argv(self, *words: str) -> list[str]:
        """Return the command line of an incus command for this project.

        The query command knows no project and refuses the option.
        """
        aimed = self.project and words[0] != "query"
        project = [f"--project={self.project}"] if aimed else []
        return ["incus", *project, *words]

    def run(
        self,
        *words: str,
        stdin: bytes = b"",
        timeout: float = REQUEST_LIMIT,
    ) -> bytes:
        """Run an incus command and return its standard output.

        :raises errors.TestbedError: the kind that its message stands for
        """
        argv = self.argv(*words)
        completed = programs.run(argv, stdin=stdin, timeout=timeout)
        if completed.status != 0:
            raise messages.error(["incus", *words], completed)
        return completed.stdout

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Return what the server answers to GET, as Transport.get() does.

        :raises errors.TestbedError: it refuses, or does not answer
        """
        return self._transport().get(path, recursion=recursion)

    def _list(self, path: str) -> list[dict[str, Any]]:
        # Incus returns null for some empty lists.
        return self.get(path, recursion=1) or []

    def _transport(self) -> Transport:
        choice = self.choice()
        if choice.socket is None:
            return Query(self.run, choice.remote, choice.project)
        return Socket(choice.socket, choice.project, REQUEST_LIMIT)

    # -- server, projects, network, storage, profiles

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

    def choice(self) -> location.Choice:
        """Return the remote and project that this is aimed at now.

        If this client was made without one of them, the user chooses it, and
        may change it at any time.
        """
        return location.choose(
            programs.environment(), remote=self.remote, project=self.project
        )

    def current_project(self) -> str:
        """Return the name of the project that this is aimed at."""
        return self.choice().project

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

    # -- images

    def images(self) -> list[Image]:
        """Return all images of the project."""
        return [records.image(record) for record in self._list("images")]

    def image(self, name: str) -> Image:
        """Return the image that an alias or a fingerprint stands for.

        :raises errors.NotFound: there is none
        """
        word = quoted(name)
        try:
            word = self.get(f"images/aliases/{word}")["target"]
        except errors.NotFound:
            log.debug("%s is not an alias", name)
        return records.image(self.get(f"images/{word}"))

    def import_image(self, metadata: str, rootfs: str) -> str:
        """Import a split image from two files; return its fingerprint.

        :raises errors.AlreadyExists: an image of this very content is there
        """
        where = [self.target()] if self.remote else []
        words = ("image", "import", metadata, rootfs, *where)
        said = self.run(*words, timeout=IMAGE_LIMIT).decode()
        fingerprint = re.search(r"[0-9a-f]{64}", said)
        if not fingerprint:
            raise errors.CommandFailed(
                "incus imported an image but did not name it", details=said
            )
        return fingerprint[0]

    def set_image_profiles(self, image: Image, profiles: Sequence[str]) -> None:
        """Have launches of this image use these profiles by default.

        Incus 6.0 and 7.0 do not read profiles from an image's metadata; they
        are a setting of the imported image.
        """
        document = {
            "properties": dict(image.properties),
            "profiles": list(profiles),
        }
        self.run(
            "image",
            "edit",
            self.target(image.fingerprint),
            stdin=json.dumps(document).encode(),
        )

    def unset_image_property(self, fingerprint: str, key: str) -> None:
        """Remove a property of an image, if it has it."""
        self.run("image", "unset-property", self.target(fingerprint), key)

    def create_alias(
        self, alias: str, fingerprint: str, *, description: str = ""
    ) -> None:
        """Give an image a name.

        :raises errors.AlreadyExists: the name is taken
        :raises errors.NotFound: there is no such image
        """
        self.run(
            *("image", "alias", "create"),
            self.target(alias),
            fingerprint,
            f"--description={description}",
        )

    def move_alias(self, alias: str, fingerprint: str) -> None:
        """Have a name that is taken name another image, in one step.

        The incus command itself can only take it away and give it again.

        :raises errors.NotFound: there is no such name, or no such image
        """
        choice = self.choice()
        self.run(
            "query",
            "--request=PUT",
            f"--data={json.dumps({'target': fingerprint})}",
            f"{choice.remote}:/1.0/images/aliases/{quoted(alias)}"
            f"?project={quoted(choice.project)}",
        )

    def delete_alias(self, alias: str) -> None:
        """Take a name away; the image stays.

        :raises errors.NotFound: there is no such name
        """
        self.run("image", "alias", "delete", self.target(alias))

    def delete_image(self, fingerprint: str) -> None:
        """Remove an image with all its names.

        :raises errors.NotFound: it is not there
        """
        self.run(
            "image",
            "delete",
            self.target(fingerprint),
            timeout=INSTANCE_LIMIT,
        )

    # -- instances

    def instances(self) -> list[InstanceRecord]:
        """Return all instances of the project."""
        return [records.instance(record) for record in self._list("instances")]

    def instance(self, name: str) -> InstanceRecord:
        """Return one instance.

        :raises errors.NotFound: there is none of that name
        """
        return records.instance(self.get(f"instances/{quoted(name)}"))

    def busy_instances(self) -> set[str]:
        """Return the names of instances that Incus starts, stops or removes."""
        by_status = self.get("operations", recursion=1) or {}
        return records.at_work_on(itertools.chain(*by_status.values()))

    def launch(
        self,
        image: str,
        name: str,
        *,
        config: Mapping[str, str],
        ephemeral: bool,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """Create and start an instance; ``arguments`` go to incus launch.

        ``devices`` are added to those of its profiles.

        :raises errors.AlreadyExists: the name is taken
        :raises errors.NotFound: there is no such image
        """
        settings = [f"--config={key}={value}" for key, value in config.items()]
        self.run(
            "launch",
            self.target(image),
            self.target(name),
            *settings,
            *(["--ephemeral"] if ephemeral else []),
            *arguments,
            # It has no option for a new device.  It reads YAML, which includes
            # JSON.
            stdin=json.dumps({"devices": devices}).encode() if devices else b"",
            timeout=IMAGE_LIMIT,
        )

    def copy(
        self,
        name: str,
        new: str,
        *,
        config: Mapping[str, str],
        ephemeral: bool,
    ) -> None:
        """Make another instance of a stopped one, which is stopped too.

        :raises errors.AlreadyExists: the new name is taken
        :raises errors.NotFound: there is no instance to copy
        """
        settings = [f"--config={key}={value}" for key, value in config.items()]
        self.run(
            "copy",
            self.target(name),
            self.target(new),
            "--instance-only",
            *settings,
            *(["--ephemeral"] if ephemeral else []),
            timeout=IMAGE_LIMIT,
        )

    def start(self, name: str) -> None:
        """Start a stopped instance."""
        self.run("start", self.target(name), timeout=INSTANCE_LIMIT)

    def stop(self, name: str, *, grace: float) -> None:
        """Ask an instance to shut down and give it ``grace`` seconds.

        :raises errors.NotRunning: it is stopped already
        :raises errors.CommandFailed: it is still running after that time
        """
        self.run(
            "stop",
            self.target(name),
            f"--timeout={grace:.0f}",
            timeout=INSTANCE_LIMIT,
        )

    def kill(self, name: str) -> None:
        """Stop an instance without asking it."""
        self.run("stop", self.target(name), "--force", timeout=INSTANCE_LIMIT)

    def delete(self, name: str) -> None:
        """Remove an instance, running or not.

        :raises errors.NotFound: it is not there
        """
        self.run(*self._removal(name), timeout=INSTANCE_LIMIT)

    def unset_instance_key(self, name: str, key: str) -> None:
        """Remove a key that an instance's configuration has.

        :raises errors.NotFound: there is no such instance
        """
        self.run("config", "unset", self.target(name), key)

    def removal_argv(self, name: str) -> list[str]:
        """Return the command line that does what delete() does."""
        return self.argv(*self._removal(name))

    def _removal(self, name: str) -> list[str]:
        return ["delete", self.target(name), "--force"]

    def console_log(self, name: str) -> str:
        """Return what a running instance wrote to its console."""
        return self.run("console", self.target(name), "--show-log").decode(
            errors="replace"
        )

    def start_log(self, name: str) -> str:
        """Return the log of an instance's last start, from the host's side."""
        return self.run("info", self.target(name), "--show-log").decode(
            errors="replace"
        )

    # -- inside an instance

    def exec_argv(
        self,
        name: str,
        command: Sequence[str],
        *,
        interactive: bool = False,
        program: Sequence[str] = (),
        first: int | None = None,
    ) -> list[str]:
        """Return the command line that runs a command in an instance.

        The caller runs it, and gets the command's standard streams and exit
        status.  The command starts as root, in /root.  If it could not be run,
        the status is OWN_FAILURE.  Interactive commands, and those on another
        machine's server, are run by incus exec: its status is then 1, and it
        may lose the output of a short command.

        ``program`` is the program that runs the command: it gets the words of
        a session, or all of incus exec.  ``first`` is a descriptor that the
        process inherits and reads before its input; only if is_local().
        """
        terminal = "--force-interactive" if interactive else "-T"
        choice = self.choice()
        if choice.socket and not interactive:
            return choice.exec_argv(name, command, program=program, first=first)
        return [
            *program,
            *self.argv("exec", self.target(name), terminal, "--", *command),
        ]

    def is_local(self) -> bool:
        """Tell whether the server's socket is on this machine."""
        return self.choice().socket is not None

    def execute(
        self,
        name: str,
        command: Sequence[str],
        *,
        timeout: float,
        stdin: bytes = b"",
    ) -> programs.Completed:
        """Run a command in an instance, to its end.

        :raises errors.TestbedError: it could not be run
        :raises errors.TimedOut: it took more than ``timeout`` seconds
        """
        if isinstance(where := self._transport(), Socket):
            log.debug("in %s: %s", name, programs.shown(command))
            return where.execute(name, command, stdin=stdin, timeout=timeout)
        argv = self.exec_argv(name, command)
        completed = programs.run(argv, stdin=stdin, timeout=timeout)
        if messages.is_own_failure(completed):
            raise messages.error(["incus", "exec", name], completed)
        return completed

    def push(
        self,
        name: str,
        source: str,
        target: str,
        *,
        uid: int,
        gid: int,
        mode: int | None = None,
    ) -> None:
        """Copy a file into an instance.

        :raises errors.NotFound: a file or folder named does not exist
        """
        options = [f"--uid={uid}", f"--gid={gid}"]
        if mode is not None:
            # Without a 0 in front, incus takes four digits for decimal.
            options.append(f"--mode=0{mode:o}")
        self.run(
            "file",
            "push",
            "--quiet",
            *options,
            "--",
            source,
            self.target(f"{name}{target}"),
            timeout=IMAGE_LIMIT,
        )

    def pull(
        self, name: str, source: str, target: str, *, largest: int
    ) -> None:
        """Copy a file of at most ``largest`` bytes out of an instance.

        If the file is larger, the target has its first bytes when this raises.

        :raises errors.NotFound: a file or folder named does not exist
        """
        where = self.target(f"{name}{source}")
        words = ("file", "pull", "--quiet", "--", where, target)
        # The kernel limits the size: Incus has no limit, and the guest can tell
        # any size.
        limited = ["prlimit", f"--fsize={largest}", "--", *self.argv(*words)]
        completed = programs.run(limited, timeout=IMAGE_LIMIT)
        if completed.status != 0:
            raise messages.error(["incus", *words], completed)
