# SPDX-License-Identifier: GPL-3.0-or-later
"""A command's output arrives whole or is reported as lost."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed import errors
from incus_testbed.incus.exec import (
    api,
    streams,
    websocket,
)
from incus_testbed.incus.exec import command as session_command
from incus_testbed.incus.exec import operation as session_operation
from incus_testbed.incus.exec.address import Address, UnixAddress
from incus_testbed.incus.exec.connection import Connection
from incus_testbed.incus.exec.response import Response
from incus_testbed.incus.location import session_argv
from incus_testbed.incus.transport import Direct
from incus_testbed.virt_server import command
from tests.support import fake_incusd, forkservers, tls_front
from tests.support.fake_incusd import (
    BINARY,
    CLOSE,
    END,
    KEEPALIVE,
    PING,
    PONG,
    TEXT,
    Incusd,
    Stream,
    frame,
    wait_for,
)

_LIMIT = 60

Frame = tuple[int, bytes]


# -- the parts of a stream


def _messages(pieces: list[Frame]) -> list[Frame]:
    """Join the pieces of what was sent, message borders left aside."""
    joined: list[Frame] = []
    for opcode, piece in pieces:
        if joined and joined[-1][0] == opcode == BINARY:
            joined[-1] = (opcode, joined[-1][1] + piece)
        else:
            joined.append((opcode, piece))
    return joined


_FRAMES = st.lists(
    st.one_of(
        st.tuples(st.just(BINARY), st.binary(min_size=1, max_size=300)),
        st.tuples(st.just(BINARY), st.just(b"x" * 70_000)),
        st.tuples(st.just(TEXT), st.just(b"")),
        st.tuples(st.sampled_from([PING, PONG, CLOSE]), st.binary(max_size=20)),
    ),
    max_size=8,
)


@given(frames=_FRAMES, data=st.data())
def test_frames_are_the_same_wherever_the_stream_is_cut(
    frames: list[Frame], data: st.DataObject
) -> None:
    stream = b"".join(frame(*each) for each in frames)
    positions = st.integers(min_value=0, max_value=len(stream))
    cuts = sorted(data.draw(st.lists(positions, max_size=10)))
    reader = websocket.FrameReader()
    pieces = [
        piece
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for piece in reader.feed(stream[start:end])
    ]
    assert _messages(pieces) == _messages(frames)


def test_fragments_are_their_messages() -> None:
    reader = websocket.FrameReader()
    stream = (
        frame(BINARY, b"a", final=False)
        + frame(PING, b"p")
        + frame(0, b"b", final=False)
        + frame(0, b"c")
        + END
    )
    pieces = [piece for byte in stream for piece in reader.feed(bytes([byte]))]
    assert [piece for piece in pieces if piece[0] == BINARY] == [
        (BINARY, b"a"),
        (BINARY, b"b"),
        (BINARY, b"c"),
    ]
    assert pieces[1] == (PING, b"p")
    assert pieces[-1] == (TEXT, b"")


@pytest.mark.parametrize(
    "stream", [b"\x82\x81", b"\x89\x7e\xff\xff", b"\x8a\xff"]
)
def test_no_server_sends_this(stream: bytes) -> None:
    with pytest.raises(api.Failure):
        websocket.FrameReader().feed(stream)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_what_is_sent_is_a_masked_frame(length: int) -> None:
    payload = os.urandom(length)
    sent = websocket.frame(BINARY, payload)
    plain = frame(BINARY, payload)
    header = len(plain) - length
    assert sent[0] == plain[0]
    assert sent[1] == plain[1] | 0x80
    assert sent[2:header] == plain[2:header]
    assert sent[header:] == bytes(4) + payload


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "nothing", "[" * 100_000])
def test_an_answer_that_is_not_json_is_lost(text: str) -> None:
    with pytest.raises(api.Lost):
        api.metadata(text.encode())


@given(word=st.text(min_size=1))
def test_quoted_words_hold_nothing_special(word: str) -> None:
    word = word.encode(errors="ignore").decode()
    assert unquote(api.quoted(word)) == word
    assert not set(api.quoted(word)) & set("/?#& ")


# -- the whole program


class Run:
    """The program, run on a daemon of the test's own."""

    def __init__(
        self, path: Path, address: Address, program: Sequence[str]
    ) -> None:
        self.path = path
        self.address = address
        self.program = program
        self.servers: list[Incusd] = []

    def server(self, **behaviour: Any) -> Incusd:
        server = Incusd(self.path, **behaviour)
        self.servers.append(server)
        return server

    def argv(self, *command: str, **options: Any) -> list[str]:
        return session_argv(
            self.address,
            "some project",
            "box",
            command,
            **{"program": self.program, **options},
        )

    def __call__(
        self,
        *command: str,
        program: Sequence[str] | None = None,
        **options: Any,
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            self.argv(*(command or ("true",)), program=program or self.program),
            check=False,
            timeout=_LIMIT,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )

    def error(self, limit: float = _LIMIT) -> errors.TestbedError:
        """Return what is raised where only the answer is wanted."""
        server = Direct(self.address, "some project", limit)
        with pytest.raises(errors.TestbedError) as raised:
            server.execute("box", ["true"], timeout=_LIMIT)
        return raised.value

    def start(self, **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.argv("true"),
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the certificates of a server and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "client"):
        tls_front.certificate(folder, name)
    return folder


