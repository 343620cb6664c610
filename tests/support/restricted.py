# SPDX-License-Identifier: GPL-3.0-or-later
"""A user of this machine who is in the group incus, and in no other.

    python3 -m tests.support.restricted COMMAND...

runs COMMAND as such a user, with an Incus of its own behind incus-user, in a
copy of this checkout that the user can read and with a copy of the images that
are cached.
"""

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import daemon, images, sandbox

_CHECKOUT = Path(__file__).resolve().parents[2]
_GROUP = "incus"
#: What the names of users of tests begin with; then comes the test's process.
_PREFIX = "incus-check-"
_INCUS_USER = "/usr/libexec/incus/incus-user"
_PATH = "/usr/libexec/incus:/usr/sbin:/usr/bin:/sbin:/bin"
_START_SECONDS = 30
#: Generous: it only keeps a hanging test from hanging the run.
_LIMIT = 600
#: Incus-user makes profiles with a pool of this name.
_POOL = ("storage", "create", "default", "btrfs", "size=10GiB")


@dataclass(frozen=True, kw_only=True)
class User:
    """A user, and the environment in which the user works.

    ``directory`` holds a copy of the checkout, and a home.
    """

    name: str
    uid: int
    gid: int
    directory: Path
    incus_directory: str

    @property
    def project(self) -> str:
        """The project that incus-user gives to the user."""
        return f"user-{self.uid}"

    @property
    def network(self) -> str:
        """The network that belongs to it."""
        return f"incusbr-{self.uid}"

    @property
    def checkout(self) -> Path:
        """Where the user finds the product and the tests."""
        return self.directory / "checkout"

    def argv(self, *words: str) -> list[str]:
        """Return the command line that runs a command as the user."""
        environment = {
            "HOME": str(self.directory / "home"),
            "INCUS_DIR": self.incus_directory,
            "LANG": "C.UTF-8",
            "PATH": f"{self.checkout}/virt:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.checkout}/virt:{self.checkout}/executor",
            "USER": self.name,
            "XDG_CACHE_HOME": str(self.directory / "cache"),
        }
        return [
            *("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}"),
            *("--init-groups", "env", "--ignore-environment"),
            *(f"{name}={value}" for name, value in environment.items()),
            *words,
        ]

    def run(
        self, *words: str, limit: float = _LIMIT, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as the user to its end, whatever that is."""
        return subprocess.run(
            self.argv(*words),
            input=stdin,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )

    def output(self, *words: str) -> str:
        """Return what a command prints; it has to succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def testbed(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the incus-testbed command as the user."""
        return self.run("/usr/bin/python3", "-m", "incus_testbed", *words)


@contextlib.contextmanager
def server() -> Iterator[dict[str, str]]:
    """Have a private Incus with incus-user; give an admin's environment.

    :raises daemon.DaemonError: one of the two does not start
    """
    with daemon.private() as incus:
        # A session's choice of a project is not that of this server.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("INCUS_")
        }
        environment.update(incus.environment)
        # Otherwise incus-user makes these itself; and its search for a subnet
        # finds none where nobody answers pings.
        _run("incus", *_POOL, environment=environment)
        _make_network(f"chku{os.getpid()}", environment)
        with _incus_user(environment):
            yield environment


def _make_network(name: str, environment: dict[str, str]) -> None:
    """Make a bridge; more than one attempt, as in sandbox.make_network()."""
    for attempts_left in reversed(range(sandbox.ATTEMPTS)):
        try:
            _run(
                *("incus", "network", "create", name),
                *("ipv4.address=none", "ipv6.address=none"),
                environment=environment,
            )
        except subprocess.CalledProcessError:
            if not attempts_left:
                raise
            time.sleep(sandbox.PAUSE)
        else:
            return


@contextlib.contextmanager
def _incus_user(environment: dict[str, str]) -> Iterator[None]:
    """Run incus-user beside an incusd; it ends with this process."""
    if _GROUP not in {group.gr_name for group in grp.getgrall()}:
        _run("groupadd", "--system", _GROUP)
    directory = Path(environment["INCUS_DIR"])
    log = directory.parent / "incus-user.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *(_INCUS_USER, "--group", _GROUP),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": _PATH, "INCUS_DIR": str(directory)},
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (directory / "unix.socket.user").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise daemon.DaemonError(
                    f"incus-user does not listen. It said: {log.read_text()}"
                )
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def user(environment: dict[str, str], number: int = 0) -> Iterator[User]:
    """Have a user of this machine, who is in none of Incus' groups yet."""
    _clear_users()
    name = f"{_PREFIX}{os.getpid()}-{number}"
    _run("useradd", "--user-group", "--no-create-home", name)
    entry = pwd.getpwnam(name)
    directory = Path(tempfile.mkdtemp(prefix=name))
    try:
        directory.chmod(0o755)
        new = User(
            name=name,
            uid=entry.pw_uid,
            gid=entry.pw_gid,
            directory=directory,
            incus_directory=environment["INCUS_DIR"],
        )
        for folder in ("home", "cache"):
            (directory / folder).mkdir()
            os.chown(directory / folder, new.uid, new.gid)
        _copy_checkout(new.checkout)
        yield new
    finally:
        _remove(entry)
        shutil.rmtree(directory)


def _remove(user: pwd.struct_passwd) -> None:
    """End what a test's user still runs, and remove the user."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == user.pw_uid:
                os.kill(int(process.name), signal.SIGKILL)
    # The kernel takes a moment to end them.
    _run("userdel", "--force", user.pw_name)


def _clear_users() -> None:
    """Remove the users of runs that were killed."""
    for entry in pwd.getpwall():
        run = entry.pw_name.removeprefix(_PREFIX).partition("-")[0]
        if (
            entry.pw_name.startswith(_PREFIX)
            and not Path("/proc", run).exists()
        ):
            _remove(entry)


def _copy_checkout(target: Path) -> None:
    """Copy what the user needs to where the user can read it."""
    for folder in ("virt", "executor", "tests"):
        shutil.copytree(
            _CHECKOUT / folder,
            target / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(_CHECKOUT / "pyproject.toml", target)
    _run("chmod", "-R", "a+rX", str(target))


def share(file: Path, user: User) -> Path:
    """Return a copy of a file that the user can read."""
    copy = user.directory / file.name
    if not copy.exists():
        shutil.copy(file, copy)
        copy.chmod(0o644)
    return copy


def admit(
    user: User, environment: dict[str, str], *options: str
) -> "subprocess.CompletedProcess[str]":
    """Give a user a project, as an admin does: as root."""
    return subprocess.run(
        [
            *("/usr/bin/python3", "-m", "incus_testbed"),
            *("setup", "--restricted", user.name, *options),
        ],
        env={**environment, "PYTHONPATH": str(_CHECKOUT / "virt")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )


def _run(*words: str, environment: dict[str, str] | None = None) -> None:
    subprocess.run(
        words, capture_output=True, text=True, check=True, env=environment
    )


def main() -> int:
    """Run the command line as a user; give its exit status."""
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    with server() as environment, user(environment) as new:
        done = admit(new, environment)
        if done.returncode:
            print(done.stdout, done.stderr, file=sys.stderr)
            return 1
        shutil.copytree(
            images.cache_directory(),
            new.directory / "cache/debusine-incus/images",
        )
        _run("chown", "-R", str(new.uid), str(new.directory / "cache"))
        os.chdir(new.checkout)
        return daemon.run(new.argv(*sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
