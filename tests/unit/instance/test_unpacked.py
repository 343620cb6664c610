# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that Incus has unpacked only in part is unpacked once more."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.customise import last_file
from incus_testbed.image import profiles, properties
from incus_testbed.instance import readiness
from incus_testbed.instance.instance import Instance
from incus_testbed.instance.readiness import Readiness
from tests.support import tiny_guest
from tests.support.fake_incus import FakeIncus

_DATE = 1_700_000_000
_IMAGE = "t/image"


class _Killed(FakeIncus):
    """It was killed while it unpacked the image."""

    def __init__(self) -> None:
        super().__init__()
        self.is_partial = True
        #: Whether the system that is there can start.
        self.starts = False
        #: Whether it stays so, whatever is done.
        self.is_hopeless = False
        #: When it began to unpack the image.
        self.began = datetime.fromtimestamp(_DATE, UTC)
        self.refusal: errors.TestbedError | None = None
        self.deleted: list[tuple[str, str, str]] = []

    def launch(self, image: str, name: str, **words: Any) -> None:
        super().launch(image, name, **words)
        if self.is_partial and not self.starts:
            raise errors.CommandFailed("it does not start")

    def start_log(self, name: str) -> str:
        return f"{name} has no init"

    def modified(self, name: str, path: str) -> int:  # type: ignore[override]
        assert self.instance(name)
        assert path == f"/{last_file.GENERATOR}"
        return 0 if self.is_partial else _DATE

    def unpacked(self, pool: str, fingerprint: str, member: str) -> datetime:
        assert (pool, member) == ("pool", "")
        assert self.image(fingerprint)
        return self.began

    def delete_unpacked(self, pool: str, fingerprint: str, member: str) -> None:
        if self.refusal:
            raise self.refusal
        self.deleted.append((pool, fingerprint, member))
        self.is_partial = self.is_hopeless


@pytest.fixture
def incus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Killed:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    incus = _Killed.set_up()
    facts = {
        **properties.properties(
            _IMAGE, source="0" * 64, date=_DATE, evictable=False, unpacked=0
        ),
        **last_file.properties(last_file.GENERATOR, _DATE),
    }
    files = tiny_guest.write(tmp_path, _IMAGE, properties=facts, date=_DATE)
    fingerprint = incus.import_image(*files)
    incus.set_image_profiles(incus.image(fingerprint), [profiles.USUAL])
    incus.create_alias(_IMAGE, fingerprint)
    return incus


def _boots(monkeypatch: pytest.MonkeyPatch, *dates: int) -> None:
    ready = Readiness(
        state="running", failed_units=(), network="online", user="", dates=dates
    )
    monkeypatch.setattr(readiness, "wait_ready", lambda *_: ready)


def _launch(incus: _Killed) -> Instance:
    return Instance.launch(incus, _IMAGE, purpose="test")


def test_a_launch_is_tried_again(incus: _Killed) -> None:
    launched = _launch(incus)

    assert incus.instance_names() == [launched.name]
    fingerprint = incus.image(_IMAGE).fingerprint
    assert incus.deleted == [("pool", fingerprint, "")]


def test_a_launch_is_tried_again_only_once(incus: _Killed) -> None:
    incus.is_hopeless = True

    with pytest.raises(errors.Incomplete, match="lacks files of its image"):
        _launch(incus)

    assert incus.instance_names() == []
    assert len(incus.deleted) == 2


def test_what_another_process_has_unpacked_since_stays(incus: _Killed) -> None:
    incus.began = datetime.now(UTC) + timedelta(minutes=1)

    with pytest.raises(errors.Incomplete):
        _launch(incus)

    assert incus.deleted == []


def test_who_may_not_do_it_is_told_who_may(incus: _Killed) -> None:
    incus.refusal = errors.Denied("no")

    with pytest.raises(errors.Incomplete) as caught:
        _launch(incus)

    fingerprint = incus.image(_IMAGE).fingerprint
    assert caught.value.resolution == (
        "On the server, as root: incus storage volume delete pool"
        f" image/{fingerprint}"
    )


def test_a_launch_that_fails_for_another_reason(incus: _Killed) -> None:
    """The instance has all files."""
    incus.modified = lambda *_: _DATE  # type: ignore[method-assign]

    with pytest.raises(errors.CommandFailed, match="it does not start"):
        _launch(incus)

    assert incus.deleted == []


@pytest.mark.parametrize("dates", [(), (_DATE - 1,)])
def test_what_boots_with_files_missing_is_no_testbed(
    incus: _Killed, monkeypatch: pytest.MonkeyPatch, dates: tuple[int, ...]
) -> None:
    incus.starts = True
    _boots(monkeypatch, *dates)

    with _launch(incus) as launched, pytest.raises(errors.Incomplete) as caught:
        launched.wait_ready()

    assert "Try again" in caught.value.resolution
    assert len(incus.deleted) == 1


def test_what_does_not_boot_for_missing_files(
    incus: _Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    incus.starts = True

    def fail(*_: object) -> Readiness:
        raise errors.BootFailed("it did not become ready")

    monkeypatch.setattr(readiness, "wait_ready", fail)

    with _launch(incus) as launched, pytest.raises(errors.Incomplete):
        launched.wait_ready()

    assert len(incus.deleted) == 1


def test_what_a_guest_does_later_is_its_own_affair(
    incus: _Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    incus.is_partial = False
    launched = _launch(incus)
    _boots(monkeypatch, _DATE)
    launched.wait_ready()

    incus.is_partial = True
    _boots(monkeypatch, _DATE + 1)
    launched.wait_ready()

    assert incus.deleted == []


@pytest.mark.parametrize(
    "value",
    [
        f"{_DATE + 1} {last_file.GENERATOR}",
        f"{_DATE} ../{last_file.GENERATOR}",
        f"{_DATE} /{last_file.GENERATOR}",
        f"{_DATE}",
        "",
        f"{_DATE} {'a' * 200}",
        f"{'1' * 5000} {last_file.GENERATOR}",
    ],
)
def test_properties_of_others_are_not_believed(value: str) -> None:
    date = datetime.fromtimestamp(_DATE, UTC)

    assert not last_file.of({"incus-testbed.last-file": value}, date)
