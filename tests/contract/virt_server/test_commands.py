# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol's lines: what is understood, when, and what is not."""

import re

import pytest

from incus_testbed.incus.client import Incus

from .conftest import Start, names
from .server import COMMAND

_CAPABILITIES = [
    "isolation-container",
    "reboot",
    "revert",
    "revert-full-system",
    "root-on-testbed",
]


def test_capabilities_are_the_same_at_any_time(
    start: Start, bookworm: str
) -> None:
    server = start(bookworm)
    assert server.ask("capabilities") == _CAPABILITIES
    server.ask("open")
    assert server.ask("capabilities") == _CAPABILITIES
    server.execute("useradd", "--uid", "1234", "somebody")
    server.ask("revert")
    assert server.ask("capabilities") == _CAPABILITIES
    server.ask("close")
    assert server.ask("capabilities") == _CAPABILITIES
    server.quit()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nonsense", "unknown command `nonsense'"),
        ("", "empty commands are not permitted"),
        ("   ", "empty commands are not permitted"),
        ("capabilities now", "too many arguments"),
        ("open now", "too many arguments"),
        ("quit now", "too many arguments"),
        ("reboot prepare-only now", "too many arguments"),
        ("copydown", "too few arguments"),
        ("copydown /etc/passwd", "too few arguments"),
        ("copyup a b c", "too many arguments"),
        ("shell", "too few arguments"),
        ("close", "when not open"),
        ("revert", "when not open"),
        ("reboot", "when not open"),
        ("print-execute-command", "when not open"),
        ("copydown /etc/passwd /tmp/passwd", "when not open"),
        ("copyup /etc/passwd /tmp/passwd", "when not open"),
        ("shell /", "when not open"),
        (b"open\0", "unknown command `open\0'"),
        ("nonsense " + "x" * 1_000_000, "unknown command `nonsense'"),
        ("%6eonsense", "unknown command `%6eonsense'"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_refused_before_open(
    start: Start, line: str | bytes, complaint: str
) -> None:
    said = start("absent").bomb(line)
    assert said.startswith(f"{COMMAND}: failure: ")
    assert complaint in said
    assert len(said.splitlines()) == 1


def test_escapes_are_understood(start: Start) -> None:
    assert start("absent").ask("%63apabilities") == _CAPABILITIES


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("open", "`open' when already open"),
        ("nonsense", "unknown command `nonsense'"),
        ("", "empty commands are not permitted"),
        ("copydown /etc/ /tmp/etc", "must agree about directoryness"),
    ],
)
def test_refused_when_open(
    start: Start, bookworm: str, line: str, complaint: str
) -> None:
    server = start(bookworm)
    server.ask("open")
    assert complaint in server.bomb(line)


def test_quit_when_open_removes_the_testbed(
    start: Start, bookworm: str
) -> None:
    server = start(bookworm)
    server.ask("open")
    assert server.quit().said == ""


def test_debug_failure_tells_of_the_guest(start: Start, bookworm: str) -> None:
    server = start(bookworm)
    server.ask("auxverb-debug-fail")
    server.ask("open")
    server.execute(
        *("sh", "-c"),
        "printf '[Service]\\nType=oneshot\\nExecStart=/bin/false\\n'"
        " >/etc/systemd/system/unlucky.service; systemctl start unlucky",
    )
    server.ask("auxverb-debug-fail")
    said = server.quit().said
    assert "The end of its console:" in said
    assert "unlucky.service" in said


def test_close_returns_before_the_removal(
    start: Start, incus: Incus, bookworm: str
) -> None:
    before = names(incus)
    server = start(bookworm)
    server.ask("open")
    (mine,) = names(incus) - before
    server.ask("close")
    assert server.bomb("print-execute-command")
    # Even where the server has gone on to its end.
    assert names(incus) <= before | {mine}


def test_open_again(start: Start, bookworm: str) -> None:
    server = start(bookworm)
    (scratch,) = server.ask("open")
    server.execute("touch", "/etc/changed", f"{scratch}/changed")
    server.ask("close")
    assert server.ask("open") == [scratch]
    assert server.output("ls", scratch) == ""
    assert server.execute("test", "-e", "/etc/changed").returncode == 1
    server.ask("close")
    server.quit()


def test_end_of_file_before_open(start: Start) -> None:
    end = start("absent").end()
    assert end.status == 12
    assert "caller quit" in end.said


def test_image_that_is_absent(start: Start) -> None:
    said = start("artifact/absent").bomb("open")
    assert "artifact/absent" in said
    assert re.search("incus-testbed( --remote=far)? images", said)
