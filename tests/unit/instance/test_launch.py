# SPDX-License-Identifier: GPL-3.0-or-later
"""A launch: its name, its keys, and what is left when it fails."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import InstanceRecord
from incus_testbed.instance import creation, naming
from incus_testbed.instance.creation import CREATED_KEY, OWNER_KEY, PURPOSE_KEY
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership.owner import Owner
from tests.support import tiny_guest
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named

_IMAGE = "t/image"
_BROKEN = f"--config={tiny_guest.BROKEN}"


class _Failing(FakeIncus):
    """Its launches fail after they have made the instance, or before."""

    def __init__(self) -> None:
        super().__init__()
        #: Called in place of a launch, with what makes the launch.
        self.fail: Callable[[Callable[[], None]], None] = lambda launch: (
            launch()
        )

    def launch(self, image: str, name: str, **words: Any) -> None:
        self.fail(lambda: super(_Failing, self).launch(image, name, **words))


@pytest.fixture
def incus() -> _Failing:
    incus = _Failing.set_up()
    named(incus, _IMAGE)
    return incus


def _launch(incus: Incus, **options: Any) -> Instance:
    return Instance.launch(incus, _IMAGE, purpose="test", **options)


def _names(incus: Incus) -> set[str]:
    return {record.name for record in incus.instances()}


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Draw these names, one after the other, and each of them."""
    names: list[str] = []
    monkeypatch.setattr(naming, "make_up", lambda: names.pop(0))
    yield names
    assert names == []


def test_a_launch_says_whose_it_is(incus: _Failing) -> None:
    start = datetime.now(UTC).replace(microsecond=0)

    launched = _launch(incus)

    assert re.fullmatch(r"testbed-[a-z0-9]{11}", launched.name)
    assert not launched.guest.vm
    record = incus.instance(launched.name)
    assert record.status == "Running"
    assert record.ephemeral
    assert Owner.parse(record.config[OWNER_KEY]) == Owner.current()
    assert record.config[PURPOSE_KEY] == "test"
    created = datetime.fromisoformat(record.config[CREATED_KEY])
    assert start <= created <= datetime.now(UTC)
    assert record.config["security.guestapi"] == "false"


def test_arguments_win(incus: _Failing) -> None:
    launched = _launch(
        incus,
        name="mine",
        ephemeral=False,
        arguments=["--config=security.guestapi=true"],
    )

    record = incus.instance("mine")
    assert launched.name == "mine"
    assert not record.ephemeral
    assert record.config["security.guestapi"] == "true"


def test_a_vm_gets_what_its_image_needs(
    incus: _Failing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs = {
        "requirements.secureboot": "false",
        "requirements.cdrom_agent": "true",
    }
    files = tiny_guest.write(tmp_path, properties=needs, disk=True)
    fingerprint = incus.import_image(*files)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        incus, "launch", lambda *_, **words: asked.update(words)
    )

    launched = Instance.launch(incus, fingerprint, purpose="test")

    assert launched.guest.vm
    assert asked["config"]["security.secureboot"] == "false"
    assert OWNER_KEY in asked["config"]
    assert asked["devices"] == {
        "agent": {"type": "disk", "source": "agent:config"}
    }


def test_leaving_removes_it(incus: _Failing) -> None:
    def use() -> None:
        with _launch(incus) as launched:
            assert _names(incus) == {launched.name}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()

    assert not _names(incus)


def test_names_are_drawn_until_one_is_free(
    incus: _Failing, draws: list[str]
) -> None:
    for name in ("a", "b"):
        _launch(incus, name=name)
    before = {name: incus.instance(name) for name in ("a", "b")}
    draws += ["a", "b", "c"]

    assert _launch(incus).name == "c"

    assert _names(incus) == {"a", "b", "c"}
    assert {name: incus.instance(name) for name in before} == before


def test_names_are_not_drawn_for_ever(
    incus: _Failing, draws: list[str]
) -> None:
    _launch(incus, name="a")
    draws += ["a"] * 10

    with pytest.raises(errors.AlreadyExists, match="all taken"):
        _launch(incus)

    assert _names(incus) == {"a"}


