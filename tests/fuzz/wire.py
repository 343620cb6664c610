# SPDX-License-Identifier: GPL-3.0-or-later
"""What is tried: what comes from the daemon, and from guests, while they run.

As in targets.py, but the daemon's own part may raise api.Failure as well.
"""

import json
import os
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from incus_testbed import errors
from incus_testbed.incus import records, sftp, short_file
from incus_testbed.incus.exec import api, response, websocket
from incus_testbed.instance import readiness
from incus_testbed.instance.copyup import folder_copy
from incus_testbed.instance.copyup.limits import Limits
from incus_testbed.instance.guest import Guest
from incus_testbed.instance.instance import Instance
from tests.fuzz import mutation
from tests.support import fake_incusd, hostile_tar
from tests.unit.instance.test_answer import LyingIncus

Target = Callable[[Random], None]
TARGETS: dict[str, Target] = {}


def _target(run: Target) -> Target:
    TARGETS[run.__name__] = run
    return run


# -- the daemon

_LENGTHS = (0, 1, 20, 125, 126, 127, 300, 65_535, 65_536, 70_000)
_OPCODES = (0, 1, 2, 2, 2, 3, 8, 9, 10, 15)


@_target
def websocket_frames(random: Random) -> None:
    """Take a stream apart, as a whole and cut anywhere: the same comes out."""
    stream = b"".join(_frame(random) for _ in range(random.randint(1, 6)))
    if random.random() < 0.7:
        stream = mutation.changed(random, stream)
    count = random.choice((0, 1, 3, 10, 60))
    cuts = sorted(random.randrange(len(stream) + 1) for _ in range(count))
    borders = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    whole = _fed([stream])
    assert _fed([stream[start:end] for start, end in borders]) == whole
    if whole is None:
        raise api.Failure("refused")


def _frame(random: Random) -> bytes:
    payload = random.randbytes(random.choice(_LENGTHS))
    opcode = random.choice(_OPCODES)
    return fake_incusd.frame(opcode, payload, final=random.random() < 0.8)


def _fed(pieces: list[bytes]) -> list[tuple[int, bytes]] | None:
    """Return the messages that pieces make; None if they are refused."""
    reader, messages = websocket.FrameReader(), []
    length = 0
    try:
        for piece in pieces:
            messages += reader.feed(piece)
            length += len(piece)
    except api.Failure:
        return None
    assert sum(len(payload) for _, payload in messages) <= length
    joined: list[tuple[int, bytes]] = []
    for opcode, payload in messages:
        control = opcode >= websocket.CLOSE
        assert not control or len(payload) < websocket.CLOSE << 4
        if not control and joined and joined[-1][0] == opcode:
            joined[-1] = (opcode, joined[-1][1] + payload)
        else:
            joined.append((opcode, payload))
    return joined


@_target
def http_answers(random: Random) -> None:
    """Take an answer apart, as a whole and cut anywhere: the same comes out."""
    stream = _http(random, random.randbytes(random.choice(_LENGTHS)))
    if random.random() < 0.7:
        stream = mutation.changed(random, stream)
    count = random.choice((0, 1, 3, 10, 60))
    cuts = sorted(random.randrange(len(stream) + 1) for _ in range(count))
    borders = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    pieces = [stream[start:end] for start, end in borders]
    whole = _content([stream])
    assert _content([piece for piece in pieces if piece]) == whole
    if whole is None:
        raise api.Failure("refused")
    assert len(whole) <= len(stream)


