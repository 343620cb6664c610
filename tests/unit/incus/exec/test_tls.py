# SPDX-License-Identifier: GPL-3.0-or-later
"""A remote's daemon proves who it is, and nothing is lost on the way."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NoReturn

import pytest

from incus_testbed import errors
from incus_testbed.incus.exec import address, api, encrypted
from incus_testbed.incus.exec.address import TlsAddress, UnixAddress
from incus_testbed.incus.location import session_argv
from incus_testbed.incus.transport import Direct
from tests.support import tls_front
from tests.support.fake_incusd import BINARY, END, Incusd, Stream, frame
from tests.support.tls_front import Front, certificate, server_context

_LIMIT = 60
_HERE = "-addext=subjectAltName=IP:127.0.0.1"
_ELSEWHERE = "-addext=subjectAltName=DNS:elsewhere.example"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with certificates."""
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder, "client")
    certificate(folder, "stranger")
    certificate(folder, "server")
    certificate(folder, "other")
    certificate(folder, "here", _HERE)
    certificate(folder, "elsewhere", _ELSEWHERE)
    return folder


class Place:
    """A daemon behind TLS."""

    def __init__(self, path: Path, files: Path) -> None:
        self.files = files
        self.path = path
        self.daemon = Incusd(
            path, status=7, stdout=Stream([frame(BINARY, b"out") + END])
        )
        self.fronts: list[Front] = []

    def front(
        self,
        server: str = "server",
        *,
        change: Callable[[ssl.SSLContext], None] = lambda _: None,
        ragged: bool = False,
    ) -> Front:
        context = server_context(
            self.files / f"{server}.crt", self.files / "client.crt"
        )
        change(context)
        self.fronts.append(Front(self.path, context, ragged=ragged))
        return self.fronts[-1]

    def address(
        self, front: Front, client: str = "client", **more: str
    ) -> TlsAddress:
        files = {
            name: str(self.files / f"{each}.crt") for name, each in more.items()
        }
        return front.address(self.files / f"{client}.crt", **files)

    def close(self) -> None:
        for front in self.fronts:
            front.close()
        self.daemon.close()


@pytest.fixture
def place(tmp_path: Path, files: Path) -> Iterator[Place]:
    made = Place(tmp_path / "socket", files)
    yield made
    made.close()


def _run(where: address.Address) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        session_argv(where, "some project", "box", ["true"]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )


def _refused(
    place: Place, where: address.Address, *, heard: bool = False
) -> errors.TestbedError:
    """Return the error; the session's and ours are one line each."""
    done = _run(where)
    assert done.returncode == 125
    assert done.stdout == b""
    said = done.stderr.decode()
    assert said.startswith("incus-testbed: ")
    assert said.count("\n") == 1
    with pytest.raises(errors.TestbedError) as raised:
        Direct(where, "p", _LIMIT, "far").get("")
    assert len(raised.value.brief.splitlines()) == 1
    assert len(raised.value.resolution.splitlines()) == 1
    assert bool(place.daemon.requests) == heard
    return raised.value


# -- who the server is


@pytest.fixture(scope="module")
def expired(files: Path) -> None:
    """Add a certificate that was valid for a day of 2001."""
    past = ("faketime", "2001-01-01")
    certificate(files, "expired", "-days=1", program=past)


@pytest.mark.usefixtures("expired")
def test_pinned_certificate_that_has_expired(place: Place) -> None:
    assert _run(place.address(place.front("expired"), pinned="expired")).stdout
    where = place.address(place.front("expired"), authorities="expired")
    assert isinstance(_refused_later(where), errors.Denied)


@pytest.mark.parametrize("server", ["server", "elsewhere"])
def test_pinned_certificate_needs_no_name(place: Place, server: str) -> None:
    done = _run(place.address(place.front(server), pinned=server))
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out", b"")


def test_pinned_certificate_is_the_first_of_its_file(
    place: Place, tmp_path: Path
) -> None:
    texts = [
        (place.files / f"{name}.crt").read_text()
        for name in ("server", "other")
    ]
    pinned = tmp_path / "pinned.crt"
    pinned.write_text("\n".join(["About it: ä", *texts]))
    where = place.front().address(
        place.files / "client.crt", pinned=str(pinned)
    )
    assert _run(where).returncode == 7
    pinned.write_text("\n".join(reversed(texts)))
    assert isinstance(_refused_later(where), errors.Denied)


def _refused_later(where: address.Address) -> errors.TestbedError:
    with pytest.raises(errors.TestbedError) as raised:
        Direct(where, "p", _LIMIT, "far").get("")
    return raised.value


