# SPDX-License-Identifier: GPL-3.0-or-later
"""Start programs on this machine; only this module does.

run() returns a short answer, which most callers want; it uses sh.  stream()
lets its caller decide when to read data while the program runs; sh would call
a reader from a thread.  call() has subprocess.run's semantics, as Debusine's
InstanceInterface.run needs them; sh has others.
"""

import contextlib
import io
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from incus_testbed import errors
from incus_testbed.process import kept, packages, signals
from incus_testbed.process.environment import environment
from incus_testbed.process.guard import Doubt, Guard

log = logging.getLogger(__name__)

# sh writes several log messages for each command.
logging.getLogger("sh").setLevel(logging.WARNING)

#: The longest word that a shown command line has whole.
_SHOWN_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A process that ended: its status (negative: a signal) and output."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: str


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: bytes = b"",
    doubt: Doubt | None = None,
) -> Completed:
    """Run a program to its end; return its status and output.

    The program reads ``stdin`` and nothing else, has a session of its own (a
    Ctrl-C at the terminal reaches this process only) and is killed after
    ``timeout`` seconds, when ``doubt`` returns an error, which is raised, or
    when the wait is interrupted.

    :raises errors.MissingProgram: argv[0] is not on PATH
    :raises errors.Unsupported: this process ignores SIGCHLD
    :raises errors.TimedOut: it was killed after ``timeout`` seconds
    :raises errors.CommandFailed: it printed too much, and was killed
    """
    # The converting process, which only needs the other ways, starts without.
    import sh  # noqa: PLC0415

    log.debug("%s", shown(argv))
    _check_children()
    running: Any = None
    stdout, stderr = (kept.Kept(lambda: _kill(running)) for _ in range(2))
    try:
        # Typed from sh 2.4 on, and with types that change from then on.
        command: Any = sh.Command(argv[0])
    except sh.CommandNotFound:
        raise packages.missing(argv[0]) from None
    # With sh's own _timeout, sh looks only ten times a second whether the
    # program has ended.
    guard = None
    try:
        with signals.held():
            running = command(
                *argv[1:],
                _in=io.BytesIO(stdin),
                _out=stdout,
                _err=stderr,
                _env=environment(),
                _tty_in=False,
                _tty_out=False,
                _new_session=True,
                _ok_code=list(range(256)),
                _bg=True,
                _bg_exc=False,
            )
        expired = errors.TimedOut(
            f"'{shown(argv)}' did not end within {timeout:g} s and was killed"
        )
        guard = Guard(partial(_kill, running), expired, timeout, doubt)
        running.wait()
    except sh.ForkException:  # it was there a moment ago: an upgrade
        raise packages.missing(argv[0]) from None
    except sh.ErrorReturnCode:  # died of a signal
        pass
    except BaseException:
        _kill(running)
        raise
    finally:
        if guard:
            guard.release()
    if guard and guard.error:
        raise guard.error
    if stdout.is_full or stderr.is_full:
        raise errors.CommandFailed(
            f"'{shown(argv)}' printed more than {kept.MOST >> 20} MiB and was"
            " killed"
        )
    return Completed(
        argv=tuple(argv),
        status=running.process.exit_code,
        stdout=stdout.getvalue(),
        stderr=stderr.getvalue().decode(errors="replace"),
    )


def output(argv: Sequence[str], *, timeout: float) -> str | None:
    """Return what a program prints; None if it fails, or is not there."""
    try:
        done = run(argv, timeout=timeout)
    except (errors.MissingProgram, errors.TimedOut):
        return None
    return done.stdout.decode(errors="replace") if done.status == 0 else None


def _kill(running: Any) -> None:
    if running is None:  # bool(running) would block until the command ends
        return
    with contextlib.suppress(OSError):
        running.kill_group()


@contextlib.contextmanager
def stream(
    argv: Sequence[str],
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
    variables: Mapping[str, str] | None = None,
    grace: float = 0.0,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program beside this one, for a pipeline; kill it on the way out.

    A caller that wants the exit status waits for it inside the block.
    ``pass_fds`` are descriptors that it gets beside the standard ones,
    ``variables`` are added to its environment.  With ``grace``, it and its
    children get SIGTERM first, and so many seconds to clean up.

    :raises errors.MissingProgram: argv[0] is not on PATH
    :raises errors.Unsupported: this process ignores SIGCHLD
    """
    log.debug("%s", shown(argv))
    child = None
    try:
        with signals.held():
            child = _popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=True,
                env={**environment(), **(variables or {})},
            )
        yield child
    finally:
        if child:
            if grace:
                _end_group(child, grace)
            if child.poll() is None:
                child.kill()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
            child.wait()


def _popen(argv: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    _check_children()
    try:
        return subprocess.Popen(argv, **{"env": environment(), **options})
    except FileNotFoundError:
        raise packages.missing(argv[0]) from None


def _check_children() -> None:
    """Refuse to start what would seem to succeed: each status would be 0."""
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        raise errors.Unsupported(
            "This process ignores SIGCHLD, so that it can't know how programs"
            " end",
            resolution="Start it where SIGCHLD is not ignored.",
        )


def call(
    argv: Sequence[str],
    *,
    input: Any = None,  # noqa: A002 - subprocess.run's name
    capture_output: bool = False,
    timeout: float | None = None,
    grace: float = 0.0,
    check: bool = False,
    **options: Any,
) -> "subprocess.CompletedProcess[Any]":
    """Run a caller's own command with subprocess.run's semantics.

    ``options`` are subprocess.run's; its types are not repeated here.  If the
    wait is left, by ``timeout`` or an exception, the command gets SIGTERM and
    ``grace`` seconds to clean up, and then is killed.

    :raises errors.MissingProgram: argv[0] is not on PATH
    :raises errors.Unsupported: this process ignores SIGCHLD
    """
    log.debug("%s", shown(argv))
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child = None
    try:
        with signals.held():
            child = _popen(argv, **options)
        output, said = child.communicate(input, timeout=timeout)
    except BaseException:
        if child:
            _ask_to_end(child, grace)
        raise
    done = subprocess.CompletedProcess(argv, child.returncode, output, said)
    if check:
        done.check_returncode()
    return done


def _ask_to_end(child: "subprocess.Popen[Any]", grace: float) -> None:
    with child:
        child.terminate()
        try:
            # What it still writes must not keep it from ending.
            child.communicate(timeout=grace)
        except (subprocess.TimeoutExpired, ValueError):
            child.kill()


def _end_group(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """Ask a child that leads a process group, and its children, to end."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def ending(status: int) -> str:
    """Return for people how a program has ended; negative is a signal."""
    if status >= 0:
        return f"{'failed' if status else 'ended'} with status {status}"
    return f"was killed by signal {-status} ({signal.strsignal(-status)})"


def shown(argv: Sequence[str]) -> str:
    """Return a command line for people: quoted, with long scripts cut."""
    return shlex.join(map(_short, argv))


def _short(word: str) -> str:
    if len(word) <= _SHOWN_LENGTH and "\n" not in word:
        return word
    begins = "".join(word.split(maxsplit=1)[:1])
    return f"{begins[:_SHOWN_LENGTH]} ...".lstrip()
