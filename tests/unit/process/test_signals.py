# SPDX-License-Identifier: GPL-3.0-or-later
"""A signal that comes while a process is being started."""

import os
import secrets
import signal
import subprocess
import sys
import textwrap

import pytest

_START = """
import os, signal, subprocess, sys
from incus_testbed.process import programs as process, signals

def leave(number):
    raise SystemExit(128 + number)

def send(*_):
    os.kill(os.getpid(), signal.SIGTERM)

class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        send()

signals.catch(leave, signal.SIGTERM)
os.register_at_fork(after_in_parent=send)
subprocess.Popen = Popen
argv = ["sleep", sys.argv[1]]
"""
_RUN = "process.run(argv, timeout=60)"
_STREAM = "with process.stream(argv) as child: child.wait()"
_CALL = "process.call(argv, timeout=60, grace=5)"


def _python(
    program: str, *arguments: str, by: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*by, sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("way", [_RUN, _STREAM, _CALL])
def test_signal_is_not_lost_nor_is_the_process(way: str) -> None:
    nap = f"60.{secrets.randbelow(10**9)}"
    starter = _python(_START + way, nap)
    assert starter.returncode == 128 + signal.SIGTERM, starter.stderr
    assert not starter.stderr
    running = subprocess.run(
        ["pgrep", "-f", f"^sleep {nap}$"], capture_output=True, check=False
    )
    assert running.stdout == b""


def test_first_of_several_signals_is_raised() -> None:
    done = _python("""
        import os, signal
        from incus_testbed.process import signals

        def leave(number):
            raise SystemExit(128 + number)

        signals.catch(leave, signal.SIGTERM, signal.SIGHUP)
        with signals.held():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            print("held", flush=True)
        print("not reached")
        """)
    assert done.stdout == "held\n"
    assert done.returncode == 128 + signal.SIGHUP


def test_signal_that_is_ignored_stays_so() -> None:
    done = _python(
        """
        import os, signal
        from incus_testbed.process import signals

        signals.catch(lambda number: 1 / 0, signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        print("went on")
        """,
        by=("nohup",),
    )
    assert done.stdout == "went on\n", done.stderr


def test_another_thread_holds_nothing() -> None:
    done = _python("""
        import os, signal, threading
        from incus_testbed.process import signals

        def leave(number):
            os._exit(128 + number)

        def hold():
            with signals.held():
                holding.set()
                threading.Event().wait(20)

        signals.catch(leave, signal.SIGTERM)
        holding = threading.Event()
        threading.Thread(target=hold).start()
        holding.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        """)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr


@pytest.mark.parametrize(
    "dropping",
    [
        """
        class Thing:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
        """,
        """
        class Thing:
            def __init__(self):
                global seen
                seen = weakref.ref(self, send)
        def send(_):
            os.kill(os.getpid(), signal.SIGTERM)
        """,
    ],
    ids=["del", "weakref"],
)
@pytest.mark.parametrize("then", ["pass", "ignore(number)"])
def test_signal_where_exceptions_are_dropped(dropping: str, then: str) -> None:
    done = _python(
        textwrap.dedent("""
        import os, signal, time, weakref
        from incus_testbed.process import signals

        def leave(number):
            THEN
            raise SystemExit(128 + number)

        def ignore(number):
            signal.signal(number, signal.SIG_IGN)
        """).replace("THEN", then)
        + textwrap.dedent(dropping)
        + textwrap.dedent("""
        signals.catch(leave, signal.SIGTERM)
        thing = Thing()
        del thing
        print("dropped", flush=True)
        time.sleep(20)
        print("not reached")
        """)
    )
    assert done.stdout == "dropped\n"
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert not done.stderr


def test_other_dropped_exceptions_are_shown() -> None:
    done = _python("""
        import signal
        from incus_testbed.process import signals

        class Thing:
            def __del__(self):
                raise ValueError("of mine")

        signals.catch(exit, signal.SIGTERM)
        thing = Thing()
        del thing
        """)
    assert done.returncode == 0
    assert "ValueError: of mine" in done.stderr