def _http(random: Random, content: bytes) -> bytes:
    """Return content as a server may send it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(content)
    way = random.choice(("length", "chunks", "end"))
    if way == "length":
        return head + length + content
    if way == "end":
        return head + b"\r\n" + content
    parts = [head, b"Transfer-Encoding: chunked\r\n\r\n"]
    while content:
        size = random.choice((1, 7, 5000, 70_000))
        chunk, content = content[:size], content[size:]
        parts.append(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    trailer = random.choice((b"", b"X-Sum: 1\r\n"))
    return b"".join([*parts, b"0\r\n", trailer, b"\r\n"])


def _content(pieces: list[bytes]) -> bytes | None:
    """Return the content that pieces make; None if they are refused."""
    answer = response.Response()
    try:
        for piece in (*pieces, b""):
            answer.feed(piece)
    except response.Malformed:
        return None
    return bytes(answer.content)


@_target
def sftp_answers(random: Random) -> None:
    """Ask for a file's date, and read it: that is what comes, or nothing."""
    content = random.randbytes(random.choice((1, 20, 32 << 10, 70_000)))
    mode = stat.S_IFREG | 0o644
    about = struct.pack(">IQIIIII", 15, len(content), 0, 0, mode, 8, 9)
    parts = [content[at : at + (32 << 10)] for at in range(0, 70_000, 32 << 10)]
    stream = b"".join(
        struct.pack(">IB", 1 + len(said), kind) + said
        for kind, said in (
            (2, struct.pack(">I", 3)),
            (105, bytes(4) + about),
            (105, bytes(4) + about),
            (102, bytes(4) + struct.pack(">I", 6) + b"handle"),
            (105, bytes(4) + about),
            *(
                (103, bytes(4) + struct.pack(">I", len(part)) + part)
                for part in parts
                if part
            ),
        )
    )
    is_changed = random.random() < 0.7
    if is_changed:
        stream = mutation.changed(random, stream)
    session = sftp.Session(_Said(random, stream), b"", time.monotonic() + 10)  # type: ignore[arg-type]
    assert session.modified(b"/file") == 9 or is_changed
    size = session.size(b"/file")
    if not size or size > short_file.MOST:
        raise api.Failure("refused")
    found = session.read(session.open(b"/file"), size)
    if found is None:
        raise api.Failure("refused")
    assert len(found) == size
    assert found == content or is_changed


class _Said:
    """A connection on which a server has said all that it says."""

    def __init__(self, random: Random, stream: bytes) -> None:
        self._random = random
        self._stream = stream

    def settimeout(self, seconds: float) -> None:
        """Wait for nothing."""

    def sendall(self, data: bytes) -> None:
        """Listen to nothing."""

    def recv(self, most: int) -> bytes:
        """Return the next part; nothing is the end."""
        size = self._random.choice((1, 9, most))
        part, self._stream = self._stream[:size], self._stream[size:]
        return part


_TIME = "2025-01-02T03:04:05.678901234Z"
_IMAGE = {
    "fingerprint": "f" * 64,
    "aliases": [{"name": "artifact/1", "description": "x"}],
    "properties": {"os": "Debian", "user.x": "\u202e"},
    "profiles": ["default"],
    "type": "container",
    "architecture": "x86_64",
    "size": 12345,
    "last_used_at": _TIME,
    "created_at": _TIME,
    "uploaded_at": _TIME,
}
_INSTANCE = {
    "name": "testbed-abc",
    "type": "container",
    "status": "Running",
    "config": {"user.incus-testbed.owner": "1"},
    "ephemeral": True,
    "created_at": _TIME,
    "expanded_devices": {"eth0": {"network": "debusinebr0"}, "root": {}},
}
_OPERATION = {
    "id": "8d5e3c1b",
    "class": "task",
    "status": "Running",
    "err": "",
    "resources": {"instances": ["/1.0/instances/testbed-abc"]},
    "metadata": {"return": 0, "fds": {"0": "a", "1": "b", "control": "c"}},
}
_READ: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (_IMAGE, records.image),
    (_INSTANCE, records.instance),
    ({"running": [_OPERATION]}, records.at_work_on),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, float("nan"), "", "x" * 5000),
    *("\ud800", "\0", "-1", _TIME, [], {}, [[]], {"": {}}, ["a"]),
)


@_target
def daemon_answers(random: Random) -> None:
    """Read answers of the daemon, and what they are about."""
    about, read = random.choice(_READ)
    answer = {"type": random.choice(("sync", "async", "error"))}
    if random.random() < 0.9:
        answer |= {"error": "Instance not found", "metadata": about}
    value: Any = answer
    for _ in range(random.randrange(4)):
        value = _replaced(random, value)
    data = json.dumps(value).encode()
    if random.random() < 0.05:
        data = b"[" * random.randrange(1, 1 << 20) + data
    if random.random() < 0.5:
        data = mutation.changed(random, data)
    read(api.metadata(data))