def test_other_certificate_than_the_pinned_one(place: Place) -> None:
    """Not even one that is otherwise in order, and nothing is sent to it."""
    front = place.front("here")
    where = place.address(front, pinned="server", authorities="here")
    error = _refused(place, where)
    assert isinstance(error, errors.Denied)
    assert "server.crt" in error.details
    assert "incus remote add" in error.resolution


def test_certificate_that_the_pinned_one_has_signed(
    place: Place, tmp_path: Path
) -> None:
    """An authority's is pinned, but another one's server answers."""
    own = place.files / "server.crt"
    signed = certificate(
        tmp_path,
        "signed",
        *("-CA", str(own), "-CAkey", str(own.with_suffix(".key"))),
    )
    context = server_context(signed, place.files / "client.crt")
    front = Front(place.path, context)
    place.fronts.append(front)
    where = front.address(place.files / "client.crt", pinned=str(own))
    assert isinstance(_refused(place, where), errors.Denied)


def test_authority_and_name(place: Place) -> None:
    front = place.front("here")
    assert _run(place.address(front, authorities="here")).returncode == 7


@pytest.mark.parametrize(
    ("server", "authority"), [("elsewhere", "elsewhere"), ("here", "other")]
)
def test_wrong_name_or_authority(
    place: Place, server: str, authority: str
) -> None:
    where = place.address(place.front(server), authorities=authority)
    assert isinstance(_refused(place, where), errors.Denied)


def test_authority_that_the_system_does_not_have(place: Place) -> None:
    error = _refused(place, place.address(place.front("here")))
    assert "in the system" in error.details


def test_system_authorities(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(place.files / "here.crt"))
    assert _run(place.address(place.front("here"))).returncode == 7