def test_a_given_name_that_is_taken(incus: _Failing, draws: list[str]) -> None:
    _launch(incus, name="a")
    before = incus.instance("a")
    assert not draws

    with pytest.raises(errors.AlreadyExists) as caught:
        _launch(incus, name="a")

    assert "random" not in caught.value.brief
    assert incus.instance("a") == before


def test_no_image(incus: _Failing) -> None:
    with pytest.raises(errors.NotFound, match="artifact/absent"):
        Instance.launch(incus, "artifact/absent", purpose="test")

    assert not _names(incus)


@pytest.mark.parametrize("name", ["a", None])
def test_a_start_that_fails_leaves_nothing_and_is_not_tried_again(
    incus: _Failing, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    made = []
    log = "INFO fine\nlxc 1 ERROR start - no init\nlxc 2 ERROR sync - died"

    def start_log(name: str) -> str:
        made.append(name)
        return log

    monkeypatch.setattr(incus, "start_log", start_log)

    with pytest.raises(errors.CommandFailed) as caught:
        _launch(incus, name=name, arguments=[_BROKEN])

    assert len(made) == 1
    assert not _names(incus)
    assert "forkstart" in caught.value.details
    assert caught.value.details.endswith(
        "\nlxc 1 ERROR start - no init\nlxc 2 ERROR sync - died"
    )
    assert "fine" not in caught.value.details


def test_a_start_that_fails_without_a_log(
    incus: _Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_log(_: str) -> str:
        raise errors.CommandFailed("Invalid PID")

    monkeypatch.setattr(incus, "start_log", start_log)

    with pytest.raises(errors.CommandFailed, match="forkstart"):
        _launch(incus, arguments=[_BROKEN])

    assert not _names(incus)


def test_an_instance_that_was_made_is_not_a_name_that_is_taken(
    incus: _Failing, monkeypatch: pytest.MonkeyPatch, draws: list[str]
) -> None:
    """The error may be about a device of the instance."""
    draws += ["a"]
    monkeypatch.setattr(incus, "start_log", lambda _: "")

    def fail(launch: Callable[[], None]) -> None:
        launch()
        raise errors.AlreadyExists("The device already exists")

    incus.fail = fail

    with pytest.raises(errors.AlreadyExists, match="device"):
        _launch(incus)

    assert not _names(incus)


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), SystemExit(130), errors.TimedOut("30 s")]
)
@pytest.mark.parametrize("late", [False, True])
def test_a_client_that_is_killed_leaves_nothing(
    incus: _Failing,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    late: bool,
) -> None:
    """The daemon goes on, and the instance may appear a moment later."""
    monkeypatch.setattr(incus, "start_log", lambda _: "")
    naps = iter(range(1, 5))

    def fail(launch: Callable[[], None]) -> None:
        def sleep(_: float) -> None:
            if next(naps) == 3:
                launch()

        if late:
            monkeypatch.setattr(time, "sleep", sleep)
        else:
            launch()
        raise failure

    incus.fail = fail

    with pytest.raises(type(failure)):
        _launch(incus)

    assert late is (next(naps) > 3)
    assert not _names(incus)


def test_what_another_made_under_the_name_stays(incus: _Failing) -> None:
    def fail(launch: Callable[[], None]) -> None:
        del launch
        incus.run("init", _IMAGE, "a")
        raise errors.TimedOut("30 s")

    incus.fail = fail

    with pytest.raises(errors.TimedOut):
        _launch(incus, name="a")

    assert _names(incus) == {"a"}