#: Has a forkserver run a session, and has the status of exec.
_FORKED = (
    sys.executable,
    "-I",
    "-S",
    "-c",
    "import os, sys; sys.path += sys.argv.pop(1).split(os.pathsep);"
    " from incus_testbed.incus.exec import forked;"
    " status = forked.outcome(sys.argv[1], sys.argv[2:]);"
    " os._exit(125 if status is None else status)",
    os.pathsep.join(sys.path),
)


@pytest.fixture
def forkserver() -> Iterator[forkservers.Running]:
    with forkservers.running() as server:
        yield server


@pytest.fixture(params=["unix", "tls", "forked unix", "forked tls"])
def run(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: Path
) -> Iterator[Run]:
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        address: Address = UnixAddress(str(path))
        if "tls" in request.param:
            server, client = (
                certificates / f"{name}.crt" for name in ("server", "client")
            )
            context = tls_front.server_context(server, client)
            front = tls_front.Front(path, context)
            stack.callback(front.close)
            address = front.address(client, pinned=str(server))
        program: Sequence[str] = ()
        if "forked" in request.param:
            name = request.getfixturevalue("forkserver").name
            program = (*_FORKED, name)
        running = Run(path, address, program)
        yield running
        for daemon in running.servers:
            daemon.close()


def _said(*parts: bytes) -> Stream:
    return Stream([b"".join(parts)])


def test_output_and_status(run: Run) -> None:
    run.server(
        status=77,
        stdout=_said(frame(BINARY, b"out\0\xff"), END),
        stderr=_said(frame(BINARY, b"err"), END),
    )
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (
        77,
        b"out\0\xff",
        b"err",
    )


def test_ping_of_a_peer_that_is_gone_does_not_hide_the_output(run: Run) -> None:
    run.server(
        stdout=_said(KEEPALIVE, frame(BINARY, b"hello\n"), END),
        stderr=_said(KEEPALIVE, END),
    )
    child = run.start()
    child.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    child.send_signal(signal.SIGCONT)
    assert child.communicate(timeout=_LIMIT) == (b"hello\n", b"")
    assert child.returncode == 0