def test_older_tls(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def older(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    monkeypatch.setenv("INCUS_INSECURE_TLS", "1")
    where = place.address(place.front(change=older), pinned="server")
    assert "TLS 1.3" in _refused(place, where).details


def test_no_tls(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        where = TlsAddress(
            "127.0.0.1",
            listener.getsockname()[1],
            certificate=str(place.files / "client.crt"),
            key=str(place.files / "client.key"),
            pinned=str(place.files / "server.crt"),
        )
        error = _refused(place, where)
        listener.shutdown(socket.SHUT_RDWR)
        answering.join(_LIMIT)
    assert isinstance(error, errors.DaemonDown)


# -- who we are


def test_client_that_the_server_does_not_trust(place: Place) -> None:
    where = place.address(place.front(), client="stranger", pinned="server")
    error = _refused(place, where)
    assert isinstance(error, errors.Denied)
    assert "incus config trust add" in error.resolution


@pytest.mark.parametrize("what", ["certificate", "key", "pinned", "password"])
def test_files_that_are_of_no_use(
    place: Place, tmp_path: Path, what: str
) -> None:
    key = place.files / "client.key"
    named = {
        "certificate": str(place.files / "client.crt"),
        "key": str(key),
        "pinned": str(place.files / "server.crt"),
    }
    if what == "password":
        named["key"] = str(tmp_path / "locked.key")
        subprocess.run(
            [
                *("openssl", "ec", "-aes256", "-passout", "pass:geheim"),
                *("-in", str(key), "-out", named["key"]),
            ],
            capture_output=True,
            check=True,
        )
    else:
        named[what] = str(tmp_path / "absent")
    where = TlsAddress("127.0.0.1", place.front().port, **named)
    error = _refused(place, where)
    assert isinstance(error, errors.Denied)
    assert "password" in error.resolution
    if what != "password":
        Path(named[what]).write_text("nothing")
        assert isinstance(_refused(place, where), errors.Denied)


def test_later_connections_go_on_with_the_first_ones_session(
    place: Place,
) -> None:
    """Until the server has forgotten it."""
    contexts: list[ssl.SSLContext] = []
    place.daemon.known = {"type": "sync", "metadata": "known"}
    front = place.front(change=contexts.append)
    where = Direct(place.address(front, pinned="server"), "p", _LIMIT)

    def resumed() -> list[int]:
        for _ in range(4):
            assert where.get("operations/x") == "known"
        return [context.session_stats()["hits"] for context in contexts]

    assert resumed() == [3]
    place.front(change=contexts.append)
    front._context = contexts[1]
    assert resumed() == [3, 3]


# -- where it is


def _stocked(where: TlsAddress) -> int:
    """Have all connections ready that a command needs; return how many."""
    number = 1
    while where.stock_up():
        number += 1
    return number


def test_command_uses_the_connections_that_are_ready(place: Place) -> None:
    front = place.front()
    where = place.address(front, pinned="server")
    assert _stocked(where) == 6
    front.close()  # nobody new is let in
    place.fronts.clear()
    done = Direct(where, "some project", _LIMIT).execute(
        "box", ["true"], timeout=_LIMIT
    )
    assert (done.status, done.stdout) == (7, b"out")


def test_connection_that_the_server_has_left_is_not_used(place: Place) -> None:
    front = place.front()
    where = place.address(front, pinned="server")
    assert _stocked(where) == 6
    for connection in front.served:
        connection.shutdown(socket.SHUT_RDWR)
    done = Direct(where, "some project", _LIMIT).execute(
        "box", ["true"], timeout=_LIMIT
    )
    assert (done.status, done.stdout) == (7, b"out")


def test_connections_that_another_process_has_are_left_to_it(
    place: Place,
) -> None:
    where = place.address(place.front(), pinned="server")
    assert _stocked(where) == 6
    child = os.fork()
    if not child:
        try:
            time.sleep(0.5)
            Direct(where, "some project", _LIMIT).execute(
                "box", ["true"], timeout=_LIMIT
            )
            os._exit(0)
        finally:
            os._exit(1)
    where.let_go()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nobody_to_have_connections_with(place: Place) -> None:
    front = place.front()
    where = place.address(front, pinned="server")
    front.close()
    place.fronts.clear()
    assert where.stock_up() is False
    assert "refused" in str(_refused(place, where))


def test_nobody_listens(place: Place) -> None:
    front = place.front()
    front.close()
    place.fronts.clear()
    error = _refused(place, place.address(front, pinned="server"))
    assert isinstance(error, errors.DaemonDown)
    assert "core.https_address" in error.resolution
    assert f"127.0.0.1:{front.port}" in error.details


def test_name_that_is_not_known(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **_named: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    where = TlsAddress(
        "no-such-host.example",
        8443,
        certificate=str(place.files / "client.crt"),
        key=str(place.files / "client.key"),
    )
    error = _refused_later(where)
    assert isinstance(error, errors.DaemonDown)
    assert "no-such-host.example" in error.details
    assert "incus remote list" in error.resolution


def test_server_that_shakes_no_hands(place: Place) -> None:
    with tls_front.silent() as port:
        where = TlsAddress(
            "127.0.0.1",
            port,
            certificate=str(place.files / "client.crt"),
            key=str(place.files / "client.key"),
        )
        began = time.monotonic()
        with pytest.raises(errors.TimedOut) as raised:
            Direct(where, "p", 0.5, "far").get("")
    assert time.monotonic() - began < 20
    assert "0.5 s" in raised.value.details


def test_address_is_the_options_of_a_command_line() -> None:
    addresses = [
        UnixAddress("/run/x"),
        TlsAddress("far.example", 1, certificate="c", key="k"),
        TlsAddress("::1", 8443, certificate="c", key="k", pinned="p"),
        TlsAddress("1.2.3.4", 2, certificate="c", key="k", authorities="a"),
    ]
    for each in addresses:
        options = dict(
            word[2:].split("=", maxsplit=1) for word in each.options()
        )
        assert address.of(options) == each
        assert repr(address.of(options)) == repr(each)
    assert len({*addresses}) == len(addresses)


def test_the_socket_of_this_machine_needs_no_tls(place: Place) -> None:
    look = (
        "import sys; sys.path.append(sys.argv.pop(1));"
        " from exec import program; import os; os._exit = lambda status: None;"
        " program.main(); print('ssl' in sys.modules)"
    )
    program = (sys.executable, "-I", "-S", "-c", look, str(_PROGRAM))
    where = UnixAddress(str(place.path))
    done = subprocess.run(
        session_argv(where, "p", "box", ["true"], program=program),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )
    assert done.stdout == b"outFalse\n", done.stderr


_PROGRAM = Path(address.__file__).parents[1]


# -- what comes


@pytest.mark.parametrize("ragged", [False, True])
def test_answer_that_ends_with_the_connection(
    place: Place, *, ragged: bool
) -> None:
    """Whoever can cut a connection can't make an answer shorter."""
    content = b'{"type": "sync", "metadata": "all"}'
    place.daemon.known = b"HTTP/1.1 200 OK\r\n\r\n" + content
    front = place.front(ragged=ragged)
    server = Direct(place.address(front, pinned="server"), "p", _LIMIT)
    if ragged:
        with pytest.raises(errors.DaemonDown):
            server.get("operations/x")
    else:
        assert server.get("operations/x") == "all"


class _Pair:
    """A connection of ours, and its server, whose sending a test can change."""

    def __init__(self, files: Path) -> None:
        here, self.there = socket.socketpair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(files / "here.crt")
        context.load_cert_chain(files / "client.crt", files / "client.key")
        self.ours = encrypted.Encrypted(here, context, b"127.0.0.1")
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server_context(
            files / "here.crt", files / "client.crt"
        ).wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.there.settimeout(_LIMIT)
        self.ours.settimeout(_LIMIT)
        shaking = threading.Thread(target=self.ours.shake_hands)
        shaking.start()
        while True:
            try:
                self.server.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.there.sendall(self.outgoing.read())
                self.incoming.write(self.there.recv(1 << 16))
        self.there.sendall(self.outgoing.read())
        shaking.join(_LIMIT)

    def encrypted(self, data: bytes) -> bytes:
        self.server.write(data)
        return self.outgoing.read()

    def close(self) -> None:
        self.ours.close()
        self.there.close()


@pytest.fixture
def pair(files: Path) -> Iterator[Callable[[], _Pair]]:
    made: list[_Pair] = []

    def make() -> _Pair:
        made.append(_Pair(files))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_all_that_has_come_is_given_at_once(pair: Callable[[], _Pair]) -> None:
    """Otherwise poll() would not tell of the rest."""
    connection = pair()
    data = os.urandom(60_000)
    connection.there.sendall(connection.encrypted(data))
    assert connection.ours.recv(1 << 17) == data
    connection.ours.settimeout(0)
    with pytest.raises(BlockingIOError):
        connection.ours.recv(1 << 17)


def test_part_of_a_record_does_not_block(pair: Callable[[], _Pair]) -> None:
    connection = pair()
    connection.ours.settimeout(0)
    with contextlib.suppress(BlockingIOError):  # the tickets of the session
        connection.ours.recv(1 << 17)
    record = connection.encrypted(b"hello")
    for byte in record[:-1]:
        connection.there.sendall(bytes([byte]))
        with pytest.raises(BlockingIOError):
            connection.ours.recv(1 << 17)
    connection.there.sendall(record[-1:])
    assert connection.ours.recv(1 << 17) == b"hello"


def test_crumbs_have_one_time_limit(pair: Callable[[], _Pair]) -> None:
    connection = pair()
    record = connection.encrypted(b"x" * 1000)
    over = threading.Event()

    def feed() -> None:
        for byte in record[:-1]:
            connection.there.sendall(bytes([byte]))
            if over.wait(0.1):
                return

    feeding = threading.Thread(target=feed)
    connection.ours.settimeout(0.5)
    began = time.monotonic()
    feeding.start()
    with pytest.raises(TimeoutError):
        connection.ours.recv(1 << 17)
    over.set()
    feeding.join(_LIMIT)
    assert time.monotonic() - began < 20


def test_what_does_not_go_at_once_goes_later(
    pair: Callable[[], _Pair],
) -> None:
    connection = pair()
    connection.ours.settimeout(0)
    data = os.urandom(3_000_000)
    sent, got = 0, b""
    while sent < len(data) or not connection.ours.idle:
        with contextlib.suppress(BlockingIOError):
            sent += connection.ours.send(data[sent:])
            continue
        connection.incoming.write(connection.there.recv(1 << 16))
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                got += connection.server.read(1 << 17)
    connection.there.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            connection.incoming.write(connection.there.recv(1 << 16))
    with contextlib.suppress(ssl.SSLWantReadError):
        while True:
            got += connection.server.read(1 << 17)
    assert got == data


def test_changed_bytes_are_never_passed_on(pair: Callable[[], _Pair]) -> None:
    """They end the connection, after what came before them."""
    for number in range(40):
        random = Random(number)  # noqa: S311
        connection = pair()
        good = connection.encrypted(b"good")
        stream = bytearray(connection.encrypted(b"x" * random.randrange(1, 99)))
        stream[random.randrange(len(stream))] ^= 1 << random.randrange(8)
        connection.there.sendall(good + stream)
        connection.there.shutdown(socket.SHUT_WR)
        got: list[bytes] = []
        with contextlib.suppress(OSError, api.Failure):
            while piece := connection.ours.recv(1 << 17):
                got.append(piece)
        assert b"".join(got) in {b"good", b""}
