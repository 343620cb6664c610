# SPDX-License-Identifier: GPL-3.0-or-later
"""What the virt server takes for itself, and what goes to incus launch."""

from datetime import timedelta

import pytest

from incus_testbed.virt_server.arguments import parse


@pytest.mark.parametrize(
    "words",
    [
        ["--max-age=1d", "--warm", "--warm-commands=true", "image"],
        ["image", "--max-age", "1d", "--warm", "--warm-commands", "true"],
        ["--warm", "image", "--warm-commands=true", "--max-age=1d"],
    ],
)
def test_our_own_options_may_follow_the_image(words: list[str]) -> None:
    found = parse([*words, "-c", "user.a=b"])

    assert found.image == "image"
    assert found.max_age == timedelta(days=1)
    assert found.warm
    assert found.warm_commands == ["true"]
    assert found.launch_arguments == ["-c", "user.a=b"]


def test_what_incus_launch_gets() -> None:
    words = ["-c", "a=b", "-d", "root,size=1GiB", "--storage=x", "--", "x"]

    found = parse(["image", *words])

    assert found.launch_arguments == words
    assert (found.max_age, found.warm, found.warm_commands) == (
        *(None, None, None),
    )


@pytest.mark.parametrize(
    "words", [["image", "--max-age", "soon"], ["--max-age=1w", "image"]]
)
def test_an_age_that_is_none(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(words)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "autopkgtest-virt-incus-testbed" in said
    assert "such as 1d, 12h or 30m" in said