def test_peer_that_is_gone_is_no_signal_to_this_process(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virt server ends by SIGPIPE."""
    run.server(
        stdout=_said(KEEPALIVE, frame(BINARY, b"hello\n"), END),
        stderr=_said(KEEPALIVE, END),
    )
    wait_for = session_command.wait_for

    def wait_longer(*arguments: Any) -> None:
        time.sleep(0.3)
        wait_for(*arguments)

    monkeypatch.setattr(session_command, "wait_for", wait_longer)
    heard: list[int] = []
    before = signal.signal(
        signal.SIGPIPE, lambda number, _: heard.append(number)
    )
    try:
        daemon = Direct(run.address, "some project", _LIMIT)
        done = daemon.execute("box", ["true"], timeout=_LIMIT)
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert (done.status, done.stdout, heard) == (0, b"hello\n", [])


def test_nothing_is_written_to_where_output_comes_from(run: Run) -> None:
    """Through incus-user it could cost what is still under way."""
    server = run.server(
        stdout=Stream(
            [KEEPALIVE, frame(BINARY, b"x"), KEEPALIVE, END],
            pause=0.1,
            stay=True,
        ),
        stdin=Stream([KEEPALIVE]),
    )
    assert run().stdout == b"x"
    assert server.received["1"] == []
    assert {opcode for opcode, _ in server.received["0"]} == {TEXT}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_output_that_does_not_end_is_not_kept(run: Run, name: str) -> None:
    piece = frame(BINARY, bytes(1 << 20))
    said = Stream([piece] * ((streams.MOST_KEPT >> 20) + 4))
    run.server(**{name: said})
    assert "more than 16 MiB" in str(run.error())


def test_output_in_crumbs(run: Run) -> None:
    stream = frame(BINARY, b"hel", final=False) + frame(0, b"lo") + END
    crumbs = [bytes([byte]) for byte in stream]
    run.server(stdout=Stream(crumbs, pause=0.002))
    assert run().stdout == b"hello"


def test_huge_frame(run: Run) -> None:
    data = os.urandom(10_000_000)
    run.server(stdout=_said(frame(BINARY, data), END))
    assert run().stdout == data


def test_output_into_a_file(run: Run, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    run.server(stdout=_said(frame(BINARY, data), END))
    with (tmp_path / "out").open("wb") as out:
        assert run(stdout=out).returncode == 0
    assert (tmp_path / "out").read_bytes() == data


def test_slow_reader_gets_all(run: Run) -> None:
    data = os.urandom(1_000_000)
    run.server(stdout=_said(frame(BINARY, data), END))
    with run.start() as child:
        time.sleep(0.5)
        assert child.communicate(timeout=_LIMIT)[0] == data


@pytest.mark.parametrize("closing", [b"", frame(CLOSE, b"\x03\xe8")])
def test_output_that_was_cut_is_a_failure(run: Run, closing: bytes) -> None:
    run.server(stdout=_said(frame(BINARY, b"hel"), closing))
    done = run()
    assert (done.returncode, done.stdout) == (125, b"hel")
    assert isinstance(run.error(), errors.DaemonDown)


def test_frame_that_was_cut_is_a_failure(run: Run) -> None:
    run.server(stdout=_said(frame(BINARY, b"hello")[:-2]))
    assert run().returncode == 125


def test_daemon_that_dies_is_a_failure(run: Run) -> None:
    run.server(
        stdout=_said(frame(BINARY, b"x"), END), outcome=b"HTTP/1.1 200 OK\r\n"
    )
    done = run()
    assert (done.returncode, done.stdout) == (125, b"x")
    assert isinstance(run.error(), errors.DaemonDown)


def test_no_daemon(run: Run) -> None:
    done = run(program=command.PROGRAM)
    assert done.returncode == 255
    assert isinstance(run.error(), errors.DaemonDown)


@pytest.mark.parametrize(("status", "said"), [(0, 0), (3, 3), (255, 253)])
def test_autopkgtest_keeps_255_for_itself(
    run: Run, status: int, said: int
) -> None:
    run.server(status=status)
    assert run().returncode == status
    assert run(program=command.PROGRAM).returncode == said


# -- time limits


def _hurried(argv: list[str], limit: float) -> list[str]:
    """Return a session's command line with a limit that is not 60 s."""
    hurry = f"from exec import api; api.LIMIT = {limit}; from exec"
    return [word.replace("from exec", hurry) for word in argv]


@pytest.mark.parametrize("daemon", [fake_incusd.silent, fake_incusd.full])
def test_daemon_that_does_not_answer(
    daemon: Callable[[Path], AbstractContextManager[None]], run: Run
) -> None:
    with daemon(run.path):
        done = subprocess.run(
            _hurried(run.argv("true", program=()), 0.2),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT / 2,
            check=False,
        )
        late = run.error(limit=0.2)
    assert done.returncode == 125
    assert isinstance(late, errors.TimedOut)
    assert "0.2 s" in done.stderr.decode()
    assert "0.2 s" in late.details


def test_quiet_command_has_no_time_limit(run: Run) -> None:
    run.server(stdout=Stream([frame(BINARY, b"late") + END], pause=1))
    done = subprocess.run(
        _hurried(run.argv("true", program=()), 0.5),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"late"), done.stderr


# -- failures


_ASK = """
import sys
from incus_testbed import errors
from incus_testbed.incus.exec.address import Address, UnixAddress
from incus_testbed.incus.transport import Direct

daemon = Direct(UnixAddress(sys.argv[1]), "some project", 60)
try:
    daemon.execute("box", ["true"], timeout=60)
except errors.TestbedError as error:
    sys.exit(f"class {type(error).__name__}")
"""


@pytest.mark.parametrize("run", ["unix"], indirect=True)
def test_no_permission(run: Run) -> None:
    run.server()
    run.path.chmod(0)
    # Root, too, without the right to ignore permissions.
    as_others = ["setpriv", "--bounding-set=-dac_override"]
    as_others = as_others if os.geteuid() == 0 else []
    for argv, said in (
        (run.argv("true"), "don't have the needed permissions"),
        ([sys.executable, "-c", _ASK, str(run.path)], "class Denied"),
    ):
        done = subprocess.run(
            [*as_others, *argv],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT,
            check=False,
        )
        assert said in done.stderr.decode()


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            'Failed to fetch instance "box" in project "default":'
            " Instance not found",
            errors.NotFound,
        ),
        ("Project not found", errors.NotFound),
        ("Instance is not running", errors.NotRunning),
        ("Instance is frozen", errors.CommandFailed),
        ("VM agent isn't currently running", errors.AgentDown),
        ("Only running operations can be connected", errors.AgentDown),
        ("Timed out waiting for websockets to connect", errors.AgentDown),
        ('Post "https://x/1.0/exec": TLS handshake timeout', errors.AgentDown),
        ("User does not have permission: not authorized", errors.Denied),
    ],
)
def test_refusal_has_a_kind(
    run: Run, message: str, kind: type[errors.TestbedError]
) -> None:
    run.server(started={"type": "error", "error": message, "error_code": 400})
    done = run()
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.decode() == f"incus-testbed: {message}\n"
    assert type(run.error()) is kind


