# SPDX-License-Identifier: GPL-3.0-or-later
"""An image is made whole, or not at all; nothing is started in vain."""

import dataclasses
import hashlib
import socket
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.bootstrap.build import build
from incus_testbed.bootstrap.request import Request
from incus_testbed.image import properties
from tests.support import tiny_system
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named
from tests.unit.bootstrap.conftest import Machine

_TRIXIE = Request(suite="trixie", architecture="amd64")
_ALIAS = "autopkgtest/debian/trixie/amd64"
_SHA256 = hashlib.sha256(tiny_system.tarball()).hexdigest()


@pytest.fixture
def incus() -> FakeIncus:
    return FakeIncus.set_up()


def test_an_image_from_nothing(machine: Machine, incus: FakeIncus) -> None:
    machine.write("dump", 'Acquire::Check-Valid-Until "false";\n')

    build(incus, dataclasses.replace(_TRIXIE, include=("hello", "make")))

    (image,) = incus.images()
    assert image.aliases == (_ALIAS,)
    assert properties.source(image) == _SHA256
    words = machine.words
    assert words[:2] == ["--mode=unshare", "--format=tar"]
    assert words[-3:] == ["trixie", "-", "-"]
    assert {
        "--variant=minbase",
        "--architectures=amd64",
        '--aptopt=Acquire::Check-Valid-Until "false";',
        '--aptopt=Acquire::Retries "3"',
    } <= set(words)
    (packages,) = (word for word in words if word.startswith("--include="))
    assert {"ca-certificates", "dpkg-dev", "systemd-sysv"} < {
        *packages.removeprefix("--include=").split(",")
    }
    assert packages.endswith(",hello,make")
    assert "URIs: http://mirror.example/debian\n" in machine.read("sources")


@pytest.mark.parametrize(
    ("suite", "release"), [("sid", "sid"), ("bookworm", "trixie")]
)
@pytest.mark.usefixtures("machine")
def test_sid_does_not_know_its_name(
    incus: FakeIncus, suite: str, release: str
) -> None:
    """The tarball is of trixie, whatever is asked for."""
    build(incus, dataclasses.replace(_TRIXIE, suite=suite))

    (image,) = incus.images()
    assert image.properties["release"] == release


def test_the_options(machine: Machine, incus: FakeIncus) -> None:
    build(
        incus,
        Request(
            suite="trixie-backports",
            architecture="i386",
            components=("main", "non-free"),
            variant="buildd",
            alias="mine/1",
        ),
    )

    assert incus.image("mine/1")
    assert {
        "--variant=buildd",
        "--architectures=i386",
        "--skip=check/qemu",
        '--aptopt=APT::Default-Release "trixie-backports";',
    } <= set(machine.words)
    assert machine.words[-3] == "trixie"
    assert "Components: main non-free\n" in machine.read("sources")


def test_it_replaces_the_image_of_its_alias(
    machine: Machine, incus: FakeIncus
) -> None:
    old = named(incus, _ALIAS, source="1" * 64)
    steps: list[str] = []
    machine.write("said", "W: warning\nI: making it...\nno step\n")

    build(incus, _TRIXIE, steps.append)

    (image,) = incus.images()
    assert image.fingerprint != old.fingerprint
    assert properties.source(image) == _SHA256
    assert steps[-1] == "making it"


@pytest.mark.parametrize("tarball", ["whole", "half", "empty"])
def test_a_failure_leaves_the_old_image(
    machine: Machine, incus: FakeIncus, tarball: str
) -> None:
    """Also where mmdebstrap fails after it has sent everything."""
    path = machine.there / "tarball"
    size = path.stat().st_size
    path.write_bytes(
        path.read_bytes()[: {"whole": size, "half": size // 2}.get(tarball, 0)]
    )
    machine.write("status", "25")
    machine.write("said", "I: a step\nE: the disk\x1b[1m is full\n")
    before = named(incus, _ALIAS, source="1" * 64)

    with pytest.raises(errors.CommandFailed, match="status 25") as caught:
        build(incus, _TRIXIE)

    assert caught.value.details == r"E: the disk\x1b[1m is full"
    assert incus.images() == [before]


def test_an_unknown_suite(machine: Machine, incus: FakeIncus) -> None:
    machine.write("status", "25")
    machine.write("tarball", "")
    machine.write("said", "E: 'x' does not have a Release file.\n")

    with pytest.raises(errors.CommandFailed) as caught:
        build(incus, dataclasses.replace(_TRIXIE, suite="nonesuch"))

    assert "which suites the mirror has" in caught.value.resolution
    assert incus.images() == []


def test_what_mmdebstrap_sends_can_be_refused(
    machine: Machine, incus: FakeIncus
) -> None:
    machine.write("tarball", "no tarball")

    with pytest.raises(errors.BadImage):
        build(incus, _TRIXIE)

    assert incus.images() == []


def test_an_interruption_lets_mmdebstrap_clean_up(
    machine: Machine, incus: FakeIncus
) -> None:
    machine.write("endless", "")
    machine.write("said", "I: begun...\n")

    def interrupt(step: str) -> None:
        if step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(incus, _TRIXIE, interrupt)

    assert (machine.there / "cleaned").exists()
    assert incus.images() == []


# -- what is refused before anything is started


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("suite", ""),
        ("suite", "--version"),
        ("suite", "Trixie"),
        ("suite", "a/b"),
        ("suite", "sid\n"),
        ("suite", "$(reboot)"),
        ("architecture", "-x"),
        ("architecture", "../a"),
        ("components", ("main contrib",)),
        ("components", ("main\nTrusted: yes",)),
        ("include", ("-y",)),
        ("include", ("/root/x.deb",)),
        ("include", ("?essential",)),
        ("include", ("systemd-",)),
        ("include", ("a b",)),
        ("variant", "extract"),
        ("mirror", "http://x.example/ main"),
        ("mirror", "file:///srv"),
        ("mirror", "http://me:word@x.example/"),
    ],
)
def test_words_that_are_not_valid(
    field: str, value: str | tuple[str, ...]
) -> None:
    words: dict[str, Any] = {field: value}

    with pytest.raises(errors.TestbedError) as caught:
        dataclasses.replace(_TRIXIE, **words)

    assert caught.value.resolution
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "word", ["hello", "g++", "libc6:i386", "make=4.4.1-2", "git/trixie-updates"]
)
def test_packages_as_apt_names_them(word: str) -> None:
    assert dataclasses.replace(_TRIXIE, include=(word,)).include == (word,)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"alias": "a b"}, errors.BadImage, "can't be an alias"),
        ({"alias": "t/foreign"}, errors.Denied, "not imported"),
        ({"architecture": "arm64"}, errors.Unsupported, "can't run arm64"),
        ({"architecture": "vax"}, errors.BadImage, "does not know"),
    ],
)
def test_what_can_not_become_an_image(
    machine: Machine,
    incus: FakeIncus,
    changes: dict[str, Any],
    error: type[errors.TestbedError],
    message: str,
) -> None:
    named(incus, "t/foreign", ours=False)
    before = incus.images()

    with pytest.raises(error, match=message):
        build(incus, dataclasses.replace(_TRIXIE, **changes))

    assert incus.images() == before
    assert machine.has_started_nothing()


