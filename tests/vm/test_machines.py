# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines, of images with and without Incus' agent.

Each takes minutes to boot: no test starts one without need.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.contract.virt_server.runs import PACKAGES
from tests.contract.virt_server.server import Server

#: Seconds for anything: no limit of Debian's own is meant for emulation.
_LIMIT = 1500

_KILLED = """
import sys
import time
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
print(Instance.launch(Incus(), sys.argv[1], purpose="test").name, flush=True)
time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUS_TESTBED_BOOT_LIMIT", str(_LIMIT))


@pytest.fixture(scope="module")
def plain(
    incus: Incus, machine_image: Callable[[str], str]
) -> Iterator[Instance]:
    """Return a machine whose image knows nothing of Incus."""
    alias = machine_image("plain")
    with (
        pytest.MonkeyPatch.context() as patch,
        Instance.launch(incus, alias, purpose="test") as instance,
    ):
        patch.setenv("INCUS_TESTBED_BOOT_LIMIT", str(_LIMIT))
        readiness = instance.wait_ready()
        assert readiness.state == "running"
        assert readiness.network == "online"
        yield instance


def _says(instance: Instance, script: str) -> str:
    done = instance.guest.exec(
        ["sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


def test_image_without_agent(plain: Instance) -> None:
    assert plain.guest.vm
    assert _says(plain, "systemd-detect-virt") == "kvm"
    assert _says(plain, "systemctl is-active incus-agent") == "active"


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 255", 255),
        ("exit 125", 125),
        ("kill -KILL $$", 137),
        ("sleep 100000 & exit 7", 7),
        ("setsid -f sleep 100000; exit 8", 8),
    ],
)
def test_how_commands_end(plain: Instance, script: str, status: int) -> None:
    done = plain.guest.exec(
        ["sh", "-c", f"echo out; {script}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (status, b"out\n")


def test_big_and_binary_output(plain: Instance) -> None:
    sent = bytes(range(256)) * 8192
    done = plain.guest.exec(
        ["cat"], input=sent, capture_output=True, timeout=_LIMIT
    )
    assert done.stdout == sent


def test_stop_of_a_machine_that_does_not_listen(
    plain: Instance, incus: Incus
) -> None:
    """The last test of this machine: it is gone afterwards."""
    _says(plain, "systemctl mask --runtime poweroff.target halt.target")
    began = time.monotonic()
    plain.stop()
    assert 30 <= time.monotonic() - began < 120
    assert plain.name not in [record.name for record in incus.instances()]


def test_evidence_of_a_machine_that_does_not_come_up(
    incus: Incus, machine_image: Callable[[str], str]
) -> None:
    alias = machine_image("plain")
    with (
        Instance.launch(incus, alias, purpose="test") as instance,
        pytest.raises(errors.BootFailed) as caught,
    ):
        instance.wait_ready(timeout=20)
    print(caught.value)
    assert "its agent has not answered for 20 s" in caught.value.brief
    assert "The end of its console:" in caught.value.details


def test_gc_after_sigkill(
    incus: Incus, machine_image: Callable[[str], str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, machine_image("agent")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout
        name = child.stdout.readline().strip()
        child.send_signal(signal.SIGKILL)
    assert name in [record.name for record in incus.instances()]
    garbage.collect(incus)
    assert name not in [record.name for record in incus.instances()]


def test_autopkgtest(
    machine_image: Callable[[str], str], tmp_path: Path
) -> None:
    alias = machine_image("agent")
    done = subprocess.run(
        [
            *("autopkgtest", f"--output-dir={tmp_path / 'out'}"),
            *("--timeout-factor=10", "--no-built-binaries"),
            *(PACKAGES / "machine", "--", "incus-testbed", alias),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * _LIMIT,
        check=False,
    )
    summary = (tmp_path / "out" / "summary").read_text()
    print(summary)
    assert done.returncode == 0, done.stderr
    results = dict(line.split(maxsplit=1) for line in summary.splitlines())
    assert {name: said.strip() for name, said in results.items()} == {
        "own-kernel": "PASS",
        "across-reboot": "PASS",
        "daemon": "PASS",
    }


def test_revert(machine_image: Callable[[str], str]) -> None:
    server = Server(machine_image("agent"))
    scratch = _slowly(server, "open")
    assert "isolation-machine" in server.ask("capabilities")
    assert server.execute("touch", "/etc/changed").returncode == 0
    boot = server.boot()
    assert _slowly(server, "revert") == scratch
    assert server.execute("test", "-e", "/etc/changed").returncode == 1
    assert server.boot() != boot
    server.ask("close")
    server.quit()


def _slowly(server: Server, command: str) -> list[str]:
    server.send(command)
    reply = server.reply(_LIMIT)
    assert reply[:1] == ["ok"], reply
    return reply[1:]