_FAILED = {"type": "error", "error": "Command not found", "metadata": None}


def test_control_is_connected_before_the_streams(run: Run) -> None:
    """A short command has ended soon after its streams are connected."""
    run.server(status=3, control=Stream(delay=0.5))

    assert run().returncode == 3


def test_status_of_a_failed_operation_is_asked_for(run: Run) -> None:
    known = {"metadata": {"return": 127}, "err": "Command not found"}
    run.server(outcome=_FAILED, known={"type": "sync", "metadata": known})
    done = run()
    assert done.returncode == 127
    assert done.stderr == b"incus-testbed: Command not found\n"


@pytest.mark.parametrize(
    "about",
    [
        *(None, [], 7, "x", {"metadata": []}, {"metadata": 7}),
        {"metadata": {"return": None}},
        {"metadata": {"return": "0"}},
        {"metadata": {"return": 1 << 40}},
    ],
)
def test_end_of_a_command_that_makes_no_sense(run: Run, about: object) -> None:
    run.server(outcome={"type": "sync", "metadata": about})
    done = run()
    assert done.returncode == 125
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "about",
    [
        *(None, [], 7, {}, {"id": "x"}, {"id": "x", "metadata": None}),
        {"id": 7, "metadata": {"fds": {}}},
        {"id": 7, "metadata": {"fds": dict.fromkeys(("control", *"012"), "x")}},
    ],
)
def test_start_of_a_command_that_makes_no_sense(
    run: Run, about: object
) -> None:
    run.server(started={"type": "async", "metadata": about})
    done = run()
    assert done.returncode == 125
    assert done.stderr.startswith(b"incus-testbed: the ")


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"7", b"[]", b'{"type": "error"}', b'{"type": "sync"}', b"\xff"),
        *(b'{"type": "error", "error": 7}', b"[" * 100_000, b"9" * 5000),
    ],
)
def test_answer_of_no_daemon(answer: bytes) -> None:
    with pytest.raises(api.Failure):
        api.metadata(answer)


