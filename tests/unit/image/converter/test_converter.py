# SPDX-License-Identifier: GPL-3.0-or-later
"""A conversion in a process of its own: what it can reach, and how it ends."""

import contextlib
import gc
import hashlib
import io
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from incus_testbed import errors
from incus_testbed.image import importing
from incus_testbed.image.converter import answer, converter
from incus_testbed.image.converter.answer import Result
from incus_testbed.image.converter.order import Order
from incus_testbed.image.description import Description
from incus_testbed.image.fits import Place
from incus_testbed.image.labels import Labels
from incus_testbed.image.stream import scratch
from incus_testbed.image.stream.source import Source
from incus_testbed.limits.budget import Budget
from incus_testbed.process import sandbox
from incus_testbed.system.architecture import Supported
from tests.support import tiny_system

#: Seconds after which something hangs, on a machine however busy.
_LIMIT = 30.0


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "label": Labels(codename="mine"),
        "supported": Supported(containers=["x86_64"], machines=["x86_64"]),
        "place": Place(pool="p", pool_size=1 << 40),
        "budget": Budget(),
        "date": 7,
    }
    return Order(**{**fields, **changes})


def convert(
    source: Any,
    progress: Callable[[int], None] | None = None,
    **changes: Any,
) -> tuple[Result, bytes]:
    with (
        scratch.file() as rootfs,
        scratch.file() as spare,
        converter.started(Source(source), rootfs, spare) as process,
    ):
        result = process.convert(order(**changes), progress)
        rootfs.seek(0)
        return result, rootfs.read()


@contextlib.contextmanager
def silent() -> Iterator[IO[bytes]]:
    """Give a source that says nothing, and does not end."""
    end, pipe = os.pipe()
    with open(end, "rb") as file, open(pipe, "wb"):  # noqa: PTH123
        yield file


def saying(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program in the place of the converting process."""
    monkeypatch.setattr(
        sandbox,
        "python",
        lambda _, *words: [sys.executable, "-c", code, *words],
    )


# -- what comes of it


def test_an_order_arrives_as_it_was_given() -> None:
    given = order(generator=b"#!/bin/sh\n\xff", budget=Budget(members=3))
    assert Order.from_json(given.to_json()) == given


@pytest.mark.parametrize("confined", [True, False])
@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_system(
    kind: str,
    confined: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sandbox, "_works", lambda: confined)
    content = tiny_system.tarball("", 3_000_000)
    (tmp_path / "tar").write_bytes(content)
    told: list[int] = []
    with (tmp_path / "tar").open("rb") as file:
        source = file if kind == "file" else io.BytesIO(content)
        result, rootfs = convert(source, told.append)
    assert result.sha256 == hashlib.sha256(content).hexdigest()
    assert result.source_size == told[-1] == len(content)
    assert result.description.architecture == "amd64"
    assert not result.is_source
    assert rootfs.startswith(b"\x28\xb5\x2f\xfd")


def test_a_tarball_is_converted_without_what_only_others_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of these takes longer to import than a small system to convert."""
    python = sandbox.python
    telling = (
        "import os; spare = os.dup(int(sys.argv[3])); os._exit = lambda status:"
        " os.write(spare, ' '.join(sys.modules).encode())"
    )
    monkeypatch.setattr(
        sandbox,
        "python",
        lambda code, *words: python(f"{telling}; {code}", *words),
    )
    with (
        scratch.file() as rootfs,
        scratch.file() as spare,
        converter.started(
            Source(io.BytesIO(tiny_system.tarball())), rootfs, spare
        ) as process,
    ):
        process.convert(order())
        spare.seek(0)
        imported = set(spare.read().decode().split())
    ours = "incus_testbed.image"
    assert f"{ours}.tar.archive" in imported
    assert not imported & {
        *("sh", "ssl", "yaml"),
        *(f"{ours}.disk.{name}" for name in ("convert", "reader", "survey")),
    }


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("rewritten", [False, True])
def test_a_disk_of_qcow2(rewritten: bool, kind: str, tmp_path: Path) -> None:
    """One that QEMU has to read needs the second file, or the first twice."""
    path = tmp_path / "disk"
    options = ["-o", "extended_l2=on"] if rewritten else []
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", *options, path, "64M"],
        check=True,
    )
    with (
        path.open("rb") as file,
        pytest.raises(errors.BadImage, match="no partition table"),
    ):
        convert(file if kind == "file" else io.BytesIO(file.read()))


