# SPDX-License-Identifier: GPL-3.0-or-later
"""Images come from what apt is set up with."""

import pytest

from incus_testbed import errors
from incus_testbed.bootstrap import apt, recipe
from incus_testbed.bootstrap.request import Request
from tests.unit.bootstrap.conftest import Machine

_DEB822 = """\
# a comment

Types: deb deb-src
URIs: http://elsewhere.example/debian
Suites: bookworm
Components: main

Types: deb deb-src
URIs: http://mirror.example/debian/ http://other.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Architectures: amd64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 /abc /d
 -----END PGP PUBLIC KEY BLOCK-----
"""


def _sources(suite: str, components: tuple[str, ...] | None = None) -> str:
    request = Request(suite=suite, architecture="amd64", components=components)
    return recipe.sources(request, apt.debian())


def test_another_suite_of_a_deb822_source(machine: Machine) -> None:
    path = machine.write("debian.sources", _DEB822)
    machine.write("targets", f"Packages bookworm {path}:2\n")

    assert _sources("sid") == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian/\n"
        "Suites: sid\n"
        "Components: main contrib\n"
        "Signed-By: \n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
        " .\n"
        " /abc /d\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )
    assert list(recipe.key_hooks(apt.debian())) == []


def test_another_suite_of_a_one_line_source(machine: Machine) -> None:
    path = machine.write(
        "sources.list",
        "# Debian\n"
        "deb [arch=amd64 signed-by=/key.gpg check-valid-until=no]"
        " http://mirror.example/debian trixie main contrib # mine\n",
    )
    machine.write("targets", f"Packages trixie {path}:2\n")

    assert _sources("bullseye") == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bullseye\n"
        "Components: main contrib\n"
        "Signed-By: /key.gpg\n"
        "Check-Valid-Until: no\n"
    )
    assert list(recipe.key_hooks(apt.debian())) == [
        '--customize-hook=mkdir -p "$1"/',
        "--customize-hook=upload /key.gpg /key.gpg",
    ]


_ALL = """\
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: http://security.example/debian-security
Suites: trixie-security
Components: main
Signed-By: /etc/apt/keyrings/security.asc
"""


@pytest.fixture
def updated(machine: Machine) -> None:
    """Have apt use updates, security updates and source packages."""
    path = machine.write("debian.sources", _ALL)
    machine.write(
        "targets",
        "".join(
            f"{kind} {release} {path}:{number}\n"
            for kind, release, number in (
                ("Packages", "trixie-updates", 1),
                ("Contents-deb", "trixie", 1),
                ("Sources", "trixie", 1),
                ("Packages", "trixie", 1),
                ("Packages", "trixie-security", 2),
            )
        ),
    )


@pytest.mark.usefixtures("updated")
def test_a_release_has_the_updates_that_this_machine_has() -> None:
    assert _sources("bookworm", ("main", "non-free")) == (
        "Types: deb deb-src\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main non-free\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb deb-src\n"
        "URIs: http://security.example/debian-security\n"
        "Suites: bookworm-security\n"
        "Components: main non-free\n"
        "Signed-By: /etc/apt/keyrings/security.asc\n"
    )
    assert list(recipe.key_hooks(apt.debian())) == [
        '--customize-hook=mkdir -p "$1"/etc/apt/keyrings',
        "--customize-hook=upload /etc/apt/keyrings/security.asc"
        " /etc/apt/keyrings/security.asc",
    ]


@pytest.mark.usefixtures("updated")
@pytest.mark.parametrize(
    ("suite", "suites"),
    [
        ("sid", ["sid"]),
        ("unstable", ["unstable"]),
        (
            "trixie-backports",
            ["trixie trixie-updates trixie-backports", "trixie-security"],
        ),
    ],
)
def test_the_suites_that_belong_together(suite: str, suites: list[str]) -> None:
    found = [
        line.removeprefix("Suites: ")
        for line in _sources(suite).splitlines()
        if line.startswith("Suites: ")
    ]
    assert found == suites


def test_guests_get_a_mirror_that_they_can_reach(machine: Machine) -> None:
    mirrors = machine.write("mirrors.list", "https://mirror.example/debian\n")
    path = machine.write(
        "sources.list", f"deb mirror+file:{mirrors} trixie main\n"
    )
    machine.write("targets", f"Packages trixie {path}:1\n")

    assert apt.debian().main.uri == "https://mirror.example/debian"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:/srv/debian", "Guests can't use the mirror file:/srv/debian"),
        ("https://me:secret@mirror.example/", "has a password"),
        ("https://secret@mirror.example/", "has a password"),
    ],
)
def test_a_mirror_that_must_not_be_in_an_image(
    machine: Machine, uri: str, message: str
) -> None:
    machine.has_sources(f"URIs: {uri}\nComponents: main\n", "trixie")

    with pytest.raises(errors.Unsupported, match=message) as caught:
        apt.debian()

    assert "--mirror" in caught.value.resolution
    assert "secret" not in str(caught.value)


def test_a_machine_without_a_debian_mirror(machine: Machine) -> None:
    machine.write("targets", "Packages bookworm-backports /nowhere:3\n")

    with pytest.raises(errors.NotFound, match="no Debian mirror") as caught:
        apt.debian()

    assert "--mirror=http" in caught.value.resolution


def test_a_mirror_of_the_users_choice_has_debians_keys(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = machine.there / "keyring.gpg"
    monkeypatch.setattr(apt, "DEBIAN_KEYRING", str(keyring))

    with pytest.raises(errors.MissingProgram) as caught:
        apt.at("http://mirror.example/debian")
    assert "apt install debian-archive-keyring" in caught.value.resolution

    keyring.touch()
    request = Request(suite="trixie", architecture="amd64")
    debian = apt.at("http://mirror.example/debian")
    assert recipe.sources(request, debian) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\n"
        f"Components: main\nSigned-By: {keyring}\n"
    )


def test_settings_about_the_mirror_are_kept(machine: Machine) -> None:
    machine.write(
        "dump",
        'Acquire::Check-Valid-Until "false";\nAcquire::Retries "9";\n'
        'Acquire::http::Proxy "http://secret@x:1";\n'
        'Acquire::Check-Date "false";\n',
    )

    assert apt.settings() == [
        'Acquire::Check-Valid-Until "false";',
        'Acquire::Check-Date "false";',
    ]
