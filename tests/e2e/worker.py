# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker in a guest, as the machine's administrator sees it."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

UNIT = "debusine-worker"

#: Where the files of these tests lie in its guest, and our packages.
FILES = "/root/e2e"
PACKAGES = "/root/packages"

#: Where the worker's configuration is, and its token for the server.
SECRETS = "/etc/debusine/worker"
TOKEN = f"{SECRETS}/token"
_DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/e2e.conf"

#: Seconds until a worker that was started offers what it can do.
_LIMIT = 120

#: Run by the server's own Python, which alone knows what workers told it.
_ASK = """
import json
from debusine.db.models import Worker
worker = Worker.objects.filter(worker_type="external").get()
told = str(worker.dynamic_metadata_updated_at)
print(json.dumps([told, worker.dynamic_metadata]))
"""


class Host(Protocol):
    """A machine whose root runs commands."""

    def run(self, *argv: str) -> str:
        """Run a command to its end; return what it prints."""


def process(guest: Host) -> int:
    """Return the process ID of the worker that runs; 0 if none does."""
    said = guest.run("systemctl", "show", "--property=MainPID", "--value", UNIT)
    return int(said)


def program(guest: Host) -> str:
    """Return the command line of the worker that runs; empty if none does."""
    pid = process(guest)
    if not pid:
        return ""
    return guest.run("cat", f"/proc/{pid}/cmdline").replace("\0", " ")


class Worker:
    """The only worker of a server, which may be in another guest."""

    def __init__(self, guest: Host, server: Host | None = None) -> None:
        """Speak to both."""
        self._guest = guest
        self._server = server or guest

    def log(self) -> str:
        """Return what the worker that runs has logged."""
        return self._guest.run(
            *("sh", "-euc"),
            f"id=$(systemctl show --property=InvocationID --value {UNIT})\n"
            "journalctl --no-pager --output=cat _SYSTEMD_INVOCATION_ID=$id",
        )

    def secrets(self) -> str:
        """Return what there is in its folder, and the files' checksums."""
        return self._guest.run(
            *("find", SECRETS, "-printf", "%y %m %U:%G %T@ %p %l\\n"),
            *("-type", "f", "-exec", "sha256sum", "{}", ";"),
        )

    def restart(self) -> None:
        """Stop it, and start it again."""
        self._guest.run("systemctl", "restart", UNIT)

    def kill(self) -> None:
        """Kill the worker, so that it can do nothing more, and start it."""
        self._guest.run(
            *("systemctl", "kill", "--signal=KILL", "--kill-whom=main", UNIT)
        )
        # Whether or not systemd has noticed yet, and restarts it by itself.
        self._guest.run("systemctl", "restart", UNIT)

    def use_ours(self) -> None:
        """Install our packages; wait until it runs with them."""
        with self._telling_anew():
            self._apt("update")
            self._apt(f"install --allow-downgrades {PACKAGES}/*.deb")

    def use_upstreams(self) -> None:
        """Remove our package for it; wait until it runs without."""
        with self._telling_anew():
            self._apt("remove debusine-worker-incus")

    def restrict(self, *options: str) -> None:
        """Move it from incus-admin to a restricted project, as docs say."""
        with self._telling_anew():
            self._guest.run(
                "incus-testbed", "setup", "--restricted", UNIT, *options
            )
            self._guest.run("gpasswd", "--delete", UNIT, "incus-admin")
            self.restart()

    def try_to(self, *words: str) -> tuple[bool, str]:
        """Run an incus command as its user; say whether that was allowed."""
        script = '"$@" 2>&1 </dev/null && echo allowed || echo refused'
        said = self._guest.run(
            *("runuser", "-u", UNIT, "--", "env", "HOME=/tmp/nowhere"),
            *("sh", "-c", script, "sh", "incus", *words),
        )
        return said.splitlines()[-1] == "allowed", said

    def upgrade(self) -> None:
        """Install later versions of our packages, of the same content."""
        later = f"{PACKAGES}/later"
        self._guest.run(f"{FILES}/guest/later.sh", PACKAGES, later)
        self._apt(f"install {later}/*.deb")

    @contextlib.contextmanager
    def environment(self, *, unit: Mapping[str, str]) -> Iterator[None]:
        """Have its unit set variables."""
        variables = "\n".join(f"Environment={key}={unit[key]}" for key in unit)
        try:
            self._write(_DROP_IN, f"[Service]\n{variables}\n")
            self._reload()
            yield
        finally:
            self._guest.run("rm", "-f", _DROP_IN)
            self._reload()

    def offer(self) -> dict[str, Any]:
        """Return what it has told the server of itself last."""
        return dict(self._told()[1])

    def offers_incus(self, backend: str = "incus-lxc") -> bool:
        """Tell whether it offers to run tasks with a backend."""
        offer = self.offer()
        return bool(
            offer.get(f"executor:{backend}:available")  # Debusine 0.11
            or f"worker:executor:{backend}" in offer.get("provided_tags", ())
        )

    def wait_until_offering(
        self, backend: str = "incus-lxc", *, limit: float = _LIMIT
    ) -> None:
        """Wait until it offers a backend.

        :raises TimeoutError: it does not
        """
        deadline = time.monotonic() + limit
        while not self.offers_incus(backend):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.offer()}\n{self.log()}")
            time.sleep(1)

    def _reload(self) -> None:
        """Restart it with what is configured now; wait until it runs."""
        with self._telling_anew():
            self._guest.run("systemctl", "daemon-reload")
            self.restart()

    def _apt(self, words: str) -> None:
        self._guest.run(
            *("sh", "-c"),
            f"DEBIAN_FRONTEND=noninteractive apt-get -qy {words}",
        )

    def _write(self, path: str, text: str) -> None:
        script = 'mkdir -p "${1%/*}"; printf %s "$2" >"$1"'
        self._guest.run("sh", "-euc", script, "sh", path, text)

    @contextlib.contextmanager
    def _telling_anew(self) -> Iterator[None]:
        """Do what restarts it; wait until it has told the server of itself."""
        before = self._told()[0]
        yield
        deadline = time.monotonic() + _LIMIT
        while self._told()[0] == before:
            if time.monotonic() > deadline:
                raise TimeoutError(self.log())
            time.sleep(1)

    def _told(self) -> tuple[str, dict[str, Any]]:
        said = self._server.run(
            *("runuser", "-u", "debusine-server", "--"),
            *("env", "--chdir=/", "debusine-admin", "shell", "--command", _ASK),
        )
        told, metadata = json.loads(said.splitlines()[-1])
        return told, metadata or {}
