# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard input, output and error of a command."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest
from debusine.tasks.executors.base import InstanceInterface

_BOTH = ["sh", "-c", "echo out; echo err >&2"]
_ALL_BYTES = bytes(range(256))
#: The two streams by turns, often enough for any mistake to show.
_TURNS = 200
_BY_TURNS = [
    "sh",
    "-c",
    f"i=0; while [ $i -lt {_TURNS} ]; do"
    " echo o$i; echo e$i >&2; i=$((i + 1)); done",
]
_IN_ORDER = [word for i in range(_TURNS) for word in (f"o{i}", f"e{i}")]


@contextlib.contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    """Have this process read data as its standard input."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    kept = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def _captured(done: "subprocess.CompletedProcess[bytes]") -> tuple[object, ...]:
    return done.stdout, done.stderr


def test_output_is_captured_by_default(instance: InstanceInterface) -> None:
    done = instance.run(_BOTH)
    assert _captured(done) == (b"out\n", b"err\n")


def test_capture_output(instance: InstanceInterface) -> None:
    done = instance.run(_BOTH, capture_output=True)
    assert _captured(done) == (b"out\n", b"err\n")


def test_output_to_none_is_inherited(
    instance: InstanceInterface, capfd: pytest.CaptureFixture[str]
) -> None:
    done = instance.run(_BOTH, stdout=None, stderr=None)
    assert _captured(done) == (None, None)
    assert tuple(capfd.readouterr()) == ("out\n", "err\n")


def test_output_to_nowhere(
    instance: InstanceInterface, capfd: pytest.CaptureFixture[str]
) -> None:
    done = instance.run(
        _BOTH, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert _captured(done) == (None, None)
    assert tuple(capfd.readouterr()) == ("", "")


def test_output_to_files(instance: InstanceInterface, tmp_path: Path) -> None:
    output, error = tmp_path / "output", tmp_path / "error"
    with output.open("wb") as stdout, error.open("wb") as stderr:
        done = instance.run(_BOTH, stdout=stdout, stderr=stderr)
    assert _captured(done) == (None, None)
    assert output.read_text() == "out\n"
    assert error.read_text() == "err\n"


def test_output_to_a_descriptor_between_lines_of_the_caller(
    instance: InstanceInterface, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb", buffering=0) as file:
        file.write(b"before\n")
        instance.run(
            ["echo", "during"], stdout=file.fileno(), stderr=file.fileno()
        )
        file.write(b"after\n")
    assert log.read_text() == "before\nduring\nafter\n"


def test_errors_into_the_output_in_order(instance: InstanceInterface) -> None:
    done = instance.run(_BY_TURNS, stderr=subprocess.STDOUT, text=True)
    assert done.stdout.split() == _IN_ORDER
    assert done.stderr is None


def test_errors_into_one_file_with_the_output_in_order(
    instance: InstanceInterface, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        instance.run(_BY_TURNS, stdout=file, stderr=file)
    assert log.read_text().split() == _IN_ORDER


def test_output_as_bytes(instance: InstanceInterface) -> None:
    done = instance.run(["cat"], input=_ALL_BYTES)
    assert done.stdout == _ALL_BYTES


def test_much_through_cat(instance: InstanceInterface) -> None:
    data = os.urandom(5_000_000)
    assert instance.run(["cat"], input=data).stdout == data


def test_much_from_file_to_file(
    instance: InstanceInterface, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(5_000_000))
    with source.open("rb") as stdin, target.open("wb") as stdout:
        instance.run(["cat"], stdin=stdin, stdout=stdout, check=True)
    assert target.read_bytes() == source.read_bytes()


def test_much_on_both_streams(instance: InstanceInterface) -> None:
    done = instance.run(
        [
            "sh",
            "-c",
            "head -c 1000000 /dev/zero & head -c 2000000 /dev/zero >&2; wait",
        ]
    )
    assert len(done.stdout) == 1_000_000
    assert len(done.stderr) == 2_000_000


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"text": True, "input": "ü\n"}, "ü\n"),
        ({"universal_newlines": True, "input": "ü\n"}, "ü\n"),
        ({"encoding": "latin-1", "input": "ü"}, "ü"),
        ({"encoding": "utf-16", "input": "ü"}, "ü"),
        ({"errors": "replace", "stdin": b"\xff"}, "\N{REPLACEMENT CHARACTER}"),
        ({"text": True, "stdin": b"a\r\nb\rc"}, "a\nb\nc"),
        ({"text": False, "input": b"a\r\nb"}, b"a\r\nb"),
        ({"text": None, "input": b"a\r\nb"}, b"a\r\nb"),
    ],
    ids=[
        *("text", "universal_newlines", "latin-1", "utf-16", "errors"),
        *("newlines", "bytes", "unspecified"),
    ],
)
def test_text_and_bytes(
    instance: InstanceInterface,
    tmp_path: Path,
    options: dict[str, Any],
    expected: str | bytes,
) -> None:
    with contextlib.ExitStack() as stack:
        if "stdin" in options:
            file = tmp_path / "input"
            file.write_bytes(options["stdin"])
            options = {**options, "stdin": stack.enter_context(file.open())}
        assert instance.run(["cat"], **options).stdout == expected


def test_what_is_not_text_is_refused(instance: InstanceInterface) -> None:
    with pytest.raises(UnicodeDecodeError):
        instance.run(["printf", r"\377"], text=True)


def test_input_from_a_descriptor_starts_where_it_stands(
    instance: InstanceInterface, tmp_path: Path
) -> None:
    file = tmp_path / "input"
    file.write_text("read\nleft\n")
    with file.open("rb", buffering=0) as source:
        source.read(len("read\n"))
        done = instance.run(["cat"], stdin=source.fileno())
    assert done.stdout == b"left\n"


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
def test_no_input(instance: InstanceInterface, stdin: int) -> None:
    assert instance.run(["cat"], stdin=stdin).stdout == b""


def test_empty_input(instance: InstanceInterface) -> None:
    assert instance.run(["cat"], input=b"").stdout == b""


def test_input_that_is_not_read(instance: InstanceInterface) -> None:
    done = instance.run(["true"], input=b"x" * 1_000_000)
    assert done.returncode == 0


def test_input_is_inherited_by_default(instance: InstanceInterface) -> None:
    with standard_input(b"the caller's"):
        done = instance.run(["cat"])
    assert done.stdout == b"the caller's"


@pytest.mark.parametrize(
    "call", ["mkdir", "create_user", "file_push", "file_pull", "directory_push"]
)
def test_other_calls_leave_the_input_alone(
    instance: InstanceInterface, folder: PurePath, tmp_path: Path, call: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    with standard_input(b"the caller's"):
        match call:
            case "mkdir":
                instance.mkdir(folder / "new")
            case "create_user":
                instance.create_user(f"reader{os.getpid()}")
            case "file_push":
                instance.file_push(source / "file", folder / "file")
            case "file_pull":
                instance.file_pull(PurePath("/etc/hostname"), tmp_path / "x")
            case "directory_push":
                instance.directory_push(source, folder)
        assert os.read(0, 100) == b"the caller's"


def test_a_command_with_input_of_its_own_leaves_the_callers_alone(
    instance: InstanceInterface,
) -> None:
    with standard_input(b"the caller's"):
        instance.run(["cat"], input=b"")
        instance.run(["true"], stdin=subprocess.DEVNULL)
        assert os.read(0, 100) == b"the caller's"
