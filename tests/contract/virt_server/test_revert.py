# SPDX-License-Identifier: GPL-3.0-or-later
"""Revert: the testbed as it was, where it was."""

from .conftest import Start


def test_revert_gives_back_a_pristine_testbed(
    start: Start, bookworm: str
) -> None:
    server = start(bookworm)
    (scratch,) = server.ask("open")
    capabilities = server.ask("capabilities")
    host_name = server.output("hostname")
    for _ in range(2):
        server.execute(
            *("touch", "/etc/changed", "/var/changed", f"{scratch}/changed")
        )
        assert server.ask("revert") == [scratch]
        assert server.output("ls", scratch) == ""
        for path in ("/etc/changed", "/var/changed"):
            assert server.execute("test", "-e", path).returncode == 1
        assert server.output("stat", "--format=%a", scratch) == "777"
        assert server.ask("capabilities") == capabilities
    assert server.output("hostname") != host_name
    server.ask("close")
    server.quit()


def test_revert_after_the_guest_has_gone(start: Start, bookworm: str) -> None:
    server = start(bookworm)
    (scratch,) = server.ask("open")
    server.execute("systemctl", "poweroff")
    assert server.ask("revert") == [scratch]
    assert server.output("echo", "here") == "here"
    server.ask("close")
    server.quit()
