# SPDX-License-Identifier: GPL-3.0-or-later
"""A command line names a server in one of several ways."""

from argparse import Namespace

import pytest

from incus_testbed import errors
from incus_testbed.cli import place
from incus_testbed.incus.client import Incus


@pytest.fixture(autouse=True)
def _remotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know four remotes."""
    known = {"local": True, "far": True, "farther": True, "images": False}
    monkeypatch.setattr(Incus, "remotes", lambda _: known)
    monkeypatch.delenv("INCUS_REMOTE", raising=False)


@pytest.mark.parametrize(
    ("option", "image", "expected"),
    [
        (None, "trixie", (None, "trixie")),
        (None, "far:trixie", ("far", "trixie")),
        (None, "local:artifact/1", ("local", "artifact/1")),
        ("far", "trixie", ("far", "trixie")),
        ("far:", "trixie", ("far", "trixie")),
        ("far", "far:trixie", ("far", "trixie")),
        ("far:", "far:trixie", ("far", "trixie")),
        # A server of images: incus launch copies from there.
        (None, "images:debian/13", (None, "images:debian/13")),
        ("far", "images:debian/13", ("far", "images:debian/13")),
        # Paths.
        (None, "./far:trixie", (None, "./far:trixie")),
        (None, "/tmp/far:trixie", (None, "/tmp/far:trixie")),
        (None, "far:a:b", ("far", "a:b")),
        ("far", None, ("far", None)),
        (None, None, (None, None)),
    ],
)
def test_the_remote(
    option: str | None, image: str | None, expected: tuple[object, object]
) -> None:
    arguments = Namespace(remote=option, project="one", alias=image)
    incus = place.client(arguments)
    assert (incus.remote, arguments.alias) == expected
    assert incus.project == "one"


def test_the_name_of_an_image_counts_more_than_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INCUS_REMOTE", "far")
    arguments = Namespace(remote=None, project=None, image="farther:trixie")
    assert place.client(arguments, "image").remote == "farther"
    assert arguments.image == "trixie"


@pytest.mark.parametrize(
    ("option", "variable", "image", "words"),
    [
        ("far", "", "farther:x", ("--remote=far and farther:x", "two servers")),
        ("fra", "", "x", ("no remote fra", "There are: far, farther, images")),
        ("", "fra", "x", ("no remote fra", "There are: far, farther, images")),
        ("", "", "fra:x", ("no remote fra", "There are: far, farther, images")),
        ("", "", "far:", ("names no image", "far:ALIAS")),
        ("images", "", "x", ("images has only images", "incus remote list")),
        ("", "images", "x", ("images has only images", "incus remote list")),
    ],
)
def test_what_is_refused(
    option: str,
    variable: str,
    image: str,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INCUS_REMOTE", variable)
    arguments = Namespace(remote=option or None, project=None, alias=image)
    with pytest.raises(errors.TestbedError) as caught:
        place.client(arguments)
    for word in words:
        assert word in str(caught.value)


def test_no_program_is_started_without_a_remote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Incus, "remotes", None)
    place.client(Namespace(remote=None, project="one", alias="trixie"))
