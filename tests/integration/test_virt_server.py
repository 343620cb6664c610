# SPDX-License-Identifier: GPL-3.0-or-later
"""The virt server, over its protocol and under a real autopkgtest."""

import io
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from incus_testbed.client import Incus
from incus_testbed.image.store import Store, content_alias

from .conftest import SERVER, Cli


class Server:
    """A virt server and its protocol."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [SERVER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=cli.environment,
        )
        assert self.read() == "ok"

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def send(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> list[str]:
        self.send(line)
        keyword, *results = self.read().split(" ")
        assert keyword == "ok", (line, keyword, results)
        return results

    def end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said

    def execute(
        self, *command: str, stdin: bytes = b""
    ) -> "subprocess.CompletedProcess[bytes]":
        words = self.ask("print-execute-command")[0].split(",")
        return subprocess.run(
            [*map(unquote, words), *command],
            input=stdin,
            capture_output=True,
            check=False,
        )


@pytest.fixture
def server(cli: Cli, bookworm: str) -> Iterator[Server]:
    running = Server(cli, bookworm)
    yield running
    running.process.kill()
    running.process.wait()
    cli.output("gc")


@pytest.fixture(autouse=True)
def _nothing_left(incus: Incus) -> Iterator[None]:
    before = {record.name for record in incus.instances()}
    yield
    deadline = time.monotonic() + 60
    while not {record.name for record in incus.instances()} <= before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_capabilities(server: Server) -> None:
    expected = [
        "isolation-container",
        "reboot",
        "revert",
        "revert-full-system",
        "root-on-testbed",
    ]
    assert server.ask("capabilities") == expected
    server.ask("open")
    assert server.ask("capabilities") == expected
    server.execute("useradd", "--uid", "1234", "somebody")
    server.ask("revert")
    assert server.ask("capabilities") == expected


def test_normal_user_is_suggested(
    cli: Cli, incus: Incus, bookworm_tarball: Path, tmp_path: Path
) -> None:
    tarball = tmp_path / "with-users.tar"
    with tarball.open("wb") as plain:
        subprocess.run(
            ["zstd", "-dc", bookworm_tarball], stdout=plain, check=True
        )
    users = "root:x:0:0::/root:/bin/sh\nb:x:1001:0::/:\na:x:1000:0::/:\n"
    with tarfile.open(tarball, "a") as archive:
        member = tarfile.TarInfo("./etc/passwd")
        member.size = len(users)
        archive.addfile(member, io.BytesIO(users.encode()))
    server = Server(cli, str(tarball))
    for _ in range(2):
        server.ask("open")
        assert server.ask("capabilities").count("suggested-normal-user=a") == 1
        server.ask("close")
    server.send("quit")
    assert server.end()[0] == 0
    with tarball.open("rb") as source:
        Store(incus).remove(content_alias(source))


def test_exit_statuses(server: Server) -> None:
    server.ask("open")
    for status, expected in [(0, 0), (1, 1), (77, 77), (100, 100), (255, 253)]:
        done = server.execute("sh", "-c", f"exit {status}")
        assert done.returncode == expected
    done = server.execute("sh", "-c", "kill -9 $$")
    assert done.returncode == 137


def test_scratch_survives_reboot_and_is_empty_after_revert(
    server: Server,
) -> None:
    (scratch,) = server.ask("open")
    server.execute("sh", "-c", f"echo hello > {scratch}/file")
    boot = server.execute("cat", "/proc/sys/kernel/random/boot_id").stdout
    server.ask("reboot")
    assert server.execute("cat", f"{scratch}/file").stdout == b"hello\n"
    after = server.execute("cat", "/proc/sys/kernel/random/boot_id").stdout
    assert after != boot
    server.execute("touch", "/etc/changed")
    assert server.ask("revert") == [scratch]
    assert server.execute("ls", scratch).stdout == b""
    assert server.execute("test", "-e", "/etc/changed").returncode == 1
    server.ask("close")


def test_copies(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("copies")
    tree = folder / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "data").write_bytes(bytes(range(256)) * 1000)
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (scratch,) = server.ask("open")
    server.ask(f"copydown {tree}/ {scratch}/tree/")
    server.ask(f"copyup {scratch}/tree/ {folder}/back/")
    back = folder / "back"
    assert (back / "sub" / "data").read_bytes() == (
        tree / "sub" / "data"
    ).read_bytes()
    assert (back / "run").stat().st_mode & 0o777 == 0o755
    server.ask(f"copydown {tree}/run {scratch}/run")
    assert server.execute("test", "-x", f"{scratch}/run").returncode == 0


def test_end_of_file_removes_the_instance(server: Server) -> None:
    server.ask("open")
    status, said = server.end()
    assert status != 0
    assert "caller quit" in said


def test_unknown_image_fails_clearly(cli: Cli) -> None:
    server = Server(cli, "artifact/absent")
    server.send("open")
    status, said = server.end()
    assert status != 0
    assert "artifact/absent" in said
    assert "incus-testbed images" in said
    assert "Traceback" not in said


def test_fixed_name(cli: Cli, incus: Incus, bookworm: str) -> None:
    first = Server(cli, "--name", "fixed", bookworm)
    first.ask("open")
    second = Server(cli, "--name", "fixed", bookworm)
    second.send("open")
    status, said = second.end()
    assert status != 0
    assert "UNIQUE" in said or "exists" in said
    first.process.kill()
    first.process.wait()
    assert incus.instance("fixed").status == "Running"
    third = Server(cli, "--name", "fixed", "--delete-existing", bookworm)
    third.ask("open")
    third.ask("close")
    third.end()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
)
@pytest.mark.parametrize("delay", [0.15, 0.5, 4.0])
def test_signal_removes_the_instance(
    cli: Cli, bookworm: str, number: int, delay: float
) -> None:
    server = Server(cli, bookworm)
    server.send("open")
    time.sleep(delay)
    server.process.send_signal(number)
    status, said = server.end()
    assert status == -number
    assert "Traceback" not in said


def test_tarball_is_imported_once(
    cli: Cli, incus: Incus, bookworm_tarball: Path
) -> None:
    counts = []
    for _ in range(2):
        server = Server(cli, str(bookworm_tarball))
        server.ask("open")
        server.ask("close")
        server.send("quit")
        server.end()
        counts.append(len(incus.images()))
    assert counts[0] == counts[1]
    with bookworm_tarball.open("rb") as source:
        Store(incus).remove(content_alias(source))
