# SPDX-License-Identifier: GPL-3.0-or-later
"""The Incus that tests and the demo use: the machine's, or a private one.

    python3 -m tests.support.daemon run [--keep NAME] -- COMMAND...

runs COMMAND with an Incus that answers and exits with its status.

A private incusd lives in mount and process namespaces of its own.  It holds a
lock on its directory, and so do its children: while the lock is held, some of
it is alive; once it is free, what is in the directory is rubbish.  The kernel
kills the whole of it when the process that started it ends, however that
ends.  Only files, and bridges in the machine's network, can be left behind;
the next start clears them away.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

#: Containers' users pass through here: each part must be open to all.
#: Socket names are limited to 108 bytes: it must be short.
BASE = Path("/var/cache/incus-testbed")

_THROW_AWAY = "check-"
_INCUSD = Path(__file__).with_name("incusd.sh")
_PATH = "/usr/libexec/incus:/usr/sbin:/usr/bin:/sbin:/bin"
_START_SECONDS = 120
_STOP_SECONDS = 60
_ATTEMPTS = 5
_LOG = "incusd.log"
#: What incusd.sh prints when incusd has failed.
_ENDED = "incusd ended with status "
#: How Go begins to say why a program crashed, and the lines that matter.
_CRASH = ("panic: ", "fatal error: ", "SIG")
_CRASH_LINES = 40


class DaemonError(Exception):
    """Incus is not there and could not be started; says why."""


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """An Incus that answers.

    ``private`` is true where it was started here, for us alone; ``process``
    is then what keeps it running, and ``log`` what it prints.
    """

    environment: dict[str, str]
    private: bool
    process: int = 0
    log: Path = Path(os.devnull)

    def incusd(self) -> int:
        """Return the process of a private incusd."""
        (namespaces,) = _children(self.process)
        (incusd,) = (
            child
            for child in _children(namespaces)
            if Path(f"/proc/{child}/cmdline").read_bytes() == b"incusd\0"
        )
        return incusd

    def crashes(self) -> list[str]:
        """Return what a private incusd said each time it ended by itself."""
        try:
            log = self.log.read_text(errors="replace")
        except FileNotFoundError:  # it was stopped, and all of it removed
            return []
        *said, _ = log.split(_ENDED)
        return ["\n".join(_last_words(text)) for text in said]

    def wait_until_whole(self) -> None:
        """Wait until an incusd that was started anew has its bridges again.

        :raises DaemonError: it hasn't, or does not answer
        """
        deadline = time.monotonic() + _START_SECONDS
        while not (
            _answers({**os.environ, **self.environment})
            and _has_all_networks(self.environment)
        ):
            if time.monotonic() > deadline:
                raise DaemonError("Incus did not come back after a crash.")
            time.sleep(0.5)

    def kill(self) -> None:
        """Kill incusd, and nothing that it has started; it comes back."""
        os.kill(self.incusd(), signal.SIGKILL)


@contextlib.contextmanager
def running(keep: str = "") -> Iterator[Daemon]:
    """Find an Incus, or start one and stop it at the end.

    A private one's state is thrown away at the end, unless ``keep`` names
    it: then it is there again at the next start.

    :raises DaemonError: none answers and none can be started
    """
    if is_running():
        yield Daemon(environment={}, private=False)
        return
    if os.geteuid() != 0:
        raise DaemonError(
            "No Incus answers, and only root can start one.\n"
            "Start Incus and join the group incus-admin, or run this as root."
        )
    with private(keep) as daemon:
        yield daemon


@contextlib.contextmanager
def private(
    keep: str = "", *options: str, lacking: Iterable[str] = ()
) -> Iterator[Daemon]:
    """Start an Incus whether one is running or not; stop it at the end.

    ``options`` are those of incusd.sh.  ``lacking`` are programs that are not
    on its PATH.

    :raises DaemonError: it can't be started
    """
    with (
        _home(keep) as (home, lock),
        _started(home, lock, options, set(lacking)) as daemon,
    ):
        yield daemon


def _path_without(names: set[str], home: Path) -> str:
    """Return a PATH of one folder, which has all programs but these."""
    folder = home / "programs"
    folder.mkdir(exist_ok=True)
    for place in reversed(_PATH.split(":")):
        for program in Path(place).iterdir():
            link = folder / program.name
            link.unlink(missing_ok=True)
            if program.name not in names:
                link.symlink_to(program)
    return str(folder)


def is_running() -> bool:
    """Tell whether the Incus of the environment answers.

    :raises DaemonError: incus is not installed
    """
    return _answers(dict(os.environ))


def clear() -> None:
    """Remove what ended daemons left behind, kept state included."""
    with _locked(BASE):
        for home in BASE.glob("*/"):
            if _free(home):
                _sweep(home, keep=False)


def _answers(environment: dict[str, str]) -> bool:
    """Tell whether an Incus daemon answers a client in this environment."""
    try:
        answer = subprocess.run(
            ["incus", "info"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=30,
            check=False,
        )
    except FileNotFoundError:
        raise DaemonError(
            "incus is not installed. Run: tests/bootstrap.sh demo"
        ) from None
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock, once nobody else does."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free(home: Path) -> bool:
    """Tell whether no process of a daemon in this directory is left."""
    try:
        with (home / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _sweep(home: Path, *, keep: bool) -> None:
    """Clear up after a daemon that has ended."""
    for network in (home / "incus" / "networks").glob("*"):
        _remove_bridge(network.name)
    if not keep:
        shutil.rmtree(home, ignore_errors=True)


def _remove_bridge(name: str) -> None:
    """Remove what a managed network leaves in the kernel, if it did."""
    _attempt("ip", "link", "delete", name)
    for chain in ("in", "out", "fwd", "pstrt"):
        _attempt("nft", "delete", "chain", "inet", "incus", f"{chain}.{name}")


def _attempt(*argv: str) -> None:
    subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )


@contextlib.contextmanager
def _home(keep: str) -> Iterator[tuple[Path, IO[str]]]:
    """Give a directory for a daemon's state and log, and its lock."""
    with _locked(BASE):
        for old in BASE.glob("*/"):
            if _free(old):
                _sweep(old, keep=not old.name.startswith(_THROW_AWAY))
        if keep:
            home = BASE / keep
            home.mkdir(exist_ok=True)
        else:
            home = Path(tempfile.mkdtemp(prefix=_THROW_AWAY, dir=BASE))
        home.chmod(0o755)
        lock = (home / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise DaemonError(f"Another run is using {home}.") from None
    try:
        yield home, lock
    finally:
        lock.close()
        _sweep(home, keep=bool(keep))


@contextlib.contextmanager
def _started(
    home: Path, lock: IO[str], options: Sequence[str], lacking: set[str]
) -> Iterator[Daemon]:
    """Run incusd, which inherits the lock."""
    state = home / "incus"
    state.mkdir(mode=0o711, exist_ok=True)
    environment = {"INCUS_DIR": str(state)}
    path = _path_without(lacking, home) if lacking else _PATH
    process = _spawn(home, lock, environment, options, path)
    try:
        _wait_until_answering(process, home, environment)
        for _ in range(_ATTEMPTS):
            if _has_all_networks(environment):
                break
            _stop(process, environment)
            process = _spawn(home, lock, environment, options, path)
            _wait_until_answering(process, home, environment)
        lock.close()
        yield Daemon(
            environment=environment,
            private=True,
            process=process.pid,
            log=home / _LOG,
        )
    finally:
        lock.close()
        _stop(process, environment)
        wait_until_free(home)


def _last_words(text: str) -> list[str]:
    """Pick from a log the lines that say why incusd has ended."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(_CRASH):
            return lines[number : number + _CRASH_LINES]
    return lines[-_CRASH_LINES:]


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(word) for word in listed.split()]


def _spawn(
    home: Path,
    lock: IO[str],
    environment: dict[str, str],
    options: Sequence[str],
    path: str,
) -> "subprocess.Popen[bytes]":
    with (home / _LOG).open("wb") as output:
        return subprocess.Popen(
            [
                # If this process dies, unshare is killed, and all below it.
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--mount", "--propagation", "slave"),
                *("--pid", "--mount-proc", "--fork", "--kill-child=KILL"),
                _INCUSD,
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"LC_ALL": "C.UTF-8", "PATH": path, **environment},
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )


def _has_all_networks(environment: dict[str, str]) -> bool:
    """Tell whether the bridges of the kept state are up.

    At its start incusd looks at all interfaces of the machine; if one of
    another Incus vanishes meanwhile, it gives up on the bridge for a minute.
    """
    listed = subprocess.run(
        ["incus", "network", "list", "--project=default", "--format=json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
        check=True,
    )
    return all(
        network["status"] == "Created"
        for network in json.loads(listed.stdout)
        if network["managed"]
    )


def _wait_until_answering(
    process: "subprocess.Popen[bytes]", home: Path, environment: dict[str, str]
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers({**os.environ, **environment}):
        if process.poll() is not None:
            reason = f"ended with status {process.returncode}"
        elif time.monotonic() > deadline:
            reason = f"did not answer within {_START_SECONDS} s"
        else:
            time.sleep(0.05)
            continue
        lines = (home / _LOG).read_text(errors="replace").splitlines()
        raise DaemonError(
            "\n".join([f"The private incusd {reason}. It said:", *lines[-10:]])
        )


def _stop(
    process: "subprocess.Popen[bytes]", environment: dict[str, str]
) -> None:
    """Have the daemon stop its instances and itself; make sure it did."""
    try:
        subprocess.run(
            [
                *("incus", "admin", "shutdown", "--force"),
                f"--timeout={_STOP_SECONDS}",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **environment},
            timeout=_STOP_SECONDS + 5,
            check=False,
        )
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def wait_until_free(home: Path) -> None:
    """Wait until the kernel has ended all of a daemon that was killed."""
    while not _free(home):
        time.sleep(0.02)


def run(argv: Sequence[str]) -> int:
    """Run a command to its end; give its status as a shell would.

    Ctrl-C reaches the command too: it may clean up in its own time.
    """
    # Not ignored: the command would inherit that.
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with subprocess.Popen(argv) as child:
            try:
                status = child.wait()
            finally:
                child.terminate()
    finally:
        signal.signal(signal.SIGINT, previous)
    return 128 - status if status < 0 else status


def on_sigterm(signum: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM like Ctrl-C: unwind, and clean up on the way."""
    del frame
    raise SystemExit(128 + signum)


def main() -> int:
    """Run the command line; give its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.support.daemon")
    verbs = parser.add_subparsers(dest="verb", required=True)
    command = verbs.add_parser("run", help="run a command that needs an Incus")
    command.add_argument("--keep", default="", metavar="NAME")
    command.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        with running(arguments.keep) as daemon:
            os.environ.update(daemon.environment)
            return run(arguments.command)
    except DaemonError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
