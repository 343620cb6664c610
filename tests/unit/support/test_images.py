# SPDX-License-Identifier: GPL-3.0-or-later
"""Images are made from what apt is set up with."""

from pathlib import Path

import pytest

from tests.support import images

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
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
 -----END PGP PUBLIC KEY BLOCK-----
"""


def _apt(monkeypatch: pytest.MonkeyPatch, targets: str) -> None:
    monkeypatch.setattr(images, "_output", lambda *_: targets)


def test_another_suite_of_a_deb822_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = tmp_path / "debian.sources"
    sources.write_text(_DEB822)
    _apt(monkeypatch, f"bookworm-updates {sources}:2\nbookworm {sources}:2\n")

    assert images.stanza(images.debian_source(), "sid") == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian/\n"
        "Suites: sid\n"
        "Components: main\n"
        "Signed-By: \n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
        " .\n"
        " abcd\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )


def test_another_suite_of_a_one_line_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = tmp_path / "sources.list"
    sources.write_text(
        "# Debian\n"
        "deb [arch=amd64 signed-by=/key.gpg check-valid-until=no]"
        " http://mirror.example/debian trixie main contrib\n"
    )
    _apt(monkeypatch, f"trixie {sources}:2\n")

    assert images.stanza(images.debian_source(), "bullseye") == (
        "URIs: http://mirror.example/debian\n"
        "Signed-By: /key.gpg\n"
        "Check-Valid-Until: no\n"
        "Types: deb\n"
        "Suites: bullseye\n"
        "Components: main\n"
    )


def test_guests_get_a_mirror_that_they_can_reach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mirrors = tmp_path / "mirrors.list"
    mirrors.write_text("https://mirror.example/debian\n")
    sources = tmp_path / "sources.list"
    sources.write_text(f"deb mirror+file:{mirrors} trixie main\n")
    _apt(monkeypatch, f"trixie {sources}:1\n")

    assert images.debian_source()["URIs"] == "https://mirror.example/debian"


def test_says_so_where_apt_knows_no_mirror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _apt(monkeypatch, "bookworm-backports /etc/apt/sources.list:3\n")

    with pytest.raises(images.ImageError, match="apt-get update"):
        images.debian_source()
