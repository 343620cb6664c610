# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of a command's variables are shown to nobody else."""

import contextlib
import glob
import logging
import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.incus.client import Incus
from incus_testbed.instance.guest import Guest
from incus_testbed.instance.instance import Instance
from tests.support.indirect import by_command

#: What every process of the guest was started with, and is told.
_LOOK = """
echo "$API_TOKEN"
cat
for i in 1 2 3 4 5 6 7 8; do
    cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '
    sleep 0.1
done >&2
"""


@pytest.fixture(scope="module")
def guest(incus: Incus, bookworm: str) -> Iterator[Guest]:
    with Instance.launch(incus, bookworm, purpose="test") as launched:
        launched.wait_ready()
        launched.guest.make_user("someone")
        yield launched.guest


@pytest.fixture(params=["direct", "command"])
def server(request: pytest.FixtureRequest, incus: Incus) -> Iterator[None]:
    """Have a server that is reached directly, or by incus exec."""
    with contextlib.ExitStack() as stack:
        if request.param == "command":
            stack.enter_context(by_command())
        assert incus.is_direct() == (request.param == "direct")
        assert ("exec" in incus.exec_argv("i", ["a"])) != incus.is_direct()
        yield


@contextlib.contextmanager
def _command_lines() -> Iterator[set[bytes]]:
    """Collect the command lines of all processes, those of guests too."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for path in glob.glob("/proc/[0-9]*/cmdline"):  # noqa: PTH207
                with contextlib.suppress(OSError):
                    seen.add(Path(path).read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("user", ["root", "someone"])
def test_no_command_line_and_no_log_has_a_value(
    guest: Guest, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = secrets.token_hex(8)
    with (
        caplog.at_level(logging.DEBUG, logger="incus_testbed"),
        _command_lines() as lines,
    ):
        done = guest.run(
            ["sh", "-c", _LOOK],
            user=user,
            env={"API_TOKEN": secret, "OTHER": "x"},
            input=b"input\n",
            capture_output=True,
        )
    assert done.returncode == 0
    assert done.stdout.decode() == f"{secret}\ninput\n"
    assert secret.encode() not in done.stderr
    assert b"API_TOKEN" not in done.stderr.replace(b"$API_TOKEN", b"")
    assert any(b"API_TOKEN" in line for line in lines)  # the script itself
    assert not [line for line in lines if secret.encode() in line]
    assert secret not in caplog.text
    assert "API_TOKEN, OTHER" in caplog.text


@pytest.mark.usefixtures("server")
def test_values_of_any_size_and_content(guest: Guest) -> None:
    given = {
        "BIG": "x" * 120_000,
        "LINES": "a\nb\n=c",
        "EMPTY": "",
        "UMLAUT": "ü",
        "MORE": "y" * 120_000,
    }
    done = guest.run(
        ["env", "-0"], env=given, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert done.returncode == 0
    for name, value in given.items():
        assert f"{name}={value}".encode() in done.stdout.split(b"\0")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("relayed", [False, True])
def test_input_is_the_commands_alone(
    incus: Incus, guest: Guest, relayed: bool
) -> None:
    data = bytes(range(256)) * 4096
    # What virtual machines need works in a container, too.
    done = Guest(incus, guest.name, vm=relayed).run(
        ["cat"], env={"GIVEN": "x"}, input=data, capture_output=True
    )
    assert (done.returncode, done.stdout) == (0, data)


@pytest.mark.usefixtures("server")
def test_the_guest_keeps_no_file(guest: Guest) -> None:
    guest.run(["true"], env={"GIVEN": "x"}, check=True)
    with pytest.raises(FileNotFoundError):
        guest.run(["no-such-program"], env={"GIVEN": "x"})
    left = guest.run(
        ["sh", "-c", "ls -d /run/incus-testbed.*"], capture_output=True
    )
    assert not [
        line
        for line in left.stdout.decode().splitlines()
        if ".login." not in line
    ]
