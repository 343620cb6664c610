# SPDX-License-Identifier: GPL-3.0-or-later
"""The instances of a fake Incus, as the API describes them.

Nothing runs in them.  A guest shuts down when it is asked to, unless its init
is another command (lxc.init.cmd): then it ignores the request, or does not
start, if the command is tiny_guest.BROKEN's.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from tests.support import fake_members, tiny_guest
from tests.support.fake_images import Images, now, refusal

Devices = Mapping[str, Mapping[str, str]]

_POLL = 0.01


class Instances:
    """Instances, by the words of incus launch, init, start, stop, delete."""

    def __init__(
        self,
        images: Images,
        devices: Callable[[Sequence[str]], Devices],
        member: str,
    ) -> None:
        """Have none; ``devices`` returns those of profiles.

        They are made on ``member``, unless another is named.
        """
        self._member = member
        self._images = images
        self._devices = devices
        self._records: dict[str, dict[str, Any]] = {}
        self._stopping: list[str] = []

    def get(self, name: str) -> Any:
        """Answer what is asked of all instances, or of one."""
        return self._found(name) if name else [*self._records.values()]

    def operations(self) -> dict[str, list[dict[str, Any]]]:
        """Return what is being done at this moment."""
        return {
            "running": [
                {
                    "class": "task",
                    "status": "Running",
                    "resources": {"instances": [f"/1.0/instances/{name}"]},
                }
                for name in self._stopping
            ]
        }

    def run(self, verb: str, *words: str, stdin: bytes = b"") -> bytes:
        """Do what the incus command would."""
        match verb, *words:
            case "launch" | "init", image, name, *options:
                self._create(image, name, options, stdin)
                if verb == "launch":
                    self._start(self._records[name])
            case "copy", name, new, "--instance-only", *options:
                self._copy(self._found(name), new, options)
            case "start", name:
                self._start(self._found(name))
            case "stop", name, option:
                self._stop(self._running(name), option)
            case "config", "unset", name, key:
                del self._found(name)["config"][key]
            case "delete", name, "--force":
                del self._records[self._found(name)["name"]]
            case _:
                raise NotImplementedError(f"incus {verb} {words}")
        return b""

    def operate(self, method: str, path: str, document: Any) -> None:
        """Do what a request asks for that takes Incus time."""
        _, *rest = map(unquote, path.split("/"))
        match method, rest, document:
            case "POST", [], {"source": {"fingerprint": image}, "name": name}:
                words = [
                    *(
                        f"--config={k}={v}"
                        for k, v in document["config"].items()
                    ),
                    *["--ephemeral"] * document["ephemeral"],
                ]
                added = json.dumps({"devices": document["devices"]}).encode()
                if not self._images.has(image):
                    raise refusal("Image not provided for instance creation")
                self._create(image, name, words, added)
                self._start(self._records[name])
            case "PUT", [name, "state"], {"action": "start"}:
                self._start(self._found(name))
            case "PUT", [name, "state"], {"action": "stop", "force": True}:
                self._stop(self._running(name), "--force")
            case "PUT", [name, "state"], {"action": "stop", "timeout": grace}:
                self._stop(self._running(name), f"--timeout={grace}")
            case "DELETE", [name], None:
                del self._records[self._found(name)["name"]]
            case _:
                raise NotImplementedError(f"{method} {path} {document}")

    def _create(
        self, image: str, name: str, options: Sequence[str], stdin: bytes
    ) -> None:
        record = self._images.use(image)
        profiles = record["profiles"]
        target, options = fake_members.target_of(options)
        config, chosen, ephemeral = _options(options)
        devices = {
            **self._devices(chosen or profiles),
            **(json.loads(stdin)["devices"] if stdin else {}),
        }
        if not any(device.get("path") == "/" for device in devices.values()):
            raise refusal("No root device could be found")
        if name in self._stopping:
            raise refusal('Instance is busy running a "stop" operation')
        if name in self._records:
            raise refusal("UNIQUE constraint failed: instances.name")
        fingerprint = record["fingerprint"]
        self._records[name] = {
            "name": name,
            "type": record["type"],
            "status": "Stopped",
            "config": {**config, "volatile.base_image": fingerprint},
            "ephemeral": ephemeral,
            "created_at": now(),
            "expanded_devices": devices,
            "location": target or self._member,
        }

    def _copy(
        self, record: dict[str, Any], new: str, options: Sequence[str]
    ) -> None:
        if new in self._records:
            raise refusal("UNIQUE constraint failed: instances.name")
        target, options = fake_members.target_of(options)
        config, _, ephemeral = _options(options)
        self._records[new] = {
            **record,
            "name": new,
            "status": "Stopped",
            "config": {**record["config"], **config},
            "ephemeral": ephemeral,
            "created_at": now(),
            "location": target or self._member,
        }

    def _start(self, record: dict[str, Any]) -> None:
        if record["status"] == "Running":
            raise refusal("The instance is already running")
        if _init(record) == tiny_guest.BROKEN:
            raise refusal("Failed to run: incusd forkstart: exit status 1")
        record["status"] = "Running"

    def _stop(self, record: dict[str, Any], option: str) -> None:
        if _init(record) and option != "--force":
            grace = float(option.removeprefix("--timeout="))
            with self.being_stopped(record["name"]):
                _wait(lambda: not self._is_up(record), grace)
            if self._is_up(record):
                raise refusal(
                    'Failed shutting down instance, status is "Running":'
                    " context deadline exceeded"
                )
            return
        record["status"] = "Stopped"
        if record["ephemeral"]:
            del self._records[record["name"]]

    @contextmanager
    def being_stopped(self, name: str) -> Iterator[None]:
        """List an operation that stops it."""
        self._stopping.append(name)
        try:
            yield
        finally:
            self._stopping.remove(name)

    def _is_up(self, record: dict[str, Any]) -> bool:
        return (
            self._records.get(record["name"]) is record
            and record["status"] == "Running"
        )

    def _found(self, name: str) -> dict[str, Any]:
        if name not in self._records:
            raise refusal(f'Failed to fetch instance "{name}": not found')
        return self._records[name]

    def _running(self, name: str) -> dict[str, Any]:
        record = self._found(name)
        if record["status"] != "Running":
            raise refusal("The instance is already stopped")
        return record


def _options(
    words: Sequence[str],
) -> tuple[dict[str, str], list[str], bool]:
    """Read the options of incus launch: config, profiles, ephemeral."""
    config: dict[str, str] = {}
    profiles = []
    for word in words:
        option, _, value = word.partition("=")
        if option == "--config":
            key, _, config[key] = value.partition("=")
        elif option == "--profile":
            profiles.append(value)
        elif option not in {"--ephemeral", "--vm"}:
            raise NotImplementedError(f"incus launch {word}")
    return config, profiles, "--ephemeral" in words


def _init(record: dict[str, Any]) -> str:
    """Return the setting that replaces the guest's init, if it has one."""
    setting = record["config"].get("raw.lxc", "")
    return f"raw.lxc={setting}" if "lxc.init.cmd" in setting else ""


def _wait(is_done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_done() and time.monotonic() < deadline:
        time.sleep(_POLL)
