# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that names DNS servers, run on a faked root."""

import subprocess
from pathlib import Path

import pytest

from incus_testbed.customise import overlay

MARK = overlay.content("resolv.conf").decode()


class Root:
    """A guest's root directory, with a NIC and networkd's state."""

    def __init__(self, root: Path) -> None:
        """Fake a guest whose resolv.conf is ours."""
        self.root = root
        self.resolv_conf = self.write("etc/resolv.conf", MARK)
        self.nic("lo", 1, 1)
        self.nic("host0", 7, 8)
        self.learned("10.1.2.3")

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def nic(self, name: str, index: int, peer: int) -> None:
        self.write(f"sys/class/net/{name}/ifindex", f"{index}\n")
        self.write(f"sys/class/net/{name}/iflink", f"{peer}\n")

    def learned(self, servers: str, more: str = "") -> None:
        self.write(
            "run/systemd/netif/state",
            f"# private\nOPER_STATE=routable\nDNS={servers}\n{more}",
        )

    def run(self) -> str:
        """Run the script; return the resolv.conf it leaves."""
        bin_ = self.root / "bin"
        subprocess.run(
            ["/bin/sh", "-s", str(self.root)],
            input=overlay.content("resolv-conf"),
            check=True,
            timeout=10,
            env={"PATH": f"{bin_}:/usr/bin:/bin"},
        )
        return self.resolv_conf.read_text()


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_servers_and_domains(root: Root) -> None:
    root.learned("10.1.2.3 fd42::1#dns.example", "DOMAINS=a.example b\n")
    assert root.run() == (
        f"{MARK}nameserver 10.1.2.3\nnameserver fd42::1\nsearch a.example b\n"
    )


def test_a_later_boot_has_other_servers(root: Root) -> None:
    root.run()
    root.learned("10.9.9.9")
    assert root.run() == f"{MARK}nameserver 10.9.9.9\n"


@pytest.mark.parametrize("text", ["nameserver 192.0.2.1\n", ""])
def test_somebody_elses_file_stays(root: Root, text: str) -> None:
    root.resolv_conf.write_text(text)
    assert root.run() == text


def test_a_link_stays(root: Root) -> None:
    target = root.write("run/other", MARK)
    root.resolv_conf.unlink()
    root.resolv_conf.symlink_to(target)
    assert root.run() == MARK
    assert root.resolv_conf.is_symlink()


def test_without_a_nic_it_does_not_wait(root: Root) -> None:
    root.learned("")
    root.nic("host0", 7, 7)  # a dummy
    assert root.run() == MARK


def test_resolvconf_is_told(root: Root) -> None:
    """It writes the file in its own way."""
    root.resolv_conf.write_text("")
    told = root.root / "told"
    root.write(
        "bin/resolvconf", f'#!/bin/sh\n{{ echo "$@"; cat; }} >{told}\n'
    ).chmod(0o755)
    assert root.run() == ""
    assert told.read_text() == "-a incus-testbed\nnameserver 10.1.2.3\n"
