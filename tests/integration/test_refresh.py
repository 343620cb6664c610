# SPDX-License-Identifier: GPL-3.0-or-later
"""Images are brought up to date, and stay as they were if that fails.

The image has a repository of its own, with a newer version of one package.
"""

import hashlib
import io
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from tests.contract.virt_server.server import Server
from tests.integration.conftest import Cli

_ALIAS = "test/refresh"
_PACKAGE = "testbed-marker"
#: Seconds after which something hangs.
_LIMIT = 120

_PARAGRAPH = f"""Package: {_PACKAGE}
Version: {{version}}
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: has versions
"""
_LOOK = f"""
    dpkg-query --show --showformat='${{Version}}\\n' {_PACKAGE}
    systemctl is-system-running
    ls -A /tmp /var/log/apt | grep -c '[.]log' || :
    stat --format=%U:%a /
    cat /etc/machine-id
"""


@pytest.fixture(scope="module")
def tarball(
    bookworm_tarball: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Give a bookworm that an upgrade is there for."""
    folder = tmp_path_factory.mktemp("refresh")
    package = folder / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN" / "control").write_text(_PARAGRAPH.format(version=2))
    deb = folder / "new.deb"
    _do("dpkg-deb", "--build", "--root-owner-group", package, deb)
    content = deb.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    index = (
        f"{_PARAGRAPH.format(version=2)}Filename: ./new.deb\n"
        f"Size: {len(content)}\nSHA256: {digest}\n"
    )
    made = folder / "system.tar"
    _do("zstd", "--quiet", "--decompress", bookworm_tarball, "-o", made)
    with tarfile.open(made) as tar:
        member = tar.extractfile("./var/lib/dpkg/status")
        assert member
        status = member.read()
    with tarfile.open(made, "a") as tar:
        installed = _PARAGRAPH.format(version=1) + (
            "Status: install ok installed\n\n"
        )
        for name, text in {
            "srv/repository/Packages": index.encode(),
            "srv/repository/new.deb": content,
            "etc/apt/sources.list.d/0000debian.sources": b"",
            "etc/apt/sources.list": (
                b"deb [trusted=yes] file:/srv/repository ./\n"
            ),
            f"var/lib/dpkg/info/{_PACKAGE}.list": b"/.\n",
            "var/lib/dpkg/status": status + installed.encode(),
        }.items():
            _add(tar, name, text)
    return made


def _do(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"./{name}")
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(autouse=True)
def _image(incus: Incus, tarball: Path) -> Iterator[None]:
    store = Store(incus)
    with tarball.open("rb") as source:
        store.add(source, _ALIAS)
    yield
    store.remove(_ALIAS)


def _await(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _fingerprints(incus: Incus) -> set[str]:
    return {image.fingerprint for image in incus.images()}


def _is_refreshing(incus: Incus) -> bool:
    return any(
        record.config.get("user.incus-testbed.purpose") == "refresh"
        and record.status == "Running"
        for record in incus.instances()
    )


def _look(cli: Cli, *options: str) -> list[str]:
    words = ("run", *options, _ALIAS, "--", "sh", "-ec", _LOOK)
    return cli.output(*words).splitlines()


def test_one_refreshes_it_and_another_waits(cli: Cli, incus: Incus) -> None:
    """The new image boots whole, and each instance is a machine of its own."""
    old = incus.image(_ALIAS)
    others = _fingerprints(incus) - {old.fingerprint}
    first = cli.start("refresh", _ALIAS, stdout=subprocess.PIPE)
    _await(lambda: _is_refreshing(incus))

    *facts, machine = _look(cli, "--max-age=0m")

    output, _ = first.communicate(timeout=_LIMIT)
    assert (first.returncode, output) == (0, f"{_ALIAS} is refreshed\n")
    assert facts == ["2", "running", "0", "root:755"]
    assert re.fullmatch(r"[0-9a-f]{32}", machine)
    *same, other = _look(cli, "--max-age=1h")
    assert same == facts
    assert other != machine
    new = incus.image(_ALIAS)
    assert _fingerprints(incus) == {*others, new.fingerprint}
    for label in ("os", "release", "description"):
        assert new.properties[label] == old.properties[label]
    said = cli.output("refresh", "--max-age=1h", _ALIAS)
    assert re.fullmatch(rf"{_ALIAS} is fresh: it is [01] m old\n", said)


def test_the_virt_server_uses_a_fresh_image(
    incus: Incus,
) -> None:
    """With --warm the image stays, and its testbeds are up to date."""
    for option, is_changed in (("--warm", False), ("--max-age=0m", True)):
        before = incus.image(_ALIAS).fingerprint
        server = Server(_ALIAS, option, "-c", "user.a=b")
        server.ask("open")
        assert _look_in(server) == "2"
        assert (incus.image(_ALIAS).fingerprint != before) is is_changed
        server.ask("close")
        server.quit()


def _look_in(server: Server) -> str:
    form = "--showformat=${Version}"
    return server.output("dpkg-query", "--show", form, _PACKAGE)


def test_a_failure_of_apt_leaves_the_image(
    cli: Cli, incus: Incus, tarball: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tar"
    shutil.copy(tarball, broken)
    with tarfile.open(broken, "a") as tar:
        _add(tar, "etc/apt/sources.list", b"deb file:/srv/nothing ./\n")
    with broken.open("rb") as source:
        Store(incus).add(source, _ALIAS, replace=True)
    before = incus.images()

    done = cli.run("run", "--max-age=0m", _ALIAS, "--", "true")

    assert done.returncode == 125
    assert "apt-get update failed" in done.stderr
    assert "\n  E: " in done.stderr
    assert f"{_ALIAS} is as it was" in done.stderr
    assert "leave out --max-age" in done.stderr
    after = incus.images()
    assert {image.fingerprint for image in after} == {
        image.fingerprint for image in before
    }
    assert not _is_refreshing(incus)


def test_a_refresh_that_is_killed(cli: Cli, incus: Incus) -> None:
    before = _fingerprints(incus)
    child = cli.start("refresh", _ALIAS)
    _await(lambda: _is_refreshing(incus))

    child.send_signal(signal.SIGKILL)

    assert child.wait(_LIMIT) == -signal.SIGKILL
    assert re.fullmatch(r"instance \S+: removed\n", cli.output("gc"))
    assert _fingerprints(incus) == before
    assert incus.image(_ALIAS)
    assert not _is_refreshing(incus)
