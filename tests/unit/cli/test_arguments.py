# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line says of what it does not know, and what it needs."""

import os
import subprocess
import sys
from ipaddress import ip_address

import pytest

from incus_testbed.cli import arguments

#: Seconds; a command that takes its orders from stdin would never end.
_LIMIT = 60


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["imprt", "x"], "did you mean 'import'?"),
        (["image"], "did you mean 'images'?"),
        (["images", "--format=jsn"], "did you mean 'json'?"),
        (["artifact/42"], "'artifact/42' is not one of build, import"),
    ],
)
def test_a_typo_is_an_error_with_the_nearest_word(
    words: list[str], hint: str
) -> None:
    """Standard input is an open pipe: nobody is at the terminal."""
    child = subprocess.Popen(
        [sys.executable, "-m", "incus_testbed", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    with child:
        assert child.wait(_LIMIT) == 2
        assert child.stdout
        assert child.stderr
        assert child.stdout.read() == ""
        assert hint in child.stderr.read()


def test_a_command_line_imports_what_all_commands_need() -> None:
    """Each command waits for it."""
    look = (
        "import sys; from incus_testbed.cli import arguments;"
        " arguments.parser(); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", look],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    imported = set(done.stdout.split())
    assert "incus_testbed.cli.arguments.build" in imported
    assert not imported & {
        *("debian", "rich", "sh", "ssl", "tarfile", "yaml"),
        *("incus_testbed.bootstrap.request", "incus_testbed.image.store"),
    }


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1:3142", "192.0.2.1", 3142),
        ("[2001:db8::1]:80", "2001:db8::1", 80),
    ],
)
def test_a_service_is_an_address_and_a_port(
    text: str, address: str, port: int
) -> None:
    parsed = arguments.parser().parse_args(["setup", "--allow", text])
    assert parsed.allow == [(ip_address(address), port)]


@pytest.mark.parametrize(
    "text",
    [
        *("proxy:3142", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", ":80", ""),
        *("192.0.2.1:65536", "[192.0.2.1]:80", "192.0.2.1:+80", "::1:80x"),
    ],
)
def test_anything_else_is_none(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments.parser().parse_args(["setup", "--allow", text])
    assert "--allow" in capsys.readouterr().err