def test_a_refusal_arrives_whole() -> None:
    with pytest.raises(errors.BadImage) as caught:
        convert(io.BytesIO(b"x" * 10_000))
    assert caught.value.brief
    assert caught.value.resolution


def test_what_has_no_place_is_refused() -> None:
    place = Place(pool="p", pool_size=1000, enlarge_pool="Enlarge it.")
    with pytest.raises(errors.BadImage, match="storage pool p"):
        convert(io.BytesIO(tiny_system.tarball("", 10_000)), place=place)


def test_a_full_disk_says_how_much_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = scratch.full("details")
    error.lacking = 17
    line = answer.failure(error)
    saying(f"import os; os.write(1, {line!r})", monkeypatch)
    with pytest.raises(errors.NoSpace) as caught:
        convert(io.BytesIO(b""))
    assert caught.value.lacking == 17


# -- what it can reach

_PROBE = r"""
import ctypes
import json
import os
import signal
import socket
import sys
found = {}
def attempt(name, action):
    try:
        found[name] = repr(action())
    except Exception as error:
        found[name] = "no"
def reach(family, address):
    with socket.socket(family) as there:
        there.settimeout(5)
        there.connect(address)
attempt("users", lambda: open("/etc/passwd").read())
attempt("secret", lambda: open(sys.argv[1]).read())
attempt("write", lambda: open(sys.argv[1], "w"))
attempt("write usr", lambda: open("/usr/made", "w"))
attempt("write modules", lambda: open(sys.argv[4] + "/made", "w"))
attempt("port", lambda: reach(socket.AF_INET, ("127.0.0.1", int(sys.argv[2]))))
attempt("socket", lambda: reach(socket.AF_UNIX, sys.argv[3]))
attempt("abstract", lambda: reach(socket.AF_UNIX, "\0" + sys.argv[3]))
attempt("parent", lambda: os.kill(int(sys.argv[5]), 0))
attempt("environment", lambda: os.environ["SECRET"])
found["processes"] = [name for name in os.listdir("/proc") if name.isdigit()]
status = open("/proc/self/status").read()
found["rights"] = [
    line.split()[1] for line in status.splitlines()
    if line.startswith(("CapEff", "NoNewPrivs"))
]
print(json.dumps(found))
"""


def probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: Path
) -> dict[str, Any]:
    """Try out what a program in the sandbox can do."""
    secret = tmp_path / "secret"
    secret.write_text("token")
    monkeypatch.setenv("SECRET", "token")
    name = str(tmp_path / "socket")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        local.bind(name)
        local.listen()
        abstract.bind("\0" + name)
        abstract.listen()
        port = str(server.getsockname()[1])
        words = (str(secret), port, name, str(modules), str(os.getpid()))
        done = subprocess.run(
            sandbox.python(f"exec({_PROBE!r})", *words),
            stdout=subprocess.PIPE,
            check=True,
        )
    assert secret.read_text() == "token"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_reaches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sandbox.obstacle() is None
    modules = Path(sandbox.__file__).parent
    found = probe(tmp_path, monkeypatch, modules)
    processes, rights = found.pop("processes"), found.pop("rights")
    assert set(found.values()) == {"no"}, found
    assert len(processes) <= 2
    assert rights == ["0000000000000000", "1"]


