# SPDX-License-Identifier: GPL-3.0-or-later
"""A member goes down while files are copied to and from it."""

import time
from typing import TYPE_CHECKING

from tests.cluster.cluster import Cluster
from tests.cluster.conftest import IMAGE
from tests.cluster.down import end, is_one_error

if TYPE_CHECKING:
    import subprocess

#: A file that takes longer to copy than the test; all of it is a hole.
_MAKE = "mkdir -p /root/tree; truncate --size=8G /root/tree/file"
#: Copy files as Debusine's executor does.
_COPY = """
import sys
from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
name, method, *paths = sys.argv[1:]
files = Instance(Incus(), name).guest.files
print("begun", flush=True)
try:
    getattr(files, method)(*paths)
except errors.TestbedError as error:
    sys.exit(str(error))
"""
#: Seconds after which each copy is in its middle.
_BEGUN = 3.0


def test_by_the_methods_of_an_instance(whole: Cluster, kept: str) -> None:
    first = whole.first
    first.guest.run("sh", "-c", _MAKE)
    first.guest.run("incus", "exec", kept, "--", "sh", "-c", _MAKE)
    copies = [
        first.start_ours("/usr/bin/python3", "-c", _COPY, kept, *words)
        for words in (
            ("push", "/root/tree/file", "/root/pushed"),
            ("push_tree", "/root/tree", "/tmp"),
            ("pull", "/root/tree/file", "/root/pulled"),
        )
    ]
    for copy in copies:
        assert copy.stdout
        assert copy.stdout.readline() == "begun\n"
    time.sleep(_BEGUN)

    whole.members[1].kill()

    for copy in copies:
        status, said = end(copy)
        assert status == 1, said
        assert is_one_error(said), said
    # What was copied so far is removed.
    assert "pulled" not in first.guest.run("ls", "-A", "/root")


def test_by_autopkgtest(whole: Cluster) -> None:
    """It is told that the testbed has failed."""
    first = whole.first
    first.guest.run("sh", "-c", _MAKE)
    servers = [
        first.start_ours(
            *("autopkgtest-virt-incus-testbed", IMAGE, "--target=two")
        )
        for _ in range(4)
    ]
    for server in servers:
        _answer(server, "open")
    for name in first.testbeds():
        first.guest.run("incus", "exec", name, "--", "sh", "-c", _MAKE)
    for server, request in zip(
        servers,
        (
            "copydown /root/tree/file /tmp/file",
            "copydown /root/tree/ /tmp/tree/",
            "copyup /root/tree/file /root/copied",
            "copyup /root/tree/ /root/copied-tree/",
        ),
        strict=True,
    ):
        print(request, file=server.stdin, flush=True)
    time.sleep(_BEGUN)

    whole.members[1].kill()

    for server in servers:
        status, said = end(server, "quit\n")
        assert status == 12, said
        assert is_one_error(said), said
    assert "copied" not in first.guest.run("ls", "-A", "/root")


def _answer(server: "subprocess.Popen[str]", request: str) -> None:
    """Make a request, and wait until it has succeeded."""
    assert server.stdin
    assert server.stdout
    print(request, file=server.stdin, flush=True)
    said = ""
    while "ok /" not in said:
        line = server.stdout.readline()
        assert line, said
        said += line