def test_answer_without_an_end() -> None:
    here, there = socket.socketpair()
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    feeder = threading.Thread(target=_fill, args=(there, head, bytes(1 << 16)))
    with here, there:
        feeder.start()
        with pytest.raises(api.Failure, match="larger than 1048576"):
            api.read(Connection(here), _LIMIT, Response(most=1 << 20))
        here.shutdown(socket.SHUT_RDWR)
        feeder.join()


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_answer_that_comes_in_crumbs_has_one_time_limit(start: bytes) -> None:
    here, there = socket.socketpair()
    feeder = threading.Thread(target=_fill, args=(there, start, b"x", 0.1))
    with here, there:
        feeder.start()
        with pytest.raises(TimeoutError):
            api.read(Connection(here), 0.5, Response())
        here.shutdown(socket.SHUT_RDWR)
        feeder.join()


def _fill(
    connection: socket.socket, start: bytes, more: bytes, pause: float = 0
) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(start)
        while True:
            connection.sendall(more)
            time.sleep(pause)


def test_proxy_that_closes_no_connection(run: Run) -> None:
    """Incus-user goes on waiting for its client after the daemon's end."""
    run.server(
        proxied=True,
        status=7,
        stdout=_said(frame(BINARY, b"out"), END),
        stderr=_said(frame(BINARY, b"err"), END),
    )
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out", b"err")