def test_the_probe_finds_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a sandbox it reaches almost all of it."""
    monkeypatch.setattr(sandbox, "_PLAIN", ())
    monkeypatch.setattr(sandbox, "_works", lambda: False)
    secret = tmp_path / "other"
    secret.write_text("")
    monkeypatch.setattr(
        "tests.unit.image.converter.test_converter._PROBE",
        _PROBE.replace('"w"', '"a"').replace("/usr/made", str(secret)),
    )
    found = probe(tmp_path, monkeypatch, tmp_path)
    assert "no" not in [
        value for name, value in found.items() if name != "rights"
    ]


def test_its_limits_hold_for_what_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "_works", lambda: False)
    code = (
        "from incus_testbed.image.converter import program;"
        "from incus_testbed.limits.budget import Budget;"
        "program._limit(Budget(seconds=100, unpacked_bytes=5));"
        "import subprocess; subprocess.run(['prlimit', '--raw', '--noheadings',"
        " '--output=RESOURCE,HARD'], check=True)"
    )
    said = subprocess.run(
        sandbox.python(code), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    limits = dict(line.split() for line in said.splitlines())
    processors = os.cpu_count() or 1
    assert int(limits["CPU"]) == 101 * processors
    assert int(limits["FSIZE"]) == (1 << 30) + 5
    assert int(limits["AS"]) < (3 << 30) + processors * (1 << 29)
    assert limits["CORE"] == "0"
    assert int(limits["NOFILE"]) <= 64
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 64


# -- what it says is not trusted


def success(**changes: Any) -> bytes:
    """Return what a process says that is done, with something changed."""
    made = Result(
        is_source=False,
        sha256="0" * 64,
        source_size=1,
        unpacked_size=1,
        description=Description(architecture="amd64"),
    )
    message = json.loads(answer.success(made))
    done = message["done"]
    for key, value in changes.items():
        (done if key in done else done["description"])[key] = value
    return json.dumps(message).encode() + b"\n"


def test_what_is_said_is_understood() -> None:
    result = answer.parse(success(vm={"incus-testbed.agent": "image"}))
    assert isinstance(result, Result)
    assert result.description.vm == {"incus-testbed.agent": "image"}
    assert answer.parse(answer.progress(5)) == 5


@pytest.mark.parametrize(
    "line",
    [
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"read": "1"}',
        b'{"read": -1}',
        b'{"read": true}',
        b'{"done": {}}',
        b'{"failed": {"kind": "SystemExit"}}',
        b'{"failed": 3}',
        success(unpacked_size=1 << 63),
        success(sha256="A" * 64),
        success(vendor="x" * 65),
        success(machine_ids=["etc/passwd"]),
        success(last_file="etc/passwd"),
        success(last_file=[]),
        success(vm={"incus-testbed.owner": "x"}),
        success(vm={"incus-testbed.agent": "{{ config }}"}),
        success(vm=[]),
    ],
)
def test_what_makes_no_sense_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong
        answer.parse(line)


def test_two_messages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = answer.progress(1) + success(unpacked_size=77)
    saying(f"import os; os.write(1, {said!r})", monkeypatch)
    result, _ = convert(io.BytesIO(b""))
    assert result.unpacked_size == 77


def test_a_process_that_stays_after_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It could change the result after it was checked."""
    monkeypatch.setattr(converter, "_GRACE", 0.5)
    said = success()
    saying(
        f"import os, time; os.write(1, {said!r}); time.sleep(600)", monkeypatch
    )
    with pytest.raises(errors.BadImage, match="has not ended"):
        convert(io.BytesIO(b""))


_FORKING = """
import os, time
if not os.fork():
    os.setsid()
    for descriptor in range(3):
        os.close(descriptor)
    while True:
        os.getpid()
"""


def test_what_it_has_started_ends_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)  # names them on the command line
    for _ in range(10):
        subprocess.run(sandbox.python(f"exec({_FORKING!r})"), check=True)
        assert not _naming(tmp_path)


