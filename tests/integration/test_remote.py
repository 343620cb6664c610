# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Incus as a remote, over TLS: as good as by its socket."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.exec.address import TlsAddress
from incus_testbed.instance.instance import Instance
from tests.support import remote, tls_front

from .conftest import Cli
from .test_transport import QUESTIONS

_LIMIT = 120


@pytest.fixture(scope="module")
def by_socket(incus: Incus, bookworm: str) -> tuple[Incus, str]:
    """Return a client that is not aimed at the remote, and an image."""
    return incus, bookworm


@pytest.fixture(scope="module")
def far(
    by_socket: tuple[Incus, str],
) -> Iterator[Incus]:
    """Return a client of the same server as a remote: the user's choice."""
    del by_socket
    with (
        remote.configured(dict(os.environ)) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Incus()


@pytest.fixture(scope="module")
def box(far: Incus, by_socket: tuple[Incus, str]) -> Iterator[Instance]:
    with Instance.launch(far, by_socket[1], purpose="test") as launched:
        launched.wait_ready()
        yield launched


def _run(
    incus: Incus, box: Instance, *command: str, **options: Any
) -> "subprocess.CompletedProcess[bytes]":
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    return subprocess.run(
        incus.exec_argv(box.name, command),
        capture_output=True,
        timeout=_LIMIT,
        check=False,
        **options,
    )


def test_it_is_the_remote_that_is_asked(far: Incus, box: Instance) -> None:
    assert isinstance(far.choice().address, TlsAddress)
    assert not far.is_local()
    assert "--server=127.0.0.1:" in " ".join(far.exec_argv(box.name, ["true"]))
    assert box.name in {each.name for each in far.instances()}


@pytest.mark.parametrize("question", QUESTIONS)
def test_same_answer_as_of_the_incus_command(
    far: Incus,
    by_socket: tuple[Incus, str],
    box: Instance,
    question: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = QUESTIONS[question]
    here = ask(far, by_socket[1], box.name)
    folder = Path(os.environ["INCUS_CONF"])
    # A name before the host is incus' own business.
    text = (folder / "config.yml").read_text().replace("//", "//someone@")
    copy = folder / "indirect"
    copy.mkdir(exist_ok=True)
    (copy / "config.yml").write_text(text)
    for name in ("client.crt", "client.key", "servercerts"):
        if not (copy / name).exists():
            (copy / name).symlink_to(folder / name)
    monkeypatch.setenv("INCUS_CONF", str(copy))
    assert not far.is_direct()
    assert ask(far, by_socket[1], box.name) == here


@pytest.mark.parametrize("status", [0, 1, 77, 126, 127, 255])
def test_status(far: Incus, box: Instance, status: int) -> None:
    done = _run(far, box, "sh", "-c", f"echo no >&2; exit {status}")
    assert (done.returncode, done.stderr) == (status, b"no\n")


def test_command_and_instance_that_are_not_there(
    far: Incus, box: Instance
) -> None:
    done = _run(far, box, "no-such-command")
    assert done.returncode == 127
    assert done.stderr == b"incus-testbed: Command not found\n"
    argv = far.exec_argv("no-such-instance", ["true"])
    failed = subprocess.run(argv, capture_output=True, check=False)
    assert failed.returncode == 125
    assert b"Instance not found" in failed.stderr
    with pytest.raises(errors.NotFound):
        far.execute("no-such-instance", ["true"], timeout=_LIMIT)


def test_big_data_both_ways_at_once(far: Incus, box: Instance) -> None:
    data = os.urandom(30_000_000)
    done = _run(far, box, "cat", input=data)
    assert (done.returncode, len(done.stdout)) == (0, len(data))
    assert done.stdout == data


def test_signal_is_the_commands_to_handle(far: Incus, box: Instance) -> None:
    wait = (
        "trap 'echo caught; exit 9' INT; echo set; while :; do sleep 0.1; done"
    )
    with subprocess.Popen(
        far.exec_argv(box.name, ["sh", "-c", wait]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"set\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == b"caught\n"
        assert child.wait(_LIMIT) == 9


def _runs(far: Incus, box: Instance, command: str) -> bool:
    look = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done"
    done = far.execute(box.name, ["sh", "-c", look], timeout=_LIMIT)
    return f"{command} " in done.stdout.decode().splitlines()


def test_death_of_the_session_ends_the_command(
    far: Incus, box: Instance
) -> None:
    argv = far.exec_argv(box.name, ["sh", "-c", "echo; exec sleep 654"])
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"\n"
        child.kill()
    deadline = time.monotonic() + _LIMIT
    while _runs(far, box, "sleep 654"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_time_limit_ends_the_command(far: Incus, box: Instance) -> None:
    with pytest.raises(errors.TimedOut):
        far.execute(box.name, ["sleep", "655"], timeout=1)
    deadline = time.monotonic() + _LIMIT
    while _runs(far, box, "sleep 655"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_variables_come_before_the_input(
    box: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not in a file of the guest, which another command would write."""
    monkeypatch.delattr(type(box.guest), "leave_settings")
    done = box.guest.run(
        ["sh", "-c", 'echo "$TOKEN"; cat; exit 3'],
        env={"TOKEN": "secret"},
        input=b"input",
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (3, b"secret\ninput")


def test_files(box: Instance, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(100_000))
    box.guest.files.push(str(source), "/root/there")
    box.guest.files.pull("/root/there", str(back))
    assert back.read_bytes() == source.read_bytes()


def test_command_line(
    far: Incus, by_socket: tuple[Incus, str], box: Instance
) -> None:
    del far
    aimed = Cli(dict(os.environ))
    image = f"{remote.NAME}:{by_socket[1]}"
    done = aimed.run("run", image, "--", "sh", "-c", "echo out; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n"), done.stderr
    status = json.loads(aimed.output("status", "--format=json"))
    assert status["server"]["remote"] == remote.NAME
    assert box.name in {each["name"] for each in status["testbeds"]}


@pytest.fixture
def copied(far: Incus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the configuration, which is used."""
    del far
    folder = tmp_path / "copied"
    subprocess.run(
        ["cp", "-r", os.environ["INCUS_CONF"], str(folder)], check=True
    )
    monkeypatch.setenv("INCUS_CONF", str(folder))
    return folder


def test_client_that_the_server_does_not_trust(
    far: Incus, copied: Path
) -> None:
    for name in ("client.crt", "client.key"):
        (copied / name).unlink()
    tls_front.certificate(copied, "client")
    for ask in (
        far.server,
        far.instances,
        lambda: far.execute("box", ["true"], timeout=_LIMIT),
        lambda: far.run("query", "/1.0/instances"),
    ):
        with pytest.raises(errors.Denied) as raised:
            ask()
        assert "incus config trust add" in raised.value.resolution


def test_other_server_than_the_pinned_one(far: Incus, copied: Path) -> None:
    pinned = copied / f"servercerts/{remote.NAME}.crt"
    pinned.write_text((copied / "client.crt").read_text())
    for ask in (far.server, lambda: far.run("list", far.target())):
        with pytest.raises(errors.Denied) as raised:
            ask()
        assert "incus remote add" in raised.value.resolution
