# SPDX-License-Identifier: GPL-3.0-or-later
"""A warm testbed: set up once, and each test starts from that state."""

from pathlib import Path

from incus_testbed.incus.client import Incus

from .conftest import Start, names

_STATE = "/etc/state"


def test_commands_are_run_once(
    start: Start, incus: Incus, bookworm: str, tmp_path: Path
) -> None:
    """A file with them is as good, and a revert undoes what a test does."""
    before = names(incus)
    script = tmp_path / "script"
    script.write_text(f"echo $AUTOPKGTEST_IS_SETUP_COMMAND >>{_STATE}\nid -u\n")
    words = (
        f"--warm-commands=echo first >>{_STATE}",
        f"--warm-commands={script}",
    )
    server = start(bookworm, *words)
    (scratch,) = server.ask("open")
    capabilities = server.ask("capabilities")
    machines = set()
    for _ in range(3):
        assert server.output("cat", _STATE) == "first\n1"
        server.execute("sh", "-c", f"echo changed >>{_STATE}")
        machines.add(server.output("cat", "/etc/machine-id"))
        machines.add(server.output("hostname"))
        assert server.ask("revert") == [scratch]
    assert server.ask("capabilities") == capabilities
    assert len(machines) == 6
    assert len(names(incus) - before) > 1
    server.ask("close")
    assert server.quit().said == "0\n"


def test_it_keeps_its_name(start: Start, incus: Incus, bookworm: str) -> None:
    before = names(incus)
    server = start(
        *("--name", "warm", bookworm, "--warm-commands", f"touch {_STATE}")
    )
    server.ask("open")
    server.execute("rm", _STATE)
    server.ask("revert")
    assert server.output("ls", _STATE) == _STATE
    assert server.output("hostname") == "warm"
    server.ask("close")
    assert names(incus) == before
    server.quit()


def test_commands_that_fail(start: Start, incus: Incus, bookworm: str) -> None:
    before = names(incus)
    said = start(
        bookworm, "--warm-commands", "echo because >&2; false; touch /x"
    ).bomb("open")
    assert "because\n" in said
    assert "The warm-up commands failed with status 1" in said
    assert names(incus) == before
