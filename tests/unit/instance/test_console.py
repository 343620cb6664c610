# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest writes to its console is shown while it boots, to who asks."""

import logging
import time

import pytest

from incus_testbed import errors
from incus_testbed.cli import output
from incus_testbed.incus.client import Incus
from incus_testbed.instance import console
from incus_testbed.instance.guest import Guest


class TalkingIncus(Incus):
    """Answers each question for the console with the next text."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self.texts = list(texts)
        self.asked = 0

    def console_log(self, name: str) -> str:
        del name
        self.asked += 1
        if not self.texts:
            raise errors.NotRunning("It is gone")
        return self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]


@pytest.fixture(autouse=True)
def _quick(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(console, "_PAUSE", 0.001)
    caplog.set_level(logging.NOTSET, console.log.name)


def said(
    caplog: pytest.LogCaptureFixture, incus: TalkingIncus, **options: bool
) -> list[str]:
    caplog.set_level(logging.INFO, "incus_testbed")
    with console.shown(Guest(incus, "x"), **options):
        while len(incus.texts) > 1:
            time.sleep(0.001)
    return [record.getMessage() for record in caplog.records]


def test_lines_as_they_come(caplog: pytest.LogCaptureFixture) -> None:
    incus = TalkingIncus("one\r\ntw", "one\r\ntwo\r\n", "one\r\ntwo\r\nthree")
    assert said(caplog, incus) == ["x: one", "x: two", "x: three"]


def test_line_that_is_overwritten(caplog: pytest.LogCaptureFixture) -> None:
    job = "\r\x1b[K[*     ] A start job is running (1s)"
    incus = TalkingIncus(job, f"{job}\r\x1b[K[  OK  ] Started it.\r\n")
    assert said(caplog, incus) == [
        "x: [*     ] A start job is running (1s)",
        "x: [  OK  ] Started it.",
    ]


def test_begin_that_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    incus = TalkingIncus("one\ntwo\n", "wo\nthree\n")
    assert said(caplog, incus) == ["x: one", "x: two", "x: wo", "x: three"]
    incus = TalkingIncus(f"one\n{'y' * 1000}\n", f"{'y' * 1000}\nthree\n")
    caplog.clear()
    assert said(caplog, incus)[-1] == "x: three"
    assert len(caplog.records) == 3


def test_earlier_boot_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    incus = TalkingIncus("first boot\n", "first boot\nsecond boot\n")
    assert said(caplog, incus, only_new=True) == ["x: second boot"]


@pytest.mark.parametrize(
    ("package", "module"),
    [
        (logging.WARNING, logging.NOTSET),
        (logging.INFO, logging.WARNING),  # as it is in a Debusine worker
    ],
)
def test_nothing_is_asked_if_nobody_listens(
    caplog: pytest.LogCaptureFixture, package: int, module: int
) -> None:
    caplog.set_level(package, "incus_testbed")
    caplog.set_level(module, console.log.name)
    incus = TalkingIncus("one\n")
    with console.shown(Guest(incus, "x")):
        time.sleep(0.01)
    assert not incus.asked


def test_without_a_log(caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, TalkingIncus()) == []


def test_hostile_text(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    output.configure(1)
    incus = TalkingIncus(
        "\x1b[0;32m  OK  \x1b[0m good\n"
        "\x1b]0;title\x07\x9b2J\u202e\x1b[99999999999999999m\rrub\bout\n"
    )
    said(caplog, incus)
    shown = capsys.readouterr().err
    assert "incus-testbed: x:   OK   good\n" in shown
    assert all(each.isprintable() or each == "\n" for each in shown)
    assert r"\x1b]0;title\x07\x9b2J\u202e" in shown


def test_flood_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    lines = said(caplog, TalkingIncus("x" * 10_000 + "\n" + "y\n" * 10_000))
    assert len(lines) == 2001
    assert lines[-1] == "x: the rest is not shown"
    assert max(map(len, lines)) < 500


def test_line_without_end(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["x" * 1000 * count for count in range(1, 5)]
    lines = said(caplog, TalkingIncus(*texts))
    assert len(lines) == 4
    assert max(map(len, lines)) < 500
