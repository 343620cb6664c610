# SPDX-License-Identifier: GPL-3.0-or-later
"""What is needed is asked for by name, whatever else there is."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from incus_testbed.cleanup import background, eviction, garbage, inventory
from incus_testbed.cli.status import Status
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from incus_testbed.instance import naming
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership import lease
from incus_testbed.ownership.owner import Owner
from incus_testbed.process import survivor
from tests.support import tiny_system
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named

_ALIAS = "tarball/1"
#: A virt server looks at ten others.
_LITTLE, _MUCH = 11, 22
_FILE = tiny_system.tarball()
_SHA256 = hashlib.sha256(_FILE).hexdigest()


class _Counting(FakeIncus):
    """It notes what is asked, and counts the records that it answers with."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.records = 0

    def get(self, path: str, *, recursion: int = 0) -> Any:
        answer = super().get(path, recursion=recursion)
        self.asked.append(path)
        if isinstance(answer, list):
            self.records += len(answer) if recursion else 0
        else:
            self.records += 1
        return answer


def _add(incus: _Counting) -> bool:
    label = Labels(evictable=True)
    return Store(incus).add(io.BytesIO(_FILE), _ALIAS, label=label)


def _import(incus: _Counting) -> None:
    Store(incus).remove(_ALIAS)
    assert _add(incus)


def _import_of_what_is_there(incus: _Counting) -> None:
    assert not _add(incus)


def _launch(incus: _Counting) -> None:
    with Instance.launch(incus, _ALIAS, purpose="test"):
        pass


def _lease(incus: _Counting) -> None:
    lease.take(incus, _ALIAS).release()


def _eviction(incus: _Counting) -> None:
    assert len(eviction.evict(incus, keep=0)) == 1


def _end_of_a_request(incus: _Counting) -> None:
    Instance.launch(incus, _ALIAS, purpose="test")
    lease.take(incus, _ALIAS)
    garbage.relinquish(incus)


def _look_and_removal_by_a_virt_server(incus: _Counting) -> None:
    instance = Instance.launch(incus, _ALIAS, purpose="test")
    suspected = background.suspects(incus, instance.name)
    background.start(incus, instance.name, suspected)


def _gc(incus: _Counting) -> None:
    garbage.collect(incus)


def _status(incus: _Counting) -> None:
    Status(incus)


def _project(others: int) -> _Counting:
    incus = _Counting.set_up()
    named(incus, _ALIAS, source=_SHA256)
    for number in range(others):
        named(incus, f"t/{number}", evictable=False)
        incus.run("init", f"t/{number}", f"other-{number}")
        # It may be of this very process, which lives.
        name = f"{naming.make_up()[:-3]}{number:03}"
        owner = f"--config={OWNER_KEY}={Owner.current()}"
        incus.run("init", f"t/{number}", name, owner)
    incus.asked.clear()
    incus.records = 0
    return incus


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(_import, marks=pytest.mark.slow),
        _import_of_what_is_there,
        _launch,
        _lease,
        _eviction,
        _end_of_a_request,
        _look_and_removal_by_a_virt_server,
        _gc,
        _status,
    ],
)
def test_nothing_is_asked_for_more_where_there_is_more(
    act: Callable[[_Counting], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(survivor, "leave", lambda act: act())
    monkeypatch.setattr(inventory, "_FEW_IMAGES", 0)
    monkeypatch.setattr(inventory, "_FEW_INSTANCES", 0)
    little, much = _project(_LITTLE), _project(_MUCH)

    act(little)
    act(much)

    assert little.asked
    assert len(much.asked) == len(little.asked)
    assert much.records == little.records
