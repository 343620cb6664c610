# SPDX-License-Identifier: GPL-3.0-or-later
"""The instances of a project, from outside."""

import json
import logging
from collections.abc import Mapping, Sequence

from incus_testbed import errors
from incus_testbed.incus import records
from incus_testbed.incus.connection import IMAGE_LIMIT, INSTANCE_LIMIT
from incus_testbed.incus.exec.api import quoted
from incus_testbed.incus.records import InstanceRecord
from incus_testbed.incus.server import Server

log = logging.getLogger(__name__)


class Instances(Server):
    """A method for each verb."""

    def instances(
        self, *having: str, value: str = ".+"
    ) -> list[InstanceRecord]:
        """Return all instances of the project, or those with one of some keys.

        ``value`` is a regular expression of Incus; by default a key may have
        any.  Incus takes 0.25 ms for each instance of the project.
        """
        wanted = " or ".join(f"config.{key} eq {value}" for key in having)
        return [
            records.instance(record)
            for record in self._list("instances", wanted)
        ]

    def instance_names(self) -> list[str]:
        """Return the names of all instances of the project."""
        return self._names("instances")

    def instance(self, name: str) -> InstanceRecord:
        """Return one instance.

        :raises errors.NotFound: there is none of that name
        """
        return records.instance(self.get(f"instances/{quoted(name)}"))

    def busy_instances(self) -> set[str]:
        """Return the names of instances that Incus starts, stops or removes."""
        return records.at_work_on(self.get("operations", recursion=1))

    def launch(
        self,
        image: str,
        name: str,
        *,
        config: Mapping[str, str],
        ephemeral: bool,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        arguments: Sequence[str] = (),
        fingerprint: str = "",
        vm: bool = False,
    ) -> None:
        """Create and start an instance; ``arguments`` go to incus launch.

        ``devices`` are added to those of its profiles.  ``fingerprint`` is the
        image's and ``vm`` tells its kind, if that is known: incus launch would
        ask for them.

        :raises errors.AlreadyExists: the name is taken
        :raises errors.NotFound: there is no such image, or no such project
        """
        if fingerprint and not arguments and self.is_direct():
            document = {
                "name": name,
                "type": records.MACHINE if vm else records.CONTAINER,
                "source": {"type": "image", "fingerprint": fingerprint},
                "config": config,
                "devices": devices or {},
                "ephemeral": ephemeral,
                "start": True,
            }
            self.operate(
                *("POST", "instances", document),
                asked=f"incus launch {image} {name}",
                timeout=IMAGE_LIMIT,
                doubt=self.watch(name, "launch"),
            )
            return
        settings = [f"--config={key}={value}" for key, value in config.items()]
        try:
            self.run(
                "launch",
                # The image of another server has its remote in its name.
                image if ":" in image else self.target(image),
                self.target(name),
                *settings,
                *(["--ephemeral"] if ephemeral else []),
                *arguments,
                # It has no option for a new device.  It reads YAML, which
                # includes JSON.
                stdin=json.dumps({"devices": devices}).encode()
                if devices
                else b"",
                timeout=IMAGE_LIMIT,
                doubt=self.watch(name, "launch"),
            )
        except errors.NotFound as failure:
            raise self._absent_project() or failure from None

    def _absent_project(self) -> errors.NotFound | None:
        """Return the error for a project that is not there, or None.

        Incus itself says that it lacks the image.
        """
        project = self.current_project()
        try:
            self.get(f"projects/{quoted(project)}")
        except errors.NotFound as error:
            return error
        except errors.TestbedError as error:
            log.debug("whether %s exists is unknown: %s", project, error)
        return None

    def copy(
        self,
        name: str,
        new: str,
        *,
        config: Mapping[str, str],
        ephemeral: bool,
        member: str = "",
    ) -> None:
        """Make another instance of a stopped one, which is stopped too.

        In a cluster, without a ``member`` Incus chooses one.

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
            *([f"--target={member}"] if member else []),
            timeout=IMAGE_LIMIT,
            doubt=self.watch(new, "copy"),
        )

    def start(self, name: str) -> None:
        """Start a stopped instance."""
        self._alter(name, "start")

    def stop(self, name: str, *, grace: float) -> None:
        """Ask an instance to shut down and give it ``grace`` seconds.

        :raises errors.NotRunning: it is stopped already
        :raises errors.CommandFailed: it is still running after that time
        """
        self._alter(name, "stop", round(grace))

    def kill(self, name: str) -> None:
        """Stop an instance without asking it."""
        self._alter(name, "stop", force=True)

    def delete(self, name: str) -> None:
        """Remove an instance, running or not.

        :raises errors.NotFound: it is not there
        """
        if not self.is_direct():
            self._command("delete", name, "--force")
            return
        found = self.instance(name)
        if found.status != records.STOPPED:
            self.kill(name)
            if found.ephemeral:  # Incus removes it when it has stopped
                return
        self._request("delete", name, "DELETE", "", None)

    def _alter(
        self, name: str, action: str, grace: int = -1, *, force: bool = False
    ) -> None:
        """Start or stop an instance; -1 is a ``grace`` without an end."""
        if self.is_direct():
            state = {"action": action, "timeout": grace, "force": force}
            self._request(action, name, "PUT", "/state", state)
            return
        limit = [f"--timeout={grace}"] if grace >= 0 else []
        self._command(action, name, *limit, *["--force"] * force)

    def _request(
        self, verb: str, name: str, method: str, below: str, document: object
    ) -> None:
        """Have an instance changed or removed by a request."""
        self.operate(
            *(method, f"instances/{quoted(name)}{below}", document),
            asked=f"incus {verb} {name}",
            timeout=INSTANCE_LIMIT,
            doubt=self.watch(name, verb),
        )

    def _command(self, verb: str, name: str, *options: str) -> None:
        """Have an instance changed or removed by the incus command."""
        self.run(
            *(verb, self.target(name), *options),
            timeout=INSTANCE_LIMIT,
            doubt=self.watch(name, verb),
        )

    def unset_instance_key(self, name: str, key: str) -> None:
        """Remove a key that an instance's configuration has.

        :raises errors.NotFound: there is no such instance
        """
        self.run("config", "unset", self.target(name), key)

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