def test_daemon_that_leaves_its_proxy(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing says so, until something is written to it."""
    monkeypatch.setattr(session_command, "_PULSE", 0.1)
    server = run.server(proxied=True, stdout=Stream([]), stderr=Stream([END]))
    server.leave()
    assert isinstance(run.error(), errors.DaemonDown)


def test_daemon_that_leaves_after_the_output(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_command, "_PULSE", 0.1)
    server = run.server(proxied=True)
    server.leave()
    assert isinstance(run.error(), errors.DaemonDown)


_AWAY = {
    "type": "error",
    "error": "Missing event connection with target cluster member",
}
_RUNS = {"type": "sync", "metadata": {}}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often whether the daemon is still there."""
    monkeypatch.setattr(session_command, "_PULSE", 0.1)
    monkeypatch.setattr(session_command, "_DOUBTFUL_PULSE", 0.1)
    monkeypatch.setattr(session_operation, "_PATIENCE", 0.5)


@pytest.mark.usefixtures("often")
def test_member_that_goes_down_in_silence(run: Run) -> None:
    """The daemon that is asked keeps the connections open."""
    server = run.server(
        location="two",
        known=_AWAY,
        proxied=True,
        stdout=Stream([], stay=True),
        stderr=Stream([], stay=True),
    )
    assert isinstance(run.error(), errors.MemberDown)
    assert server.looks > 1


@pytest.mark.usefixtures("often")
def test_member_that_has_forgotten_a_command(run: Run) -> None:
    """It was restarted: this does not mean that there is no such file."""
    run.server(
        location="two",
        proxied=True,
        stdout=Stream([], stay=True),
        stderr=Stream([], stay=True),
    )
    assert isinstance(run.error(), errors.DaemonDown)


@pytest.mark.usefixtures("often")
def test_member_that_answers_again(run: Run) -> None:
    def once() -> bool:
        if server.looks:
            server.known = _RUNS
        return server.looks > 6

    server = run.server(
        location="two",
        known=_AWAY,
        stdout=Stream([frame(BINARY, b"out"), END], once=once),
    )
    answer = Direct(run.address, "some project", _LIMIT).execute(
        "box", ["true"], timeout=_LIMIT
    )
    assert (answer.status, answer.stdout) == (0, b"out")


@pytest.mark.usefixtures("often")
def test_daemon_alone_is_not_asked_meanwhile(run: Run) -> None:
    late = time.monotonic() + 1
    server = run.server(
        stdout=Stream(once=lambda: time.monotonic() > late),
    )
    Direct(run.address, "some project", _LIMIT).execute(
        "box", ["true"], timeout=_LIMIT
    )
    assert server.looks == 0


def test_shell_has_said_that_a_command_is_not_there(run: Run) -> None:
    known = {"metadata": {"return": 127}, "err": "Command not found"}
    run.server(
        outcome=_FAILED,
        known={"type": "sync", "metadata": known},
        stderr=_said(frame(BINARY, b"sh: no"), END),
    )
    assert run().stderr == b"sh: no"


def test_command_that_did_not_start(run: Run) -> None:
    known = {"metadata": {"return": -1}, "err": "it broke"}
    run.server(
        outcome=_FAILED,
        known={"type": "sync", "metadata": known},
        stdout=Stream([]),
        stderr=Stream([]),
    )
    done = run()
    assert done.returncode == 125
    assert done.stderr == b"incus-testbed: it broke\n"


def test_command_that_the_agent_was_too_slow_for(run: Run) -> None:
    message = 'Post "https://custom.socket/1.0/exec": TLS handshake timeout'
    server = run.server(
        refusals=[message], stdout=_said(frame(BINARY, b"out"), END)
    )
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out", b"")
    assert _tries(server) == 2


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Timed out waiting for websockets to connect", errors.AgentDown),
        (api.NOT_ATTACHED, errors.NotRunning),
    ],
)
def test_command_that_does_not_start(
    run: Run, message: str, kind: type[errors.TestbedError]
) -> None:
    nothing = {"stdout": Stream([]), "stderr": Stream([])}
    server = run.server(failures=[message] * 9, **nothing)
    done = run()
    assert done.returncode == 125
    assert _tries(server) == 3
    assert type(run.error()) is kind


def test_daemon_that_has_given_up_waiting_for_a_stream(run: Run) -> None:
    """One that is busy does, within the five seconds that it has for it."""
    server = run.server(unconnected=2, stdout=_said(frame(BINARY, b"x"), END))
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x", b"")
    assert _tries(server) == 3


def test_daemon_that_gives_up_each_time(run: Run) -> None:
    """It is the same as an agent that is not there yet: one waits for it."""
    server = run.server(unconnected=9)
    done = run()
    assert done.returncode == 125
    assert done.stderr.decode() == f"incus-testbed: {api.NOT_CONNECTED}\n"
    assert _tries(server) == 3
    assert type(run.error()) is errors.AgentDown


@pytest.mark.parametrize(
    ("size", "status", "tries"), [(2, 0, 2), (1 << 20, 0, 2), (2 << 20, 125, 1)]
)
def test_command_that_starts_late_has_its_whole_input(
    run: Run, size: int, status: int, tries: int
) -> None:
    """What can be kept is given again, and nothing is run without the rest."""
    given = os.urandom(size)

    def has_its_input() -> bool:
        ends = [each for each in server.received["0"] if each == (TEXT, b"")]
        return len(ends) == _tries(server)

    late = Stream(once=has_its_input)
    server = run.server(failures=[api.NOT_ATTACHED], stdout=late)
    assert run(stdin=None, input=given).returncode == status
    assert _tries(server) == tries
    sent = [data for opcode, data in server.received["0"] if opcode == BINARY]
    assert b"".join(sent) == given * tries


