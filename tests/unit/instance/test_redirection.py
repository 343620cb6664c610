# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams lead where subprocess.run leads them."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed.incus.exec.streams import KEPT, NONE
from incus_testbed.instance.redirection import Redirection

_OPTIONS: list[dict[str, Any]] = [
    {},
    {"text": True},
    {"universal_newlines": True},
    {"encoding": "utf-8"},
    {"errors": "replace"},
    {"encoding": "utf-16", "errors": "surrogateescape"},
]
_BOTH: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def _input(options: dict[str, Any], said: str) -> str | bytes:
    return said if options else said.encode()


@pytest.mark.parametrize("options", _OPTIONS)
def test_input_and_output_are_converted_alike(options: dict[str, Any]) -> None:
    said = "ü\n\r\n\r\x00x"
    given = _input(options, said)
    expected = subprocess.run(
        ["cat"], input=given, check=True, **_BOTH, **options
    )
    redirection = Redirection(**_BOTH, **options)
    with redirection.ends(given) as ends:
        carried = os.read(ends.stdin, 1000)
    assert redirection.kept(carried, b"") == (expected.stdout, expected.stderr)


@given(said=st.binary(max_size=40))
def test_bytes_that_are_no_text(said: bytes) -> None:
    redirection = Redirection(**_BOTH, encoding="utf-8", errors="replace")
    kept = redirection.kept(said, b"")
    text = (
        said.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    )
    assert kept == (text, "")


@pytest.mark.parametrize(
    ("options", "given"),
    [({"text": True}, b"x"), ({}, "x"), ({}, 3), ({"encoding": "no"}, "x")],
)
def test_input_of_the_wrong_kind(options: dict[str, Any], given: Any) -> None:
    with (
        pytest.raises((TypeError, LookupError)),
        Redirection(**options).ends(given),
    ):
        pass


def test_input_like_bytes() -> None:
    for like in (bytearray(b"xy"), memoryview(b"xy")):
        with Redirection().ends(like) as ends:
            assert os.read(ends.stdin, 10) == b"xy"


def test_streams_of_this_process(tmp_path: Path) -> None:
    with Redirection().ends(None) as ends:
        assert (ends.stdin, ends.stdout, ends.stderr) == (0, 1, 2)
    with (tmp_path / "file").open("w") as file:
        redirection = Redirection(
            stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT
        )
        with redirection.ends(None) as ends:
            assert (ends.stdin, ends.stdout) == (NONE, file.fileno())
            assert ends.stderr == ends.stdout
        assert redirection.kept(b"", b"") == (None, None)


def test_nowhere_and_kept() -> None:
    redirection = Redirection(
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=-1
    )
    with redirection.ends(None) as ends:
        assert (ends.stdin, ends.stderr) == (NONE, KEPT)
        assert os.path.samestat(os.fstat(ends.stdout), Path(os.devnull).stat())
        nowhere = ends.stdout
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(nowhere)


def test_errors_beside_the_output_belong_to_it() -> None:
    redirection = Redirection(
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert redirection.kept(b"out\n", b"err\n") == ("out\nerr\n", None)


def test_descriptor_that_is_closed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    for stream in ("stdin", "stdout", "stderr"):
        options: dict[str, Any] = {stream: writing}
        with (
            pytest.raises(OSError, match="Bad file"),
            Redirection(**options).ends(None),
        ):
            pass


def test_standard_streams_that_are_closed() -> None:
    code = (
        "import os; from incus_testbed.instance.redirection import Redirection;"
        "os.closerange(0, 3);"
        "ends = Redirection().ends(None);"
        "found = ends.__enter__();"
        "os._exit(not os.path.sameopenfile(found.stdin, found.stdout))"
    )
    done = subprocess.run(["/usr/bin/python3", "-c", code], check=False)
    assert done.returncode == 0


def test_option_that_only_a_process_of_the_host_can_have() -> None:
    for option in ("shell", "preexec_fn", "umask", "no_such"):
        options: dict[str, Any] = {option: None}
        with pytest.raises(TypeError, match=option):
            Redirection(**options)
