# SPDX-License-Identifier: GPL-3.0-or-later
"""Reboots: asked for, announced, missing, and gone wrong."""

import subprocess

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

from .conftest import Start
from .server import LIMIT


def test_reboot_keeps_files_and_the_scratch_directory(
    start: Start, bookworm: str
) -> None:
    server = start(bookworm)
    (scratch,) = server.ask("open")
    server.execute(
        "sh", "-c", f"echo scratch > {scratch}/file; touch /etc/kept"
    )
    boots = {server.boot()}
    for _ in range(2):
        assert server.ask("reboot") == []
        assert server.output("cat", f"{scratch}/file") == "scratch"
        boots.add(server.boot())
    assert len(boots) == 3
    assert server.output("ls", "/etc/kept") == "/etc/kept"
    assert server.output("systemctl", "is-system-running") == "running"
    server.ask("close")
    server.quit()


def test_announced_reboot(start: Start, bookworm: str) -> None:
    server = start(bookworm)
    (scratch,) = server.ask("open")
    server.execute("touch", f"{scratch}/kept")
    boot = server.boot()
    auxverb = server.auxverb()
    server.send("reboot prepare-only")
    # What autopkgtest's own script in the testbed does at that time.
    subprocess.run(
        [*auxverb, "systemctl", "--no-block", "reboot"],
        stdin=subprocess.DEVNULL,
        timeout=LIMIT,
        check=True,
    )
    assert server.reply() == ["ok"]
    assert server.boot() != boot
    assert server.output("ls", scratch) == "kept"
    server.ask("close")
    server.quit()


def test_guest_that_powers_off_instead(start: Start, bookworm: str) -> None:
    server = start(bookworm)
    server.ask("open")
    auxverb = server.auxverb()
    server.send("reboot prepare-only")
    subprocess.run(
        [*auxverb, "systemctl", "--no-block", "poweroff"],
        stdin=subprocess.DEVNULL,
        timeout=LIMIT,
        check=False,
    )
    end = server.end()
    assert end.status == 12
    assert "powered off, not rebooted" in end.said
    assert "Traceback" not in end.said


def test_reboot_that_never_comes(incus: Incus, bookworm: str) -> None:
    with Instance.launch(incus, bookworm, purpose="test") as instance:
        instance.wait_ready()
        with pytest.raises(errors.BootFailed) as caught:
            instance.wait_reboot(instance.probe()["boot"], timeout=3)
    assert "did not reboot within 3 s" in caught.value.brief
    assert "The end of its console:" in caught.value.details
