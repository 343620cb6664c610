# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a guest are taken only when they are whole."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import InstanceRecord
from incus_testbed.instance import readiness, scripts
from incus_testbed.instance.guest import Guest
from incus_testbed.process import programs


class ForgetfulIncus(Incus):
    """Runs commands on this machine and loses what the first ones say."""

    def __init__(self, lost: int, status: int | None = None) -> None:
        super().__init__()
        self.lost = lost
        self.status = status
        self.runs = 0

    def execute(
        self, name: str, command: Sequence[str], **options: Any
    ) -> programs.Completed:
        del name
        self.runs += 1
        done = programs.run(command, timeout=options["timeout"])
        if self.runs > self.lost:
            return done
        status = done.status if self.status is None else self.status
        return programs.Completed(
            argv=done.argv, status=status, stdout=b"", stderr=""
        )


def test_lost_answer_is_asked_for_again() -> None:
    incus = ForgetfulIncus(lost=2)
    answer = Guest(incus, "x").ask("probe.sh")
    assert {"shell", "boot", "user", "status"} <= set(answer)
    assert answer["status"] == "0"
    assert incus.runs == 3


def test_answer_that_never_comes() -> None:
    incus = ForgetfulIncus(lost=100)
    assert Guest(incus, "x").ask("probe.sh") == {"status": "0"}
    assert incus.runs == 5


def test_script_that_was_ended_is_not_run_again() -> None:
    incus = ForgetfulIncus(lost=100, status=137)
    assert Guest(incus, "x").ask("probe.sh") == {"status": "137"}
    assert incus.runs == 1


def test_question_keeps_its_status() -> None:
    command = scripts.question("wait-ready.sh", "0")
    done = programs.run(command, timeout=60)
    assert scripts.is_whole(done.stdout.decode())
    assert "state" in scripts.answers(done.stdout.decode())
    assert done.status in {0, 1}
    both = scripts.question("wait-ready.sh", "0", then="probe.sh")
    again = programs.run(both, timeout=60)
    assert scripts.is_whole(again.stdout.decode())
    assert {"state", "network", "shell", "user"} <= set(
        scripts.answers(again.stdout.decode())
    )
    assert again.status == done.status


@pytest.mark.parametrize(
    ("status", "said", "own"),
    [
        (1, "Error: Instance not found", True),
        (1, "no", False),
        (127, "Error: Command not found", False),
    ],
)
def test_failure_of_incus_exec_to_run_a_command(
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    said: str,
    own: bool,
) -> None:
    done = programs.Completed(argv=(), status=status, stdout=b"", stderr=said)
    monkeypatch.setattr(programs, "run", lambda *_, **__: done)
    if own:
        with pytest.raises(errors.NotFound):
            Incus(remote="far").execute("x", ["true"], timeout=1)
    else:
        assert Incus(remote="far").execute("x", ["true"], timeout=1) is done


class LateIncus(ForgetfulIncus):
    """A virtual machine whose agent comes late, or never."""

    def __init__(self, late: int, **properties: str) -> None:
        super().__init__(lost=0)
        self.late = late
        self.properties = properties

    def execute(
        self, name: str, command: Sequence[str], **options: Any
    ) -> programs.Completed:
        del options
        self.late -= 1
        if self.late >= 0:
            raise errors.AgentDown("VM agent isn't currently running")
        return programs.Completed(
            argv=(name, *command),
            status=0,
            stdout=b"state=running\nnetwork=online\nwhole=yes\n",
            stderr="",
        )

    def console_log(self, name: str) -> str:
        del name
        return "Kernel panic\n"

    def instance(self, name: str) -> InstanceRecord:
        return InstanceRecord(
            name=name,
            kind="container",
            status="Running",
            config={f"image.{k}": v for k, v in self.properties.items()},
            ephemeral=True,
            created=datetime.now(UTC),
            cards=("eth0",),
        )


def test_an_agent_is_waited_for() -> None:
    assert readiness.wait_ready(Guest(LateIncus(2), "x"), 60).state == "running"


def test_an_agent_that_never_comes() -> None:
    with pytest.raises(errors.BootFailed, match="agent") as caught:
        readiness.wait_ready(Guest(LateIncus(1000), "x"), 0.5)
    assert "Kernel panic" in caught.value.details
    assert "ext4" not in caught.value.resolution


def test_an_agent_that_the_import_could_not_see() -> None:
    incus = LateIncus(1000, **{"incus-testbed.file-system": "xfs"})
    with pytest.raises(errors.BootFailed) as caught:
        readiness.wait_ready(Guest(incus, "x"), 0.5)
    assert "could not read the xfs of its disk" in caught.value.resolution
    assert "the package incus-agent" in caught.value.resolution


class SlowIncus(LateIncus):
    """One that takes some seconds to say that there is no agent yet."""

    def __init__(self, late: int, seconds: float) -> None:
        super().__init__(late)
        self.seconds = seconds
        self.now = 0.0
        self.sleeps: list[float] = []

    def execute(
        self, name: str, command: Sequence[str], **options: Any
    ) -> programs.Completed:
        self.now += self.seconds
        return super().execute(name, command, **options)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    ("seconds", "sleeps"),
    [(0, [0.2, 0.2, 0.2]), (4, [12, 12, 12]), (50, [30, 30, 30])],
)
def test_a_slow_host_is_left_time_to_boot_it(
    monkeypatch: pytest.MonkeyPatch, seconds: float, sleeps: list[float]
) -> None:
    incus = SlowIncus(3, seconds)
    for module in ("instance.readiness", "incus.events"):
        monkeypatch.setattr(f"incus_testbed.{module}.time", incus)
    readiness.wait_ready(Guest(incus, "x"), 600)
    assert incus.sleeps == pytest.approx(sleeps)


class OfflineIncus(LateIncus):
    """A container that boots, and never gets a network."""

    def __init__(self, **properties: str) -> None:
        super().__init__(0, **properties)

    def execute(
        self, name: str, command: Sequence[str], **options: Any
    ) -> programs.Completed:
        del options
        return programs.Completed(
            argv=(name, *command),
            status=1,
            stdout=b"state=running\nnetwork=offline\nwhole=yes\n",
            stderr="",
        )

    def is_local(self) -> bool:
        return False


@pytest.mark.parametrize("imported", [True, False])
def test_card_that_another_ones_image_does_not_expect(imported: bool) -> None:
    properties = {"incus-testbed.alias": "x"} if imported else {"os": "x"}
    incus = OfflineIncus(**properties)
    with pytest.raises(errors.BootFailed) as caught:
        readiness.wait_ready(Guest(incus, "x"), 1)
    hint = "--device=eth0,name=eth0"
    assert (hint in caught.value.resolution) != imported