def test_what_can_not_be_removed_is_said(
    incus: _Failing,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(incus, "start_log", lambda _: "")

    def refuse(_: str) -> None:
        raise errors.NoSpace("the disk is full")

    monkeypatch.setattr(incus, "delete", refuse)

    with pytest.raises(errors.CommandFailed, match="forkstart"):
        _launch(incus, name="a", arguments=[_BROKEN])

    assert _names(incus) == {"a"}
    (message,) = caplog.messages
    assert "a may be left behind (the disk is full)" in message
    assert "incus-testbed gc" in message


def test_a_daemon_that_is_gone_is_not_asked_what_is_left(
    incus: _Failing,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(name: str) -> InstanceRecord:
        raise errors.DaemonDown(f"no daemon answers about {name}")

    def fail(launch: Callable[[], None]) -> None:
        del launch
        raise errors.DaemonDown("no daemon answers")

    monkeypatch.setattr(incus, "instance", refuse)
    incus.fail = fail

    with pytest.raises(errors.DaemonDown, match=r"answers$"):
        _launch(incus)

    assert not caplog.messages


def test_an_image_that_is_replaced_at_this_moment(incus: _Failing) -> None:
    """The incus command has looked up the old one, which is then gone."""

    def replace(_: Callable[[], None]) -> None:
        incus.fail = lambda launch: launch()
        incus.delete_image(incus.image(_IMAGE).fingerprint)
        named(incus, _IMAGE, source="1" * 64, unpacked=1)
        raise errors.NotFound("Image not found")

    incus.fail = replace

    instance = _launch(incus)

    record = incus.instance(instance.name)
    fingerprint = incus.image(_IMAGE).fingerprint
    assert record.config["volatile.base_image"] == fingerprint


def test_an_image_that_vanishes(incus: _Failing) -> None:
    def remove(launch: Callable[[], None]) -> None:
        incus.delete_image(incus.image(_IMAGE).fingerprint)
        launch()

    incus.fail = remove

    with pytest.raises(errors.NotFound):
        _launch(incus)
    assert _names(incus) == set()


# -- copies


def test_a_copy_has_keys_of_its_own(incus: _Failing) -> None:
    base = _launch(incus, ephemeral=False)
    base.stop()

    made = base.copy(purpose="another")

    old, new = incus.instance(base.name), incus.instance(made.name)
    assert (old.status, new.status) == ("Stopped", "Running")
    assert (old.ephemeral, new.ephemeral) == (False, True)
    assert old.config[PURPOSE_KEY] == "test"
    assert new.config[PURPOSE_KEY] == "another"
    assert new.config[OWNER_KEY] == str(Owner.current())


def test_a_copy_that_does_not_start_leaves_nothing(
    incus: _Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = _launch(incus, ephemeral=False)
    base.stop()

    def start(name: str) -> None:
        raise errors.CommandFailed(f"{name} does not start")

    monkeypatch.setattr(incus, "start", start)
    monkeypatch.setattr(incus, "start_log", lambda _: "")

    with pytest.raises(errors.CommandFailed):
        base.copy(purpose="another")
    with pytest.raises(errors.AlreadyExists):
        base.copy(purpose="another", name=base.name)
    assert _names(incus) == {base.name}


def _in_a_cluster(incus: _Failing, failures: int) -> list[None]:
    """Have some attempts find no member; return those that were made."""
    attempts: list[None] = []

    def fail(launch: Callable[[], None]) -> None:
        attempts.append(None)
        if len(attempts) <= failures:
            raise errors.NoMember("There is no member")
        launch()

    incus.fail = fail
    return attempts


def test_a_launch_waits_until_a_cluster_knows_its_members(
    incus: _Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one goes down, the others seem to be offline for some seconds."""
    monkeypatch.setattr(creation, "_CLUSTER_PAUSE", 0.01)
    attempts = _in_a_cluster(incus, 3)

    launched = _launch(incus)

    assert len(attempts) == 4
    assert _names(incus) == {launched.name}


def test_a_launch_does_not_wait_for_a_member_without_end(
    incus: _Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "_CLUSTER_PAUSE", 0.01)
    monkeypatch.setattr(creation, "_CLUSTER_LIMIT", 0.1)
    attempts = _in_a_cluster(incus, 1000)

    with pytest.raises(errors.NoMember):
        _launch(incus)

    assert 1 < len(attempts) < 1000
    assert _names(incus) == set()
