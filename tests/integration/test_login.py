# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's commands and autopkgtest's begin in one environment: a login's."""

import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from incus_testbed.incus import location
from incus_testbed.incus.client import Incus
from incus_testbed.instance import scripts
from incus_testbed.instance.guest import Guest
from incus_testbed.instance.instance import Instance
from incus_testbed.process import programs
from incus_testbed.virt_server import command

_USER = "someone"
#: What the shell that asks sets itself, and what only PAM gives.
_SHELLS_OWN = {"PWD", "OLDPWD", "SHLVL", "_"}
_PAMS_OWN = {"MAIL", "TERM"}

#: Files of the guest, and what a login has from them.
_FILES = {
    "/etc/environment": "FROM_ENVIRONMENT='a b'\n",
    "/etc/default/locale": "LANG=C.UTF-8\nLC_TIME=C\n",
    "/etc/profile.d/zz.sh": 'PATH=$PATH:/opt/$LOGNAME; export PATH\nown="x"\n'
    'export FROM_PROFILE="$HOME\n\'"\n',
}


@pytest.fixture(scope="module")
def _guest(incus: Incus, bookworm: str) -> Iterator[Guest]:
    with Instance.launch(incus, bookworm, purpose="test") as launched:
        launched.wait_ready()
        launched.guest.make_user(_USER)
        yield launched.guest


@pytest.fixture
def guest(_guest: Guest) -> Iterator[Guest]:
    """Give a guest whose files can be changed: they are put back."""
    _run(_guest, "tar -C /etc -cf /root/etc.tar profile profile.d environment")
    yield _guest
    script = """
        rm -rf /etc/profile.d /etc/environment /etc/default/locale
        tar -C /etc -xf /root/etc.tar
    """
    _run(_guest, script)


def _run(guest: Guest, script: str, *words: str) -> bytes:
    done = guest.run(["sh", "-ec", script, "sh", *words], capture_output=True)
    assert done.returncode == 0, done.stderr
    return bytes(done.stdout)


def _write(guest: Guest, path: str, text: str) -> None:
    _run(guest, 'printf %s "$2" >"$1"', path, text)


def _environment(
    done: "subprocess.CompletedProcess[bytes]",
) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    words = done.stdout.decode().split("\0")[:-1]
    return dict(word.split("=", 1) for word in words)


def _by_run(guest: Guest, user: str = "root") -> dict[str, str]:
    return _environment(
        guest.run(["env", "-0"], user=user, capture_output=True)
    )


def _by_exec(guest: Guest) -> dict[str, str]:
    return _environment(guest.exec(["env", "-0"], capture_output=True))


def _by_su(guest: Guest, user: str) -> dict[str, str]:
    """Return what a login through PAM has, beside what is its own."""
    login = ["su", "-", user, "-c", "env -0"]
    found = _environment(guest.exec(login, capture_output=True))
    for name in _SHELLS_OWN | _PAMS_OWN:
        found.pop(name, None)
    return found


def test_a_login_of_root(guest: Guest) -> None:
    for path, text in _FILES.items():
        _write(guest, path, text)
    found = _by_run(guest)
    assert found == _by_exec(guest) == _by_su(guest, "root")
    assert found == {
        "FROM_ENVIRONMENT": "a b",
        "FROM_PROFILE": "/root\n'",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "LC_TIME": "C",
        "LOGNAME": "root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ":/opt/root",
        "SHELL": "/bin/bash",
        "USER": "root",
    }


def test_a_login_of_a_normal_user(guest: Guest) -> None:
    for path, text in _FILES.items():
        _write(guest, path, text)
    found = _by_run(guest, _USER)
    # autopkgtest has su do it.
    assert found == _by_su(guest, _USER)
    assert found["FROM_PROFILE"] == f"/home/{_USER}\n'"
    assert found["PATH"].endswith(f"/usr/games:/opt/{_USER}")
    assert "/usr/sbin" not in found["PATH"]