def _tries(server: Incusd) -> int:
    return sum(target.startswith("POST") for target, _ in server.requests)


def test_request(run: Run) -> None:
    server = run.server()
    run("printf", "a b", "ü\n", '"', env={**os.environ, "TERM": "vt52"})
    target, body = server.requests[0]
    assert target == "POST /1.0/instances/box/exec?project=some%20project"
    assert json.loads(body) == {
        "command": ["printf", "a b", "ü\n", '"'],
        "environment": {"TERM": "vt52"},
        "interactive": False,
        "wait-for-websocket": True,
        "user": 0,
        "group": 0,
        "cwd": "",
    }


def test_words_are_utf8_in_any_locale(run: Run) -> None:
    server = run.server()
    run("ü", env={"PATH": os.environ["PATH"], "LC_ALL": "POSIX"})
    assert json.loads(server.requests[0][1])["command"] == ["ü"]


def test_words_that_json_cannot_carry(run: Run) -> None:
    server = run.server()
    done = run("a\udcff")
    assert done.returncode == 125
    assert b"UTF-8" in done.stderr
    assert not server.requests


def test_input(run: Run) -> None:
    data = os.urandom(1_000_000)
    server = run.server(
        stdin=Stream([KEEPALIVE]),
        stdout=Stream(once=lambda: (TEXT, b"") in server.received["0"]),
    )
    assert run(stdin=None, input=data).returncode == 0
    received = server.received["0"]
    assert b"".join(payload for _, payload in received) == data
    assert [opcode for opcode, _ in received].count(TEXT) == 1
    assert received[-1] == (TEXT, b"")


def test_input_that_never_ends_holds_nothing_up(run: Run) -> None:
    run.server(stdout=_said(frame(BINARY, b"x"), END))
    with run.start(stdin=subprocess.PIPE) as child:
        assert child.wait(_LIMIT) == 0
        assert child.stdout
        assert child.stdout.read() == b"x"


