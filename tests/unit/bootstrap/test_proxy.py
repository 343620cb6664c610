# SPDX-License-Identifier: GPL-3.0-or-later
"""Which proxy apt uses, and how guests reach it."""

import socket
from collections.abc import Iterator

import pytest

from incus_testbed import errors
from incus_testbed.bootstrap import proxy
from tests.unit.bootstrap.conftest import Machine

_MIRROR = "http://mirror.example/debian"
_PROXY = "http://proxy.example:3142"


@pytest.mark.usefixtures("machine")
def test_there_is_none() -> None:
    assert proxy.of(_MIRROR, {}) is None


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (f"Acquire::http::Proxy {_PROXY}", _PROXY),
        (f"Acquire::HTTP::proxy {_PROXY}/", f"{_PROXY}/"),
        (f"Acquire::https::Proxy {_PROXY}", None),
        ("Acquire::http::Proxy DIRECT", None),
        (
            f"Acquire::http::Proxy {_PROXY}\n"
            "Acquire::http::Proxy::mirror.example DIRECT",
            None,
        ),
        (f"Acquire::http::Proxy::other.example {_PROXY}", None),
    ],
)
def test_the_settings_of_apt(
    machine: Machine, settings: str, found: str | None
) -> None:
    machine.write("settings", f"{settings}\n")

    assert proxy.of(_MIRROR, {}) == found


def test_https_uses_the_proxy_of_http_too(machine: Machine) -> None:
    machine.write("settings", f"Acquire::http::Proxy {_PROXY}\n")

    assert proxy.of("https://mirror.example/debian", {}) == _PROXY


def test_a_proxy_that_a_program_finds_comes_first(machine: Machine) -> None:
    machine.write("settings", "Acquire::http::Proxy http://other:1\n")
    machine.write("detected", f"Using proxy '{_PROXY}' for URL '{_MIRROR}'\n")

    assert proxy.of(_MIRROR, {}) == _PROXY


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("no_proxy", "found"),
    [("", _PROXY), ("example", None), (".example", None), ("e", _PROXY)],
)
def test_the_environment_comes_last(no_proxy: str, found: str | None) -> None:
    environment = {"http_proxy": _PROXY, "no_proxy": no_proxy}

    assert proxy.of(_MIRROR, environment) == found


@pytest.mark.parametrize("url", ["ftp://x/", 'http://a"; evil', "x", "http:/"])
def test_nonsense_is_refused(machine: Machine, url: str) -> None:
    machine.write("settings", f"Acquire::http::Proxy {url}\n")

    with pytest.raises(errors.Unsupported, match="no URL of a proxy"):
        proxy.of(_MIRROR, {})


# -- as guests reach it


@pytest.fixture
def port() -> Iterator[int]:
    """Listen on 127.0.0.2, which stands for the bridge's address."""
    with socket.create_server(("127.0.0.2", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_proxy_on_loopback_is_reached_at_the_bridge(
    port: int, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        url = proxy.for_guests(f"http://{host}:{port}", "127.0.0.2")

    assert url == f"http://127.0.0.2:{port}"
    assert f"setup --allow 127.0.0.2:{port}" in caplog.text


def test_a_proxy_elsewhere_is_the_same_for_guests() -> None:
    assert proxy.for_guests(_PROXY, None) == _PROXY


@pytest.mark.parametrize("bridge", ["127.0.0.3", None])
def test_a_proxy_that_listens_on_loopback_alone_is_left_out(
    port: int, bridge: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert proxy.for_guests(f"http://localhost:{port}", bridge) is None
    assert "Have it listen on all addresses" in caplog.text


def test_a_password_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert proxy.for_guests("http://me:secret@proxy.example", None) is None
    assert "http://...@proxy.example needs a password" in caplog.text
    assert "secret" not in caplog.text