def _replaced(random: Random, value: Any) -> Any:
    """Return a document with another value somewhere, or with less in it."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        rest = {name: value[name] for name in value if name != key}
        if random.random() < 0.2:
            return rest
        return {**rest, key: _replaced(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.8:
        return [_replaced(random, value[0]), *value[1:]]
    return random.choice(_VALUES)


# -- guests

_BOOT = "01234567-89ab-cdef-0123-456789abcdef"
_ANSWERS = (
    b"state=running\nnetwork=online\nuser=debian\nfailed=ssh.service a.b\n",
    f"shell=bash\nuser=debian\nboot={_BOOT}\n".encode(),
    b"uid=1000\n",
    *(b"outcome=%b\n" % said for said in (b"exit 125", b"signal 9", b"cwd 2")),
    b"/etc/hostname",
)


class _Incus(LyingIncus):
    """Its guest may answer what is no text."""

    def console_log(self, name: str) -> str:
        """Return what the guest has written there."""
        del name
        return self.said

    def is_local(self) -> bool:
        """Have nobody look for firewalls."""
        return False


@_target
def guests_answers(random: Random) -> None:
    """Ask guests that answer anything."""
    data = mutation.one_of(random, _ANSWERS)
    # Some of it becomes words of a command of this machine: no NUL.
    incus = _Incus(os.fsdecode(data.replace(b"\0", b"\1")))
    guest = Guest(incus, "x")
    try:
        random.choice(
            (
                lambda: guest.ask("outcome.sh", "key"),
                lambda: readiness.wait_ready(guest, 1),
                lambda: readiness.wait_reboot(guest, _BOOT, 0.001),
                Instance(incus, "x").probe,
                lambda: guest.make_user("debian"),
                lambda: guest.run(["true"]),
                lambda: _pull(guest),
            )
        )()
    except (OSError, KeyError) as error:
        # The errors of subprocess.run; not those of a lookup in our own code.
        if isinstance(error, KeyError) and "User not found" not in str(error):
            raise
        raise errors.CommandFailed(str(error)) from None


def _pull(guest: Guest) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        guest.files.pull("/etc/x", f"{name}/x")


_LIMITS = Limits(size=4 << 20, members=50, depth=6)
_NAMES = (b"a", b"b", b"c", b"..", b".", b"", b"outside", b"secret", b"\xff")
_SIZES = (-1, 1, 512, 1 << 33, 1 << 62)
_TIMES = (0, 1, -(1 << 62), 1 << 62)
_CONTENTS = (b"", b"x", b"y" * 600, bytes(9000))


@_target
def copies_out(random: Random) -> None:
    """Copy archives out, one after the other, into the same folder."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        base = Path(name)
        (base / "outside").mkdir()
        for secret in (base / "secret", base / "outside/secret"):
            secret.write_text("host")
        refused = 0
        for _ in range(random.randint(1, 3)):
            refused += not _received(_sent(random), base / "target")
            _check_harmless(base)
        if refused:
            raise errors.CommandFailed("refused")


def _sent(random: Random) -> bytes:
    members = [_member(random) for _ in range(random.randrange(9))]
    data = bytearray(hostile_tar.archive(*members))
    if random.random() < 0.7:
        return bytes(data)
    for place, value in mutation.changes(random, len(data)):
        data[place : place + len(value)] = value
        if random.random() < 0.7:
            hostile_tar.set_checksum(data, place)
    return bytes(data[: random.choice((len(data), random.randrange(9999)))])


def _member(random: Random) -> hostile_tar.Member:
    type_ = random.choice((b"0", b"0", b"1", b"2", b"2", b"5", b"5", b"6"))
    return hostile_tar.Member(
        path=_path(random),
        type=type_,
        mode=random.randrange(0o10000),
        mtime=random.choice(_TIMES),
        size=random.choice(_SIZES) if random.random() < 0.02 else None,
        target=_path(random) if type_ in b"12" else b"",
        content=random.choice(_CONTENTS) if type_ == b"0" else b"",
    )


def _path(random: Random) -> bytes:
    if random.random() < 0.05:
        return random.choice((b"n" * 255, b"n" * 256, b"a/" * 7 + b"x"))
    names = random.choices(_NAMES, k=random.randint(1, 5))
    return random.choice((b"", b"", b"", b"/")) + b"/".join(names)


def _received(data: bytes, target: Path) -> bool:
    try:
        with folder_copy.folder_beside(target) as new:
            with hostile_tar.sent(data) as source:
                new.receive(source, _LIMITS)
            new.finish()
    except errors.TestbedError:
        return False
    return True


def _check_harmless(base: Path) -> None:
    there = {path.name for path in base.iterdir()}
    assert there <= {"outside", "secret", "target"}
    assert [path.name for path in (base / "outside").iterdir()] == ["secret"]
    assert (base / "secret").read_text() == "host"
    assert (base / "outside/secret").read_text() == "host"
    for path in _below(base / "target"):
        mode = path.lstat().st_mode
        assert stat.S_IFMT(mode) in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}
        if stat.S_ISLNK(mode):
            end = Path(os.path.realpath(path))
            assert end.is_relative_to(base / "target"), path
        else:
            assert not mode & 0o7000, path


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in folders + files)