def test_input_that_nobody_reads_holds_nothing_up(run: Run) -> None:
    run.server(stdin=Stream([]), stdout=Stream(pause=0.5))
    with Path("/dev/zero").open("rb") as zeros:
        assert run(stdin=zeros).returncode == 0


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(run: Run, stream: str) -> None:
    server = run.server(
        status=3,
        stdout=Stream(
            [frame(BINARY, b"out"), END],
            once=lambda: (TEXT, b"") in server.received["0"],
        ),
        stderr=_said(frame(BINARY, b"err"), END),
    )
    done = subprocess.run(
        ["sh", "-c", f'"$@" {stream}', "sh", *run.argv("true")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )
    assert done.returncode == 3
    assert done.stdout == (b"" if " >&-" in f" {stream}" else b"out")
    assert done.stderr == (b"" if "2>&-" in stream else b"err")
    assert (TEXT, b"") in server.received["0"]


def test_reader_that_leaves_is_the_commands_to_notice(run: Run) -> None:
    # The server goes on until the websocket of its output is closed.
    run.server(
        status=128 + signal.SIGPIPE,
        stdout=Stream([frame(BINARY, b"x" * 100_000)] * 5, stay=True),
    )
    with run.start() as child:
        assert child.stdout
        child.stdout.close()
        assert child.wait(_LIMIT) == 128 + signal.SIGPIPE


def test_output_that_cannot_be_written(run: Run) -> None:
    run.server(stdout=_said(frame(BINARY, b"x"), END))
    with Path("/dev/full").open("wb") as full:
        done = run(stdout=full)
    assert done.returncode == 125
    assert b"No space left on device" in done.stderr


def test_worker_of_an_older_version_gives_input_by_a_descriptor(
    run: Run,
) -> None:
    server = run.server()
    argv = run.argv("true", program=())
    reading, writing = os.pipe()
    os.write(writing, b"before ")
    os.close(writing)
    argv.insert(argv.index("--project=some project"), f"--first={reading}")
    subprocess.run(
        argv, input=b"the rest", pass_fds=[reading], check=True, timeout=_LIMIT
    )
    os.close(reading)
    sent = [piece for opcode, piece in server.received["0"] if opcode == BINARY]
    assert sent == [b"before ", b"the rest"]


# -- a session in this process


def _carried(
    run: Run, ends: streams.Ends, **limits: Any
) -> tuple[int, bytes, bytes]:
    body = session_command.request(["true"])
    return session_command.run(
        run.address, "box", "some project", body, ends=ends, **limits
    )


def _said_to(server: Incusd) -> list[object]:
    return [json.loads(sent) for _, sent in server.received["control"]]


_TERM = {"command": "signal", "signal": signal.SIGTERM}


def test_command_that_takes_too_long_may_clean_up(run: Run) -> None:
    more = Stream(
        [frame(BINARY, b"too late"), END],
        once=lambda: server.received["control"],
    )
    server = run.server(stderr=_said(frame(BINARY, b"x"), END), stdout=more)
    with pytest.raises(session_command.Expired) as caught:
        _carried(
            run, streams.Ends(), deadline=time.monotonic() + 0.5, grace=_LIMIT
        )
    assert (caught.value.output, caught.value.errors) == (b"", b"x")
    assert _said_to(server) == [_TERM]


def test_command_that_does_not_clean_up_in_time(run: Run) -> None:
    over: list[bool] = []
    run.server(stdout=Stream(once=lambda: over))
    begun = time.monotonic()
    with pytest.raises(session_command.Expired):
        _carried(run, streams.Ends(), deadline=time.monotonic(), grace=0.2)
    assert time.monotonic() - begun < _LIMIT / 2
    over.append(True)


def test_command_whose_output_cannot_be_written_may_clean_up(run: Run) -> None:
    more = Stream(
        [frame(BINARY, b"x" * 1000)] * 10 + [END],
        once=lambda: server.received["control"],
    )
    server = run.server(stderr=_said(frame(BINARY, b"x"), END), stdout=more)
    with Path("/dev/full").open("wb") as full:
        ends = streams.Ends(streams.NONE, full.fileno(), full.fileno())
        with pytest.raises(api.Failure, match="No space left"):
            _carried(run, ends, grace=_LIMIT)
    assert _said_to(server) == [_TERM]


def test_all_output_is_kept_where_no_limit_is_set(run: Run) -> None:
    data = bytes(streams.MOST_KEPT + 1)
    run.server(stdout=_said(frame(BINARY, data), END))
    assert _carried(run, streams.Ends(most=None)) == (0, data, b"")


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
)
def test_signal_goes_to_the_command(run: Run, number: signal.Signals) -> None:
    heard = Stream(once=lambda: server.received["control"])
    server = run.server(status=9, stdout=heard)
    with run.start() as child:
        wait_for(lambda: server.received["0"])  # it is at work
        child.send_signal(number)
        assert child.wait(_LIMIT) == 9
    (sent,) = server.received["control"]
    assert json.loads(sent[1]) == {"command": "signal", "signal": number}


def test_ignored_signal_is_not_passed_on(run: Run) -> None:
    sent = threading.Event()
    server = run.server(stdout=Stream(once=sent.is_set, pause=0.3))
    argv = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *run.argv("true")]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as child:
        wait_for(lambda: server.received["0"])
        child.send_signal(signal.SIGHUP)
        sent.set()
        assert child.wait(_LIMIT) == 0
    assert server.received["control"] == []


def test_output_where_the_kernel_can_not_write_what_goes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unable(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "pwritev", unable)
    read, write = os.pipe()
    data = bytes(range(256)) * 20
    written = streams.put_at_once(write, memoryview(data))
    assert os.read(read, len(data)) == data[:written]
    assert 0 < written < len(data)
    os.close(read)
    os.close(write)