@pytest.mark.parametrize(
    ("user", "resolution"), [(0, "security.nesting"), (1000, "as root")]
)
def test_where_mmdebstrap_can_not_work(
    machine: Machine,
    incus: FakeIncus,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    resolution: str,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    machine.write("helper", "25")

    with pytest.raises(errors.Unsupported, match="namespaces") as caught:
        build(incus, _TRIXIE)

    assert resolution in caught.value.resolution
    assert machine.has_started_nothing()


def test_without_mmdebstrap(
    machine: Machine, incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.there / "bin" / "mmdebstrap").unlink()
    monkeypatch.setenv("PATH", str(machine.there / "bin"))
    (machine.there / "bin" / "cat").symlink_to("/bin/cat")

    with pytest.raises(errors.MissingProgram) as caught:
        build(incus, _TRIXIE)

    assert "apt install mmdebstrap" in caught.value.resolution


# -- proxies


def test_a_password_is_for_the_build_alone(
    machine: Machine, incus: FakeIncus, caplog: pytest.LogCaptureFixture
) -> None:
    url = "http://me:secret@proxy.example:3142"
    machine.write("settings", f"Acquire::http::Proxy {url}\n")
    caplog.set_level("DEBUG", "incus_testbed")

    build(incus, _TRIXIE)

    assert f"http_proxy={url}\n" in machine.read("environment")
    assert "secret" not in machine.read("words")
    assert "Proxy" not in machine.read("words")
    assert "secret" not in machine.read("sources")
    assert "secret" not in caplog.text
    assert "http://...@proxy.example:3142 needs a password" in caplog.text


def test_what_listens_on_loopback_is_reached_at_the_bridge(
    machine: Machine, incus: FakeIncus
) -> None:
    bridge = incus.objects["network"]["bridge"]["config"]
    bridge["ipv4.address"] = "127.0.0.2/24"
    with socket.create_server(("127.0.0.2", 0)) as listening:
        port = listening.getsockname()[1]
        machine.has_sources(
            f"URIs: http://localhost:{port}/debian\nComponents: main\n",
            "bookworm",
        )
        machine.write(
            "settings", f"Acquire::http::Proxy http://127.0.0.1:{port}\n"
        )

        build(incus, _TRIXIE)

    assert f"URIs: http://127.0.0.2:{port}/debian\n" in machine.read("sources")
    assert (
        f'--aptopt=Acquire::http::Proxy "http://127.0.0.2:{port}"'
        in machine.words
    )
    assert f"http_proxy=http://127.0.0.1:{port}\n" in machine.read(
        "environment"
    )


def test_a_user_who_may_not_see_networks(
    machine: Machine, incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied() -> None:
        raise errors.Denied("Certificate is restricted")

    monkeypatch.setattr(incus, "networks", denied)
    machine.write("settings", "Acquire::http::Proxy http://127.0.0.1:1\n")

    build(incus, _TRIXIE)

    assert not any("Proxy" in word for word in machine.words)
    assert "http_proxy=http://127.0.0.1:1\n" in machine.read("environment")


def test_a_mirror_on_loopback_alone_is_refused(
    machine: Machine, incus: FakeIncus
) -> None:
    machine.has_sources(
        "URIs: http://localhost:1/debian\nComponents: main\n", "bookworm"
    )

    with pytest.raises(errors.Unsupported, match="on this machine only"):
        build(incus, _TRIXIE)

    assert machine.has_started_nothing()
