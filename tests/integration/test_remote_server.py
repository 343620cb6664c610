# SPDX-License-Identifier: GPL-3.0-or-later
"""A server on another machine, which lacks programs that this one has.

It is a private Incus that is reached over TLS alone, on the loopback.
"""

import contextlib
import io
import json
import logging
import os
import re
import select
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from debusine.client.debusine import Debusine
from debusine.worker.config import ConfigHandler

from debusine_incus.executor import IncusLXCExecutor
from tests.contract.virt_server.server import Server
from tests.support import daemon, debusine_server, remote, tiny_system
from tests.support.sandbox import sandbox

from .conftest import SERVER, Cli

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can start a private Incus"
)

#: The image of a Debusine artifact.
_ID = 31
_ALIAS = f"artifact/{_ID}"
#: Bytes of an image that is sent in vain, and how many arrive.
_SIZE = 8 << 20
_ARRIVING = 4 << 20


@dataclass(frozen=True)
class Farm(Cli):
    """The command, in an environment in which only --remote=far works.

    ``programs`` is the folder of the programs that the server has, ``port``
    its port, ``process`` its incusd, ``state`` where that keeps its files.
    """

    programs: Path
    port: int
    process: int
    state: Path

    @contextlib.contextmanager
    def lacking(self, *names: str) -> Iterator[None]:
        """Have the server lack more programs."""
        links = [self.programs / name for name in names]
        targets = [link.readlink() for link in links]
        for link in links:
            link.unlink()
        try:
            yield
        finally:
            for link, target in zip(links, targets, strict=True):
                link.symlink_to(target)

    def behind(self, port: int, folder: Path) -> Cli:
        """Return the command, in an environment where far has that port."""
        configuration = Path(self.environment["INCUS_CONF"])
        shutil.copytree(configuration, folder)
        text = (configuration / "config.yml").read_text()
        changed = text.replace(f":{self.port}", f":{port}")
        (folder / "config.yml").write_text(changed)
        return Cli({**self.environment, "INCUS_CONF": str(folder)})

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Have the server's image store be on a small disk."""
        store = str(self.state / "images")
        inside = ("nsenter", f"--target={self.process}", "--mount")
        disk = ("mount", "-t", "tmpfs", "-o", f"size={_ARRIVING}", "none")
        subprocess.run([*inside, *disk, store], check=True)
        try:
            yield
        finally:
            subprocess.run([*inside, "umount", store], check=True)

    def incus(self, *words: str) -> None:
        """Run the incus command, which has to succeed."""
        subprocess.run(
            ["incus", *words],
            stdin=subprocess.DEVNULL,
            env=self.environment,
            check=True,
        )


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    """Start a server without zstd, set up in a project of its own."""
    virt = str(Path(SERVER).parent)
    with (
        daemon.private(lacking=["zstd"]) as there,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PATH", virt, prepend=os.pathsep)
        patch.setenv("PYTHONPATH", virt, prepend=os.pathsep)
        for name in ("INCUS_PROJECT", "INCUS_REMOTE", "INCUS_SOCKET"):
            patch.delenv(name, raising=False)
        for name, value in there.environment.items():
            patch.setenv(name, value)
        with (
            sandbox(f"{os.getpid()}f") as mine,
            remote.configured(there.environment) as client,
        ):
            configuration = Path(client["INCUS_CONF"], "config.yml")
            text = configuration.read_text()
            configuration.write_text(
                text.replace(f"default-remote: {remote.NAME}\n", "")
            )
            port = re.search(r"127\.0\.0\.1:(\d+)", text)
            assert port
            state = Path(there.environment["INCUS_DIR"])
            environment = dict(os.environ)
            del environment["INCUS_DIR"]
            yield Farm(
                {**environment, **client, "INCUS_PROJECT": mine.project},
                state.parent / "programs",
                int(port[1]),
                there.incusd(),
                state,
            )


@pytest.fixture(scope="module")
def image(farm: Farm, bookworm_tarball: Path) -> str:
    """Import a system that can be launched; return what it was told."""
    done = farm.run(
        *("--remote=far", "import", str(bookworm_tarball)),
        f"--alias={_ALIAS}",
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextlib.contextmanager
def _cut(target: int) -> Iterator[int]:
    """Give a port that passes on to another until so many bytes were sent."""

    def serve(client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),  # one of the two has gone
            client,
            socket.create_connection(("127.0.0.1", target)) as server,
        ):
            left = _ARRIVING
            while ready := select.select([client, server], [], [])[0]:
                for end in ready:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    if end is client:
                        left -= len(data)
                        if left < 0:
                            return
                    (server if end is client else client).sendall(data)

    def listen() -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                client, _ = listener.accept()
                threading.Thread(
                    target=serve, args=[client], daemon=True
                ).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.fixture
def large(tiny: Path) -> Path:
    """Write a system that stays large when it is compressed."""
    noise = tarfile.TarInfo("noise")
    noise.size = _SIZE
    with tarfile.open(tiny, "a") as tar:
        tar.addfile(noise, io.BytesIO(os.urandom(_SIZE)))
    return tiny


def _nothing_is_left(farm: Farm) -> None:
    assert "vain" not in farm.output("--remote=far", "images")
    assert (
        json.loads(
            farm.output("--remote=far", "gc", "--dry-run", "--format=json")
        )
        == []
    )
    # incusd removes what it has received once the connection has ended.
    deadline = time.monotonic() + 30
    while list(Path(farm.state / "images").glob("incus_build_*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Write a system that can be imported and unpacked, but does not boot."""
    tarball = tmp_path / "system.tar"
    tarball.write_bytes(tiny_system.tarball(tmp_path.name))
    return tarball


def test_a_server_without_zstd_gets_what_it_can_unpack(
    farm: Farm, image: str
) -> None:
    assert "apt install zstd" in image
    said = farm.output("--remote=far", "run", _ALIAS, "--", "hostname")
    assert said.startswith("testbed")


def test_an_import_that_finds_its_image_asks_nothing(
    farm: Farm, image: str, bookworm_tarball: Path
) -> None:
    del image
    words = ("import", str(bookworm_tarball), f"--alias={_ALIAS}")
    done = farm.run("--remote=far", "-vv", *words)
    assert done.returncode == 0
    assert "zstd" not in done.stderr.replace(str(bookworm_tarball), "")


def test_a_server_with_neither_zstd_nor_gzip(farm: Farm, tiny: Path) -> None:
    with farm.lacking("gzip"):
        done = farm.run("--remote=far", "import", str(tiny), "--alias=tiny/xz")
        assert done.returncode == 0, done.stderr
        assert "apt install zstd gzip" in done.stderr
        farm.incus("init", "far:tiny/xz", "far:unpacked")
    farm.incus("delete", "far:unpacked")


def test_a_program_that_the_server_has_lost(farm: Farm, tiny: Path) -> None:
    """The message says what to install there, not to import again."""
    farm.output("--remote=far", "import", str(tiny), "--alias=tiny/gz")
    with farm.lacking("gzip"):
        done = farm.run("--remote=far", "run", "tiny/gz", "--", "true")
    assert done.returncode == 125
    assert "The Incus server far lacks the program gzip" in done.stderr
    assert "On the server's machine: apt install gzip" in done.stderr
    assert "remove" not in done.stderr


def test_doctor_says_what_the_server_lacks(farm: Farm) -> None:
    said = farm.run("--remote=far", "doctor").stdout
    assert "lacks zstd" in said
    assert "On the server's machine: apt install zstd" in said


def test_a_remote_in_the_name_of_an_image(farm: Farm, tiny: Path) -> None:
    farm.output("import", str(tiny), "--alias=far:tiny/name")
    assert "tiny/name" in farm.output("--remote=far", "images")
    contradiction = farm.run("--remote=local", "remove", "far:tiny/name")
    assert contradiction.returncode == 1
    assert "name two servers" in contradiction.stderr
    farm.output("remove", "far:tiny/name")
    assert "tiny/name" not in farm.output("--remote=far", "images")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--remote=fra images", "There are: far, local."),
        ("--remote=far --project=none doctor", "incus project list far:"),
        ("--remote=far --project=none run x -- id", "incus project list far:"),
    ],
)
def test_a_place_that_is_unknown(farm: Farm, words: str, said: str) -> None:
    done = farm.run(*words.split())
    assert done.returncode in {1, 125}
    assert said in done.stderr


def test_a_user_of_this_machine_has_no_project_there(farm: Farm) -> None:
    there = Cli({**farm.environment, "INCUS_REMOTE": "far"})
    done = there.run("setup", "--restricted", "nobody")
    assert "far is another machine" in done.stderr


def test_a_connection_that_is_lost_in_an_import(
    farm: Farm, large: Path, tmp_path: Path
) -> None:
    with _cut(farm.port) as port:
        done = farm.behind(port, tmp_path / "cut").run(
            "--remote=far", "import", str(large), "--alias=vain"
        )
    assert done.returncode == 1
    assert "has gone away" in done.stderr
    assert "Traceback" not in done.stderr
    _nothing_is_left(farm)


def test_a_server_whose_disk_is_full(farm: Farm, large: Path) -> None:
    with farm.full():
        done = farm.run("--remote=far", "import", str(large), "--alias=vain")
    assert done.returncode == 1
    assert "no space left" in done.stderr
    assert "'incus-testbed --remote=far gc --keep 0'" in done.stderr
    _nothing_is_left(farm)


@pytest.mark.parametrize("word", ["images", "doctor"])
def test_a_server_that_is_down(farm: Farm, word: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = farm.behind(port, tmp_path / "down").run("--remote=far", word)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "incus remote list" in said
    assert "systemctl start" not in said


def test_the_worker_and_its_virt_server(
    farm: Farm,
    image: str,
    bookworm_tarball: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """From Debusine 0.14.10 on they have different environments."""
    del image
    for name in ("INCUS_CONF", "INCUS_PROJECT", "INCUS_SOCKET"):
        monkeypatch.setenv(name, farm.environment[name])
    monkeypatch.delenv("INCUS_DIR", raising=False)
    monkeypatch.setenv("INCUS_REMOTE", "far")
    theirs = {
        name: farm.environment[name] for name in ("INCUS_CONF", "INCUS_SOCKET")
    }
    monkeypatch.setattr(ConfigHandler, "default_directories", [str(tmp_path)])
    monkeypatch.setattr(ConfigHandler, "environment", theirs, raising=False)
    (tmp_path / "config.ini").write_text("[General]\n")

    with debusine_server.running() as server:
        server.add_artifact(_ID, bookworm_tarball)
        api = Debusine(
            server.api_url, debusine_server.TOKEN, logger=logging.getLogger()
        )
        executor = IncusLXCExecutor(api, _ID)
        assert executor.available()
        assert executor.download_image() == _ALIAS
    instance = executor.create()
    instance.start()
    try:
        done = instance.run(["id", "-un"], text=True, run_as_root=True)
        assert done.stdout == "root\n"
    finally:
        instance.stop()

    words = executor.autopkgtest_virt_args()
    assert "--remote=far" in words
    variables = ("HOME", "PATH", "PYTHONPATH")
    theirs |= {name: farm.environment[name] for name in variables}
    virt_server = Server(*words, program=SERVER, env=theirs)
    virt_server.ask("open")
    assert virt_server.output("hostname").startswith("testbed")
    virt_server.quit()