def test_an_architecture_that_there_is_not() -> None:
    with pytest.raises(errors.BadImage):
        answer.parse(success(architecture="vax"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        ("print('nonsense')", errors.BadImage, "an invalid answer"),
        ("raise ValueError('what')", errors.CommandFailed, "ValueError: what"),
        (
            "import os; import signal; os.kill(os.getpid(), signal.SIGSEGV)",
            errors.CommandFailed,
            r"killed by signal 11 \(Segmentation fault\)",
        ),
        (
            "import os\nwhile True: os.write(1, bytes(1 << 16))",
            errors.CommandFailed,
            "gave no answer",
        ),
        (
            "import os, sys\nfor _ in range(100): os.write(2, bytes(1 << 16))",
            errors.CommandFailed,
            "gave no answer",
        ),
        (
            "import os; import time; os.close(1); time.sleep(600)",
            errors.CommandFailed,
            "gave no answer",
        ),
    ],
)
def test_a_process_that_was_taken_over(
    code: str,
    error: type[errors.TestbedError],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saying(code, monkeypatch)
    with pytest.raises(error) as caught:
        convert(io.BytesIO(b"x"))
    assert re.search(text, str(caught.value))
    assert len(str(caught.value)) < 10_000


_BACKED = "qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw rootfs 1M"


@pytest.mark.parametrize(
    ("command", "vm"),
    [
        ("touch rootfs", None),
        (_BACKED, None),
        (_BACKED, {}),
        ("cp /etc/passwd rootfs", {}),
        ("zstd -q /etc/passwd -o rootfs", {}),
    ],
)
def test_what_incus_would_take_for_something_else(
    command: str, vm: dict[str, str] | None, tmp_path: Path
) -> None:
    """A process that was taken over could write it."""
    subprocess.run(command.split(), cwd=tmp_path, check=True)
    found = Description(architecture="amd64", vm=vm)
    with (
        (tmp_path / "rootfs").open("rb") as file,
        pytest.raises(errors.BadImage),
    ):
        importing.check_form(file, found, "zstd")


# -- how it ends


def test_a_source_that_says_nothing_takes_its_time_only() -> None:
    with silent() as source, pytest.raises(errors.TimedOut, match="SECONDS"):
        convert(source, budget=Budget(seconds=1))


def test_a_process_that_hangs_takes_its_time_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saying("import time; time.sleep(600)", monkeypatch)
    monkeypatch.setattr(converter, "_GRACE", 0.5)
    with pytest.raises(errors.TimedOut, match="SECONDS"):
        convert(io.BytesIO(b"x"), budget=Budget(seconds=1))


def test_what_progress_raises_ends_it() -> None:
    class NotWantedError(Exception):
        pass

    def progress(size: int) -> None:
        raise NotWantedError(str(size))

    with silent() as source, pytest.raises(NotWantedError):
        convert(source, progress)
    with pytest.raises(ChildProcessError):  # none is left
        os.waitpid(-1, os.WNOHANG)


def test_trouble_of_the_source_is_what_is_told() -> None:
    class Broken:
        def __init__(self) -> None:
            self._parts = iter([tiny_system.tarball("", 1_000_000)[:500_000]])

        def read(self, size: int) -> bytes:
            del size
            for part in self._parts:
                return part
            raise KeyError("the server is gone")

    with pytest.raises(KeyError, match="the server is gone"):
        convert(Broken())


def test_threads_and_files_are_given_back() -> None:
    gc.collect()  # what other tests have left open
    threads = threading.active_count()
    before = len(list(Path("/proc/self/fd").iterdir()))
    convert(io.BytesIO(tiny_system.tarball("", 10_000)))
    with pytest.raises(errors.BadImage):
        convert(io.BytesIO(b"x"))
    deadline = time.monotonic() + _LIMIT
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_none_is_left_that_was_given_up_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)  # names them on the command line
    for pause in (0, 0.001, 0.002, 0.003, 0.005, 0.01) * 5:
        with (
            silent() as source,
            scratch.file() as rootfs,
            scratch.file() as spare,
            converter.started(Source(source), rootfs, spare),
        ):
            time.sleep(pause)
    _wait_until_gone(_naming(tmp_path))


_HANGING = """
import sys
from tests.unit.image.converter import test_converter
with test_converter.silent() as source:
    test_converter.convert(source, lambda size: print("converts", flush=True))
"""


@pytest.mark.parametrize("confined", [True, False])
def test_it_dies_with_who_started_it(confined: bool) -> None:
    code = _HANGING
    if not confined:
        code = (
            "from incus_testbed.process import sandbox;"
            f"sandbox._works = lambda: False\n{code}"
        )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"converts\n"
        children = _below(parent.pid)
        assert children
        parent.send_signal(signal.SIGKILL)
    _wait_until_gone(children)


def _naming(path: Path) -> set[int]:
    """Return the processes whose command line names a path."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(path) in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def _wait_until_gone(processes: set[int]) -> None:
    deadline = time.monotonic() + _LIMIT
    while any(Path("/proc", str(pid)).exists() for pid in processes):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _below(pid: int) -> set[int]:
    """Return the processes below one."""
    found: set[int] = set()
    for child in _children(pid):
        found |= {child, *_below(child)}
    return found


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]