def test_the_language_is_the_guests_or_c(guest: Guest) -> None:
    assert _by_run(guest)["LANG"] == _by_exec(guest)["LANG"] == "C.UTF-8"
    _write(guest, "/etc/default/locale", "LANG=xx_YY.UTF-8\n")
    assert _by_run(guest)["LANG"] == _by_exec(guest)["LANG"] == "xx_YY.UTF-8"


def test_what_changes_counts_at_once(guest: Guest) -> None:
    for number in range(5):  # some in one tick of the kernel's clock
        _write(guest, "/etc/profile.d/x.sh", f"export NUMBER={number}\n")
        assert _by_run(guest)["NUMBER"] == str(number)
    _run(guest, "rm /etc/profile.d/x.sh")
    assert "NUMBER" not in _by_exec(guest)


def test_the_umask_is_the_same_for_the_first_command(guest: Guest) -> None:
    """The one that keeps the login for the next ones must not change it."""
    _write(guest, "/etc/profile.d/zz.sh", "export CHANGED=yes\n")
    said = [
        guest.exec(["sh", "-c", "umask"], capture_output=True).stdout
        for _ in ("keeps the login", "has the kept one")
    ]
    assert said == [b"0022\n", b"0022\n"]


@pytest.mark.parametrize(
    "text",
    [
        "echo noise; echo noise >&2",
        "cat",
        "false; set -e; false",
        "exit 3",
        "exec true",
        "kill -9 $$",
        "set -u; echo $unheard_of",
        "cd /usr; umask 077; exec >/dev/null; trap 'exit 4' EXIT",
        "if then fi (",
        "sleep 12345 & export AFTER=1",
    ],
)
@pytest.mark.parametrize("path", ["/etc/environment", "/etc/profile"])
def test_files_that_misbehave_harm_no_command(
    guest: Guest, path: str, text: str
) -> None:
    _write(guest, path, f"{text}\n")
    began = time.monotonic()
    ask = ["sh", "-c", 'cat; echo err >&2; echo "$HOME $PWD $(umask)"; exit 7']
    for done in (
        guest.run(ask, input=b"in\n", capture_output=True),
        guest.exec(ask, input=b"in\n", capture_output=True),
    ):
        assert done.returncode == 7
        assert done.stdout == b"in\n/root /root 0022\n"
        assert done.stderr == b"err\n"
    assert time.monotonic() - began < 8


def test_files_that_do_not_end_have_a_time_limit(guest: Guest) -> None:
    _write(guest, "/etc/profile", "sleep 23456\n")
    began = time.monotonic()
    assert _by_run(guest)["HOME"] == "/root"
    assert _by_exec(guest)["HOME"] == "/root"
    assert time.monotonic() - began < 25
    assert _run(guest, "grep -ls 2345[6] /proc/[0-9]*/cmdline || :") == b""


def test_a_users_login_is_the_users_work(guest: Guest) -> None:
    _write(guest, "/etc/profile", "export ME=$(id -un):$(id -Gn)\n")
    assert _by_run(guest, _USER)["ME"] == f"{_USER}:{_USER}"
    assert _by_run(guest)["ME"] == "root:root"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["sh", "-c", "exit 255"], 253),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -9 $$"], 137),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["umask"], 0),  # a shell's own
    ],
)
@pytest.mark.parametrize("local", [True, False])
def test_status_where_255_is_not_the_commands(
    incus: Incus,
    guest: Guest,
    words: list[str],
    status: int,
    local: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = scripts.logged_in("exec.pl", *words)
    found = incus.execute(guest.name, argv, timeout=60).status
    assert found == (255 if status == 253 else status)
    if not local:
        monkeypatch.setattr(location, "_socket", lambda *_: (None, "default"))
    argv = guest.exec_argv(words, program=command.PROGRAM)
    done = programs.call(argv, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == status


def test_signals_reach_a_command_by_incus_exec(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_socket", lambda *_: (None, "default"))
    wait = "trap 'exit 255' INT; echo set; while :; do sleep 0.1; done"
    argv = guest.exec_argv(["sh", "-c", wait], program=command.PROGRAM)
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"set\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 253
