# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured in a guest of another Debian."""

import pytest

from tests.bench import guest

_FIVE = ["--suite=sid", "--rounds=5"]
_THREE = ["--suite=sid", "--rounds=3"]
_JSON = "--json=/root/figures.json"


@pytest.mark.parametrize(
    ("words", "programs"),
    [
        ("sid", [["tests.bench", *_FIVE, _JSON, "servers"]]),
        (
            "sid --rounds 3 --json here imports",
            [["tests.bench", *_THREE, _JSON, "imports"]],
        ),
        ("sid remote --rounds 3", [["tests.bench.remote", *_THREE]]),
        (
            "sid servers remote imports",
            [
                ["tests.bench", *_FIVE, _JSON, "servers", "imports"],
                ["tests.bench.remote", *_FIVE],
            ],
        ),
    ],
)
def test_each_group_is_measured_by_its_program(
    words: str, programs: list[list[str]]
) -> None:
    assert list(guest.programs(guest.asked(words.split()))) == programs


def test_a_wrong_group_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        guest.asked(["sid", "servers", "wrong"])

    assert ended.value.code == 2
    assert "there is no group wrong" in capsys.readouterr().err
