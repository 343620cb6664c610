# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured in a guest of another Debian."""

import pytest

from tests.bench import guest


def test_a_remote_is_measured_by_a_program_of_its_own() -> None:
    both = list(guest.programs("sid", 3, ["servers", "remote"]))

    bench, remote = both
    assert bench[:3] == ["tests.bench", "--suite=sid", "--rounds=3"]
    assert bench[-1] == "servers"
    assert remote == ["tests.bench.remote", "--suite=sid", "--rounds=3"]
    assert list(guest.programs("sid", 3, ["servers"])) == [bench]
    assert list(guest.programs("sid", 3, ["remote"])) == [remote]


def test_a_wrong_group_is_refused_before_there_is_a_guest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["guest", "sid", "servers", "wrong"])

    with pytest.raises(SystemExit) as ended:
        guest.main()

    assert ended.value.code == 2
    assert "there is no group wrong" in capsys.readouterr().err
