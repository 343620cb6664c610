# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands in the testbed, run as autopkgtest runs them."""

import hashlib
import subprocess
import time

import pytest

from .server import LIMIT, Server


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 77", 77),
        ("exit 100", 100),
        ("exit 125", 125),
        ("exit 255", 253),  # 255 is the server's own failure
        ("kill -KILL $$", 137),  # how a test asks for a reboot
        ("kill -TERM $$", 143),
    ],
)
def test_status(opened: Server, script: str, status: int) -> None:
    assert opened.execute("sh", "-c", script).returncode == status


def test_command_that_is_not_there(opened: Server) -> None:
    done = opened.execute("no-such-command")
    assert done.returncode == 127
    assert b"no-such-command" in done.stderr


def test_streams_are_apart(opened: Server) -> None:
    done = opened.execute("sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_words_arrive_as_they_are(opened: Server) -> None:
    words = ["a b", "", "'\"", "$HOME `id` \\", "line\nline", "ü", "-n", "*"]
    done = opened.execute("printf", "%s\\0", *words)
    assert done.stdout.decode().split("\0") == [*words, ""]


def test_environment_is_a_login_of_root(opened: Server) -> None:
    lines = opened.output("env").splitlines()
    environment = dict(line.partition("=")[::2] for line in lines)
    assert environment["HOME"] == "/root"
    assert environment["USER"] == "root"
    assert "/usr/sbin" in environment["PATH"]
    assert opened.output("id", "-u") == "0"
    assert opened.output("pwd") == "/root"


def test_input_is_the_command_s_own(opened: Server) -> None:
    data = bytes(range(256)) * 4000
    assert opened.execute("cat", stdin=data).stdout == data
    # What the protocol's input holds is none of its business.
    assert opened.execute("cat").stdout == b""
    assert opened.ask("capabilities")


def test_two_at_once(opened: Server) -> None:
    argv = [*opened.auxverb(), "sh", "-c", "sleep 2; echo $0"]
    began = time.monotonic()
    children = [
        subprocess.Popen(
            [*argv, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        for name in ("one", "two")
    ]
    said = [child.communicate(timeout=LIMIT)[0] for child in children]
    assert said == [b"one\n", b"two\n"]
    assert time.monotonic() - began < 3.9


def test_commands_go_on_beside_the_protocol(opened: Server) -> None:
    with subprocess.Popen(
        [*opened.auxverb(), "sh", "-c", "sleep 2; echo done"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        assert opened.output("true") == ""
        assert child.communicate(timeout=LIMIT)[0] == b"done\n"


def test_termination_ends_the_command(opened: Server) -> None:
    with subprocess.Popen(
        [*opened.auxverb(), "sh", "-c", "echo $$; exec sleep 3600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout
        pid = child.stdout.readline().decode().strip()
        child.terminate()
        assert child.wait(LIMIT) == 143
    assert opened.execute("kill", "-0", pid).returncode != 0


def test_50_megabytes(opened: Server) -> None:
    size = 50_000_000
    done = opened.execute("sh", "-c", f"yes 0123456789 | head -c {size}")
    expected = (b"0123456789\n" * (size // 11 + 1))[:size]
    assert (
        hashlib.sha256(done.stdout).digest()
        == hashlib.sha256(expected).digest()
    )


def test_background_process_neither_hangs_nor_dies(opened: Server) -> None:
    began = time.monotonic()
    pid = opened.output("sh", "-c", "sleep 3600 & echo $!")
    assert time.monotonic() - began < 30
    assert opened.execute("kill", "-0", pid).returncode == 0
    assert opened.execute("kill", pid).returncode == 0


def test_output_of_a_background_process_while_the_test_runs(
    opened: Server,
) -> None:
    said = opened.output(
        "sh", "-c", "(sleep 1; echo later) & sleep 2; echo end"
    )
    assert said == "later\nend"
