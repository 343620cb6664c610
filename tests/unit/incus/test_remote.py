# SPDX-License-Identifier: GPL-3.0-or-later
"""Remotes that are reached directly, and those that are left to incus."""

from collections.abc import Callable
from pathlib import Path

import pytest

from incus_testbed.incus import location
from incus_testbed.incus.client import Incus
from incus_testbed.incus.exec.address import TlsAddress

Configure = Callable[..., dict[str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "configuration"


@pytest.fixture
def configure(folder: Path, tmp_path: Path) -> Configure:
    """Return what writes what is known of a remote; gives an environment."""

    def write(remote: str, **more: str) -> dict[str, str]:
        folder.mkdir()
        text = f"remotes: {{far: {{{remote}}}}}"
        (folder / "config.yml").write_text(text)
        return {
            "INCUS_CONF": str(folder),
            "INCUS_REMOTE": "far",
            "INCUS_GLOBAL_CONF": str(tmp_path / "global"),
            **more,
        }

    return write


def _address(environment: dict[str, str]) -> TlsAddress | None:
    address = location.choose(environment).address
    assert address is None or isinstance(address, TlsAddress)
    return address


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://far.example:8443", "far.example", 8443),
        ("https://far.example:8443/", "far.example", 8443),
        ("https://Far.Example", "far.example", 443),
        ("https://192.0.2.1:1", "192.0.2.1", 1),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443),
        ("https://[2001:db8::1]", "2001:db8::1", 443),
    ],
)
def test_https(configure: Configure, url: str, host: str, port: int) -> None:
    address = _address(configure(f"addr: '{url}'"))
    assert address
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "addr: ''",
        "addr: 'https://'",
        "addr: 'https://:8443'",
        "addr: 'https://far:0x1'",
        "addr: 'https://far:99999'",
        "addr: 'https://[far]:1'",
        "addr: 'https://user:secret@far:8443'",
        "addr: 'https://far:8443/behind'",
        "addr: 'https://far:8443?a=b'",
        "addr: 'http://far:8443'",
        "addr: 'unix:///near,https://far:8443'",
        "addr: [1]",
        "addr: 'https://far', auth_type: oidc",
        "addr: 'https://far', protocol: simplestreams",
        "addr: 'https://far', protocol: oci",
        "addr: 'https://far', public: true",
        "addr: 'https://far', keepalive: 30",
    ],
)
def test_what_is_left_to_incus(configure: Configure, remote: str) -> None:
    assert _address(configure(remote)) is None


@pytest.mark.parametrize("kind", ["protocol: incus, auth_type: tls", ""])
def test_kind_of_a_private_server(configure: Configure, kind: str) -> None:
    assert _address(configure(f"addr: 'https://far', public: false, {kind}"))


@pytest.mark.parametrize(
    ("host", "variables", "proxied"),
    [
        ("far.example", {"HTTPS_PROXY": "p"}, True),
        ("far.example", {"https_proxy": "p"}, True),
        ("far.example", {"HTTP_PROXY": "p", "ALL_PROXY": "p"}, False),
        ("far.example", {"HTTPS_PROXY": ""}, False),
        ("localhost", {"HTTPS_PROXY": "p"}, False),
        ("127.0.0.9", {"HTTPS_PROXY": "p"}, False),
        ("[::1]", {"HTTPS_PROXY": "p"}, False),
        ("far.example", {"HTTPS_PROXY": "p", "NO_PROXY": "*"}, False),
        ("far.example", {"HTTPS_PROXY": "p", "no_proxy": "a, EXAMPLE"}, False),
        ("far.example", {"HTTPS_PROXY": "p", "NO_PROXY": ".example"}, False),
        (
            "far.example",
            {"HTTPS_PROXY": "p", "NO_PROXY": "far.example:1"},
            False,
        ),
        ("far.example", {"HTTPS_PROXY": "p", "NO_PROXY": "ample,a.far"}, True),
        ("192.0.2.1", {"HTTPS_PROXY": "p", "NO_PROXY": "192.0.2.0/24"}, False),
        ("192.0.2.1", {"HTTPS_PROXY": "p", "NO_PROXY": "192.0.2.1"}, False),
        ("192.0.2.1", {"HTTPS_PROXY": "p", "NO_PROXY": "10.0.0.0/8,x"}, True),
    ],
)
def test_proxy(
    configure: Configure, host: str, variables: dict[str, str], *, proxied: bool
) -> None:
    environment = configure(f"addr: 'https://{host}:8443'", **variables)
    assert (_address(environment) is None) == proxied


def test_certificates(configure: Configure, folder: Path) -> None:
    environment = configure("addr: 'https://far'")
    address = _address(environment)
    assert address
    assert address.certificate == str(folder / "client.crt")
    assert address.key == str(folder / "client.key")
    assert (address.pinned, address.authorities) == ("", "")
    (folder / "client.ca").touch()
    (folder / "servercerts").mkdir()
    # Even if it leads nowhere: no other certificate is right then.
    (folder / "servercerts/far.crt").symlink_to("nowhere")
    address = _address(environment)
    assert address
    assert address.authorities == str(folder / "client.ca")
    assert address.pinned == str(folder / "servercerts/far.crt")


def test_paths_are_right_in_every_directory(
    configure: Configure,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = configure("addr: 'https://far'")
    monkeypatch.chdir(tmp_path)
    address = _address({**environment, "INCUS_CONF": folder.name})
    assert address
    assert address.key == str(folder / "client.key")


def test_certificate_for_one_remote(configure: Configure, folder: Path) -> None:
    environment = configure("addr: 'https://far'")
    own = folder / "clientcerts"
    own.mkdir()
    (own / "far.crt").touch()
    address = _address(environment)
    assert address
    assert address.certificate == str(folder / "client.crt")
    (own / "far.key").touch()
    (own / "far.ca").touch()
    address = _address(environment)
    assert address
    assert address.certificate == str(own / "far.crt")
    assert address.key == str(own / "far.key")
    assert address.authorities == str(own / "far.ca")


def test_remote_of_all_users(
    configure: Configure, folder: Path, tmp_path: Path
) -> None:
    """Its server's certificate is beside it, and the client's is the user's."""
    environment = configure("addr: 'https://own'", INCUS_REMOTE="all")
    shared = tmp_path / "global"
    (shared / "servercerts").mkdir(parents=True)
    (shared / "servercerts/all.crt").touch()
    (shared / "servercerts/far.crt").touch()
    (shared / "config.yml").write_text(
        "remotes:\n"
        "  all: {addr: 'https://shared'}\n"
        "  far: {addr: 'https://not-this-one'}\n"
    )
    address = _address(environment)
    assert address
    assert address.host == "shared"
    assert address.pinned == str(shared / "servercerts/all.crt")
    assert address.certificate == str(folder / "client.crt")
    address = _address({**environment, "INCUS_REMOTE": "far"})
    assert address
    assert (address.host, address.pinned) == ("own", "")


def test_client(
    configure: Configure, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in configure("addr: 'https://far', project: p").items():
        monkeypatch.setenv(name, value)
    incus = Incus(remote="far")
    assert incus.is_direct()
    assert not incus.is_local()
    assert incus.exec_argv("i", ["a"])[5:] == [
        "--server=far:443",
        f"--certificate={folder / 'client.crt'}",
        f"--key={folder / 'client.key'}",
        "--project=p",
        "i",
        "a",
    ]
